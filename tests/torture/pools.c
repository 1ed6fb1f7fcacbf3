/* Pools under everything at once.
 *
 * Each item carries its id, contents that follow from it, a companion that it alone leads to, and who has it. Threads
 * take items out of shared pools and put them in, keep some, drop some, replace pools while others use them, give
 * items to threads that end at once, and allocate; a few collect. An item that two threads have, that is freed while a
 * pool or a thread has it, or that comes back damaged, ends the program; so do metrics that do not balance. */
#include "torture.h"

#include <string.h>

enum { POOLS = 6, KEPT = 12, MOST_OF_BURST = 80 };

struct item {
  struct item *companion;
  uint64_t id;
  atomic_int owners;
  unsigned char pattern[52];
};

/* The only pointers to the pools, but for those that threads are using. */
static struct gc_pool *_Atomic pools[POOLS];
static atomic_ullong next_id = 1;

static struct item *new_item(uint64_t id, struct item *companion) {
  struct item *item = gc_alloc(sizeof *item);
  TEST_REQUIRE(item != NULL);
  item->companion = companion;
  item->id = id;
  test_pattern_write(item->pattern, sizeof item->pattern, id);
  return item;
}

static void *make(void *unused) {
  (void)unused;
  uint64_t id = atomic_fetch_add(&next_id, 2);
  return new_item(id, new_item(id + 1, NULL));
}

static void check_whole(const struct item *item, uint64_t id) {
  TEST_REQUIRE(gc_base(item) == item, "lost: item %llu at %p", (unsigned long long)id, (const void *)item);
  TEST_REQUIRE(item->id == id, "item %llu where %llu was", (unsigned long long)item->id, (unsigned long long)id);
  TEST_REQUIRE(test_pattern_bad(item->pattern, sizeof item->pattern, id) == sizeof item->pattern, "damaged: item %llu",
               (unsigned long long)id);
}

static struct item *take(struct gc_pool *pool) {
  struct item *item = gc_pool_get(pool);
  TEST_REQUIRE(item != NULL);
  int owners = atomic_fetch_add(&item->owners, 1);
  TEST_REQUIRE(owners == 0, "item %llu has %d owners already", (unsigned long long)item->id, owners);
  check_whole(item, item->id);
  check_whole(item->companion, item->id + 1);
  return item;
}

static void give(struct gc_pool *pool, struct item *item) {
  check_whole(item->companion, item->id + 1);
  atomic_fetch_sub(&item->owners, 1);
  gc_pool_put(pool, item);
}

/* Of reset: now and then one is refused. */
static int keeps(void *item, void *arg) {
  (void)arg;
  return ((const struct item *)item)->id % 7 != 1;
}

static void new_pool(struct test_random *r, unsigned index) {
  struct gc_pool_options options = {.make = make};
  if (test_random_once_in(r, 3)) options.max_items = 30;
  if (test_random_once_in(r, 3)) options.reset = keeps;
  if (test_random_once_in(r, 3)) options.max_bytes = 4096;
  struct gc_pool *pool = gc_pool_new_with(&options);
  TEST_REQUIRE(pool != NULL);
  atomic_store(&pools[index], pool);
}

static struct gc_pool *any_pool(struct test_random *r) { return atomic_load(&pools[test_random_below(r, POOLS)]); }

static void check_stats(struct gc_pool *pool) {
  struct gc_pool_metrics m;
  gc_pool_stats(pool, &m);
  TEST_REQUIRE(m.gets == m.hits + m.misses && m.puts == m.hits + m.refused + m.dropped + m.held);
  TEST_REQUIRE(m.held <= m.puts, "%llu held of %llu", (unsigned long long)m.held, (unsigned long long)m.puts);
}

/* Many at once, so that rings grow and are stolen from. */
static void burst(struct test_random *r) {
  struct item *items[MOST_OF_BURST];
  struct gc_pool *from = any_pool(r), *to = any_pool(r);
  size_t count = 1 + test_random_below(r, MOST_OF_BURST);
  for (size_t i = 0; i < count; i++) items[i] = take(from);
  for (size_t i = 0; i < count; i++) give(to, items[i]);
}

static void *short_life(void *arg) {
  struct gc_pool *pool = arg;
  for (int i = 0; i < 10; i++) give(pool, take(pool));
  struct item *items[5];
  for (int i = 0; i < 5; i++) items[i] = take(pool);
  for (int i = 0; i < 5; i++) give(pool, items[i]);
  return NULL;
}

static void start_and_end(struct test_random *r) {
  pthread_t thread;
  struct gc_pool *pool = any_pool(r);
  TEST_REQUIRE(pthread_create(&thread, NULL, short_life, pool) == 0);
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  /* A sanitizer keeps the argument of a new thread in memory of its own. */
  gc_keep_alive(pool);
}

static void exchange(struct test_random *r, struct item **kept) {
  struct gc_pool *pool = any_pool(r);
  if (*kept == NULL) {
    *kept = take(pool);
  } else if (test_random_once_in(r, 20)) {
    *kept = NULL; /* dropped */
  } else {
    give(pool, *kept);
    *kept = NULL;
  }
}

static void use_pools(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  struct item *kept[KEPT] = {NULL};
  do {
    uint64_t what = test_random_below(r, 1024);
    if (what == 0)
      gc_collect();
    else if (what == 1)
      start_and_end(r);
    else if (what < 6)
      new_pool(r, (unsigned)test_random_below(r, POOLS));
    else if (what < 30)
      burst(r);
    else if (what < 60)
      check_stats(any_pool(r));
    else if (what < 200)
      memset(gc_alloc(torture_size(r, 16)), 0x5a, 16);
    else
      exchange(r, &kept[test_random_below(r, KEPT)]);
  } while (torture_continues(worker));
  for (unsigned i = 0; i < KEPT; i++) {
    if (kept[i]) give(any_pool(r), kept[i]);
  }
  torture_check_metrics();
}

/* On a thread of its own: what it leaves on its stack leads to pools with hundreds of items. */
static void *drop_pools(void *unused) {
  for (unsigned i = 0; i < POOLS; i++) check_stats(atomic_exchange(&pools[i], NULL));
  return unused;
}

static const unsigned thread_counts[] = {1, 2, 4};

START_TEST(items_are_kept_and_belong_to_one) {
  struct torture_heap base = torture_heap_now();
  struct test_random r = test_random_stream(1000);
  for (unsigned i = 0; i < POOLS; i++) new_pool(&r, i);
  torture_run(thread_counts[_i], 1.0 / 3, use_pools, NULL);
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, drop_pools, NULL) == 0 && pthread_join(thread, NULL) == 0);
  torture_heap_check(&base, 400, 4 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("pools");
  TCase *tc = test_case(suite, "pools", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, items_are_kept_and_belong_to_one, 0, sizeof thread_counts / sizeof *thread_counts);
  return suite;
}

TEST_MAIN(make_suite)
