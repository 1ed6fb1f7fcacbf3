/* Keeps stale copies of pointers from hiding that an object was lost. */
#ifndef GCRT_TESTS_STACK_H
#define GCRT_TESTS_STACK_H

#include <stdint.h>

/* Overwrites some KiB below the caller's frame, and the registers that a call may change. */
void test_clear_stack(void);

/* A pointer in a form that is none to the collector, and back. */
static inline uintptr_t test_hide(const void *p) { return ~(uintptr_t)p; }
static inline void *test_reveal(uintptr_t hidden) { return (void *)~hidden; }

#endif
