/* Collection and its control. Every function may be called from any thread, none from a signal handler. */
#ifndef GCRT_COLLECT_H
#define GCRT_COLLECT_H

#include <gcrt/declare.h>

GC_BEGIN_DECLARATIONS

/* Starts the library. A constructor does so before main; calling it again, or at all, is never needed.
 * Returns 0. A malformed GCRT_* variable or a machine that cannot run the library ends the program with a message. */
GC_API int gc_init(void);

/* A full collection: when it returns, what was unreachable at the call is free. It works with collections off, too. */
GC_API void gc_collect(void);

/* Sets the goal as GCRT_GOGC does: the heap may grow to live + (live + stacks + global variables) * percent/100 before
 * it is collected, and never less than 4 MiB * percent/100. A negative percent turns automatic collection off. Returns
 * the old value, -1 for off. */
GC_API int gc_set_percent(int percent);

/* Collects, then gives all free memory of the heap back to the operating system before it returns. */
GC_API void gc_free_os_memory(void);

/* With GCRT_TRACKER=explicit, after every store of a pointer into memory of the heap, the first one into a new object
 * included: `object` is the address that was written, or the start of an object of which anything was. A large object
 * that is written in one place is best told by that place. Without a call the object that the pointer leads to may be
 * reclaimed; also if the last stop of a collection comes between the store and the call while the pointer is nowhere
 * else: call gc_keep_alive with it afterwards. It is for language runtimes that know their stores; with any other
 * tracker it does nothing, and in no case much. NULL and addresses that are not the heap's are passed over.
 * Async-signal-safe. */
GC_API void gc_write_barrier(void *object);

/* Keeps what p points to alive up to this call: for an object whose only pointer is disguised. It does nothing. */
GC_API void gc_keep_alive(const void *p);

GC_END_DECLARATIONS
#endif
