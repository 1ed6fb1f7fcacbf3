/* runtime_metrics_read: every reading balances, at any time; counts are exact; the circles of pauses are kept.
 *
 * The balances are the ones the header states; system_unbalanced names the one that does not hold. */
#include "system.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Where ThreadSanitizer watches, all collections are one stop. */
#if defined(__SANITIZE_THREAD__)
#define SKIP_WITHOUT_BACKGROUND() TEST_SKIP("ThreadSanitizer does not know the library's own threads")
#else
#define SKIP_WITHOUT_BACKGROUND() (void)0
#endif

START_TEST(null_is_einval) {
  struct runtime_metrics *volatile nothing = NULL;
  errno = 0;
  ck_assert_int_eq(runtime_metrics_read(nothing), -1);
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(first_reading_balances) {
  struct runtime_metrics m = system_metrics();
  ck_assert_msg(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  ck_assert_uint_eq(m.lookups, 0);
  ck_assert_uint_eq(m.threads, 1);
  ck_assert_uint_ge(m.markers, 1);
  ck_assert_uint_le(m.markers, 64);
  ck_assert_uint_eq(m.by_size[0].size, 0);
  for (size_t i = 2; i < RUNTIME_METRICS_SIZE_CLASSES; i++)
    ck_assert(m.by_size[i].size == 0 || m.by_size[i].size > m.by_size[i - 1].size);
}
END_TEST

static int churning;

static void *churn(void *arg) {
  struct test_random random = test_random_stream((uint64_t)(uintptr_t)arg);
  void *kept[64] = {NULL};
  unsigned rounds = 0;
  while (__atomic_load_n(&churning, __ATOMIC_ACQUIRE)) {
    size_t i = test_random_below(&random, 64);
    if (kept[i] && test_random_once_in(&random, 3)) gc_free(kept[i]);
    size_t size = test_random_below(&random, test_random_once_in(&random, 100) ? 100000 : 500);
    kept[i] = test_random_once_in(&random, 2) ? gc_alloc(size) : gc_alloc_noscan(size);
    TEST_REQUIRE(kept[i] != NULL);
    if (++rounds % 5000 == 0) gc_collect();
  }
  return NULL;
}

static void check_monotone(const struct runtime_metrics *a, const struct runtime_metrics *b) {
  ck_assert_uint_ge(b->mallocs, a->mallocs);
  ck_assert_uint_ge(b->frees, a->frees);
  ck_assert_uint_ge(b->total_alloc, a->total_alloc);
  ck_assert_uint_ge(b->released_total, a->released_total);
  ck_assert_uint_ge(b->reacquired_total, a->reacquired_total);
  ck_assert_uint_ge(b->scavenge_cpu_ns, a->scavenge_cpu_ns);
  ck_assert_uint_ge(b->num_gc, a->num_gc);
  ck_assert_uint_ge(b->num_forced_gc, a->num_forced_gc);
  ck_assert_uint_ge(b->pause_total_ns, a->pause_total_ns);
  ck_assert_uint_ge(b->pause_max_ns, a->pause_max_ns);
  ck_assert_uint_ge(b->visit_max_ns, a->visit_max_ns);
  ck_assert_uint_ge(b->assist_total_ns, a->assist_total_ns);
  ck_assert_uint_ge(b->gc_cpu_ns, a->gc_cpu_ns);
  ck_assert(b->gc_cpu_fraction >= 0 && b->gc_cpu_fraction <= 1);
  for (size_t i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++) {
    if (b->by_size[i].mallocs < a->by_size[i].mallocs || b->by_size[i].frees < a->by_size[i].frees)
      ck_abort_msg("the counts of class %zu fell", i);
  }
}

START_TEST(every_reading_balances_while_four_threads_allocate) {
  pthread_t threads[4];
  churning = 1;
  for (size_t i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, (void *)(i + 10)), 0);
  static struct runtime_metrics last, m;
  last = system_metrics();
  for (int i = 0; i < 1500; i++) {
    m = system_metrics();
    const char *bad = system_unbalanced(&m);
    ck_assert_msg(bad == NULL, "reading %d: %s", i, bad);
    check_monotone(&last, &m);
    last = m;
  }
  __atomic_store_n(&churning, 0, __ATOMIC_RELEASE);
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  m = system_metrics();
  ck_assert_msg(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  check_monotone(&last, &m);
}
END_TEST

/* The class of an object of so many usable bytes: one byte of its cell may be spare. 0: a large object. */
static size_t class_of(const struct runtime_metrics *m, size_t usable) {
  for (size_t i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++)
    if (m->by_size[i].size >= usable) return i;
  return 0;
}

START_TEST(counts_are_exact) {
  static const size_t sizes[] = {0, 1, 16, 24, 64, 100, 129, 1000, 4096, 20000, 32768, 50000, 1 << 20};
  gc_set_percent(-1);
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int n = sizes[s] > 30000 ? 7 : 1237;
    size_t usable = gc_usable_size(gc_alloc(sizes[s]));
    struct runtime_metrics before = system_metrics();
    size_t class = class_of(&before, usable), cell = class ? before.by_size[class].size : usable;
    void *object = NULL;
    for (int i = 0; i < n; i++) object = i % 2 ? gc_alloc(sizes[s]) : gc_alloc_noscan(sizes[s]);
    struct runtime_metrics after = system_metrics();
    ck_assert_msg(after.mallocs - before.mallocs == (uint64_t)n, "%zu bytes: mallocs grew by %llu, not %d", sizes[s],
                  (unsigned long long)(after.mallocs - before.mallocs), n);
    ck_assert_uint_eq(after.heap_objects - before.heap_objects, n);
    ck_assert_uint_eq(after.frees, before.frees);
    ck_assert_msg(after.total_alloc - before.total_alloc == n * cell, "%zu bytes: total_alloc grew by %llu, not %zu",
                  sizes[s], (unsigned long long)(after.total_alloc - before.total_alloc), n * cell);
    ck_assert_uint_eq(after.heap_alloc - before.heap_alloc, n * cell);
    if (class) ck_assert_uint_eq(after.by_size[class].mallocs - before.by_size[class].mallocs, n);
    gc_free(object);
    struct runtime_metrics freed = system_metrics();
    ck_assert_uint_eq(freed.frees - after.frees, 1);
    ck_assert_uint_eq(freed.heap_alloc, after.heap_alloc - cell);
    ck_assert_uint_eq(freed.total_alloc, after.total_alloc);
    if (class) ck_assert_uint_eq(freed.by_size[class].frees - after.by_size[class].frees, 1);
  }
}
END_TEST

static void *allocate_counted(void *arg) {
  for (size_t i = 0; i < (size_t)arg; i++) {
    void *p = gc_alloc(80);
    TEST_REQUIRE(p != NULL);
  }
  return NULL;
}

START_TEST(counts_of_ended_threads_are_exact) {
  gc_set_percent(_i ? 100 : -1);
  struct runtime_metrics before = system_metrics();
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate_counted, (void *)(size_t)(50001 + i)), 0);
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  struct runtime_metrics after = system_metrics();
  ck_assert_uint_eq(after.mallocs - before.mallocs, 4 * 50001 + 6);
  ck_assert_uint_eq(after.total_alloc - before.total_alloc, (4 * 50001 + 6) * 80);
  ck_assert_msg(system_unbalanced(&after) == NULL, "%s", system_unbalanced(&after));
}
END_TEST

START_TEST(pauses_are_kept_in_circles) {
  uint32_t first = system_collections();
  for (int i = 0; i < 3; i++) gc_collect();
  struct runtime_metrics m = system_metrics();
  ck_assert_uint_eq(m.num_gc, first + 3);
  uint64_t sum = 0;
  for (size_t i = 0; i < RUNTIME_METRICS_PAUSES; i++) sum += m.pause_ns[i];
  ck_assert_uint_eq(sum, m.pause_total_ns);
  size_t newest = (m.num_gc + 255) % 256;
  ck_assert_uint_gt(m.pause_ns[newest], 0);
  ck_assert_uint_gt(m.pause_end[newest], 1500000000000000000u);
  ck_assert_uint_le(m.pause_end[newest], m.last_gc);
  ck_assert_uint_eq(m.pause_end[(newest + 1) % 256], 0);
  for (int i = 0; i < 300; i++) gc_collect();
  m = system_metrics();
  newest = (m.num_gc + 255) % 256;
  sum = 0;
  for (size_t i = 0; i < 256; i++) {
    size_t here = (newest + 1 + i) % 256, next = (here + 1) % 256;
    ck_assert_uint_gt(m.pause_end[here], 0);
    if (i < 255) ck_assert_msg(m.pause_end[here] <= m.pause_end[next], "pauses are not in order at %zu", here);
    sum += m.pause_ns[here];
  }
  ck_assert_uint_le(sum, m.pause_total_ns);
}
END_TEST

static struct system_event up = SYSTEM_EVENT_INITIALIZER, down = SYSTEM_EVENT_INITIALIZER;

static void *stay(void *unused) {
  system_event_post(&up);
  system_event_wait(&down, 1);
  return unused;
}

START_TEST(threads_are_counted) {
  ck_assert_uint_eq(system_metrics().threads, 1);
  pthread_t threads[9];
  for (int i = 0; i < 9; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, stay, NULL), 0);
  system_event_wait(&up, 9);
  ck_assert_uint_eq(system_metrics().threads, 10);
  system_event_post(&down);
  for (int i = 0; i < 9; i++) pthread_join(threads[i], NULL);
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

START_TEST(scans_are_measured) {
  static void *globals[1000];
  globals[0] = gc_alloc(16);
  gc_collect();
  struct runtime_metrics m = system_metrics();
  ck_assert_uint_ge(m.globals_scan, sizeof globals);
  ck_assert_uint_gt(m.stack_scan, 0);
  ck_assert_uint_ge(m.heap_live, 16);
  ck_assert_uint_le(m.heap_live, m.heap_sys);
  ck_assert_uint_gt(m.gc_cpu_ns, 0);
}
END_TEST

static void **list;
static int writing;

static void *make_list(void *arg) {
  for (size_t i = 0; i < (size_t)arg; i++) {
    void **node = gc_alloc(4096);
    TEST_REQUIRE(node != NULL);
    node[0] = list;
    list = node;
  }
  return NULL;
}

/* Writes to every page of the list, again and again. */
static void *write_all(void *unused) {
  for (uintptr_t value = 3; __atomic_load_n(&writing, __ATOMIC_ACQUIRE); value += 2)
    for (void **node = list; node; node = node[0]) node[1] = (void *)value;
  return unused;
}

/* Collections beside a program that writes; their counts, until one has met written pages. */
static int child_concurrent(int argc, char **argv) {
  (void)argc, (void)argv;
  gc_set_percent(-1);
  make_list((void *)2000);
  const char *reason = NULL;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(NULL), "uffd") == 0);
  writing = 1;
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, write_all, NULL) == 0);
  struct runtime_metrics m;
  do {
    gc_collect();
    m = system_metrics();
  } while (m.dirty_pages == 0 || m.dirty_pages_stopped == 0 || m.num_gc < 3);
  __atomic_store_n(&writing, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  TEST_REQUIRE(m.num_concurrent_gc == m.num_gc && m.num_forced_gc == m.num_gc);
  TEST_REQUIRE(m.arm_total_ns > 0 && m.sweep_total_ns > 0 && m.stopping_total_ns > 0);
  TEST_REQUIRE(m.pause_max_ns >= m.pause_total_ns / m.num_gc && m.visit_max_ns > 0);
  uint64_t longest = 0;
  for (uint32_t i = 0; i < m.num_gc && i < RUNTIME_METRICS_PAUSES; i++)
    if (m.pause_ns[i] > longest) longest = m.pause_ns[i];
  TEST_REQUIRE(m.num_gc > RUNTIME_METRICS_PAUSES || m.pause_max_ns == longest);
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "uffd") == 0 && strcmp(reason, "") == 0, "%s", reason);
  return 0;
}

START_TEST(concurrent_collections_are_counted) {
  SKIP_WITHOUT_BACKGROUND();
  const char *environment[] = {"GCRT_TRACKER=uffd", "GCRT_STRESS", "GCRT_DEBUG", NULL};
  struct test_child child =
      test_child_exec_self("concurrent", NULL, &(struct test_child_options){.environment = environment});
  if (system_uffd_refused(&child)) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static int child_one_stop(int argc, char **argv) {
  (void)argc, (void)argv;
  make_list((void *)2000);
  for (int i = 0; i < 3; i++) gc_collect();
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.num_gc >= 3 && m.num_concurrent_gc == 0);
  TEST_REQUIRE(m.dirty_rounds == 0 && m.dirty_pages == 0 && m.dirty_pages_stopped == 0 && m.arm_total_ns == 0);
  TEST_REQUIRE(m.visit_max_ns == 0 && m.assist_total_ns == 0);
  uint64_t longest = 0;
  for (uint32_t i = 0; i < m.num_gc; i++)
    if (m.pause_ns[i] > longest) longest = m.pause_ns[i];
  TEST_REQUIRE(m.pause_max_ns == longest);
  const char *reason = NULL;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "none") == 0);
  TEST_REQUIRE(strcmp(reason, "") == 0, "%s", reason);
  return 0;
}

START_TEST(collections_in_one_stop_have_one_pause) {
  SKIP_WITHOUT_BACKGROUND();
  const char *environment[] = {"GCRT_TRACKER=none", "GCRT_STRESS", NULL};
  struct test_child child =
      test_child_exec_self("one_stop", NULL, &(struct test_child_options){.environment = environment});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static void *collect_thrice(void *unused) {
  for (int i = 0; i < 3; i++) gc_collect();
  return unused;
}

/* The tracker needs descriptors, and loses those that it has. Nothing is known of earlier collections, so the first one
 * of so many bytes counts as long. */
static int child_fallback(int argc, char **argv) {
  (void)argc;
  gc_set_percent(-1);
  make_list((void *)8000);
  const char *reason = NULL;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), argv[1]) == 0 && strcmp(reason, "") == 0);
  for (int fd = 3; fd < 10000; fd++) close(fd);
  TEST_REQUIRE(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0}) == 0);
  /* The main thread waits meanwhile: a thread alone would collect in one stop and try no tracker. */
  system_on_thread(collect_thrice, NULL);
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "none") == 0);
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(NULL), "none") == 0);
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.num_gc == 3 && m.num_concurrent_gc == 0);
  printf("because: %s\n", reason);
  return 0;
}

/* One stop, although uffd would do, and a heap of which a stop is long. */
static int child_alone(int argc, char **argv) {
  (void)argc;
  (void)argv;
  gc_set_percent(-1);
  make_list((void *)8000);
  collect_thrice(NULL);
  TEST_REQUIRE(system_metrics().num_concurrent_gc == 0);
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(NULL), "auto") == 0);
  return 0;
}

START_TEST(the_only_thread_collects_in_one_stop) {
  SKIP_WITHOUT_BACKGROUND();
  const char *environment[] = {"GCRT_TRACKER", "GCRT_STRESS", "GCRT_DEBUG", NULL};
  struct test_child child =
      test_child_exec_self("alone", NULL, &(struct test_child_options){.environment = environment});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(a_fallback_has_a_reason) {
  SKIP_WITHOUT_BACKGROUND();
  const char *environment[] = {"GCRT_TRACKER", "GCRT_STRESS", "GCRT_DEBUG=gctrace=1", NULL};
  const char *arguments[] = {"auto", NULL};
  struct test_child child =
      test_child_exec_self("fallback", arguments, &(struct test_child_options){.environment = environment});
  test_assert_exited(&child, 0);
  char reason[128] = "", expected[160];
  ck_assert_msg(sscanf(child.out, "because: %127[^\n]", reason) == 1, "no reason; %s", test_child_text(&child));
  /* In the trace it stands once. */
  snprintf(expected, sizeof expected, " P, none: %s (forced)\n", reason);
  const char *first = strstr(child.err, expected);
  ck_assert_msg(first != NULL, "\"%s\" should be in the errors; %s", expected, test_child_text(&child));
  ck_assert_msg(strstr(first + strlen(expected), ", none") == NULL, "told twice; %s", test_child_text(&child));
  test_child_free(&child);
}
END_TEST

START_TEST(a_tracker_that_was_chosen_has_no_fallback) {
  SKIP_WITHOUT_BACKGROUND();
  const char *environment[] = {"GCRT_TRACKER=uffd", "GCRT_STRESS", "GCRT_DEBUG", NULL};
  const char *arguments[] = {"uffd", NULL};
  struct test_child child =
      test_child_exec_self("fallback", arguments, &(struct test_child_options){.environment = environment});
  ck_assert_msg(system_uffd_refused(&child), "%s", test_child_text(&child));
  test_child_free(&child);
}
END_TEST

static const struct test_child_entry children[] = {{"concurrent", child_concurrent},
                                                   {"one_stop", child_one_stop},
                                                   {"alone", child_alone},
                                                   {"fallback", child_fallback},
                                                   {NULL, NULL}};

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *balance = test_case(suite, "metrics-balance", 30);
  tcase_add_test(balance, null_is_einval);
  tcase_add_test(balance, first_reading_balances);
  tcase_add_test(balance, every_reading_balances_while_four_threads_allocate);
  TCase *counts = test_case(suite, "metrics-counts", 20);
  tcase_add_test(counts, counts_are_exact);
  tcase_add_loop_test(counts, counts_of_ended_threads_are_exact, 0, 2);
  tcase_add_test(counts, threads_are_counted);
  TCase *pauses = test_case(suite, "metrics-pauses", 20);
  tcase_add_test(pauses, pauses_are_kept_in_circles);
  tcase_add_test(pauses, scans_are_measured);
  tcase_add_test(pauses, collections_in_one_stop_have_one_pause);
  TCase *concurrent = test_case(suite, "metrics-concurrent", 60);
  tcase_add_test(concurrent, concurrent_collections_are_counted);
  tcase_add_test(concurrent, the_only_thread_collects_in_one_stop);
  tcase_add_test(concurrent, a_fallback_has_a_reason);
  tcase_add_test(concurrent, a_tracker_that_was_chosen_has_no_fallback);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
