/* One-true-awk on a collector: what it calls for memory becomes the collector's, and free becomes nothing.
 *
 * The build includes this before anything else in each of awk's files (-include), so the headers that declare the C
 * library's functions are read before the names change. With malloc nothing changes. The strings of strdup are memory
 * without pointers for both collectors, as in a program that calls gc_strdup or GC_STRDUP; for the rest awk does not
 * say what it will hold. */
#ifndef BENCH_AWK_MEMORY_H
#define BENCH_AWK_MEMORY_H

#include "../allocator.h"

#include <string.h>

#if defined(BENCH_GCRT)
#define malloc(size) gc_alloc(size)
#define calloc(count, size) gc_alloc_array(count, size)
#define realloc(p, size) gc_realloc(p, size)
#define strdup(text) gc_strdup(text)
#define free(p) ((void)(p))
#elif defined(BENCH_BDWGC)
static inline void *collected_array(size_t count, size_t size) {
  size_t bytes;
  return __builtin_mul_overflow(count, size, &bytes) ? NULL : GC_MALLOC(bytes);
}

#define malloc(size) GC_MALLOC(size)
#define calloc(count, size) collected_array(count, size)
#define realloc(p, size) GC_REALLOC(p, size)
#define strdup(text) GC_STRDUP(text)
#define free(p) ((void)(p))
#endif

#endif
