/* Threads and stacks.
 *
 * Threads from pthread_create and thrd_create are known by themselves. */
#ifndef GCRT_THREAD_H
#define GCRT_THREAD_H

#include <gcrt/declare.h>

GC_BEGIN_DECLARATIONS

/* Makes the calling thread known: for threads made by other means than pthread_create. Its stack becomes a root and
 * collections stop it. A known thread returns 0 as well and counts nothing. Returns 0, or -1 with errno ENOMEM. */
GC_API int gc_thread_register(void);

/* Undoes gc_thread_register; the thread must not touch collected objects from here on. Threads that end are forgotten
 * by themselves. Returns 0, or -1 with errno ENOENT if the thread was not registered by gc_thread_register. */
GC_API int gc_thread_unregister(void);

/* Calls fn(arg) with the thread counted as stopped: collections neither wait for it nor interrupt its system calls.
 * fn and all it calls must not allocate, nor read or write collected objects, nor end by longjmp; pointers that the
 * caller holds stay roots. Returns what fn returns. Calls may be nested. */
GC_API void *gc_call_blocking(void *(*fn)(void *), void *arg);

/* Makes [low, high) known as a stack: of coroutines, of ucontext. While it is not being run on, it is searched
 * entirely; a thread that runs on it is searched from its stack pointer. The memory stays the caller's.
 * Returns 0, or -1 with errno EINVAL (high not above low), EEXIST (low is known) or ENOMEM. Any thread may call it. */
GC_API int gc_stack_register(void *low, void *high);

/* Forgets the stack that starts at low. Returns 0, or -1 with errno ENOENT. */
GC_API int gc_stack_unregister(void *low);

GC_END_DECLARATIONS
#endif
