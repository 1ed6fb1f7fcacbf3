/* The memory limit: what is in force, from numbers and from a control group that changes; the goal that follows from
 * it, and where allocation has to look. */
#include "cycle/limit.h"

#include "cgroup_fixture.h"
#include "cycle/phases.h"

#include "base/options.h"
#include "cycle/scavenger.h"
#include "heap/stats.h"

static void put_limit(const char *text) { put("sys/fs/cgroup/group/memory.max", text); }

static void in_group(void) {
  setup();
  put_groups("0::/group\n");
  put_mounts("30 20 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
  gcrt_limit_root = root;
  gcrt_store(&gcrt_limit_period, 0);
}

static void end_of_group(void) {
  gcrt_limit_root = "";
  teardown();
}

START_TEST(a_part_of_what_the_group_allows) {
  put_limit("1000000000\n");
  gcrt_limit_init(GCRT_LIMIT_AUTO(90));
  ck_assert_uint_eq(gcrt_limit_bytes(), 900000000);
  ck_assert_uint_eq(gcrt_limit_percent_of_group(), 90);
  ck_assert_int_eq(gcrt_limit_set(-1), 900000000);
  /* It changes. */
  put_limit("500000000\n");
  (void)gcrt_limit_refresh();
  ck_assert_uint_eq(gcrt_limit_bytes(), 450000000);
  put_limit("max\n");
  (void)gcrt_limit_refresh();
  ck_assert_uint_eq(gcrt_limit_bytes(), UINT64_MAX);
  ck_assert_int_eq(gcrt_limit_set(-1), INT64_MAX);
  ck_assert_uint_eq(gcrt_limit_percent_of_group(), 90);
  /* The program's own number ends that. */
  put_limit("300000000\n");
  ck_assert_int_eq(gcrt_limit_set(1000), INT64_MAX);
  ck_assert_int_eq(gcrt_limit_refresh(), INT64_MAX);
  ck_assert_uint_eq(gcrt_limit_bytes(), 1000);
  ck_assert_uint_eq(gcrt_limit_percent_of_group(), 0);
}
END_TEST

START_TEST(asked_again_after_a_while) {
  put_limit("1000000000\n");
  gcrt_limit_init(GCRT_LIMIT_AUTO(100));
  gcrt_store(&gcrt_limit_period, UINT64_C(3600000000000));
  put_limit("1000\n");
  int64_t left = gcrt_limit_refresh();
  ck_assert_int_gt(left, INT64_C(3500000000000));
  ck_assert_int_le(left, INT64_C(3600000000000));
  ck_assert_uint_eq(gcrt_limit_bytes(), 1000000000);
}
END_TEST

/* In a program that does nothing: the thread notices. */
START_TEST(the_background_thread_follows) {
  put_limit("1000000000\n");
  gcrt_limit_init(GCRT_LIMIT_AUTO(50));
  gcrt_store(&gcrt_limit_period, 10000000);
  ck_assert(gcrt_background_start());
  put_limit("800000000\n");
  for (double begin = test_now(); gcrt_limit_bytes() != 400000000; usleep(1000))
    ck_assert_msg(test_now() - begin < 30, "still %lu", (unsigned long)gcrt_limit_bytes());
  gcrt_background_quit();
}
END_TEST

START_TEST(goal_follows_the_limit_at_once) {
  int percent = gcrt_pacer_set_percent(-1);
  ck_assert_uint_eq(gcrt_pacer_goal(), UINT64_MAX);
  ck_assert(!gcrt_limit_near((size_t)1 << 60));
  gcrt_limit_set((int64_t)(512 * MIB));
  ck_assert(gcrt_pacer_limited());
  ck_assert_uint_eq(gcrt_pacer_percent_goal(), UINT64_MAX);
  uint64_t goal = gcrt_pacer_goal();
  ck_assert_uint_gt(goal, 480 * MIB);
  ck_assert_uint_lt(goal, 512 * MIB);
  ck_assert_uint_le(gcrt_pacer_limit(), 512 * MIB);
  ck_assert(!gcrt_limit_near(MIB));
  ck_assert(gcrt_limit_near(512 * MIB));
  /* The percentage asks for less. */
  gcrt_pacer_set_percent(100);
  ck_assert(!gcrt_pacer_limited());
  ck_assert_uint_eq(gcrt_pacer_goal(), 4 * MIB);
  /* And its least heap for more. */
  ck_assert_uint_eq(gcrt_pacer_set_minimum(1024 * MIB), 0);
  ck_assert(gcrt_pacer_limited());
  ck_assert_uint_eq(gcrt_pacer_percent_goal(), 1024 * MIB);
  ck_assert_uint_eq(gcrt_pacer_set_minimum(0), 1024 * MIB);
  /* What is mapped already is over the limit: whatever was allocated is to be collected. */
  gcrt_pacer_set_percent(-1);
  gcrt_limit_set(1);
  ck_assert_uint_eq(gcrt_pacer_goal(), gcrt_pacer_live());
  ck_assert_int_eq(gcrt_limit_set(INT64_MAX), 1);
  ck_assert_uint_eq(gcrt_pacer_goal(), UINT64_MAX);
  gcrt_pacer_set_percent(percent);
}
END_TEST

/* Chunks that are free and hold memory, and cells that are free in spans, are room; the latter only until what is
 * mapped grows. */
START_TEST(what_is_room) {
  struct gcrt_controller_memory memory;
  gcrt_limit_set(INT64_MAX);
  gcrt_limit_memory(&memory);
  ck_assert_uint_eq(memory.mapped, 0);
  gcrt_limit_set((int64_t)(64 * MIB));
  gcrt_limit_cycle_end();
  size_t busy = gcrt_load(&gcrt_heap.busy), dirty = gcrt_load(&gcrt_heap.dirty), live = gcrt_load(&gcrt_heap.live);
  gcrt_store(&gcrt_heap.busy, busy + 16 * MIB / GCRT_CHUNK);
  gcrt_store(&gcrt_heap.live, 4 * MIB);
  gcrt_limit_memory(&memory);
  ck_assert_uint_eq(memory.mapped, gcrt_limit_mapped());
  ck_assert_uint_eq(memory.heap_alloc, 4 * MIB);
  ck_assert_uint_eq(memory.heap_free, (busy + dirty) * GCRT_CHUNK + 12 * MIB);
  /* A little growth, and much. */
  gcrt_store(&gcrt_heap.busy, busy + 16 * MIB / GCRT_CHUNK + 1);
  gcrt_limit_memory(&memory);
  ck_assert_uint_gt(memory.heap_free, 12 * MIB);
  gcrt_store(&gcrt_heap.busy, busy + 20 * MIB / GCRT_CHUNK);
  gcrt_limit_memory(&memory);
  ck_assert_uint_eq(memory.heap_free, dirty * GCRT_CHUNK);
  gcrt_limit_cycle_end();
  gcrt_limit_memory(&memory);
  ck_assert_uint_ge(memory.heap_free, 16 * MIB);
  gcrt_store(&gcrt_heap.busy, busy);
  gcrt_store(&gcrt_heap.live, live);
  gcrt_limit_set(INT64_MAX);
}
END_TEST

START_TEST(what_is_mapped_is_what_the_metrics_add_up) {
  struct gcrt_heap_usage usage;
  gcrt_heap_usage(&usage);
  ck_assert_uint_eq(gcrt_heap_tables(), usage.span_sys + usage.tables_sys);
  ck_assert_uint_eq(gcrt_heap_retained(), usage.heap_sys - usage.heap_released);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle-limit");
  TCase *group = test_case(suite, "group", 60);
  tcase_add_checked_fixture(group, in_group, end_of_group);
  tcase_add_test(group, a_part_of_what_the_group_allows);
  tcase_add_test(group, asked_again_after_a_while);
  tcase_add_test(group, the_background_thread_follows);
  TCase *tests = test_case(suite, "limit", 10);
  tcase_add_test(tests, goal_follows_the_limit_at_once);
  tcase_add_test(tests, what_is_room);
  tcase_add_test(tests, what_is_mapped_is_what_the_metrics_add_up);
  return suite;
}

TEST_MAIN(make_suite)
