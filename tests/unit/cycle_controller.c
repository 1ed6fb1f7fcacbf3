/* The pacer's formulas, each against a table of values that were worked out by hand or against another way to compute
 * them, and what holds for any input at all, the largest numbers included. */
#include "cycle/controller.h"

#include "base/bits.h"
#include "support/support.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct gcrt_controller fresh(int percent, uint64_t marked, uint64_t stacks, uint64_t globals) {
  struct gcrt_controller c;
  gcrt_controller_init(&c);
  c.percent = percent;
  gcrt_controller_commit(&c, marked, &(struct gcrt_scan_work){marked, stacks, globals});
  return c;
}

static const struct {
  int percent;
  uint64_t marked, stacks, globals, minimum, goal;
} goals[] = {
    {100, 0, 0, 0, 0, 4 * MIB},
    {100, 2 * MIB, 0, 0, 0, 4 * MIB},
    {100, 2 * MIB + 1, 0, 0, 0, 4 * MIB + 2},
    {100, 64 * MIB, 8 * MIB, 256 * MIB, 0, 392 * MIB},
    {50, 64 * MIB, 8 * MIB, 24 * MIB, 0, 112 * MIB},
    {50, 0, 0, 0, 0, 2 * MIB},
    {200, 0, 0, 0, 0, 8 * MIB},
    {0, 0, 0, 0, 0, 0},
    {0, 5 * MIB, 7 * MIB, 7 * MIB, 0, 5 * MIB},
    {100, 5 * MIB, 0, 0, 64 * MIB, 64 * MIB},
    {100, 40 * MIB, 0, 0, 64 * MIB, 80 * MIB},
    {0, 5 * MIB, 0, 0, 64 * MIB, 64 * MIB},
    {200, 0, 0, 0, MIB, MIB},
    {-1, 5 * MIB, 0, 0, 64 * MIB, UINT64_MAX},
    {100, UINT64_MAX / 2 + 1, 0, 0, 0, UINT64_MAX},
    {100, 1, UINT64_MAX, 1, 0, UINT64_MAX},
    {1, 0, UINT64_MAX, UINT64_MAX, 0, UINT64_MAX / 100},
    {1000000, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
    {0, UINT64_MAX, 0, 0, 0, UINT64_MAX},
};

START_TEST(goal_of_the_percentage) {
  struct gcrt_controller c = fresh(goals[_i].percent, goals[_i].marked, goals[_i].stacks, goals[_i].globals);
  c.minimum = goals[_i].minimum;
  ck_assert_uint_eq(gcrt_controller_percent_goal(&c), goals[_i].goal);
  ck_assert_uint_eq(gcrt_controller_goal(&c, NULL), goals[_i].goal);
  ck_assert(!gcrt_controller_limited(&c, NULL));
}
END_TEST

START_TEST(goal_is_beyond_where_the_cycle_began) {
  struct gcrt_controller c = fresh(100, 64 * MIB, 0, 0);
  gcrt_controller_start(&c, 100 * MIB);
  ck_assert_uint_eq(gcrt_controller_goal(&c, NULL), 128 * MIB);
  gcrt_controller_start(&c, 128 * MIB - 10 * KIB);
  ck_assert_uint_eq(gcrt_controller_goal(&c, NULL), 128 * MIB + 54 * KIB);
  gcrt_controller_start(&c, UINT64_MAX);
  ck_assert_uint_eq(gcrt_controller_goal(&c, NULL), UINT64_MAX);
  /* The limit is not moved. */
  gcrt_controller_start(&c, 128 * MIB);
  c.limit = 128 * MIB;
  const struct gcrt_controller_memory memory = {128 * MIB, 0, 128 * MIB};
  ck_assert_uint_lt(gcrt_controller_goal(&c, &memory), 128 * MIB);
  c.limit = UINT64_MAX;
  gcrt_controller_commit(&c, 64 * MIB, &c.scan);
  ck_assert_uint_eq(gcrt_controller_goal(&c, NULL), 128 * MIB);
}
END_TEST

static const struct {
  uint64_t limit, mapped, heap_free, heap_alloc, marked, goal;
} limits[] = {
    {1000 * MIB, 500 * MIB, 100 * MIB, 400 * MIB, 0, 970 * MIB}, /* 3 % are left */
    {1000 * MIB, 500 * MIB, 100 * MIB, 200 * MIB, 0, 776 * MIB}, /* 200 MiB are not the heap's */
    {20 * MIB, 10 * MIB, 0, 10 * MIB, 0, 19 * MIB},              /* 1 MiB is more than 3 % */
    {1000 * MIB, 1100 * MIB, 0, 1000 * MIB, 0, 776 * MIB},       /* 100 MiB of overage, and as much other */
    {1000 * MIB, 500 * MIB, 0, 500 * MIB, 980 * MIB, 980 * MIB}, /* not below what is alive */
    {100 * MIB, 300 * MIB, 0, 200 * MIB, 7 * MIB, 7 * MIB},      /* other memory alone is the limit */
    {2 * MIB, MIB, MIB / 2, 0, 0, MIB},                          /* hardly more than the headroom */
    {MIB / 2, 0, 0, 0, 0, MIB},                                  /* less than it */
    {0, 0, 0, 0, 3 * MIB, 3 * MIB},                              /* nothing is allowed */
    {UINT64_MAX, UINT64_MAX, 0, 0, 5, UINT64_MAX},               /* no limit */
    {UINT64_MAX - 1, 0, UINT64_MAX, UINT64_MAX, 0, UINT64_MAX - 1 - 553402322211286548}, /* counts that do not add up */
    {GIB, UINT64_MAX, 0, 0, 9, 9},
};

START_TEST(goal_of_the_limit) {
  struct gcrt_controller c = fresh(-1, limits[_i].marked, 0, 0);
  c.limit = limits[_i].limit;
  const struct gcrt_controller_memory memory = {limits[_i].mapped, limits[_i].heap_free, limits[_i].heap_alloc};
  ck_assert_uint_eq(gcrt_controller_limit_goal(&c, &memory), limits[_i].goal);
  ck_assert_uint_eq(gcrt_controller_goal(&c, &memory), limits[_i].goal);
  ck_assert_int_eq(gcrt_controller_limited(&c, &memory), limits[_i].limit != UINT64_MAX);
}
END_TEST

START_TEST(the_smaller_goal_counts) {
  const struct gcrt_controller_memory memory = {100 * MIB, 0, 100 * MIB};
  struct gcrt_controller c = fresh(100, 60 * MIB, 0, 0);
  c.limit = 200 * MIB;
  ck_assert_uint_eq(gcrt_controller_goal(&c, &memory), 120 * MIB);
  ck_assert(!gcrt_controller_limited(&c, &memory));
  c.limit = 100 * MIB;
  ck_assert_uint_eq(gcrt_controller_goal(&c, &memory), 97 * MIB);
  ck_assert(gcrt_controller_limited(&c, &memory));
}
END_TEST

/* With a share of a quarter the runway is three times cons/mark times the work. */
START_TEST(runway_is_what_is_allocated_while_a_share_marks) {
  struct gcrt_controller c = fresh(100, 64 * MIB, 8 * MIB, 24 * MIB);
  ck_assert_uint_eq(gcrt_controller_runway(&c), 0);
  c.cons_mark = 0.125;
  ck_assert_uint_eq(gcrt_controller_runway(&c), 36 * MIB);
  c.share = 0.5;
  ck_assert_uint_eq(gcrt_controller_runway(&c), 12 * MIB);
  c.cons_mark = 1e300;
  ck_assert_uint_eq(gcrt_controller_runway(&c), UINT64_MAX);
}
END_TEST

static const struct {
  uint64_t marked, goal, runway, trigger;
} triggers[] = {
    {100 * MIB, 200 * MIB, 20 * MIB, 180 * MIB},
    {100 * MIB, 200 * MIB, 100 * MIB, 170 * MIB}, /* not before 0.7 of the way */
    {100 * MIB, 200 * MIB, 300 * MIB, 170 * MIB},
    {100 * MIB, 200 * MIB, UINT64_MAX, 170 * MIB},
    {100 * MIB, 200 * MIB, MIB, 196 * MIB}, /* 4 MiB before the goal */
    {100 * MIB, 200 * MIB, 0, 196 * MIB},
    {100 * MIB, 140 * MIB, 0, 138 * MIB}, /* 0.95 of the way is nearer */
    {0, 2 * MIB, 0, 2 * MIB - 104858},
    {0, 100, 0, 95},
    {0, 100, 50, 70},
    {200 * MIB, 200 * MIB, MIB, 200 * MIB}, /* nothing may be allocated */
    {300 * MIB, 200 * MIB, MIB, 200 * MIB},
    {0, 0, 0, 0},
    {0, UINT64_MAX, 0, UINT64_MAX}, /* never */
    {UINT64_MAX - 2, UINT64_MAX - 1, 0, UINT64_MAX - 2},
};

START_TEST(trigger_keeps_its_bounds) {
  struct gcrt_controller c = fresh(100, triggers[_i].marked, 0, 0);
  c.scan = (struct gcrt_scan_work){triggers[_i].runway, 0, 0};
  c.cons_mark = 1.0 / 3;
  ck_assert_uint_eq(gcrt_controller_trigger(&c, triggers[_i].goal), triggers[_i].trigger);
}
END_TEST

static struct gcrt_controller_plan revise(int percent, uint64_t live, uint64_t scanned, uint64_t most) {
  struct gcrt_controller c = fresh(percent, 64 * MIB, 6 * MIB, 10 * MIB); /* 80 MiB to scan */
  gcrt_controller_start(&c, 120 * MIB);
  return gcrt_controller_revise(&c, 160 * MIB, &(struct gcrt_controller_progress){live, scanned, most});
}

static void assert_plan(struct gcrt_controller_plan plan, uint64_t goal, uint64_t work, double ratio) {
  ck_assert_uint_eq(plan.goal, goal);
  ck_assert_uint_eq(plan.work, work);
  ck_assert_msg(fabs(plan.ratio - ratio) <= 1e-9 * ratio, "ratio %g, not %g", plan.ratio, ratio);
}

START_TEST(ratio_spreads_the_work_over_the_runway) {
  assert_plan(revise(100, 120 * MIB, 0, 0), 160 * MIB, 80 * MIB, 2);
  assert_plan(revise(100, 140 * MIB, 40 * MIB, 0), 160 * MIB, 80 * MIB, 2);
  assert_plan(revise(100, 140 * MIB, 20 * MIB, 0), 160 * MIB, 80 * MIB, 3);
  assert_plan(revise(100, 140 * MIB, 70 * MIB, 0), 160 * MIB, 80 * MIB, 0.5);
  assert_plan(revise(100, 140 * MIB, 80 * MIB, 0), 160 * MIB, 80 * MIB, 1000.0 / (double)(20 * MIB));
  assert_plan(revise(100, 100 * MIB, 0, 0), 160 * MIB, 80 * MIB, 80.0 / 60); /* gc_free */
  assert_plan(revise(100, 160 * MIB, 40 * MIB, 0), 160 * MIB, 80 * MIB, (double)(40 * MIB));
}
END_TEST

/* 40 MiB of runway are for 80 MiB. */
START_TEST(more_work_than_expected_moves_the_goal) {
  uint64_t more = 80 * MIB + 1;
  assert_plan(revise(100, 140 * MIB, more, 120 * MIB), 180 * MIB, 120 * MIB,
              (double)(40 * MIB - 1) / (double)(40 * MIB));
  assert_plan(revise(100, 140 * MIB, 100 * MIB, 120 * MIB), 180 * MIB, 120 * MIB, 0.5);
  /* Not beyond what all of the goal alive would allow. */
  assert_plan(revise(50, 140 * MIB, 100 * MIB, 400 * MIB), 240 * MIB, 400 * MIB, 3);
  assert_plan(revise(0, 140 * MIB, 100 * MIB, 400 * MIB), 160 * MIB, 400 * MIB, 15);
  assert_plan(revise(100, 140 * MIB, more, 20 * MIB), 160 * MIB, more, 1000.0 / (double)(20 * MIB));
  /* A cycle that was asked for is in no hurry. */
  assert_plan(revise(-1, 140 * MIB, 100 * MIB, 8000 * MIB), 4120 * MIB, 8000 * MIB, 7900.0 / 3980);
}
END_TEST

START_TEST(heap_past_its_goal_gets_a_tenth_more) {
  assert_plan(revise(100, 166 * MIB, 40 * MIB, 90 * MIB), 176 * MIB, 90 * MIB, 5);
  assert_plan(revise(100, 166 * MIB, 40 * MIB, 0), 176 * MIB, 80 * MIB, 4);
  assert_plan(revise(100, 200 * MIB, 40 * MIB, 90 * MIB), 176 * MIB, 90 * MIB, (double)(50 * MIB));
  assert_plan(revise(100, 190 * MIB, 100 * MIB, 120 * MIB), 198 * MIB, 120 * MIB, 2.5);
}
END_TEST

static bool is_about(double a, double b) { return fabs(a - b) <= 1e-9 * fabs(b); }

START_TEST(cons_mark_is_measured) {
  struct gcrt_controller c = fresh(100, 64 * MIB, 0, 0);
  gcrt_controller_start(&c, 100 * MIB);
  /* 12 MiB by three quarters of the processors, while one quarter scanned 32. */
  ck_assert(gcrt_controller_measure(&c, 112 * MIB, 32 * MIB, 0.25, 0));
  ck_assert(is_about(c.cons_mark, 0.125));
  /* The same with a quarter more of markers, that nobody else wanted. */
  gcrt_controller_init(&c);
  gcrt_controller_start(&c, 100 * MIB);
  ck_assert(gcrt_controller_measure(&c, 112 * MIB, 32 * MIB, 0.25, 0.25));
  ck_assert(is_about(c.cons_mark, 0.25));
  /* What was just measured is the runway, if it goes on so. */
  gcrt_controller_init(&c);
  gcrt_controller_start(&c, 100 * MIB);
  ck_assert(gcrt_controller_measure(&c, 110 * MIB, 64 * MIB, 0.25, 0));
  gcrt_controller_commit(&c, 70 * MIB, &(struct gcrt_scan_work){64 * MIB, 0, 0});
  ck_assert_uint_le(gcrt_controller_runway(&c) - 10 * MIB + 10, 20);
  ck_assert_uint_eq(c.triggered, UINT64_MAX);
}
END_TEST

START_TEST(nothing_is_learnt_of_nothing) {
  struct gcrt_controller c = fresh(100, 64 * MIB, 0, 0);
  gcrt_controller_start(&c, 100 * MIB);
  struct gcrt_controller same = c;
  ck_assert(!gcrt_controller_measure(&c, 100 * MIB, 32 * MIB, 0.25, 0));
  ck_assert(!gcrt_controller_measure(&c, 90 * MIB, 32 * MIB, 0.25, 0));
  ck_assert(!gcrt_controller_measure(&c, 110 * MIB, 0, 0.25, 0));
  ck_assert(!gcrt_controller_measure(&c, 110 * MIB, 32 * MIB, 0, 0));
  ck_assert(!gcrt_controller_measure(&c, 110 * MIB, 32 * MIB, NAN, 0));
  ck_assert(!gcrt_controller_measure(&c, 110 * MIB, 32 * MIB, 0.25, NAN));
  ck_assert(memcmp(&c, &same, sizeof c) == 0);
  /* Everybody marked, and more than everybody. */
  ck_assert(gcrt_controller_measure(&c, 110 * MIB, 32 * MIB, 1, 0) && isfinite(c.cons_mark) && c.cons_mark > 0);
  ck_assert(gcrt_controller_measure(&c, 110 * MIB, 32 * MIB, 3, 0) && isfinite(c.cons_mark) && c.cons_mark > 0);
}
END_TEST

static void cycle(struct gcrt_controller *c, double cons_mark) {
  gcrt_controller_start(c, 100 * MIB);
  uint64_t allocated = (uint64_t)(cons_mark * (double)(96 * MIB));
  ck_assert(gcrt_controller_measure(c, 100 * MIB + allocated, 32 * MIB, 0.25, 0));
}

/* The greatest of five: a fast cycle counts for four more. */
START_TEST(cons_mark_is_the_greatest_of_the_last) {
  static const double measured[] = {0.1, 0.8, 0.2, 0.3, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05};
  static const double counts[] = {0.1, 0.8, 0.8, 0.8, 0.8, 0.8, 0.3, 0.3, 0.25, 0.1, 0.1};
  struct gcrt_controller c;
  gcrt_controller_init(&c);
  for (unsigned i = 0; i < GCRT_COUNT(measured); i++) {
    cycle(&c, measured[i]);
    ck_assert_msg(fabs(c.cons_mark - counts[i]) < 1e-6, "cycle %u: %g", i, c.cons_mark);
  }
}
END_TEST

START_TEST(workers_are_a_quarter) {
  static const struct {
    unsigned processors, dedicated;
    double fraction;
  } cases[] = {{0, 0, 0.25},     {1, 0, 0.25}, {2, 0, 0.25}, {3, 0, 0.25}, {4, 1, 0},  {5, 1, 0},
               {6, 1, 1.0 / 12}, {7, 2, 0},    {8, 2, 0},    {12, 3, 0},   {16, 4, 0}, {64, 16, 0}};
  for (unsigned i = 0; i < GCRT_COUNT(cases); i++) {
    struct gcrt_controller_workers workers = gcrt_controller_workers(cases[i].processors);
    ck_assert_uint_eq(workers.dedicated, cases[i].dedicated);
    ck_assert_msg(fabs(workers.fraction - cases[i].fraction) < 1e-12, "%u: %g", cases[i].processors, workers.fraction);
  }
  for (unsigned processors = 1; processors < 5000; processors++) {
    struct gcrt_controller_workers workers = gcrt_controller_workers(processors);
    double share = workers.dedicated / (double)processors + workers.fraction;
    TEST_REQUIRE(share >= 0.25 / 1.3 && share <= 0.25 * 1.3, "%u: %g", processors, share);
    TEST_REQUIRE(workers.fraction >= 0 && workers.fraction < 1, "%u: %g", processors, workers.fraction);
  }
}
END_TEST

START_TEST(a_cycle_is_overdue_after_two_minutes) {
  const uint64_t second = 1000000000, period = GCRT_CONTROLLER_PERIOD_NS;
  struct gcrt_controller c;
  gcrt_controller_init(&c);
  ck_assert_uint_eq(period, 120 * second);
  ck_assert(!gcrt_controller_overdue(&c, 300 * second, 0, period)); /* there was none */
  ck_assert(!gcrt_controller_overdue(&c, 300 * second, 180 * second, period));
  ck_assert(gcrt_controller_overdue(&c, 300 * second + 1, 180 * second, period));
  ck_assert(!gcrt_controller_overdue(&c, 1, 180 * second, period)); /* a clock that goes back */
  ck_assert(gcrt_controller_overdue(&c, UINT64_MAX, 1, period));
  ck_assert(gcrt_controller_overdue(&c, 12, 1, 10));
  c.percent = 0;
  ck_assert(gcrt_controller_overdue(&c, 301 * second, 180 * second, period));
  c.percent = -1;
  ck_assert(!gcrt_controller_overdue(&c, 301 * second, 180 * second, period));
  c.limit = GIB; /* the limit alone does not want it either */
  ck_assert(!gcrt_controller_overdue(&c, 301 * second, 180 * second, period));
}
END_TEST

/* A size of any magnitude, the ends among them. */
static uint64_t any_size(struct test_random *random) {
  switch (test_random_below(random, 12)) {
  case 0:
    return 0;
  case 1:
    return UINT64_MAX;
  case 2:
    return UINT64_MAX - test_random_below(random, 4);
  default:
    return test_random_next(random) >> test_random_below(random, 64);
  }
}

static struct gcrt_controller any_controller(struct test_random *random) {
  static const int percents[] = {-1, 0, 1, 50, 100, 100, 200, 1000000};
  struct gcrt_controller c = fresh(percents[test_random_below(random, GCRT_COUNT(percents))], any_size(random),
                                   any_size(random), any_size(random));
  c.scan.heap = any_size(random);
  c.minimum = test_random_once_in(random, 2) ? 0 : any_size(random);
  c.limit = test_random_once_in(random, 2) ? UINT64_MAX : any_size(random);
  c.cons_mark = test_random_once_in(random, 5) ? 0 : ldexp(1, (int)test_random_below(random, 200) - 100);
  c.share = (double)(1 + test_random_below(random, 98)) / 100;
  return c;
}

static void check_goal(const struct gcrt_controller *c, const struct gcrt_controller_memory *memory, uint64_t goal) {
  uint64_t percent = gcrt_controller_percent_goal(c), limit = gcrt_controller_limit_goal(c, memory);
  uint64_t least = gcrt_min(percent, limit);
  TEST_REQUIRE(goal >= least && (goal == least || c->triggered != UINT64_MAX));
  TEST_REQUIRE(goal >= c->marked);
  TEST_REQUIRE(gcrt_controller_limited(c, memory) == (limit < percent));
  struct gcrt_controller more = *c;
  more.marked += more.marked != UINT64_MAX;
  TEST_REQUIRE(gcrt_controller_percent_goal(&more) >= percent);
  more.scan.stacks = UINT64_MAX;
  TEST_REQUIRE(gcrt_controller_percent_goal(&more) >= percent);
  if (c->percent >= 0) more.percent++;
  TEST_REQUIRE(gcrt_controller_percent_goal(&more) >= percent);
  if (more.limit != UINT64_MAX) more.limit += (UINT64_MAX - more.limit) / 3;
  TEST_REQUIRE(gcrt_controller_limit_goal(&more, memory) >= limit);
}

static void check_trigger(const struct gcrt_controller *c, uint64_t goal) {
  uint64_t trigger = gcrt_controller_trigger(c, goal);
  TEST_REQUIRE(trigger <= goal);
  if (goal == UINT64_MAX || goal <= c->marked) {
    TEST_REQUIRE(trigger == goal);
    return;
  }
  long double way = (long double)(goal - c->marked), at = (long double)(trigger - gcrt_min(trigger, c->marked));
  TEST_REQUIRE(trigger >= c->marked && at >= 0.7L * way - 1);
  TEST_REQUIRE(at <= 0.95L * way || goal - trigger >= 4 * MIB);
  struct gcrt_controller faster = *c;
  faster.cons_mark *= 2;
  TEST_REQUIRE(gcrt_controller_runway(&faster) >= gcrt_controller_runway(c));
  TEST_REQUIRE(gcrt_controller_trigger(&faster, goal) <= trigger);
}

static void check_plan(const struct gcrt_controller *c, uint64_t goal, struct gcrt_controller_progress now) {
  struct gcrt_controller_plan plan = gcrt_controller_revise(c, goal, &now);
  TEST_REQUIRE(isfinite(plan.ratio) && plan.ratio > 0, "%g", plan.ratio);
  TEST_REQUIRE(plan.goal >= goal);
  TEST_REQUIRE(plan.work >= now.scanned);
  /* (1 + percent / 100) times the goal, and a tenth more. */
  long double factor = (1 + (c->percent < 0 ? 100000 : c->percent) / 100.0L) * 1.1L;
  TEST_REQUIRE((long double)plan.goal <= (long double)goal * factor * (1 + 1e-9L));
  /* Who has scanned more owes less, as long as it is what was expected. */
  struct gcrt_controller_progress later = now;
  later.scanned += (now.scanned != UINT64_MAX);
  bool expected = later.scanned <= plan.work && plan.goal == goal;
  TEST_REQUIRE(!expected || gcrt_controller_revise(c, goal, &later).ratio <= plan.ratio);
}

START_TEST(any_input_keeps_the_bounds) {
  struct test_random random = test_random_stream(1);
  for (unsigned i = 0; i < 300000; i++) {
    struct gcrt_controller c = any_controller(&random);
    const struct gcrt_controller_memory memory = {any_size(&random), any_size(&random), any_size(&random)};
    if (test_random_once_in(&random, 2)) gcrt_controller_start(&c, any_size(&random));
    struct gcrt_controller same = c;
    uint64_t goal = gcrt_controller_goal(&c, &memory);
    check_goal(&c, &memory, goal);
    check_trigger(&c, goal);
    gcrt_controller_start(&c, any_size(&random));
    check_plan(&c, goal, (struct gcrt_controller_progress){any_size(&random), any_size(&random), any_size(&random)});
    TEST_REQUIRE(gcrt_controller_goal(&same, &memory) == goal);
  }
}
END_TEST

/* Any sequence of cycles: what is measured stays finite, and a controller that is given the same does the same. */
START_TEST(any_cycles_keep_the_state) {
  struct test_random random = test_random_stream(2);
  struct gcrt_controller c = any_controller(&random);
  for (unsigned i = 0; i < 300000; i++) {
    uint64_t begin = any_size(&random), end = any_size(&random), scanned = any_size(&random);
    double utilisation = (double)test_random_below(&random, 130) / 100;
    double idle = (double)test_random_below(&random, 100) / 100;
    const struct gcrt_scan_work scan = {scanned, any_size(&random), any_size(&random)};
    struct gcrt_controller other = c;
    gcrt_controller_start(&c, begin);
    bool learnt = gcrt_controller_measure(&c, end, scanned, utilisation, idle);
    TEST_REQUIRE(learnt == (end > gcrt_min(begin, UINT64_MAX - 1) && scanned > 0 && utilisation > 0));
    gcrt_controller_commit(&c, end, &scan);
    TEST_REQUIRE(isfinite(c.cons_mark) && c.cons_mark >= 0);
    gcrt_controller_start(&other, begin);
    gcrt_controller_measure(&other, end, scanned, utilisation, idle);
    gcrt_controller_commit(&other, end, &scan);
    TEST_REQUIRE(memcmp(&other, &c, sizeof c) == 0);
    if (test_random_once_in(&random, 100)) c = any_controller(&random);
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle-controller");
  TCase *tests = test_case(suite, "formulas", 10);
  tcase_add_loop_test(tests, goal_of_the_percentage, 0, GCRT_COUNT(goals));
  tcase_add_test(tests, goal_is_beyond_where_the_cycle_began);
  tcase_add_loop_test(tests, goal_of_the_limit, 0, GCRT_COUNT(limits));
  tcase_add_test(tests, the_smaller_goal_counts);
  tcase_add_test(tests, runway_is_what_is_allocated_while_a_share_marks);
  tcase_add_loop_test(tests, trigger_keeps_its_bounds, 0, GCRT_COUNT(triggers));
  tcase_add_test(tests, ratio_spreads_the_work_over_the_runway);
  tcase_add_test(tests, more_work_than_expected_moves_the_goal);
  tcase_add_test(tests, heap_past_its_goal_gets_a_tenth_more);
  tcase_add_test(tests, cons_mark_is_measured);
  tcase_add_test(tests, nothing_is_learnt_of_nothing);
  tcase_add_test(tests, cons_mark_is_the_greatest_of_the_last);
  tcase_add_test(tests, workers_are_a_quarter);
  tcase_add_test(tests, a_cycle_is_overdue_after_two_minutes);
  tests = test_case(suite, "any input", 60);
  tcase_add_test(tests, any_input_keeps_the_bounds);
  tcase_add_test(tests, any_cycles_keep_the_state);
  return suite;
}

TEST_MAIN(make_suite)
