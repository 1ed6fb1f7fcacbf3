/* What the torture tests share.
 *
 * A run is bounded by the clock, but no verdict depends on it: each worker does its first round whatever the time, and
 * each test ends in a collection of its own. Workers are started together, since a thread that starts alone would find
 * nobody to race with. The first of them is the calling thread: stack and thread-local variables of the main thread are
 * found in other ways than those of the others. */
#include "torture.h"

#include <stdlib.h>
#include <string.h>

struct start {
  struct torture_worker worker;
  void (*fn)(struct torture_worker *w);
  pthread_barrier_t *together;
};

static void *run_worker(void *arg) {
  struct start *start = arg;
  pthread_barrier_wait(start->together);
  start->fn(&start->worker);
  return NULL;
}

static int releasing;

static void *release_always(void *unused) {
  while (__atomic_load_n(&releasing, __ATOMIC_ACQUIRE)) gc_free_os_memory();
  return unused;
}

static bool release_begin(pthread_t *thread) {
  if (getenv("TORTURE_RELEASE") == NULL) return false;
  __atomic_store_n(&releasing, 1, __ATOMIC_RELEASE);
  return pthread_create(thread, NULL, release_always, NULL) == 0;
}

static void release_end(pthread_t thread) {
  __atomic_store_n(&releasing, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
}

void torture_run(unsigned threads, double share, void (*fn)(struct torture_worker *w), void *shared) {
  enum { MOST = 64 };
  static struct start starts[MOST];
  pthread_t ids[MOST];
  pthread_barrier_t together;
  TEST_REQUIRE(threads > 0 && threads <= MOST);
  pthread_barrier_init(&together, NULL, threads);
  double deadline = test_now() + test_torture_seconds() * share;
  for (unsigned i = 0; i < threads; i++) {
    starts[i].fn = fn;
    starts[i].together = &together;
    starts[i].worker = (struct torture_worker){
        .index = i, .threads = threads, .random = test_random_stream(i), .deadline = deadline, .shared = shared};
    int error = i > 0 ? pthread_create(&ids[i], NULL, run_worker, &starts[i]) : 0;
    TEST_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  }
  pthread_t releaser;
  bool releases = release_begin(&releaser);
  run_worker(&starts[0]);
  for (unsigned i = 1; i < threads; i++) pthread_join(ids[i], NULL);
  if (releases) release_end(releaser);
  pthread_barrier_destroy(&together);
}

bool torture_continues(const struct torture_worker *w) { return test_now() < w->deadline; }

struct runtime_metrics *torture_read_metrics(struct runtime_metrics *m) {
  TEST_REQUIRE(runtime_metrics_read(m) == 0);
#define SHOW(value) (unsigned long long)(value)
  TEST_REQUIRE(m->heap_sys == m->heap_inuse + m->heap_idle, "%llu != %llu + %llu", SHOW(m->heap_sys),
               SHOW(m->heap_inuse), SHOW(m->heap_idle));
  TEST_REQUIRE(m->mallocs - m->frees == m->heap_objects, "%llu - %llu != %llu", SHOW(m->mallocs), SHOW(m->frees),
               SHOW(m->heap_objects));
  TEST_REQUIRE(m->alloc == m->heap_alloc, "%llu != %llu", SHOW(m->alloc), SHOW(m->heap_alloc));
  uint64_t sum = m->heap_sys + m->mspan_sys + m->mcache_sys + m->buckhash_sys + m->gc_sys + m->other_sys;
  TEST_REQUIRE(m->sys == sum, "%llu != %llu", SHOW(m->sys), SHOW(sum));
  TEST_REQUIRE(m->heap_released <= m->heap_idle, "%llu > %llu", SHOW(m->heap_released), SHOW(m->heap_idle));
  TEST_REQUIRE(m->heap_released == m->heap_sys + m->released_total - m->reacquired_total, "%llu != %llu + %llu - %llu",
               SHOW(m->heap_released), SHOW(m->heap_sys), SHOW(m->released_total), SHOW(m->reacquired_total));
  TEST_REQUIRE(m->heap_alloc <= m->heap_inuse, "%llu > %llu", SHOW(m->heap_alloc), SHOW(m->heap_inuse));
  TEST_REQUIRE(m->heap_alloc <= m->total_alloc, "%llu > %llu", SHOW(m->heap_alloc), SHOW(m->total_alloc));
  TEST_REQUIRE(m->mspan_inuse <= m->mspan_sys && m->mcache_inuse <= m->mcache_sys);
  TEST_REQUIRE(m->num_forced_gc <= m->num_gc, "%u > %u", m->num_forced_gc, m->num_gc);
  uint64_t small_mallocs = 0;
  uint64_t small_frees = 0;
  for (unsigned i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++) {
    TEST_REQUIRE(m->by_size[i].frees <= m->by_size[i].mallocs, "class %u: %llu > %llu", i, SHOW(m->by_size[i].frees),
                 SHOW(m->by_size[i].mallocs));
    small_mallocs += m->by_size[i].mallocs;
    small_frees += m->by_size[i].frees;
  }
  TEST_REQUIRE(small_mallocs <= m->mallocs, "%llu > %llu", SHOW(small_mallocs), SHOW(m->mallocs));
  TEST_REQUIRE(small_frees <= m->frees, "%llu > %llu", SHOW(small_frees), SHOW(m->frees));
#undef SHOW
  return m;
}

void torture_check_metrics(void) {
  struct runtime_metrics m;
  torture_read_metrics(&m);
}

/* A function of its own: its large frame would be a part of the stack that the collection searches, stale as it is. */
static __attribute__((noinline)) struct torture_heap read_heap(void) {
  struct runtime_metrics m;
  torture_read_metrics(&m);
  return (struct torture_heap){m.heap_objects, m.heap_alloc, m.mallocs, m.num_gc};
}

struct torture_heap torture_heap_now(void) {
  test_clear_stack();
  gc_collect();
  return read_heap();
}

void torture_heap_check(const struct torture_heap *base, uint64_t slack_objects, uint64_t slack_bytes) {
  struct torture_heap now = torture_heap_now();
  TEST_REQUIRE(now.cycles > base->cycles);
  TEST_REQUIRE(now.mallocs > base->mallocs);
  TEST_REQUIRE(now.objects <= base->objects + slack_objects, "%llu objects stay of %llu allocated; %llu at the start",
               (unsigned long long)now.objects, (unsigned long long)(now.mallocs - base->mallocs),
               (unsigned long long)base->objects);
  TEST_REQUIRE(now.bytes <= base->bytes + slack_bytes, "%llu bytes stay in %llu objects; %llu at the start",
               (unsigned long long)now.bytes, (unsigned long long)now.objects, (unsigned long long)base->bytes);
  printf("  %llu objects allocated, %u collections, %llu objects stay (%llu at the start)\n",
         (unsigned long long)(now.mallocs - base->mallocs), now.cycles - base->cycles, (unsigned long long)now.objects,
         (unsigned long long)base->objects);
  fflush(stdout);
}

size_t torture_size(struct test_random *r, size_t least) {
  uint64_t kind = test_random_below(r, 1000);
  size_t most = kind < 800 ? 256 : kind < 960 ? 2048 : kind < 992 ? 16384 : kind < 999 ? 131072 : 1 << 20;
  return least + test_random_below(r, most);
}

void torture_collect(void) {
  test_clear_stack();
  gc_collect();
}
