/* gc_collect and the controls: what is unreachable goes, the goal follows the percentage, memory returns to the system.
 *
 * Garbage is made on threads that end, so that no stale pointer of the test's own keeps it. */
#include "system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static void *make_garbage(void *arg) {
  size_t bytes = (size_t)arg;
  for (size_t done = 0; done < bytes; done += 96) {
    char *p = gc_alloc(96);
    TEST_REQUIRE(p != NULL);
    p[0] = 1;
  }
  test_clear_stack();
  return NULL;
}

static void *live_objects;

/* live_objects becomes a list of about that many bytes. */
static void *make_live(void *arg) {
  size_t bytes = (size_t)arg;
  void **list = NULL;
  for (size_t done = 0; done < bytes; done += 1024) {
    void **node = gc_alloc(1024);
    TEST_REQUIRE(node != NULL);
    node[0] = list;
    list = node;
    for (int i = 2; i < 128; i++) node[i] = (void *)(uintptr_t)3;
  }
  live_objects = list;
  return NULL;
}

static void *drop_live(void *unused) {
  (void)unused;
  for (void **node = live_objects, **next; node; node = next) {
    next = node[0];
    node[0] = NULL;
  }
  live_objects = NULL;
  test_clear_stack();
  return NULL;
}

START_TEST(collect_frees_what_is_unreachable) {
  gc_set_percent(-1);
  system_collect();
  struct runtime_metrics before = system_metrics();
  system_on_thread(make_garbage, (void *)(size_t)(96 * 10000));
  struct runtime_metrics full = system_metrics();
  ck_assert_uint_ge(full.heap_objects, before.heap_objects + 10000);
  for (int i = 0; i < 2; i++) system_collect();
  struct runtime_metrics after = system_metrics();
  ck_assert_msg(after.frees - before.frees >= 9900, "%llu of 10000 were freed",
                (unsigned long long)(after.frees - before.frees));
  ck_assert_uint_le(after.heap_objects, before.heap_objects + 100);
  ck_assert_uint_eq(after.num_gc, full.num_gc + 2);
  ck_assert_uint_eq(after.num_forced_gc, full.num_forced_gc + 2);
  ck_assert_uint_ge(after.last_gc, full.last_gc);
  ck_assert_uint_gt(after.last_gc, 1500000000000000000u);
}
END_TEST

/* Rings of four: one stale pointer keeps one ring, not all. */
START_TEST(unreachable_cycles_go) {
  static struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    void **object = test_reveal(set.hidden[i]);
    object[0] = test_reveal(set.hidden[i / 4 * 4 + (i + 1) % 4]);
    object[1] = object;
  }
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert_msg(system_set_dead(&set), "%zu of %d alive", system_set_live(&set), SYSTEM_SET);
}
END_TEST

static const int percents[] = {25, 50, 100, 200, 400};
static const size_t lives[] = {0, 1 * MIB, 16 * MIB};

START_TEST(goal_follows_live_and_percent) {
  size_t live = lives[_i % 3];
  int percent = percents[_i / 3];
  gc_set_percent(percent);
  system_on_thread(make_live, (void *)live);
  system_collect();
  struct runtime_metrics m = system_metrics();
  ck_assert_uint_ge(m.heap_live, live);
  uint64_t roots = m.stack_scan + m.globals_scan;
  uint64_t goal = m.heap_live + (m.heap_live + roots) * (uint64_t)percent / 100;
  uint64_t least = 4 * (uint64_t)MIB * percent / 100;
  if (goal < least) goal = least;
  ck_assert_msg(m.next_gc + 65536 >= goal && m.next_gc <= goal + 65536, "next_gc is %llu, not %llu; live %llu at %d %%",
                (unsigned long long)m.next_gc, (unsigned long long)goal, (unsigned long long)m.heap_live, percent);
}
END_TEST

START_TEST(new_percent_moves_the_goal_at_once) {
  gc_set_percent(100);
  system_on_thread(make_live, (void *)(size_t)(16 * MIB));
  system_collect();
  uint64_t at_100 = system_metrics().next_gc;
  gc_set_percent(200);
  uint64_t at_200 = system_metrics().next_gc;
  gc_set_percent(-1);
  ck_assert_uint_eq(system_metrics().next_gc, UINT64_MAX);
  gc_set_percent(100);
  ck_assert_uint_ge(at_200, at_100 + 15 * MIB);
  ck_assert_uint_le(system_metrics().next_gc, at_100 + 65536);
}
END_TEST

START_TEST(heap_keeps_to_its_goal) {
  gc_set_percent(100);
  system_on_thread(make_live, (void *)lives[_i]);
  system_collect();
  struct runtime_metrics before = system_metrics();
  uint64_t most = 0, step = before.next_gc - before.heap_live;
  for (int i = 0; i < 40; i++) {
    system_on_thread(make_garbage, (void *)(size_t)(2 * MIB));
    struct runtime_metrics m = system_metrics();
    if (m.heap_alloc > most) most = m.heap_alloc;
    /* A refill is charged whole, so a heap passes its goal by what the caches hold, not by more; one that is marked
     * beside the program may be outrun by a quarter. */
    ck_assert_msg(m.heap_alloc <= m.next_gc + m.next_gc / 4 + MIB, "%llu allocated, goal %llu",
                  (unsigned long long)m.heap_alloc, (unsigned long long)m.next_gc);
  }
  uint64_t cycles = system_collections() - before.num_gc;
  ck_assert_msg((cycles + 1) * 2 * step >= 80 * MIB, "%llu collections over 80 MiB at steps of %llu",
                (unsigned long long)cycles, (unsigned long long)step);
  ck_assert_msg(cycles * step <= 80 * MIB * 3, "%llu collections over 80 MiB at steps of %llu",
                (unsigned long long)cycles, (unsigned long long)step);
  ck_assert_uint_gt(most, 0);
}
END_TEST

START_TEST(set_percent_returns_the_old) {
  ck_assert_int_eq(gc_set_percent(50), 100);
  ck_assert_int_eq(gc_set_percent(200), 50);
  ck_assert_int_eq(gc_set_percent(-1), 200);
  ck_assert_int_eq(gc_set_percent(-77), -1);
  ck_assert_int_eq(gc_set_percent(100), -1);
  ck_assert_int_eq(gc_set_percent(100), 100);
}
END_TEST

static int child_off(int argc, char **argv) {
  (void)argc, (void)argv;
  for (int i = 0; i < 16; i++) system_on_thread(make_garbage, (void *)(size_t)(4 * MIB));
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.num_gc == 0, "%u collections", m.num_gc);
  TEST_REQUIRE(m.next_gc == UINT64_MAX);
  TEST_REQUIRE(m.heap_objects >= 64 * MIB / 96);
  system_collect();
  m = system_metrics();
  TEST_REQUIRE(m.num_gc == 1 && m.num_forced_gc == 1);
  TEST_REQUIRE(m.heap_alloc <= 4 * MIB, "%llu bytes left", (unsigned long long)m.heap_alloc);
  TEST_REQUIRE(gc_set_percent(100) == -1);
  m = system_metrics();
  for (int i = 0; i < 16; i++) system_on_thread(make_garbage, (void *)(size_t)(4 * MIB));
  TEST_REQUIRE(system_collections() >= 1 + 64 * MIB / (4 * (m.next_gc - m.heap_live)));
  printf("as told\n");
  return 0;
}

static const struct test_child_entry children[] = {{"off", child_off}, {NULL, NULL}};

START_TEST(off_never_collects) {
  const char *environment[] = {"GCRT_GOGC=off", "GCRT_STRESS", NULL};
  struct test_child child = test_child_exec_self("off", NULL, &(struct test_child_options){.environment = environment});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "as told");
  test_child_free(&child);
}
END_TEST

static size_t resident(void) {
  unsigned long total = 0, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &total, &pages) != 2) pages = 0;
  if (file) fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

START_TEST(free_memory_returns_to_the_system) {
  gc_set_percent(-1);
  system_on_thread(make_live, (void *)(size_t)(64 * MIB));
  size_t resident_full = resident();
  struct runtime_metrics full = system_metrics();
  system_on_thread(drop_live, NULL);
  test_clear_stack();
  gc_free_os_memory();
  struct runtime_metrics after = system_metrics();
  size_t resident_after = resident();
  ck_assert_msg(system_unbalanced(&after) == NULL, "%s", system_unbalanced(&after));
  ck_assert_uint_ge(after.heap_idle, 56 * MIB);
  ck_assert_msg(after.heap_released >= full.heap_released + 56 * MIB, "%llu bytes released",
                (unsigned long long)after.heap_released);
  ck_assert_uint_eq(after.num_gc, full.num_gc + 1);
  if (resident_full == 0 || SYSTEM_SANITIZED) TEST_SKIP("no measure of resident memory here");
  ck_assert_msg(resident_after + 48 * MIB <= resident_full, "resident: %zu before, %zu after", resident_full,
                resident_after);
  /* What was given back can be used again and is zero. */
  system_on_thread(make_live, (void *)(size_t)(64 * MIB));
  struct runtime_metrics again = system_metrics();
  ck_assert_uint_le(again.heap_released + 40 * MIB, after.heap_released);
  for (void **node = live_objects; node; node = node[0])
    if (node[1] != NULL) ck_abort_msg("memory that was given back is not zero");
}
END_TEST

static pthread_barrier_t barrier;

/* Nobody allocates between a collection and the look at what is left, or freed cells would be taken again. */
static void *collect_own(void *unused) {
  struct system_set set;
  for (int i = 0; i < 10; i++) {
    system_set_make(&set, 48, gc_alloc, NULL, NULL);
    pthread_barrier_wait(&barrier);
    system_collect();
    TEST_REQUIRE(system_set_dead(&set), "%zu alive after a collection", system_set_live(&set));
    pthread_barrier_wait(&barrier);
  }
  return unused;
}

START_TEST(four_threads_collect_at_once) {
  pthread_t threads[4];
  uint32_t before = system_collections();
  pthread_barrier_init(&barrier, NULL, 4);
  for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, collect_own, NULL), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  ck_assert_uint_ge(system_collections(), before + 10);
}
END_TEST

START_TEST(init_may_be_called_again) {
  for (int i = 0; i < 3; i++) ck_assert_int_eq(gc_init(), 0);
  gc_keep_alive(NULL);
  gc_keep_alive(&live_objects);
}
END_TEST

static SYSTEM_NOINLINE bool kept_while_disguised(struct system_set *set) {
  void *p = test_reveal(set->hidden[0]);
  __asm__ volatile("" : "+r"(p)); /* or the compiler keeps the hidden form and reveals it after the collection */
  gc_collect();
  bool live = system_set_live(set) >= 1 && gc_base(test_reveal(set->hidden[0])) != NULL;
  gc_keep_alive(p);
  return live;
}

START_TEST(keep_alive_keeps) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  ck_assert(kept_while_disguised(&set));
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *collect = test_case(suite, "collect", 20);
  tcase_add_test(collect, collect_frees_what_is_unreachable);
  tcase_add_test(collect, unreachable_cycles_go);
  tcase_add_test(collect, four_threads_collect_at_once);
  tcase_add_test(collect, init_may_be_called_again);
  tcase_add_test(collect, keep_alive_keeps);
  TCase *goal = test_case(suite, "goal", 20);
  tcase_add_loop_test(goal, goal_follows_live_and_percent, 0, 15);
  tcase_add_test(goal, new_percent_moves_the_goal_at_once);
  tcase_add_loop_test(goal, heap_keeps_to_its_goal, 0, 3);
  tcase_add_test(goal, set_percent_returns_the_old);
  tcase_add_test(goal, off_never_collects);
  TCase *release = test_case(suite, "release", 20);
  tcase_add_test(release, free_memory_returns_to_the_system);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
