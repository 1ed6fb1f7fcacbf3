/* Collection and its control. Every function may be called from any thread, none from a signal handler. */
#ifndef GCRT_COLLECT_H
#define GCRT_COLLECT_H

#include <gcrt/declare.h>
#include <stddef.h>
#include <stdint.h>

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

/* Sets the memory limit as GCRT_MEMLIMIT does: so many bytes for all that the library takes from the system, less what
 * it has given back. It is soft: collections come more often to keep it, and it is passed rather than let them take
 * over half of the processors' time, or than refuse an allocation. INT64_MAX is no limit; a negative number changes
 * nothing. Takes effect at once; memory is given back, and a collection begins with the next allocation, if less is
 * allowed than there is. An automatic limit is one no longer. Returns the limit that was in force, INT64_MAX for none.
 */
GC_API int64_t gc_set_memory_limit(int64_t bytes);

/* Sets the least goal of GCRT_GOGC: so many bytes of heap, in place of 4 MiB * percent/100. For a program that drops
 * nearly all of its heap now and then and would be collected often while it grows again. A collection beside the
 * program begins somewhat before its goal. A memory limit goes first. 0 restores the 4 MiB. Takes effect at once.
 * Returns the old value, 0 for none. */
GC_API size_t gc_set_min_heap(size_t bytes);

/* What a handler of gc_set_limit_handler wants to be done. */
enum gc_limit_action {
  GC_LIMIT_CARRY_ON,    /* nothing */
  GC_LIMIT_DROP_CACHES, /* the handler has dropped what can be done without: collect, and give all free memory back */
  GC_LIMIT_ABORT        /* a line on standard error that says what is in the report, then abort() */
};

/* Why a handler is called: bytes, and ns. */
struct gc_limit_report {
  uint64_t limit;      /* in force; UINT64_MAX: none */
  uint64_t mapped;     /* what counts against it */
  uint64_t live;       /* bytes that the last collection found reachable */
  uint64_t pressed_ns; /* for how long the collector has wanted more than half of the processors' time */
  uint64_t limited_ns; /* for how long it was held back since the start, in all */
};

typedef enum gc_limit_action (*gc_limit_handler)(const struct gc_limit_report *report, void *arg);

/* A program that has reached its limit with what it needs would be collected without end. The library then holds its
 * collector back to half of the processors' time, and the program gets larger than its limit and slow. fn is called
 * when that has lasted for after_ns without relief, and each time that it has gone on for after_ns since the last call:
 * on a thread of the library's with a stack of the usual size and every signal blocked, never twice at once. It may
 * allocate, call any function of the library, and take its time; it must return. *report lasts as long as the call. arg
 * is a root. fn NULL: nobody is called from now on. A handler that is running when it is replaced runs to its end.
 * Returns 0, or -1 with errno EINVAL if after_ns is 0 and fn is not NULL, or ENOMEM if the calling thread cannot be
 * made known. */
GC_API int gc_set_limit_handler(gc_limit_handler fn, void *arg, uint64_t after_ns);

/* Who is asked before an allocation returns NULL: size is in bytes, as it was asked for. A collection, and giving back
 * memory to make room, have not helped. fn may free memory, drop references, release memory of the program's own, and
 * allocate; it is not called again for an allocation that fails while it runs. It returns 0 if it could do nothing:
 * the allocation returns NULL with errno ENOMEM. After any other number the allocation is tried again, with another
 * collection if need be, and fn is asked again if that fails. It runs on the thread that allocates, without locks of
 * the library's; several threads may run it at once. It must return. */
typedef int (*gc_oom_handler)(size_t size, void *arg);

/* Sets it; arg is a root. fn NULL, as at the start: nobody is asked. A handler that is running when it is replaced runs
 * to its end. Returns 0, or -1 with errno ENOMEM if the calling thread cannot be made known. */
GC_API int gc_set_oom_handler(gc_oom_handler fn, void *arg);

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
