/* Counts of objects, by class. Class 0 is large objects.
 *
 * What is handed out is counted in the windows (heap/cache.h) and, for threads that are gone, in `retired`; what is
 * taken back is counted here. A reader takes the frees first: an object is counted as allocated before it can be freed,
 * so mallocs never fall behind frees. Exact when nothing allocates meanwhile. */
#ifndef GCRT_HEAP_STATS_H
#define GCRT_HEAP_STATS_H

#include "heap/layout.h"

struct gcrt_heap_stats {
  gcrt_word frees[GCRT_CLASSES];
  gcrt_word retired[GCRT_CLASSES]; /* cells handed to programs by threads that are gone */
  gcrt_word large_freed_bytes;
};

extern struct gcrt_heap_stats gcrt_heap_stats;

/* Memory of the heap and of its tables, of one moment; bytes. */
struct gcrt_heap_usage {
  size_t heap_sys, heap_inuse, heap_released;
  size_t released_total, reacquired_total; /* since the start: the second counts new memory too */
  size_t span_inuse, span_sys, tables_sys;
};
void gcrt_heap_usage(struct gcrt_heap_usage *usage);
/* span_sys and tables_sys of it, without a lock. */
size_t gcrt_heap_tables(void);

#endif
