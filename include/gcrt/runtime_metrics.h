/* What the library knows of its memory and its collections.
 *
 * Reading stops nobody and may be done at any time from any thread (not from a signal handler). All fields are of one
 * moment and balance: heap_sys == heap_inuse + heap_idle, mallocs - frees == heap_objects, sys is the sum of the other
 * ..._sys fields, and heap_released == heap_sys + released_total - reacquired_total: new memory begins as released. The
 * meaning of each that has a name of Go's runtime.MemStats is the same. */
#ifndef GCRT_RUNTIME_METRICS_H
#define GCRT_RUNTIME_METRICS_H

#include <gcrt/declare.h>
#include <stddef.h>
#include <stdint.h>

/* Every scalar metric: type, name, unit, text. Expand it to list, print or export them all. */
#define GCRT_RUNTIME_METRICS(METRIC)                                                                                   \
  METRIC(uint64_t, alloc, "bytes", "bytes of allocated objects, live or not yet reclaimed; the same as heap_alloc")    \
  METRIC(uint64_t, total_alloc, "bytes", "bytes allocated since the start; only grows")                                \
  METRIC(uint64_t, sys, "bytes", "bytes of memory obtained from the operating system in all")                          \
  METRIC(uint64_t, mallocs, "objects", "objects allocated since the start")                                            \
  METRIC(uint64_t, frees, "objects", "objects reclaimed since the start, by the collector or gc_free")                 \
  METRIC(uint64_t, heap_alloc, "bytes", "bytes of allocated objects")                                                  \
  METRIC(uint64_t, heap_sys, "bytes", "bytes of heap memory ever taken from the reservation")                          \
  METRIC(uint64_t, heap_idle, "bytes", "bytes of heap memory in no span; heap_released is a part of it")               \
  METRIC(uint64_t, heap_inuse, "bytes", "bytes of heap memory in spans that hold at least one object")                 \
  METRIC(uint64_t, heap_released, "bytes", "bytes of idle heap memory given back to the operating system")             \
  METRIC(uint64_t, released_total, "bytes", "bytes of heap memory given back since the start; only grows")             \
  METRIC(uint64_t, reacquired_total, "bytes", "bytes of it and of new memory taken into use; only grows")              \
  METRIC(uint64_t, release_goal, "bytes", "heap memory that is kept, in use or idle; UINT64_MAX before a collection")  \
  METRIC(uint64_t, heap_unreleased, "bytes", "bytes of idle heap memory above release_goal, not yet given back")       \
  METRIC(uint64_t, release_refused, "events", "times the system refused to take memory, as when it is locked")         \
  METRIC(uint64_t, scavenge_cpu_ns, "ns", "processor time of the thread that gives memory back")                       \
  METRIC(uint64_t, scavenge_assist_ns, "ns", "time in which threads gave memory back themselves")                      \
  METRIC(uint64_t, memory_limit, "bytes", "the memory limit in force; UINT64_MAX: none")                               \
  METRIC(uint32_t, memory_limit_percent, "percent", "of what the cgroup allows, if the limit is that; otherwise 0")    \
  METRIC(uint64_t, memory_mapped, "bytes", "bytes that count against it: sys less heap_released")                      \
  METRIC(uint64_t, limiter_total_ns, "ns", "time in which the collector was held back to half of the processors")      \
  METRIC(uint64_t, limiter_pressed_ns, "ns", "for how long it has wanted more without relief; 0: it does not")         \
  METRIC(uint64_t, limiter_last_cycle, "cycle",                                                                        \
         "the collection in which it was first held back the last time; 0: none")                                      \
  METRIC(uint64_t, heap_objects, "objects", "allocated objects")                                                       \
  METRIC(uint64_t, mspan_inuse, "bytes", "bytes of span structures in use")                                            \
  METRIC(uint64_t, mspan_sys, "bytes", "bytes obtained for span structures")                                           \
  METRIC(uint64_t, mcache_inuse, "bytes", "bytes of thread caches in use")                                             \
  METRIC(uint64_t, mcache_sys, "bytes", "bytes obtained for thread caches")                                            \
  METRIC(uint64_t, buckhash_sys, "bytes", "bytes obtained for profiling tables")                                       \
  METRIC(uint64_t, gc_sys, "bytes", "bytes obtained for bitmaps, chunk tables and mark stacks")                        \
  METRIC(uint64_t, other_sys, "bytes", "bytes obtained for everything else")                                           \
  METRIC(uint64_t, next_gc, "bytes", "heap size that starts the next collection; UINT64_MAX when it is off")           \
  METRIC(uint64_t, last_gc, "ns", "end of the last collection, nanoseconds since 1970; 0 before the first")            \
  METRIC(uint64_t, pause_total_ns, "ns", "time the program was stopped, in all")                                       \
  METRIC(uint64_t, pause_max_ns, "ns", "longest stop ever")                                                            \
  METRIC(uint64_t, visit_max_ns, "ns", "longest that one thread was kept to read its stack, while others ran")         \
  METRIC(uint64_t, stopping_total_ns, "ns", "part of pause_total_ns: until all threads had stopped")                   \
  METRIC(uint64_t, assist_total_ns, "ns", "time in which threads that allocated helped to mark")                       \
  METRIC(uint64_t, arm_total_ns, "ns", "time taken to arm pages for the tracker, beside the program")                  \
  METRIC(uint64_t, sweep_total_ns, "ns", "time taken by collections to sweep, beside the program")                     \
  METRIC(uint64_t, dirty_rounds, "rounds", "times that written pages were scanned again beside the program")           \
  METRIC(uint64_t, dirty_pages, "pages", "pages scanned again in these rounds")                                        \
  METRIC(uint64_t, dirty_pages_stopped, "pages", "pages scanned again in stops, as they were written after the last")  \
  METRIC(uint64_t, lookups, "lookups", "always 0; kept for readers of Go's structure")                                 \
  METRIC(uint64_t, gc_cpu_ns, "ns", "processor time used by collections, all markers together")                        \
  METRIC(uint64_t, heap_live, "bytes", "bytes that the last collection found reachable")                               \
  METRIC(uint64_t, stack_scan, "bytes", "bytes of stacks searched by the last collection")                             \
  METRIC(uint64_t, globals_scan, "bytes", "bytes of global and thread-local variables searched by the last one")       \
  METRIC(uint64_t, mark_overflows, "events", "times a mark stack reached its bound and the heap was searched instead") \
  METRIC(uint32_t, num_gc, "cycles", "completed collections")                                                          \
  METRIC(uint32_t, num_forced_gc, "cycles", "collections that the program asked for")                                  \
  METRIC(uint32_t, num_concurrent_gc, "cycles", "collections that marked beside the program")                          \
  METRIC(uint32_t, threads, "threads", "threads known to the library")                                                 \
  METRIC(uint32_t, markers, "threads", "threads that mark in a collection, at most")                                   \
  METRIC(double, gc_cpu_fraction, "1", "share of the program's available processor time used by collections")

/* Size classes have 1 to RUNTIME_METRICS_SIZE_CLASSES - 1; larger objects are in no class. */
#define RUNTIME_METRICS_SIZE_CLASSES 73
/* The last pauses are kept in circles of this length; the newest is at (num_gc + 255) % 256. */
#define RUNTIME_METRICS_PAUSES 256

GC_BEGIN_DECLARATIONS

struct runtime_metrics {
#define GCRT_METRIC_FIELD(type, name, unit, text) type name;
  GCRT_RUNTIME_METRICS(GCRT_METRIC_FIELD)
#undef GCRT_METRIC_FIELD
  uint64_t pause_ns[RUNTIME_METRICS_PAUSES];  /* of each of the last collections: all its stops together, ns */
  uint64_t pause_end[RUNTIME_METRICS_PAUSES]; /* end of its last stop, nanoseconds since 1970 */
  struct runtime_metrics_size_class {
    uint32_t size;    /* bytes of a cell; 0 for class 0, which counts nothing */
    uint64_t mallocs; /* objects allocated */
    uint64_t frees;   /* objects reclaimed */
  } by_size[RUNTIME_METRICS_SIZE_CLASSES];
};

/* Fills *m. Returns 0, or -1 with errno EINVAL if m is NULL. */
GC_API int runtime_metrics_read(struct runtime_metrics *m);

/* What notes writes while objects are marked beside the program: "uffd", "explicit", or "none", with which every
 * collection is one stop. "auto" if GCRT_TRACKER leaves the choice to the library and no collection has been long
 * enough to need it. If reason is not NULL, *reason becomes why it is none although GCRT_TRACKER is not, such as
 * "userfaultfd: Operation not permitted"; otherwise "". It may be for a while only, as when no thread can be started.
 * Both texts last as long as the process. Any thread, not from a signal handler. */
GC_API const char *runtime_metrics_tracker(const char **reason);

GC_END_DECLARATIONS
#endif
