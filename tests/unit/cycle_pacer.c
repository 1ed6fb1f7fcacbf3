/* The goal of GCRT_GOGC: its formula, its minimum, off, and sums beyond 64 bits. */
#include "base/options.h"
#include "cycle/cycle.h"

#include "support/support.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

/* A collection in one stop that left `live` bytes. Returns the goal it set. */
static uint64_t cycle_end(uint64_t live) {
  return gcrt_pacer_cycle_end(&(struct gcrt_cycle_report){.heap_before = live, .heap_flip = live, .heap_after = live});
}

START_TEST(goal_follows_live_and_percent) {
  gcrt_options.tracker = GCRT_CHOOSE_none;
  static const struct {
    int percent;
    uint64_t live, goal;
  } cases[] = {
      {100, 0, 4 * MIB},
      {100, 2 * MIB, 4 * MIB},
      {100, 2 * MIB + 1, 4 * MIB + 2},
      {100, 64 * MIB, 128 * MIB},
      {50, 0, 2 * MIB},
      {50, 64 * MIB, 96 * MIB},
      {200, 0, 8 * MIB},
      {200, 64 * MIB, 192 * MIB},
      {0, 0, 0},
      {0, 5 * MIB, 5 * MIB},
      {400, 1000 * MIB, 5000 * MIB},
      {100, UINT64_MAX / 2 + 1, UINT64_MAX},
      {1000000, UINT64_MAX, UINT64_MAX},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    gcrt_pacer_set_percent(cases[i].percent);
    ck_assert_msg(cycle_end(cases[i].live) == cases[i].goal, "case %u: %lu", i, (unsigned long)gcrt_pacer_goal());
    ck_assert_uint_eq(gcrt_pacer_goal(), cases[i].goal);
    ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), cases[i].goal);
  }
}
END_TEST

START_TEST(off_has_no_goal) {
  cycle_end(10 * MIB);
  int before = gcrt_pacer_set_percent(-7);
  ck_assert_int_eq(before, 100);
  ck_assert_uint_eq(gcrt_pacer_goal(), UINT64_MAX);
  ck_assert_int_eq(gcrt_pacer_percent(), -1);
  ck_assert_int_eq(gcrt_pacer_set_percent(300), -1);
  ck_assert_uint_eq(gcrt_pacer_goal(), 40 * MIB);
}
END_TEST

START_TEST(due_when_the_goal_is_reached) {
  size_t live = gcrt_load(&gcrt_heap.live);
  gcrt_store(&gcrt_heap.trigger, live + 1);
  ck_assert(!gcrt_cycle_due());
  gcrt_store(&gcrt_heap.trigger, live);
  ck_assert(gcrt_cycle_due());
}
END_TEST

static bool trigger_is_about(uint64_t bytes) {
  uint64_t trigger = gcrt_load(&gcrt_heap.trigger);
  return trigger + KIB > bytes && trigger < bytes + KIB;
}

/* The runway is what would have been allocated while objects were marked, and a quarter more. */
START_TEST(concurrent_collections_start_earlier) {
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  struct gcrt_cycle_report report = {
      .concurrent = true, .heap_before = 100 * MIB, .heap_flip = 108 * MIB, .heap_after = 64 * MIB};
  ck_assert_uint_eq(gcrt_pacer_cycle_end(&report), 128 * MIB);
  ck_assert(trigger_is_about(118 * MIB));
  /* A fifth of it by the program, in a fifth of the time. */
  report.scanned = 40 * MIB;
  report.assisted = 8 * MIB;
  report.mark_ns = 1000000;
  report.assist_ns = 200000;
  gcrt_pacer_cycle_end(&report);
  ck_assert(trigger_is_about(128 * MIB - 16000 * KIB));
  report.assist_ns = 5000000; /* by several threads */
  report.assisted = 40 * MIB;
  gcrt_pacer_cycle_end(&report);
  ck_assert(trigger_is_about(80 * MIB));
  report.heap_flip = 400 * MIB; /* never earlier than a quarter of the way */
  gcrt_pacer_cycle_end(&report);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 80 * MIB);
  gcrt_pacer_mark(80 * MIB);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 0);
  ck_assert_uint_eq(gcrt_pacer_limit(), 160 * MIB);
  gcrt_pacer_phase(GCRT_PACE_SWEEP);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 160 * MIB);
  ck_assert(gcrt_pacer_sweeping());
  cycle_end(64 * MIB);
  ck_assert(!gcrt_pacer_sweeping());
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 96 * MIB); /* the first one's runway is a guess */
  gcrt_options.tracker = GCRT_CHOOSE_none;
  cycle_end(64 * MIB);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 128 * MIB);
}
END_TEST

/* Whether marking that began at `begin` is behind when it has scanned so much and the heap is at `live`. */
static bool behind(uint64_t begin, uint64_t scanned, uint64_t live) {
  gcrt_pacer_mark(begin);
  gcrt_store(&gcrt_heap.live, live);
  bool is = gcrt_pacer_behind(scanned);
  gcrt_store(&gcrt_heap.live, 0);
  return is;
}

START_TEST(marking_keeps_pace_with_allocation) {
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  struct gcrt_cycle_report report = {.concurrent = true, .scanned = 60 * MIB, .heap_after = 64 * MIB};
  gcrt_pacer_cycle_end(&report); /* goal 128 MiB */
  /* 40 MiB are left to the goal: 30 to be used up in marking, 2 MiB of scanning for each, less the first 7.5. */
  ck_assert(!behind(88 * MIB, 0, 88 * MIB));
  ck_assert(!behind(88 * MIB, 0, 91 * MIB));
  ck_assert(behind(88 * MIB, 0, 92 * MIB));
  ck_assert(!behind(88 * MIB, MIB, 92 * MIB));
  ck_assert(behind(88 * MIB, 32 * MIB, 108 * MIB));
  ck_assert(!behind(88 * MIB, 33 * MIB, 108 * MIB));
  ck_assert(!behind(88 * MIB, 53 * MIB, 118 * MIB));
  ck_assert(behind(88 * MIB, 60 * MIB, 122 * MIB));
  ck_assert(!behind(88 * MIB, 0, 70 * MIB)); /* gc_free */
  /* More is alive than the last time: behind when the way is used up. */
  ck_assert(!behind(88 * MIB, 200 * MIB, 118 * MIB));
  ck_assert(behind(88 * MIB, 200 * MIB, 119 * MIB));
  /* Above the goal, as after gc_set_percent: three quarters of a quarter of the heap. */
  ck_assert(!behind(200 * MIB, 50 * MIB, 235 * MIB));
  ck_assert(behind(200 * MIB, 50 * MIB, 237 * MIB));
  /* Nothing was scanned before: half of the heap. */
  report.scanned = 0;
  gcrt_pacer_cycle_end(&report);
  ck_assert(!behind(80 * MIB, 20 * MIB, 102 * MIB));
  ck_assert(behind(80 * MIB, 20 * MIB, 103 * MIB));
  gcrt_options.tracker = GCRT_CHOOSE_none;
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle-pacer");
  TCase *tests = test_case(suite, "pacer", 10);
  tcase_add_test(tests, goal_follows_live_and_percent);
  tcase_add_test(tests, off_has_no_goal);
  tcase_add_test(tests, concurrent_collections_start_earlier);
  tcase_add_test(tests, marking_keeps_pace_with_allocation);
  tcase_add_test(tests, due_when_the_goal_is_reached);
  return suite;
}

TEST_MAIN(make_suite)
