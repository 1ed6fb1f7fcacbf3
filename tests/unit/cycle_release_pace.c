/* What the scavenger leaves, and its share of a processor, with a clock of the test's own. */
#include "cycle/release_pace.h"

#include "support/support.h"

#define MIB ((uint64_t)1 << 20)
#define MS 1000000

START_TEST(goal_is_the_next_cycles_peak_and_a_tenth) {
  static const struct {
    uint64_t inuse, heap, next, goal;
  } cases[] = {
      /* Steady, and without a byte that is not an object's. */
      {100 * MIB, 100 * MIB, 100 * MIB, 110 * MIB},
      /* Spans with a quarter of air keep it. */
      {125 * MIB, 100 * MIB, 100 * MIB, 1375 * MIB / 10},
      {125 * MIB, 100 * MIB, 40 * MIB, 55 * MIB},
      {125 * MIB, 100 * MIB, 0, 0},
      /* Most of it air: the next cycle's objects find room there. */
      {100 * MIB, MIB, 4 * MIB, 1144 * MIB / 10},
      {MIB, 0, 4 * MIB, 55 * MIB / 10},
      {0, 0, 4 * MIB, 0},
      /* No next goal. */
      {100 * MIB, 60 * MIB, UINT64_MAX, 110 * MIB},
      /* Beyond 64 bits. */
      {UINT64_MAX / 2, UINT64_MAX / 4, UINT64_MAX / 4, UINT64_MAX / 2 / 10 * 11},
      {UINT64_MAX / 2, UINT64_MAX / 4, UINT64_MAX / 2, UINT64_MAX},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t goal = gcrt_release_goal(cases[i].inuse, cases[i].heap, cases[i].next);
    uint64_t off = goal > cases[i].goal ? goal - cases[i].goal : cases[i].goal - goal;
    ck_assert_msg(off <= 16, "case %u: %lu", i, (unsigned long)goal);
  }
}
END_TEST

START_TEST(limit_leaves_a_twentieth) {
  ck_assert_uint_eq(gcrt_release_limit_goal(1000 * MIB), 950 * MIB);
  ck_assert_uint_eq(gcrt_release_limit_goal(0), 0);
  ck_assert_uint_eq(gcrt_release_limit_goal(UINT64_MAX), UINT64_MAX);
  ck_assert_uint_gt(gcrt_release_limit_goal(UINT64_MAX - 1), UINT64_MAX / 10 * 9);
}
END_TEST

/* Batches of random length; the system wakes the thread late, and now and then much too late. Returns the share. */
static double share_of(unsigned processors, uint64_t batch_ns, unsigned late_once_in, unsigned batches) {
  struct test_random random = test_random_stream(batch_ns + processors);
  struct gcrt_release_pace pace = gcrt_release_pace_begin(processors);
  uint64_t worked = 0, slept = 0;
  for (unsigned i = 0; i < batches; i++) {
    uint64_t work = 1 + test_random_below(&random, 2 * batch_ns);
    worked += work;
    gcrt_release_pace_worked(&pace, work);
    for (uint64_t ns; (ns = gcrt_release_pace_sleep(&pace)) != 0;) {
      uint64_t sleep = test_random_once_in(&random, 10) ? ns / 2 + 1 : ns + test_random_below(&random, 100000);
      if (test_random_once_in(&random, late_once_in)) sleep += (uint64_t)5000 * MS;
      gcrt_release_pace_slept(&pace, sleep);
      slept += sleep;
    }
  }
  return (double)worked / (double)(worked + slept);
}

START_TEST(share_converges) {
  static const uint64_t lengths[] = {1000, 100000, MS, 50 * (uint64_t)MS};
  double expected = _i == 1 ? 0.01 : 0.02;
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    double share = share_of((unsigned)_i, lengths[i], 1000000000, 2000);
    ck_assert_msg(share > expected * 0.95 && share < expected * 1.05, "%lu ns: %f", (unsigned long)lengths[i], share);
  }
}
END_TEST

/* Being held up does not end in a burst. */
START_TEST(late_wakeups_are_not_made_up_for) {
  double share = share_of(1, MS, 20, 2000);
  ck_assert_msg(share < 0.01, "%f", share);
  struct gcrt_release_pace pace = gcrt_release_pace_begin(1);
  gcrt_release_pace_slept(&pace, (uint64_t)3600 * 1000 * MS);
  uint64_t worked = 0;
  while (gcrt_release_pace_sleep(&pace) == 0) {
    gcrt_release_pace_worked(&pace, 100000);
    worked += 100000;
  }
  ck_assert_uint_le(worked, GCRT_RELEASE_BATCH_NS + 100000);
}
END_TEST

START_TEST(extremes_do_not_overflow) {
  struct gcrt_release_pace pace = gcrt_release_pace_begin(0);
  for (int i = 0; i < 10; i++) gcrt_release_pace_worked(&pace, UINT64_MAX);
  ck_assert_uint_gt(gcrt_release_pace_sleep(&pace), (uint64_t)3600 * 1000 * MS);
  for (int i = 0; i < 10; i++) gcrt_release_pace_slept(&pace, UINT64_MAX);
  ck_assert_uint_eq(gcrt_release_pace_sleep(&pace), 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle/release_pace");
  TCase *tc = test_case(suite, "goals", 10);
  tcase_add_test(tc, goal_is_the_next_cycles_peak_and_a_tenth);
  tcase_add_test(tc, limit_leaves_a_twentieth);
  tc = test_case(suite, "pace", 30);
  tcase_add_loop_test(tc, share_converges, 1, 5);
  tcase_add_test(tc, late_wakeups_are_not_made_up_for);
  tcase_add_test(tc, extremes_do_not_overflow);
  return suite;
}

TEST_MAIN(make_suite)
