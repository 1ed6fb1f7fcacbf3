/* The stack of the calling thread. Not async-signal-safe (it may allocate with malloc and read /proc). */
#ifndef GCRT_SYS_STACK_H
#define GCRT_SYS_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gcrt_bounds {
  uintptr_t low, high; /* [low, high); both 0: unknown */
};

/* The bounds of the calling thread's own stack. high is above every frame of the program, for threads of the C library
 * also above the thread's control block and static thread-local variables. low of the main thread follows RLIMIT_STACK
 * and need not be mapped. False: not to be had. */
bool gcrt_stack_bounds(struct gcrt_bounds *bounds);

/* The alternate signal stack of the calling thread, as sigaltstack(2) tells; 0, 0 if it has none. Async-signal-safe. */
struct gcrt_bounds gcrt_stack_alternate(void);

/* The alternate signal stack that was set when a signal interrupted the thread, from its context (a ucontext_t): with
 * SS_AUTODISARM sigaltstack(2) tells of none while the handler runs. 0, 0 if there was none. Async-signal-safe. */
struct gcrt_bounds gcrt_stack_of_context(const void *context);

/* The mapped part of [low, high) that ends at high: the lowest address from which all is mapped up to high. Reads
 * the list of mappings with raw system calls; async-signal-safe. Returns high if it cannot be told. */
uintptr_t gcrt_stack_mapped_low(uintptr_t low, uintptr_t high);

#endif
