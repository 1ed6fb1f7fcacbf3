/* The limiter of the collector's time, with times made up: what fills and drains it, when it limits, and how long a
 * collector that takes all it can get is let do so. */
#include "cycle/limiter.h"

#include "support/support.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

/* A limiter on `processors`, and the moment and times that it was told last. */
static struct gcrt_limiter limiter;
static struct gcrt_limiter_times times;
static uint64_t cycle;

static void start(uint64_t processors) {
  times = (struct gcrt_limiter_times){.now = 5 * SECOND, .program = 3 * SECOND, .collector = 7 * SECOND};
  cycle = 1;
  gcrt_limiter_init(&limiter, processors, &times);
}

static void setup(void) { start(10); }

static void check(void) {
  ck_assert_uint_le(limiter.fill, limiter.capacity / 10 * 11);
  ck_assert_int_eq(gcrt_limiter_limits(&limiter), limiter.fill >= limiter.capacity);
  ck_assert_int_eq(gcrt_limiter_limits(&limiter), limiter.limits_since != 0);
  ck_assert(!gcrt_limiter_limits(&limiter) || limiter.full_since != 0);
}

/* So much passes, in which both use so much. */
static void pass(uint64_t ns, uint64_t program, uint64_t collector) {
  times.now += ns;
  times.program += program;
  times.collector += collector;
  gcrt_limiter_update(&limiter, &times, cycle);
  check();
}

static void is_filled(uint64_t ns) { ck_assert_uint_eq(limiter.fill, ns); }

START_TEST(it_begins_empty) {
  is_filled(0);
  ck_assert_uint_eq(limiter.capacity, 10 * SECOND);
  ck_assert(!gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.last_cycle, 0);
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now + SECOND), 0);
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now + SECOND), 0);
  start(0);
  ck_assert_uint_eq(limiter.capacity, SECOND);
}
END_TEST

START_TEST(the_collector_fills_and_the_program_drains) {
  pass(MS, 0, 10 * MS);
  is_filled(10 * MS);
  pass(MS, 4 * MS, 6 * MS);
  is_filled(12 * MS);
  pass(MS, 5 * MS, 5 * MS);
  is_filled(12 * MS);
  pass(MS, 8 * MS, 2 * MS);
  is_filled(6 * MS);
  pass(SECOND, 0, 0); /* idle */
  is_filled(6 * MS);
  pass(MS, 10 * MS, 0);
  is_filled(0);
  pass(SECOND, 10 * SECOND, 0); /* no credit for later */
  pass(MS, 0, 10 * MS);
  is_filled(10 * MS);
  ck_assert_uint_eq(limiter.overflow, 0);
}
END_TEST

START_TEST(it_limits_while_it_is_full) {
  cycle = 17;
  pass(SECOND, 0, 10 * SECOND - 1);
  ck_assert(!gcrt_limiter_limits(&limiter));
  pass(MS, 0, 1);
  ck_assert(gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.last_cycle, 17);
  uint64_t since = times.now;
  ck_assert_uint_eq(limiter.limits_since, since);
  cycle = 18;
  pass(MS, 5 * MS, 5 * MS); /* neither more nor less: it goes on */
  ck_assert(gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.limits_since, since);
  ck_assert_uint_eq(limiter.last_cycle, 17); /* in which it began */
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now), MS);
  pass(MS, 1, 0);
  ck_assert(!gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.limits_since, 0);
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now + SECOND), 2 * MS);
  pass(MS, 0, 1);
  ck_assert(gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.last_cycle, 18);
  ck_assert_uint_eq(limiter.limits_since, times.now);
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now + 7 * MS), 9 * MS);
}
END_TEST

START_TEST(what_is_over_the_capacity_is_paid_first) {
  pass(SECOND, 0, 10 * SECOND + 3 * MS);
  ck_assert_uint_eq(limiter.overflow, 0);
  pass(MS, 3 * MS, 0);
  is_filled(10 * SECOND);
  ck_assert(gcrt_limiter_limits(&limiter));
  pass(MS, 0, 2 * SECOND); /* no more than a tenth */
  is_filled(11 * SECOND);
  ck_assert_uint_eq(limiter.overflow, SECOND);
  pass(MS, 0, MS);
  ck_assert_uint_eq(limiter.overflow, SECOND + MS);
  pass(MS, SECOND, 0);
  ck_assert(gcrt_limiter_limits(&limiter));
  pass(MS, 1, 0);
  ck_assert(!gcrt_limiter_limits(&limiter));
}
END_TEST

START_TEST(pressure_outlasts_short_breaks) {
  pass(SECOND, 0, 10 * SECOND);
  uint64_t since = times.now;
  pass(MS, 5 * SECOND, 0); /* half is left */
  ck_assert(!gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now), times.now - since);
  pass(MS, 0, 5 * SECOND);
  ck_assert_uint_eq(limiter.limits_since, times.now);
  ck_assert_uint_eq(limiter.full_since, since);
  pass(MS, 5 * SECOND + 1, 0);
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now), 0);
  pass(MS, 0, 5 * SECOND); /* almost full again, but not yet */
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now + SECOND), 0);
  pass(MS, 0, 1);
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now + SECOND), SECOND);
}
END_TEST

START_TEST(times_that_go_back_are_passed_over) {
  pass(10 * MS, 10 * MS, 30 * MS);
  struct gcrt_limiter before = limiter;
  struct gcrt_limiter_times earlier = {times.now - MS, times.program - MS, times.collector - MS};
  gcrt_limiter_update(&limiter, &earlier, cycle);
  ck_assert(memcmp(&before, &limiter, sizeof limiter) == 0);
  /* Up to where it was it is no new time. */
  times.collector -= 5 * MS;
  pass(MS, 0, 0);
  is_filled(20 * MS);
  pass(MS, 0, 5 * MS);
  is_filled(20 * MS);
  pass(MS, 0, MS);
  is_filled(21 * MS);
  times.program -= 3 * MS;
  pass(MS, MS, 0);
  is_filled(21 * MS);
  pass(MS, 4 * MS, 0);
  is_filled(19 * MS);
  /* A clock that stands still, or goes back while it limits, adds nothing. */
  pass(0, 0, 20 * SECOND);
  earlier = (struct gcrt_limiter_times){times.now - SECOND, times.program + MS, times.collector};
  gcrt_limiter_update(&limiter, &earlier, cycle);
  check();
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now - SECOND), 0);
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now - SECOND), 0);
}
END_TEST

static void set_processors(uint64_t processors) {
  gcrt_limiter_set_processors(&limiter, processors, &times, cycle);
  check();
}

START_TEST(processors_may_change) {
  pass(SECOND, 0, 6 * SECOND);
  cycle = 3;
  set_processors(5); /* too full by half a second, which is nobody's overflow */
  is_filled(5500 * MS);
  ck_assert(gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(limiter.last_cycle, 3);
  ck_assert_uint_eq(limiter.overflow, 0);
  times.now += 2 * MS;
  set_processors(8);
  is_filled(5500 * MS);
  ck_assert(!gcrt_limiter_limits(&limiter));
  ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now), 2 * MS);
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now), 2 * MS);
  set_processors(12); /* less than half full */
  ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now + MS), 0);
  pass(MS, 500 * MS, 0);
  set_processors(5); /* exactly full */
  ck_assert(gcrt_limiter_limits(&limiter));
  set_processors(0);
  ck_assert_uint_eq(limiter.capacity, SECOND);
  /* What has passed before the change counts for the old number. */
  start(2);
  times.now += MS;
  times.collector += 3 * SECOND;
  set_processors(4);
  is_filled(2200 * MS);
  ck_assert_uint_eq(limiter.overflow, 800 * MS);
  ck_assert(!gcrt_limiter_limits(&limiter));
}
END_TEST

/* A minute on `processors` in steps of 10 ms, of which the collector takes a part of 1000 while it is not limited, and
 * another while it is. Returns its part of 1000 of the whole. */
static uint64_t run(uint64_t processors, uint64_t free_part, uint64_t limited_part) {
  start(processors);
  struct gcrt_limiter_times first = times;
  for (unsigned i = 0; i < 6000; i++) {
    uint64_t all = processors * 10 * MS, part = gcrt_limiter_limits(&limiter) ? limited_part : free_part;
    pass(10 * MS, all - all * part / 1000, all * part / 1000);
  }
  ck_assert_uint_eq(times.now - first.now, 60 * SECOND);
  return (times.collector - first.collector) / (60 * MS) / processors;
}

START_TEST(a_collector_that_takes_everything_gets_half) {
  static const uint64_t processors[] = {1, 2, 7, 64};
  for (unsigned i = 0; i < 4; i++) {
    /* Half of all, and half of the second and a bit that the bucket holds for each processor. */
    uint64_t part = run(processors[i], 1000, 250);
    ck_assert_msg(part >= 500 && part <= 500 + 1000 / 120 + 2, "%lu of 1000", (unsigned long)part);
    /* It goes on and off all the time; the pressure is since the first second. */
    ck_assert(limiter.limits_since == 0 || times.now - limiter.limits_since <= 30 * MS);
    ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now), 59 * SECOND);
    uint64_t total = gcrt_limiter_total_ns(&limiter, times.now);
    ck_assert_msg(total > 35 * SECOND && total < 45 * SECOND, "limiting for %lu ms", (unsigned long)(total / MS));
    run(processors[i], 1000, 0);
    ck_assert_uint_eq(gcrt_limiter_pressed_ns(&limiter, times.now), 59 * SECOND);
  }
}
END_TEST

START_TEST(a_collector_that_keeps_its_share_is_never_limited) {
  for (uint64_t part = 0; part <= 500; part += 50) {
    ck_assert_uint_eq(run(4, part, 0), part);
    ck_assert_uint_eq(limiter.last_cycle, 0);
    ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now), 0);
  }
  ck_assert_uint_eq(limiter.fill, 0);
  run(4, 501, 0); /* 2 of 1000 in a minute: 120 ms for each processor */
  is_filled(480 * MS);
  /* Marking alone takes a quarter while it runs; the whole of it now and then is no matter. */
  start(4);
  for (unsigned i = 0; i < 100; i++) {
    pass(900 * MS, 0, 3600 * MS);
    pass(1000 * MS, 4000 * MS, 0);
  }
  ck_assert_uint_eq(limiter.last_cycle, 0);
}
END_TEST

/* Against a bucket that is kept in another way: signed, one step at a time. */
START_TEST(random_times_agree_with_a_plain_bucket) {
  struct test_random random = test_random_stream((uint64_t)_i);
  start(1 + test_random_below(&random, 16));
  int64_t fill = 0, capacity = (int64_t)limiter.capacity;
  uint64_t overflow = 0, limited = 0;
  bool limits = false;
  for (unsigned i = 0; i < 20000; i++) {
    cycle++;
    uint64_t ns = test_random_below(&random, 20 * MS);
    uint64_t program = test_random_below(&random, (uint64_t)capacity / 20);
    uint64_t collector = test_random_below(&random, (uint64_t)capacity / (test_random_once_in(&random, 10) ? 2 : 20));
    if (test_random_once_in(&random, 50)) program = collector;
    bool went_on = limits;
    int64_t change = (int64_t)collector - (int64_t)program;
    fill += change;
    int64_t most = capacity / 10 * 11;
    if (fill > most) overflow += (uint64_t)(fill - most);
    fill = fill < 0 ? 0 : fill > most ? most : fill;
    limits = fill >= capacity;
    if (went_on) limited += ns;
    pass(ns, program, collector);
    ck_assert_int_eq(gcrt_limiter_limits(&limiter), limits);
    if (limits && !went_on) ck_assert_uint_eq(limiter.last_cycle, cycle);
    is_filled((uint64_t)fill);
    ck_assert_uint_eq(limiter.overflow, overflow);
    ck_assert_uint_eq(gcrt_limiter_total_ns(&limiter, times.now), limited);
    if (!test_random_once_in(&random, 1000)) continue;
    set_processors(1 + test_random_below(&random, 16));
    capacity = (int64_t)limiter.capacity;
    most = capacity / 10 * 11;
    fill = fill > most ? most : fill;
    limits = fill >= capacity;
  }
  ck_assert_uint_gt(limited, 0);
  ck_assert_uint_gt(overflow, 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle/limiter");
  TCase *tests = test_case(suite, "limiter", 20);
  tcase_add_checked_fixture(tests, setup, NULL);
  tcase_add_test(tests, it_begins_empty);
  tcase_add_test(tests, the_collector_fills_and_the_program_drains);
  tcase_add_test(tests, it_limits_while_it_is_full);
  tcase_add_test(tests, what_is_over_the_capacity_is_paid_first);
  tcase_add_test(tests, pressure_outlasts_short_breaks);
  tcase_add_test(tests, times_that_go_back_are_passed_over);
  tcase_add_test(tests, processors_may_change);
  tcase_add_test(tests, a_collector_that_takes_everything_gets_half);
  tcase_add_test(tests, a_collector_that_keeps_its_share_is_never_limited);
  tcase_add_loop_test(tests, random_times_agree_with_a_plain_bucket, 0, 8);
  return suite;
}

TEST_MAIN(make_suite)
