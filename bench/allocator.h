/* The allocators that every benchmark is compiled against, behind one set of names.
 *
 * Exactly one of BENCH_GCRT, BENCH_BDWGC, BENCH_MALLOC and BENCH_MIMALLOC is defined by the build; with BENCH_BDWGC
 * there may be BENCH_INCREMENTAL, for its incremental mode. The choice is made by the preprocessor and not by function
 * pointers, so that each program pays exactly the calls that a program written for that allocator would pay. This
 * header must come before <pthread.h>: bdwgc renames the thread functions.
 *
 * allocate        memory that is searched for pointers. Collectors hand it out zeroed, malloc does not: a program must
 *                 set what it reads
 * allocate_noscan memory that holds no pointers
 * release         gives memory back; nothing where a collector does it
 * ALLOCATOR_FREES 1 where release must be called: loops that only release are left out elsewhere
 * collect         a full collection, of collectors only
 * collections     how many there were; 0 without a collector */
#ifndef BENCH_ALLOCATOR_H
#define BENCH_ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(BENCH_GCRT)
#include <gcrt.h>
#define ALLOCATOR_NAME "gcrt"
#define ALLOCATOR_FREES 0
#define RAW_ALLOCATE(size) gc_alloc(size)
#define RAW_ALLOCATE_NOSCAN(size) gc_alloc_noscan(size)
#define RAW_RELEASE(p) ((void)(p))
#elif defined(BENCH_BDWGC)
#define GC_THREADS
#include <gc.h>
#if defined(BENCH_INCREMENTAL)
#define ALLOCATOR_NAME "bdwgc-inc"
#else
#define ALLOCATOR_NAME "bdwgc"
#endif
#define ALLOCATOR_FREES 0
#define RAW_ALLOCATE(size) GC_MALLOC(size)
#define RAW_ALLOCATE_NOSCAN(size) GC_MALLOC_ATOMIC(size)
#define RAW_RELEASE(p) ((void)(p))
#elif defined(BENCH_MIMALLOC)
#include <mimalloc.h>
#define ALLOCATOR_NAME "mimalloc"
#define ALLOCATOR_FREES 1
#define RAW_ALLOCATE(size) mi_malloc(size)
#define RAW_ALLOCATE_NOSCAN(size) mi_malloc(size)
#define RAW_RELEASE(p) mi_free(p)
#elif defined(BENCH_MALLOC)
#include <gnu/libc-version.h>
#define ALLOCATOR_NAME "malloc"
#define ALLOCATOR_FREES 1
#define RAW_ALLOCATE(size) malloc(size)
#define RAW_ALLOCATE_NOSCAN(size) malloc(size)
#define RAW_RELEASE(p) free(p)
#else
#error "define one of BENCH_GCRT, BENCH_BDWGC, BENCH_MALLOC, BENCH_MIMALLOC"
#endif

/* Every allocator pays the same test of the result; a benchmark that runs out of memory has no figure. */
static inline void *allocated(void *p) {
  if (__builtin_expect(p == NULL, 0)) {
    fprintf(stderr, "bench: %s: out of memory\n", ALLOCATOR_NAME);
    exit(1);
  }
  return p;
}

static inline void *allocate(size_t size) { return allocated(RAW_ALLOCATE(size)); }

static inline void *allocate_noscan(size_t size) { return allocated(RAW_ALLOCATE_NOSCAN(size)); }

static inline void release(void *p) { RAW_RELEASE(p); }

/* To be called first in main. bdwgc gets its marker threads at once: by itself it starts them with the program's first
 * thread, and would mark a single-threaded program's heap on one processor. GC_MARKERS=1 shows that case. */
static inline void allocator_start(void) {
#if defined(BENCH_BDWGC)
#if defined(BENCH_INCREMENTAL)
  GC_enable_incremental();
  if (!GC_is_incremental_mode()) {
    fprintf(stderr, "bench: %s: this system gives it no written pages to know\n", ALLOCATOR_NAME);
    exit(1);
  }
#endif
  GC_INIT();
  GC_start_mark_threads();
#endif
}

/* Prints the version of the library that runs. */
static inline void report_version(void) {
#if defined(BENCH_GCRT)
  printf("version=%s\n", gc_version());
#elif defined(BENCH_BDWGC)
  unsigned version = GC_get_version();
  printf("version=%u.%u.%u\n", version >> 16, version >> 8 & 255, version & 255);
#elif defined(BENCH_MIMALLOC)
  int version = mi_version();
  printf("version=%d.%d.%d\n", version / 100, version / 10 % 10, version % 10);
#else
  printf("version=%s\n", gnu_get_libc_version());
#endif
}

static inline uint64_t collections(void) {
#if defined(BENCH_GCRT)
  static struct runtime_metrics metrics;
  return runtime_metrics_read(&metrics) == 0 ? metrics.num_gc : 0;
#elif defined(BENCH_BDWGC)
  return GC_get_gc_no();
#else
  return 0;
#endif
}

#if defined(BENCH_GCRT)
static inline void collect(void) { gc_collect(); }
#elif defined(BENCH_BDWGC)
static inline void collect(void) { GC_gcollect(); }
#endif

#endif
