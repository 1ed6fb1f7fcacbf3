/* Further roots.
 *
 * Registers, stacks, global and static variables of the program and of every loaded library, thread-local variables and
 * pthread_setspecific values are roots by themselves. Memory from malloc or mmap is not: register it here if it holds
 * the only pointer to an object. Any thread may call these; no signal handler may. */
#ifndef GCRT_ROOTS_H
#define GCRT_ROOTS_H

#include <gcrt/declare.h>

GC_BEGIN_DECLARATIONS

/* Makes [start, end) a root; only whole aligned words in it are read. The memory stays the caller's and must be
 * readable until it is removed. Adding a range twice counts twice. Returns 0, or -1 with errno EINVAL (end before
 * start) or ENOMEM. */
GC_API int gc_add_roots(void *start, void *end);

/* Removes what one gc_add_roots with the same bounds added. Returns 0, or -1 with errno ENOENT. */
GC_API int gc_remove_roots(void *start, void *end);

GC_END_DECLARATIONS
#endif
