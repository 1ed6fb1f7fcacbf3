/* The goal of GCRT_GOGC: its formula, its minimum, off, and sums beyond 64 bits; what the pacer learns of collections,
 * and when it asks threads to help. The formulas themselves are those of cycle_controller.c. */
#include "base/options.h"
#include "cycle/cycle.h"
#include "sys/clock.h"
#include "sys/proc.h"

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

#define MS UINT64_C(1000000)

/* Marking by one thread for 100 ms of which the program allocated through all: from 112 MiB to 120, 60 MiB scanned. */
static struct gcrt_cycle_report concurrent_cycle(void) {
  return (struct gcrt_cycle_report){.concurrent = true,
                                    .begin = 1,
                                    .end = 100 * MS,
                                    .heap_before = 112 * MIB,
                                    .heap_grey = 120 * MIB,
                                    .heap_flip = 120 * MIB,
                                    .heap_after = 64 * MIB,
                                    .scanned = 60 * MIB,
                                    .mark_ns = 100 * MS,
                                    .mark_cpu_ns = 100 * MS,
                                    .background = 1};
}

/* The same cycle again and again, until what is known of the last ones is forgotten. */
static uint64_t settle(const struct gcrt_cycle_report *report) {
  for (unsigned i = 0; i < 20; i++) {
    gcrt_pacer_mark(report->heap_before, 1);
    gcrt_pacer_phase(GCRT_PACE_SWEEP);
    gcrt_pacer_cycle_end(report);
  }
  return gcrt_load(&gcrt_heap.trigger);
}

static bool is_about(uint64_t bytes, uint64_t expected) {
  return bytes + 256 * KIB > expected && bytes < expected + 256 * KIB;
}
#define ASSERT_ABOUT(bytes, expected)                                                                                  \
  ck_assert_msg(is_about(bytes, expected), "%lu KiB, not %lu", (unsigned long)((bytes) / KIB),                         \
                (unsigned long)((expected) / KIB))

START_TEST(roots_count_for_the_goal) {
  gcrt_options.tracker = GCRT_CHOOSE_none;
  struct gcrt_cycle_report report = {.heap_after = 64 * MIB, .stack_bytes = 8 * MIB, .global_bytes = 24 * MIB};
  ck_assert_uint_eq(gcrt_pacer_cycle_end(&report), 160 * MIB);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 160 * MIB);
  gcrt_pacer_set_percent(200);
  ck_assert_uint_eq(gcrt_pacer_goal(), 256 * MIB);
  ck_assert_uint_eq(gcrt_pacer_live(), 64 * MIB);
}
END_TEST

/* What was allocated while objects were marked is left until the goal. */
START_TEST(concurrent_collections_start_earlier) {
  if (gcrt_cpu_count() < 2) TEST_SKIP("a processor that marks is none that allocates");
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  struct gcrt_cycle_report report = concurrent_cycle();
  ASSERT_ABOUT(settle(&report), 120 * MIB);
  ck_assert_uint_eq(gcrt_pacer_goal(), 128 * MIB);
  /* Twice as much to scan takes twice as long. */
  report.scanned = 120 * MIB;
  gcrt_pacer_cycle_end(&report);
  ASSERT_ABOUT(gcrt_load(&gcrt_heap.trigger), 112 * MIB);
  /* Those scanned in the stop are not: nothing is allocated meanwhile. */
  report.stop_scanned = 60 * MIB;
  ASSERT_ABOUT(settle(&report), 120 * MIB);
  ck_assert_uint_eq(gcrt_pacer_account()->heap, 60 * MIB);
  /* Never before 0.7 of the way, nor after 0.95. */
  report.heap_flip = report.heap_grey = 300 * MIB;
  ASSERT_ABOUT(settle(&report), 64 * MIB + 64 * MIB / 10 * 7);
  report.spare = true; /* but on a processor that is idle */
  ASSERT_ABOUT(settle(&report), 64 * MIB + 64 * MIB / 4);
  report.spare = false;
  report.heap_flip = report.heap_grey = report.heap_before + KIB;
  ASSERT_ABOUT(settle(&report), 64 * MIB + 64 * MIB / 100 * 95);
  /* One stop waits for the goal. */
  gcrt_options.tracker = GCRT_CHOOSE_none;
  gcrt_pacer_cycle_end(&report);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 128 * MIB);
}
END_TEST

/* Half of the marking by who allocates: alone it would take longer, and they would have had more of the time. */
START_TEST(who_had_to_assist_starts_earlier) {
  if (gcrt_cpu_count() != 2) TEST_SKIP("numbers for two processors");
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  struct gcrt_cycle_report report = concurrent_cycle();
  ASSERT_ABOUT(settle(&report), 120 * MIB);
  report.assist_ns = 50 * MS;
  report.mark_cpu_ns += report.assist_ns; /* 3/4 of both processors instead of 1/2: three times as much */
  ASSERT_ABOUT(settle(&report), 128 * MIB - 192 * MIB / 10); /* at the bound */
  report.heap_flip = report.heap_grey = 116 * MIB;
  ASSERT_ABOUT(settle(&report), 116 * MIB);
  ck_assert_double_eq_tol(gcrt_pacer_account()->utilisation, 0.75, 0.001);
  /* A marker that gets half of a processor: others want it, and will. */
  report = concurrent_cycle();
  report.mark_cpu_ns = 50 * MS;
  ASSERT_ABOUT(settle(&report), 120 * MIB);
  ck_assert_double_eq_tol(gcrt_pacer_account()->share, 0.25, 0.001);
}
END_TEST

/* How the sweep is doing, with so many of 1000 chunks taken and so much allocated since its beginning. */
static bool sweep_behind(size_t swept, uint64_t allocated) {
  gcrt_store(&gcrt_heap.sweep_next, swept);
  gcrt_store(&gcrt_heap.sweep_freed, 30 * MIB);
  gcrt_store(&gcrt_heap.live, 120 * MIB - 30 * MIB + allocated);
  return gcrt_pacer_sweep_behind();
}

/* A quarter of what there is between the live heap and the goal may be allocated until all is swept. */
START_TEST(sweeping_keeps_pace_with_allocation) {
  gcrt_options.tracker = GCRT_CHOOSE_none;
  cycle_end(64 * MIB);
  gcrt_store(&gcrt_heap.live, 120 * MIB);
  gcrt_store(&gcrt_heap.sweep_end, 1000);
  ck_assert(!gcrt_pacer_sweep_outrun());
  gcrt_pacer_phase(GCRT_PACE_SWEEP);
  ck_assert(!sweep_behind(0, 0));
  ck_assert(!sweep_behind(0, MIB));
  ck_assert(sweep_behind(0, MIB + KIB));
  ck_assert(!sweep_behind(500, 9 * MIB));
  ck_assert(sweep_behind(500, 9 * MIB + KIB));
  ck_assert(!gcrt_pacer_sweep_outrun());
  /* All is taken, by threads that are not ready. */
  ck_assert(!sweep_behind(1000, 16 * MIB));
  ck_assert(sweep_behind(1000, 16 * MIB + KIB));
  ck_assert(gcrt_pacer_sweep_outrun());
  gcrt_store(&gcrt_heap.sweep_end, 0);
  gcrt_store(&gcrt_heap.live, 0);
  cycle_end(64 * MIB);
  ck_assert(!gcrt_pacer_sweep_outrun());
}
END_TEST

START_TEST(phases_move_the_trigger) {
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  cycle_end(64 * MIB);
  gcrt_pacer_mark(112 * MIB, 1);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 0);
  ck_assert_uint_eq(gcrt_pacer_limit(), 160 * MIB);
  gcrt_pacer_phase(GCRT_PACE_SWEEP);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), 0);
  ck_assert(gcrt_pacer_sweeping());
  cycle_end(64 * MIB);
  ck_assert(!gcrt_pacer_sweeping());
  /* Marking that is given up. */
  gcrt_pacer_mark(200 * MIB, 1);
  ck_assert_uint_eq(gcrt_pacer_goal(), 200 * MIB + 64 * KIB);
  gcrt_pacer_phase(GCRT_PACE_IDLE);
  ck_assert_uint_eq(gcrt_pacer_goal(), 128 * MIB);
  /* One that was asked for with GCRT_GOGC=off hurries nobody. */
  gcrt_pacer_set_percent(-1);
  gcrt_pacer_mark(100 * MIB, 1);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.trigger), SIZE_MAX);
}
END_TEST

/* Whether marking that began at `begin` is behind when it has scanned so much and the heap is at `live`. */
static bool behind(uint64_t begin, uint64_t scanned, uint64_t live) {
  gcrt_pacer_mark(begin, 1);
  gcrt_store(&gcrt_heap.live, live);
  bool is = gcrt_pacer_behind(scanned);
  gcrt_store(&gcrt_heap.live, 0);
  return is;
}

/* The goal is 128 MiB, 64 MiB are expected to be scanned, a sixteenth of it may be owed. */
static void settle_with_rounds(uint64_t grey) {
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  struct gcrt_cycle_report report = concurrent_cycle();
  report.scanned = 64 * MIB;
  report.heap_grey = grey;
  settle(&report);
}

START_TEST(marking_keeps_pace_with_allocation) {
  settle_with_rounds(120 * MIB);
  /* 32 MiB are left to the goal, but for a hundredth: 2 MiB of scanning for each, less the first 4. */
  ck_assert(!behind(96 * MIB, 0, 96 * MIB));
  ck_assert(!behind(96 * MIB, 0, 97 * MIB));
  ck_assert(behind(96 * MIB, 0, 99 * MIB));
  ck_assert(!behind(96 * MIB, 3 * MIB, 99 * MIB));
  ck_assert(behind(96 * MIB, 27 * MIB, 112 * MIB));
  ck_assert(!behind(96 * MIB, 29 * MIB, 112 * MIB));
  ck_assert(behind(96 * MIB, 59 * MIB, 128 * MIB));
  ck_assert(!behind(96 * MIB, 64 * MIB, 128 * MIB));
  ck_assert(!behind(96 * MIB, 0, 70 * MIB)); /* gc_free */
}
END_TEST

START_TEST(rounds_are_left_their_part_of_the_way) {
  settle_with_rounds(118 * MIB); /* a quarter */
  ck_assert(!behind(96 * MIB, 29 * MIB, 108 * MIB));
  ck_assert(behind(96 * MIB, 27 * MIB, 108 * MIB));
  settle_with_rounds(112 * MIB); /* half at most */
  ck_assert(!behind(96 * MIB, 29 * MIB, 104 * MIB));
  ck_assert(behind(96 * MIB, 27 * MIB, 104 * MIB));
}
END_TEST

START_TEST(a_grown_heap_is_let_further) {
  settle_with_rounds(120 * MIB);
  /* 66 MiB where 64 were expected: all of the heap may be alive, 120 MiB, for which the runway is 60 MiB. */
  ck_assert(behind(96 * MIB, 65 * MIB - MIB, 128 * MIB + MIB));
  ck_assert(!behind(96 * MIB, 66 * MIB, 120 * MIB));
  ck_assert(!behind(96 * MIB, 66 * MIB, 128 * MIB));
  ck_assert(behind(96 * MIB, 66 * MIB, 148 * MIB));
  /* Past the goal: a tenth of it more, for all of the heap. */
  ck_assert(behind(96 * MIB, 63 * MIB, 129 * MIB));
  ck_assert(!behind(96 * MIB, 66 * MIB, 129 * MIB));
  /* Above the goal from the beginning, as after gc_set_percent: 64 KiB, and then the tenth. */
  ck_assert(!behind(200 * MIB, MIB, 200 * MIB));
  ck_assert(behind(200 * MIB, 50 * MIB, 200 * MIB + 63 * KIB));
  ck_assert(!behind(200 * MIB, 50 * MIB, 201 * MIB));
  ck_assert(behind(200 * MIB, 50 * MIB, 210 * MIB));
  /* A new percentage counts at once. */
  gcrt_pacer_mark(96 * MIB, 1);
  gcrt_store(&gcrt_heap.live, 106 * MIB);
  ck_assert(gcrt_pacer_behind(14 * MIB));
  gcrt_pacer_set_percent(200);
  ck_assert(!gcrt_pacer_behind(14 * MIB));
  gcrt_pacer_set_percent(-1);
  ck_assert(!gcrt_pacer_behind(0));
  gcrt_store(&gcrt_heap.live, 0);
}
END_TEST

/* Nothing was scanned before: half of the heap is expected. */
START_TEST(the_first_collection_guesses) {
  gcrt_options.tracker = GCRT_CHOOSE_uffd;
  gcrt_pacer_set_percent(2000); /* goal 80 MiB, a quarter of the way for the rounds */
  ck_assert(!behind(40 * MIB, 9 * MIB, 55 * MIB));
  ck_assert(behind(40 * MIB, 8 * MIB, 55 * MIB));
}
END_TEST

START_TEST(time_alone_makes_a_collection_due) {
  uint64_t left, now = gcrt_clock_monotonic();
  ck_assert(!gcrt_pacer_overdue(1, &left)); /* there was none */
  ck_assert_uint_eq(left, 1);
  struct gcrt_cycle_report report = {.end = now - 5000 * MS, .heap_after = MIB};
  gcrt_pacer_cycle_end(&report);
  ck_assert(gcrt_pacer_overdue(5000 * MS, &left));
  ck_assert_uint_eq(left, 5000 * MS);
  ck_assert(!gcrt_pacer_overdue(20000 * MS, &left));
  ck_assert_uint_le(left, 15000 * MS + 1);
  ck_assert_uint_gt(left, 5000 * MS);
  gcrt_pacer_set_percent(-1);
  ck_assert(!gcrt_pacer_overdue(5000 * MS, &left));
  ck_assert_uint_eq(left, 5000 * MS);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle-pacer");
  TCase *tests = test_case(suite, "pacer", 10);
  tcase_add_test(tests, goal_follows_live_and_percent);
  tcase_add_test(tests, off_has_no_goal);
  tcase_add_test(tests, roots_count_for_the_goal);
  tcase_add_test(tests, concurrent_collections_start_earlier);
  tcase_add_test(tests, who_had_to_assist_starts_earlier);
  tcase_add_test(tests, sweeping_keeps_pace_with_allocation);
  tcase_add_test(tests, phases_move_the_trigger);
  tcase_add_test(tests, marking_keeps_pace_with_allocation);
  tcase_add_test(tests, rounds_are_left_their_part_of_the_way);
  tcase_add_test(tests, a_grown_heap_is_let_further);
  tcase_add_test(tests, the_first_collection_guesses);
  tcase_add_test(tests, time_alone_makes_a_collection_due);
  tcase_add_test(tests, due_when_the_goal_is_reached);
  return suite;
}

TEST_MAIN(make_suite)
