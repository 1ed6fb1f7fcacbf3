/* Pools: where items are found, how long they are kept, limits, reset, metrics, ends of threads, the child of a
 * fork, pools that nothing leads to, and misuse. pool_tokens.c looks for what is lost or handed out twice. */
#include "system.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static struct gc_pool_metrics stats(struct gc_pool *pool) {
  struct gc_pool_metrics m;
  memset(&m, 0xa5, sizeof m);
  gc_pool_stats(pool, &m);
  TEST_REQUIRE(m.gets == m.hits + m.misses);
  TEST_REQUIRE(m.hits == m.hits_private + m.hits_shared + m.hits_stolen + m.hits_victim);
  TEST_REQUIRE(m.puts == m.hits + m.refused + m.dropped + m.held);
  TEST_REQUIRE(m.held < (uint64_t)1 << 60, "%lld held", (long long)m.held);
  return m;
}

static struct gc_pool *new_pool(void) {
  struct gc_pool *pool = gc_pool_new(NULL, NULL);
  TEST_REQUIRE(pool != NULL);
  return pool;
}

/* Not of the collector's: the pool keeps them as they are. */
static char foreign[4096];

START_TEST(empty_pool_gives_null_without_make) {
  struct gc_pool *pool = new_pool();
  ck_assert_ptr_null(gc_pool_get(pool));
  gc_pool_put(pool, NULL);
  ck_assert_ptr_null(gc_pool_get(pool));
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.gets, 2);
  ck_assert_uint_eq(m.misses, 2);
  ck_assert_uint_eq(m.puts, 0);
}
END_TEST

static void *make_number(void *arg) { return foreign + ++*(int *)arg; }

START_TEST(empty_pool_makes) {
  int *made = gc_alloc(sizeof *made);
  struct gc_pool *pool = gc_pool_new(make_number, made);
  made = NULL;
  system_collect();
  ck_assert_ptr_eq(gc_pool_get(pool), foreign + 1);
  ck_assert_ptr_eq(gc_pool_get(pool), foreign + 2);
  gc_pool_put(pool, foreign + 1);
  ck_assert_ptr_eq(gc_pool_get(pool), foreign + 1);
  ck_assert_ptr_eq(gc_pool_get(pool), foreign + 3);
  ck_assert_uint_eq(stats(pool).misses, 3);
}
END_TEST

/* The first one of its own place, the others newest first. */
START_TEST(own_items_come_newest_first) {
  struct gc_pool *pool = new_pool();
  for (int i = 0; i < 1000; i++) gc_pool_put(pool, foreign + i);
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.held, 1000);
  ck_assert_uint_eq(m.held_bytes, 0);
  ck_assert_ptr_eq(gc_pool_get(pool), foreign);
  for (int i = 999; i > 0; i--) ck_assert_ptr_eq(gc_pool_get(pool), foreign + i);
  ck_assert_ptr_null(gc_pool_get(pool));
  m = stats(pool);
  ck_assert_uint_eq(m.hits_private, 1);
  ck_assert_uint_eq(m.hits_shared, 999);
}
END_TEST

static void put_forty(struct gc_pool *pool) {
  for (int i = 0; i < 40; i++) gc_pool_put(pool, foreign + i);
}

START_TEST(one_collection_leaves_all_and_the_second_none) {
  struct gc_pool *pool = new_pool();
  put_forty(pool);
  gc_collect();
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.held, 40);
  ck_assert_uint_eq(m.dropped, 0);
  ck_assert_ptr_eq(gc_pool_get(pool), foreign);
  for (int i = 1; i < 20; i++) ck_assert_ptr_nonnull(gc_pool_get(pool));
  ck_assert_uint_eq(stats(pool).hits_victim, 20);
  gc_collect();
  ck_assert_ptr_null(gc_pool_get(pool));
  m = stats(pool);
  ck_assert_uint_eq(m.dropped, 20);
  ck_assert_uint_eq(m.held, 0);
}
END_TEST

/* Put in again, a victim is as new. */
START_TEST(use_keeps_items_for_ever) {
  struct gc_pool *pool = new_pool();
  for (int i = 0; i < 5; i++) gc_pool_put(pool, foreign + i);
  for (int round = 0; round < 20; round++) {
    void *items[5];
    for (int i = 0; i < 5; i++) ck_assert_ptr_nonnull(items[i] = gc_pool_get(pool));
    ck_assert_ptr_null(gc_pool_get(pool));
    for (int i = 0; i < 5; i++) gc_pool_put(pool, items[i]);
    gc_collect();
  }
  ck_assert_uint_eq(stats(pool).dropped, 0);
}
END_TEST

static void place_in_pool(size_t i, void *object, void *pool) {
  (void)i;
  gc_pool_put(pool, object);
}

/* Nobody touches the pool in between: the second collection frees what the first still kept. */
START_TEST(items_are_freed_by_the_second_collection) {
  struct gc_pool *pool = new_pool();
  struct system_set set;
  system_set_make(&set, 200, gc_alloc, place_in_pool, pool);
  ck_assert_uint_ge(stats(pool).held_bytes, 200 * SYSTEM_SET);
  system_collect();
  ck_assert(system_set_intact(&set));
  system_collect();
  ck_assert(system_set_dead(&set));
  ck_assert_uint_eq(stats(pool).dropped, SYSTEM_SET);
}
END_TEST

/* What was got is the program's alone: no slot keeps it. */
START_TEST(taken_items_are_not_kept) {
  struct gc_pool *pool = new_pool();
  struct system_set set;
  system_set_make(&set, 64, gc_alloc, place_in_pool, pool);
  for (size_t i = 0; i < SYSTEM_SET; i++) ck_assert_ptr_nonnull(gc_pool_get(pool));
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

static void *put_and_end(void *pool) {
  put_forty(pool);
  return NULL;
}

START_TEST(items_of_ended_threads_are_found) {
  struct gc_pool *pool = new_pool();
  bool seen[40] = {false};
  /* Before: otherwise this thread would take over what the other one left. */
  ck_assert_ptr_null(gc_pool_get(pool));
  system_on_thread(put_and_end, pool);
  for (int i = 0; i < 40; i++) {
    char *item = gc_pool_get(pool);
    TEST_REQUIRE(item >= foreign && item < foreign + 40 && !seen[item - foreign], "item %d", i);
    seen[item - foreign] = true;
  }
  ck_assert_ptr_null(gc_pool_get(pool));
  ck_assert_uint_eq(stats(pool).hits_stolen, 40);
  system_on_thread(put_and_end, pool);
  gc_collect();
  for (int i = 0; i < 40; i++) ck_assert_ptr_nonnull(gc_pool_get(pool));
  ck_assert_uint_eq(stats(pool).hits_victim, 40);
}
END_TEST

/* A thread that uses the pool for the first time takes over what an ended one left, its private place included. */
START_TEST(new_thread_takes_an_ended_ones_place) {
  struct gc_pool *pool = new_pool();
  system_on_thread(put_and_end, pool);
  for (int i = 0; i < 40; i++) ck_assert_ptr_nonnull(gc_pool_get(pool));
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.hits_private, 1);
  ck_assert_uint_eq(m.hits_shared, 39);
}
END_TEST

static struct {
  struct gc_pool *pool;
  struct system_event full, end;
} other = {.full = SYSTEM_EVENT_INITIALIZER, .end = SYSTEM_EVENT_INITIALIZER};

static void *put_and_wait(void *unused) {
  put_forty(other.pool);
  system_event_post(&other.full);
  system_event_wait(&other.end, 1);
  return unused;
}

/* All but the one in its private place. */
START_TEST(items_of_waiting_threads_are_stolen) {
  other.pool = new_pool();
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, put_and_wait, NULL), 0);
  system_event_wait(&other.full, 1);
  for (int i = 1; i < 40; i++) ck_assert_ptr_eq(gc_pool_get(other.pool), foreign + i);
  ck_assert_ptr_null(gc_pool_get(other.pool));
  ck_assert_uint_eq(stats(other.pool).hits_stolen, 39);
  /* Also that goes with the second collection. */
  gc_collect();
  ck_assert_ptr_null(gc_pool_get(other.pool));
  gc_collect();
  ck_assert_uint_eq(stats(other.pool).dropped, 1);
  system_event_post(&other.end);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static int find_all_in_child(void *pool) {
  int found = 0;
  while (gc_pool_get(pool)) found++;
  put_forty(pool);
  gc_collect();
  while (gc_pool_get(pool)) found++;
  put_forty(pool);
  gc_collect();
  gc_collect();
  return gc_pool_get(pool) ? 255 : found;
}

START_TEST(child_finds_the_items_of_all_threads) {
  other.pool = new_pool();
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, put_and_wait, NULL), 0);
  system_event_wait(&other.full, 1);
  put_forty(other.pool);
  struct test_child child = test_child_fork(find_all_in_child, other.pool, NULL);
  test_assert_exited(&child, 120);
  test_child_free(&child);
  ck_assert_uint_eq(stats(other.pool).held, 80);
  system_event_post(&other.end);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* Limits. */
START_TEST(items_beyond_the_limit_are_refused) {
  struct gc_pool *pool = gc_pool_new_with(&(struct gc_pool_options){.max_items = 10});
  put_forty(pool);
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.held, 10);
  ck_assert_uint_eq(m.refused, 30);
  ck_assert_ptr_nonnull(gc_pool_get(pool));
  gc_pool_put(pool, foreign);
  gc_pool_put(pool, foreign);
  ck_assert_uint_eq(stats(pool).refused, 31);
  /* Victims count until they are dropped. */
  gc_collect();
  gc_pool_put(pool, foreign);
  ck_assert_uint_eq(stats(pool).refused, 32);
  gc_collect();
  put_forty(pool);
  m = stats(pool);
  ck_assert_uint_eq(m.held, 10);
  ck_assert_uint_eq(m.dropped, 10);
}
END_TEST

START_TEST(bytes_beyond_the_limit_are_refused) {
  struct gc_pool *pool = gc_pool_new_with(&(struct gc_pool_options){.max_bytes = 10240});
  for (int i = 0; i < 20; i++) gc_pool_put(pool, gc_alloc(1000));
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.held, 10);
  ck_assert_uint_eq(m.held_bytes, 10 * (gc_usable_size(gc_alloc(1000)) + 1));
  gc_pool_put(pool, gc_alloc(1 << 20));
  ck_assert_uint_eq(stats(pool).refused, 11);
  while (gc_pool_get(pool)) continue;
  ck_assert_uint_eq(stats(pool).held_bytes, 0);
  gc_pool_put(pool, gc_alloc(9000));
  ck_assert_uint_eq(stats(pool).held, 1);
  gc_collect();
  gc_collect();
  ck_assert_uint_eq(stats(pool).held_bytes, 0);
}
END_TEST

struct buffer {
  char *bytes;
  size_t used, capacity;
};

static size_t size_of_buffer(void *item, void *arg) {
  (void)arg;
  return ((const struct buffer *)item)->capacity;
}

static int reset_buffer(void *item, void *arg) {
  struct buffer *buffer = item;
  buffer->used = 0;
  return buffer->capacity <= *(const size_t *)arg;
}

static struct buffer *new_buffer(size_t capacity) {
  struct buffer *buffer = gc_alloc(sizeof *buffer);
  *buffer = (struct buffer){gc_alloc_noscan(capacity), capacity, capacity};
  return buffer;
}

START_TEST(reset_refuses_oversized_items) {
  size_t *most = gc_alloc_noscan(sizeof *most);
  *most = 4096;
  struct gc_pool_options options = {.reset = reset_buffer, .size = size_of_buffer, .arg = most, .max_bytes = 10000};
  most = NULL;
  struct gc_pool *pool = gc_pool_new_with(&options);
  gc_pool_put(pool, new_buffer(5000));
  ck_assert_uint_eq(stats(pool).refused, 1);
  ck_assert_ptr_null(gc_pool_get(pool));
  for (int i = 0; i < 4; i++) gc_pool_put(pool, new_buffer(4000));
  struct gc_pool_metrics m = stats(pool);
  ck_assert_uint_eq(m.refused, 3);
  ck_assert_uint_eq(m.held, 2);
  ck_assert_uint_eq(m.held_bytes, 8000);
  struct buffer *buffer = gc_pool_get(pool);
  ck_assert_uint_eq(buffer->used, 0);
  ck_assert_uint_eq(buffer->capacity, 4000);
  ck_assert_uint_eq(stats(pool).held_bytes, 4000);
}
END_TEST

/* Pools that nothing leads to. */
enum { POOLS = 200 };
static uintptr_t hidden_pools[POOLS];

static void *make_pools(void *unused) {
  for (int i = 0; i < POOLS; i++) {
    struct gc_pool *pool = new_pool();
    hidden_pools[i] = test_hide(pool);
    for (int k = 0; k < 20; k++) gc_pool_put(pool, gc_alloc(300));
  }
  test_clear_stack();
  return unused;
}

static int pools_alive(void) {
  int alive = 0;
  for (int i = 0; i < POOLS; i++) alive += gc_base(test_reveal(hidden_pools[i])) != NULL;
  return alive;
}

START_TEST(unreachable_pools_go_with_their_items) {
  system_collect();
  struct runtime_metrics before = system_metrics();
  for (int round = 0; round < 3; round++) {
    system_on_thread(make_pools, NULL);
    system_collect();
    int alive = pools_alive();
    ck_assert_msg(alive <= POOLS / 4, "%d of %d pools are alive", alive, POOLS);
    system_collect();
    system_collect();
    struct runtime_metrics after = system_metrics();
    ck_assert_uint_le(after.heap_objects, before.heap_objects + (uint64_t)(round + 1) * POOLS / 4 * 30);
  }
}
END_TEST

/* Pools' places in the table are used again, and those that are left are turned as before. */
START_TEST(live_pools_among_dead_ones_are_turned) {
  enum { KEPT = 50 };
  static struct gc_pool *kept[KEPT];
  gc_set_percent(-1);
  for (int i = 0; i < KEPT; i++) {
    system_on_thread(make_pools, NULL);
    kept[i] = new_pool();
    if (i % 10 == 0) system_collect();
  }
  for (int i = 0; i < KEPT; i++) gc_pool_put(kept[i], foreign + i);
  system_collect();
  for (int i = 0; i < KEPT; i += 2) ck_assert_ptr_eq(gc_pool_get(kept[i]), foreign + i);
  system_collect();
  for (int i = 0; i < KEPT; i++) {
    ck_assert_ptr_null(gc_pool_get(kept[i]));
    ck_assert_uint_eq(stats(kept[i]).dropped, i % 2);
  }
}
END_TEST

START_TEST(freed_pool_drops_its_items) {
  struct system_set set;
  struct gc_pool *pool = new_pool();
  system_set_make(&set, 100, gc_alloc, place_in_pool, pool);
  gc_free(pool);
  pool = NULL;
  system_collect();
  ck_assert(system_set_dead(&set));
  for (int i = 0; i < 100; i++) ck_assert_ptr_null(gc_pool_get(new_pool()));
  system_collect();
}
END_TEST

/* Misuse. */
static struct gc_pool *no_pool(const char *what) {
  if (strcmp(what, "null") == 0) return NULL;
  if (strcmp(what, "one") == 0) return (struct gc_pool *)(uintptr_t)1;
  if (strcmp(what, "foreign") == 0) return (struct gc_pool *)(void *)foreign;
  if (strcmp(what, "object") == 0) return gc_alloc_aligned(64, 192);
  struct gc_pool *pool = new_pool();
  if (strcmp(what, "inside") == 0) return (struct gc_pool *)((uintptr_t)pool + 64);
  if (strcmp(what, "copy") == 0) {
    void *copy = gc_alloc_aligned(64, gc_usable_size(pool));
    return memcpy(copy, pool, gc_usable_size(pool));
  }
  /* So that the thread remembers its part. */
  if (strcmp(what, "used-and-freed") == 0) put_forty(pool);
  gc_free(pool);
  return pool;
}

static int child_misuse(int argc, char **argv) {
  (void)argc;
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  struct gc_pool *pool = no_pool(argv[2]);
  struct gc_pool_metrics m;
  if (strcmp(argv[1], "gc_pool_get") == 0) gc_pool_get(pool);
  if (strcmp(argv[1], "gc_pool_put") == 0) gc_pool_put(pool, foreign);
  if (strcmp(argv[1], "gc_pool_stats") == 0) gc_pool_stats(pool, &m);
  return 0;
}

static const char *const calls[] = {"gc_pool_get", "gc_pool_put", "gc_pool_stats"};
static const char *const wrong[] = {"null", "one", "foreign", "object", "inside", "copy", "freed", "used-and-freed"};
enum { CALLS = sizeof calls / sizeof *calls, WRONG = sizeof wrong / sizeof *wrong };

START_TEST(misuse_ends_with_a_line) {
  const char *arguments[] = {calls[_i / WRONG], wrong[_i % WRONG], NULL};
  struct test_child child = test_child_exec_self("misuse", arguments, NULL);
  test_assert_signalled(&child, SIGABRT);
  char begin[64];
  snprintf(begin, sizeof begin, "gcrt: %s(0x", arguments[0]);
  test_assert_err_has(&child, begin);
  test_assert_err_has(&child, _i % WRONG == 0 ? "there is no pool" : "it is no pool");
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("pool");
  TCase *places = test_case(suite, "places", 60);
  tcase_add_test(places, empty_pool_gives_null_without_make);
  tcase_add_test(places, empty_pool_makes);
  tcase_add_test(places, own_items_come_newest_first);
  tcase_add_test(places, one_collection_leaves_all_and_the_second_none);
  tcase_add_test(places, use_keeps_items_for_ever);
  tcase_add_test(places, items_are_freed_by_the_second_collection);
  tcase_add_test(places, taken_items_are_not_kept);
  tcase_add_test(places, items_of_ended_threads_are_found);
  tcase_add_test(places, new_thread_takes_an_ended_ones_place);
  tcase_add_test(places, items_of_waiting_threads_are_stolen);
  tcase_add_test(places, child_finds_the_items_of_all_threads);
  TCase *limits = test_case(suite, "limits", 60);
  tcase_add_test(limits, items_beyond_the_limit_are_refused);
  tcase_add_test(limits, bytes_beyond_the_limit_are_refused);
  tcase_add_test(limits, reset_refuses_oversized_items);
  TCase *ends = test_case(suite, "ends", 60);
  tcase_add_test(ends, unreachable_pools_go_with_their_items);
  tcase_add_test(ends, live_pools_among_dead_ones_are_turned);
  tcase_add_test(ends, freed_pool_drops_its_items);
  TCase *misuse = test_case(suite, "misuse", 60);
  tcase_add_loop_test(misuse, misuse_ends_with_a_line, 0, CALLS * WRONG);
  return suite;
}

static const struct test_child_entry children[] = {{"misuse", child_misuse}, {NULL, NULL}};

TEST_MAIN_CHILDREN(make_suite, children)
