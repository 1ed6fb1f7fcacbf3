/* Runs the same work on a number of threads and adds up what they return. Included after allocator.h, which may have to
 * rename the functions of <pthread.h>. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "allocator.h"

#include <pthread.h>

enum { MOST_THREADS = 64 };

struct work {
  unsigned thread;   /* 0 .. threads - 1 */
  size_t size;       /* of an allocation, in bytes; 0 where the work chooses */
  uint64_t count;    /* allocations of this thread */
  uint64_t checksum; /* set by the work */
  pthread_barrier_t *start;
};

/* Each thread calls fn(&its work), which waits at work->start before it begins. The sum of the checksums. */
static inline uint64_t run_threads(unsigned threads, size_t size, uint64_t count, void *(*fn)(void *)) {
  static struct work work[MOST_THREADS];
  pthread_t ids[MOST_THREADS];
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, threads);
  for (unsigned t = 0; t < threads; t++) {
    work[t] = (struct work){.thread = t, .size = size, .count = count / threads, .start = &start};
    int error = pthread_create(&ids[t], NULL, fn, &work[t]);
    if (error != 0) {
      fprintf(stderr, "bench: pthread_create: error %d\n", error);
      exit(1);
    }
  }
  uint64_t checksum = 0;
  for (unsigned t = 0; t < threads; t++) {
    pthread_join(ids[t], NULL);
    checksum += work[t].checksum;
  }
  pthread_barrier_destroy(&start);
  return checksum;
}

#endif
