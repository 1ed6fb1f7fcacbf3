/* Runs of chunks: first fit, alignment, what reads as zero, counts, limits; random takes and gives against a model. */
#include "heap_fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

static size_t take(size_t n, size_t alignment, bool *zeroed) {
  *zeroed = false;
  return gcrt_pages_take(n, alignment, zeroed);
}

static void *address(size_t chunk) { return (void *)gcrt_chunk_address(chunk); }

START_TEST(runs_come_lowest_first) {
  bool zeroed;
  fresh_heap(16 * MIB);
  for (size_t i = 0; i < 10; i++) ck_assert_uint_eq(take(1, 1, &zeroed), i);
  ck_assert_uint_eq(take(5, 1, &zeroed), 10);
  gcrt_pages_give(3, 1, false);
  gcrt_pages_give(7, 2, false);
  ck_assert_uint_eq(take(2, 1, &zeroed), 7);
  ck_assert_uint_eq(take(2, 1, &zeroed), 15);
  ck_assert_uint_eq(take(1, 1, &zeroed), 3);
}
END_TEST

START_TEST(neighbours_become_one_run) {
  bool zeroed;
  fresh_heap(16 * MIB);
  ck_assert_uint_eq(take(256, 1, &zeroed), 0);
  ck_assert_uint_eq(take(1, 1, &zeroed), SIZE_MAX);
  /* Over the ends of bitmap words, in any order. */
  gcrt_pages_give(130, 70, false);
  gcrt_pages_give(10, 60, false);
  gcrt_pages_give(70, 60, false);
  ck_assert_uint_eq(take(191, 1, &zeroed), SIZE_MAX);
  ck_assert_uint_eq(take(190, 1, &zeroed), 10);
  ck_assert_uint_eq(take(1, 1, &zeroed), SIZE_MAX);
}
END_TEST

START_TEST(runs_are_aligned_by_address) {
  bool zeroed;
  fresh_heap(64 * MIB);
  ck_assert_uint_eq(take(1, 1, &zeroed), 0);
  for (size_t alignment = 1; alignment <= 64; alignment *= 2) {
    size_t first = take(3, alignment, &zeroed);
    ck_assert_uint_ne(first, SIZE_MAX);
    ck_assert_uint_eq(gcrt_chunk_address(first) % (alignment * GCRT_CHUNK), 0);
  }
}
END_TEST

START_TEST(what_reads_as_zero_is_told) {
  bool zeroed;
  fresh_heap(16 * MIB);
  ck_assert_uint_eq(take(4, 1, &zeroed), 0);
  ck_assert(zeroed);
  ck_assert(reads_zero(address(0), 4 * GCRT_CHUNK));
  memset(address(0), 0xaa, 4 * GCRT_CHUNK);
  gcrt_pages_give(0, 4, false);
  ck_assert_uint_eq(take(2, 1, &zeroed), 0);
  ck_assert(!zeroed);
  gcrt_pages_give(0, 2, false);
  /* One dirty chunk makes the run dirty. */
  ck_assert_uint_eq(take(10, 1, &zeroed), 0);
  ck_assert(!zeroed);
  gcrt_pages_give(0, 10, false);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 10 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 0);
  ck_assert_uint_eq(take(10, 1, &zeroed), 0);
  ck_assert(zeroed);
  ck_assert(reads_zero(address(0), 10 * GCRT_CHUNK));
  gcrt_pages_give(0, 10, true); /* nothing was written */
  ck_assert_uint_eq(take(10, 1, &zeroed), 0);
  ck_assert(zeroed);
}
END_TEST

START_TEST(what_is_in_use_is_not_released) {
  bool zeroed;
  fresh_heap(16 * MIB);
  ck_assert_uint_eq(take(200, 1, &zeroed), 0);
  memset(address(0), 0xaa, (size_t)200 * GCRT_CHUNK);
  gcrt_pages_give(0, 200, false);
  ck_assert_uint_eq(take(3, 1, &zeroed), 0);
  ck_assert_uint_eq(take(61, 1, &zeroed), 3);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), (size_t)(200 - 64) * GCRT_CHUNK);
  ck_assert(filled(address(0), 0xaa, (size_t)64 * GCRT_CHUNK));
  ck_assert(reads_zero(address(64), (size_t)136 * GCRT_CHUNK));
}
END_TEST

START_TEST(counts_are_of_the_moment) {
  bool zeroed;
  struct gcrt_heap_usage usage;
  fresh_heap(16 * MIB);
  gcrt_heap_usage(&usage);
  ck_assert(usage.heap_sys == 0 && usage.heap_inuse == 0 && usage.heap_released == 0);
  take(10, 1, &zeroed);
  gcrt_pages_give(2, 5, false);
  gcrt_heap_usage(&usage);
  ck_assert_uint_eq(usage.heap_inuse, 5 * GCRT_CHUNK);
  ck_assert_uint_ge(usage.heap_sys, 10 * GCRT_CHUNK);
  ck_assert_uint_eq(usage.heap_released, usage.heap_sys - 10 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_heap.dirty, 5);
  gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL);
  gcrt_heap_usage(&usage);
  ck_assert_uint_eq(usage.heap_released, usage.heap_sys - 5 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_heap.used, 10 * GCRT_CHUNK);
}
END_TEST

START_TEST(too_much_is_refused_and_changes_nothing) {
  bool zeroed;
  fresh_heap(16 * MIB);
  ck_assert_uint_eq(take(257, 1, &zeroed), SIZE_MAX);
  ck_assert_uint_eq(take(SIZE_MAX / 2, 1, &zeroed), SIZE_MAX);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  ck_assert_uint_eq(take(256, 1, &zeroed), 0);
  gcrt_pages_give(255, 1, false);
  ck_assert_uint_eq(take(2, 1, &zeroed), SIZE_MAX);
  ck_assert_uint_eq(take(1, 1, &zeroed), 255);
}
END_TEST

static int take_under_limit(void *arg) {
  (void)arg;
  bool zeroed;
  struct rlimit limit = {MIB, RLIM_INFINITY}; /* less than is in use already */
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return 10;
  if (gcrt_pages_take(200, 1, &zeroed) != SIZE_MAX) return 11;
  if (gcrt_heap.busy != 0 || gcrt_heap.committed != 0 || gcrt_heap.used != 0) return 12;
  limit.rlim_cur = RLIM_INFINITY;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return 13;
  return gcrt_pages_take(200, 1, &zeroed) == 0 && zeroed ? 0 : 14;
}

START_TEST(memory_that_the_system_refuses_is_no_run) {
  fresh_heap(16 * MIB);
  struct test_child child = test_child_fork(take_under_limit, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

/* Writes what belongs to a chunk in each table. */
static void touch_entries(size_t chunk) {
  gcrt_heap.chunks[chunk].first = (uint32_t)chunk;
  gcrt_heap.spans[chunk].size = chunk;
  gcrt_heap.written[chunk] = 1;
  gcrt_store(&gcrt_heap.allocs[chunk * GCRT_WORDS], 1);
  gcrt_store(&gcrt_heap.allocs[(chunk + 1) * GCRT_WORDS - 1], 1);
  gcrt_store_byte(&gcrt_heap.marks[0][((chunk + 1) << GCRT_MARKS_SHIFT) - 1], 1);
  gcrt_store_byte(&gcrt_heap.marks[1][((chunk + 1) << GCRT_MARKS_SHIFT_FINE) - 1], 1);
  memset(address(chunk), 0xaa, GCRT_CHUNK);
}

/* Bytes that RLIMIT_DATA counts. */
static size_t data_in_use(void) {
  char line[200];
  size_t kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  TEST_REQUIRE(status != NULL);
  while (kib == 0 && fgets(line, sizeof line, status)) (void)sscanf(line, "VmData: %zu", &kib);
  fclose(status);
  return kib * 1024;
}

/* Chunks and bytes of their entries; the rest is less than the entries of the next step. */
enum { WITH_TABLES = 512, ENTRIES = 5714, REST = MIB, LARGEST_RUN = 1500 };
enum { ROOM = WITH_TABLES * (GCRT_CHUNK + ENTRIES) + REST };

/* Up to the last chunk that the limit allows, and on when it is lifted. */
static int grow_under_limit(void *arg) {
  bool zeroed;
  (void)arg;
  struct rlimit limit = {data_in_use() + ROOM, RLIM_INFINITY};
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return 10;
  size_t chunks = 0;
  for (size_t first; (first = gcrt_pages_take(1, 1, &zeroed)) != SIZE_MAX; chunks++) touch_entries(first);
  if (chunks <= WITH_TABLES || chunks > WITH_TABLES + REST / GCRT_CHUNK) return 11;
  if (gcrt_heap.committed != chunks) return 12;
  limit.rlim_cur = RLIM_INFINITY;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return 13;
  for (size_t n = 1; n < LARGEST_RUN; n = n * 3 / 2 + 1) {
    size_t first = gcrt_pages_take(n, 1, &zeroed);
    if (first == SIZE_MAX) return 14;
    for (size_t i = 0; i < n; i++) touch_entries(first + i);
  }
  return 0;
}

START_TEST(tables_are_usable_as_far_as_the_heap) {
  size_t before = data_in_use();
  if (before > (size_t)1 << 30) TEST_SKIP("the sanitizer's memory counts as well");
  fresh_heap((size_t)16 << 30);
  ck_assert_uint_lt(data_in_use() - before, 4 * MIB);
  struct test_child child = test_child_fork(grow_under_limit, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static int give_twice(void *arg) {
  bool zeroed;
  (void)arg;
  gcrt_pages_take(4, 1, &zeroed);
  gcrt_pages_give(1, 1, false);
  gcrt_pages_give(0, 4, false);
  return 0;
}

START_TEST(giving_what_is_free_is_found) {
  fresh_heap(16 * MIB);
  struct test_child child = test_child_fork(give_twice, NULL, NULL);
  ck_assert(!test_child_exited(&child, 0));
  test_assert_err_has(&child, "broken invariant");
  test_child_free(&child);
}
END_TEST

/* The model: which run each chunk is in, by number, and whether it may hold something. */
enum { CHUNKS = 16 * MIB / GCRT_CHUNK };
struct model {
  size_t run[CHUNKS], runs;
  bool dirty[CHUNKS];
};

static bool fits(const struct model *model, size_t at, size_t n, size_t alignment) {
  if (at + n > CHUNKS || gcrt_chunk_address(at) % (alignment * GCRT_CHUNK) != 0) return false;
  for (size_t i = at; i < at + n; i++)
    if (model->run[i]) return false;
  return true;
}

static void model_take(struct model *model, struct test_random *random) {
  bool zeroed, expected_zero = true;
  size_t n = 1 + test_random_below(random, test_random_once_in(random, 4) ? 60 : 4);
  size_t alignment = test_random_once_in(random, 3) ? (size_t)1 << test_random_below(random, 6) : 1;
  size_t expected = 0;
  while (expected < CHUNKS && !fits(model, expected, n, alignment)) expected++;
  size_t first = take(n, alignment, &zeroed);
  ck_assert_uint_eq(first, expected == CHUNKS ? SIZE_MAX : expected);
  if (first == SIZE_MAX) return;
  model->runs++;
  for (size_t i = first; i < first + n; i++) {
    expected_zero = expected_zero && !model->dirty[i];
    model->run[i] = model->runs;
  }
  ck_assert_int_eq(zeroed, expected_zero);
  for (size_t i = first; i < first + n; i++)
    if (!model->dirty[i]) ck_assert_uint_eq(*(size_t *)address(i), 0);
}

static void model_give(struct model *model, struct test_random *random) {
  size_t at = test_random_below(random, CHUNKS), run = model->run[at], n = 0;
  if (run == 0) return;
  while (at > 0 && model->run[at - 1] == run) at--;
  bool used = !test_random_once_in(random, 3);
  for (; at + n < CHUNKS && model->run[at + n] == run; n++) {
    used = used || model->dirty[at + n];
    model->run[at + n] = 0;
  }
  for (size_t i = at; i < at + n; i++) {
    model->dirty[i] = used;
    if (used) *(size_t *)address(i) = i + 1;
  }
  gcrt_pages_give(at, n, !used);
}

START_TEST(random_runs_agree_with_a_model) {
  static struct model model;
  struct test_random random = test_random_stream((uint64_t)_i);
  fresh_heap(16 * MIB);
  for (unsigned step = 0; step < 5000; step++) {
    if (test_random_once_in(&random, 2))
      model_take(&model, &random);
    else
      model_give(&model, &random);
    size_t busy = 0, dirty = 0;
    for (size_t i = 0; i < CHUNKS; i++) {
      busy += model.run[i] != 0;
      dirty += model.run[i] == 0 && model.dirty[i];
    }
    ck_assert_uint_eq(gcrt_heap.busy, busy);
    ck_assert_uint_eq(gcrt_heap.dirty, dirty);
    if (!test_random_once_in(&random, 200)) continue;
    ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), dirty * GCRT_CHUNK);
    for (size_t i = 0; i < CHUNKS; i++)
      if (!model.run[i]) model.dirty[i] = false;
  }
}
END_TEST

enum { THREADS = 4, ROUNDS = 2000 };

static void *take_and_give(void *arg) {
  struct test_random random = test_random_stream(100 + (uintptr_t)arg);
  for (unsigned i = 0; i < ROUNDS; i++) {
    bool zeroed;
    size_t n = 1 + test_random_below(&random, 5), first = gcrt_pages_take(n, 1, &zeroed);
    TEST_REQUIRE(first != SIZE_MAX);
    for (size_t chunk = first; chunk < first + n; chunk++) {
      size_t *word = address(chunk);
      TEST_REQUIRE(!zeroed || *word == 0);
      *word = (uintptr_t)arg + 1;
    }
    for (size_t chunk = first; chunk < first + n; chunk++)
      TEST_REQUIRE(*(size_t *)address(chunk) == (uintptr_t)arg + 1);
    gcrt_pages_give(first, n, false);
    if (i % 512 == 0) gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL);
  }
  return NULL;
}

START_TEST(threads_get_different_runs) {
  pthread_t threads[THREADS];
  fresh_heap(16 * MIB);
  for (uintptr_t i = 0; i < THREADS; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, (void *)i), 0);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap/pages");
  TCase *tc = test_case(suite, "runs", 60);
  tcase_add_test(tc, runs_come_lowest_first);
  tcase_add_test(tc, neighbours_become_one_run);
  tcase_add_test(tc, runs_are_aligned_by_address);
  tcase_add_test(tc, what_reads_as_zero_is_told);
  tcase_add_test(tc, what_is_in_use_is_not_released);
  tcase_add_test(tc, counts_are_of_the_moment);
  tcase_add_test(tc, too_much_is_refused_and_changes_nothing);
  tcase_add_test(tc, memory_that_the_system_refuses_is_no_run);
  tcase_add_test(tc, tables_are_usable_as_far_as_the_heap);
  tcase_add_test(tc, giving_what_is_free_is_found);
  tc = test_case(suite, "random", 120);
  tcase_add_loop_test(tc, random_runs_agree_with_a_model, 0, 3);
  tcase_add_test(tc, threads_get_different_runs);
  return suite;
}

TEST_MAIN(make_suite)
