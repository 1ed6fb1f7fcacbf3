/* vfork, with a call before it and one after it in the parent. */
#ifndef GCRT_SYS_VFORK_H
#define GCRT_SYS_VFORK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Both are defined by the user of vfork.c and called by its code.
 *
 * Before: the `count` callee-saved registers of vfork's caller and its stack pointer; the result is handed to the
 * second call. After, in the parent only: `result` is the child's id or a negated error number; returns what vfork
 * returns. */
void *gcrt_vfork_enter(const uintptr_t *values, size_t count, uintptr_t sp);
pid_t gcrt_vfork_leave(long result, void *entered);

#endif
