/* pool MODE THREADS COUNT: what it costs to have a buffer of 1 KiB for a moment.
 *
 * Each thread gets a buffer, writes and reads its first word, and gives it back, COUNT / THREADS times. With MODE pool
 * the buffers come from a pool, with allocate from the allocator. A pool is gc_pool for gcrt; the others have none, and
 * theirs is what programs write by hand: a list behind a mutex. ns_per_pair is the time of a thread over its
 * pairs: threads that do not hinder each other have the figure of one. */
#include "threads.h"

#include "report.h"

#include <stdbool.h>

enum { BYTES = 1024 };

#if defined(BENCH_GCRT)
static struct gc_pool *pool;

static void *make(void *arg) {
  (void)arg;
  return allocate_noscan(BYTES);
}

static void pool_start(void) { pool = gc_pool_new(make, NULL); }
static inline void *pool_get(void) { return gc_pool_get(pool); }
static inline void pool_put(void *buffer) { gc_pool_put(pool, buffer); }
#else
/* In a variable, which a collector searches. */
static struct {
  pthread_mutex_t lock;
  void *first;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void pool_start(void) {}

static inline void *pool_get(void) {
  pthread_mutex_lock(&pool.lock);
  void *buffer = pool.first;
  if (buffer != NULL) pool.first = *(void **)buffer;
  pthread_mutex_unlock(&pool.lock);
  return buffer != NULL ? buffer : allocate(BYTES);
}

static inline void pool_put(void *buffer) {
  pthread_mutex_lock(&pool.lock);
  *(void **)buffer = pool.first;
  pool.first = buffer;
  pthread_mutex_unlock(&pool.lock);
}
#endif

static inline uint64_t use(volatile uint64_t *buffer, uint64_t i) {
  *buffer = i;
  return *buffer * 31;
}

static void *from_pool(void *arg) {
  struct work *w = arg;
  uint64_t checksum = 0;
  pthread_barrier_wait(w->start);
  for (uint64_t i = 0; i < w->count; i++) {
    uint64_t *buffer = pool_get();
    checksum += use(buffer, i);
    pool_put(buffer);
  }
  w->checksum = checksum;
  return NULL;
}

static void *from_allocator(void *arg) {
  struct work *w = arg;
  uint64_t checksum = 0;
  pthread_barrier_wait(w->start);
  for (uint64_t i = 0; i < w->count; i++) {
    uint64_t *buffer = allocate_noscan(BYTES);
    checksum += use(buffer, i);
    release(buffer);
  }
  w->checksum = checksum;
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "pool") != 0 && strcmp(argv[1], "allocate") != 0) {
    fprintf(stderr, "%s: mode=%s: expected pool or allocate\n", argv[0], argv[1]);
    return 2;
  }
  bool pooled = argc < 2 || strcmp(argv[1], "pool") == 0;
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", 1, 1, MOST_THREADS);
  uint64_t count = argument(argc, argv, 3, "count", 50000000, threads, (uint64_t)1 << 40);
  allocator_start();
  pool_start();
  uint64_t start = now_ns();
  uint64_t checksum = run_threads(threads, BYTES, count, pooled ? from_pool : from_allocator);
  uint64_t wall = now_ns() - start;
  printf("ns_per_pair=%.3f\n", (double)wall * threads / (double)count);
  report_run(wall, checksum);
  return 0;
}
