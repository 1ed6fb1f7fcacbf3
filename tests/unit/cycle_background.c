/* A collection by time alone: of an idle program after the period, of either kind, not counted as forced; none before
 * the period is over, none with GCRT_GOGC=off, none before the first collection. */
#include "base/options.h"
#include "cycle/cycle.h"
#include "cycle/phases.h"

#include "support/support.h"

#include <gcrt.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

enum { MS = 1000000, PERIOD_MS = 40 };

static struct runtime_metrics metrics(void) {
  struct runtime_metrics m;
  TEST_REQUIRE(runtime_metrics_read(&m) == 0);
  return m;
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * MS}, NULL); }

/* Until so many collections have ended, for five seconds at most. */
static struct runtime_metrics wait_for(uint32_t cycles) {
  double until = test_now() + 5;
  struct runtime_metrics m;
  do {
    sleep_ms(5);
    m = metrics();
  } while (m.num_gc < cycles && test_now() < until);
  ck_assert_msg(m.num_gc >= cycles, "%u collections, not %u", m.num_gc, cycles);
  return m;
}

static const enum gcrt_tracker_choice trackers[] = {GCRT_CHOOSE_none, GCRT_CHOOSE_mprotect};

static void choose(enum gcrt_tracker_choice tracker) {
  gc_init();
  gcrt_options.tracker = tracker;
  gcrt_concurrent_init();
  gc_set_percent(100);
}

START_TEST(an_idle_program_is_collected) {
  choose(trackers[_i]);
  gcrt_store(&gcrt_background_period, PERIOD_MS * MS);
  ck_assert(gcrt_background_start());
  sleep_ms(3L * PERIOD_MS);
  ck_assert_uint_eq(metrics().num_gc, 0);
  gc_collect();
  struct runtime_metrics before = metrics();
  double begin = test_now();
  struct runtime_metrics after = wait_for(before.num_gc + 4);
  ck_assert_uint_eq(after.num_forced_gc, before.num_forced_gc);
  /* One a period. The first may have been under way. */
  ck_assert_double_ge(test_now() - begin, 3 * PERIOD_MS / 1e3);
  ck_assert_uint_eq(after.num_concurrent_gc > 0, trackers[_i] != GCRT_CHOOSE_none);
  /* None when it is off, and again when it is on. */
  gc_set_percent(-1);
  sleep_ms(2L * PERIOD_MS);
  uint32_t cycles = metrics().num_gc;
  sleep_ms(3L * PERIOD_MS);
  ck_assert_uint_eq(metrics().num_gc, cycles);
  gc_set_percent(100);
  wait_for(cycles + 1);
}
END_TEST

START_TEST(two_minutes_are_long) {
  choose(GCRT_CHOOSE_none);
  ck_assert(gcrt_background_start());
  gc_collect();
  uint32_t cycles = metrics().num_gc;
  sleep_ms(3L * PERIOD_MS);
  ck_assert_uint_eq(metrics().num_gc, cycles);
  ck_assert_uint_eq(gcrt_load(&gcrt_background_period), 120000000000u);
}
END_TEST

/* One who allocates is collected by the goal; time begins anew with each. */
START_TEST(a_collection_puts_it_off) {
  choose(GCRT_CHOOSE_none);
  gcrt_store(&gcrt_background_period, UINT64_C(3600) * 1000 * MS);
  ck_assert(gcrt_background_start());
  gc_collect();
  gcrt_store(&gcrt_background_period, 500 * MS);
  for (unsigned i = 0; i < 20; i++) {
    sleep_ms(10);
    uint32_t cycles = metrics().num_gc;
    gc_collect();
    ck_assert_uint_eq(metrics().num_gc, cycles + 1);
  }
}
END_TEST

/* The thread is there as soon as a collection leaves something worth it, and not for less. */
START_TEST(a_heap_of_some_size_starts_the_clock) {
  static void *volatile live;
  choose(GCRT_CHOOSE_none);
  gcrt_store(&gcrt_background_period, PERIOD_MS * MS);
  gc_collect();
  uint32_t cycles = metrics().num_gc;
  sleep_ms(4L * PERIOD_MS);
  ck_assert_uint_eq(metrics().num_gc, cycles);
  live = gc_alloc_noscan(5 << 20);
  ck_assert_ptr_nonnull(live);
  gc_collect();
  wait_for(metrics().num_gc + 2);
}
END_TEST

static sigjmp_buf away;
static volatile sig_atomic_t open_to_signals;

static void leave(int signal) {
  (void)signal;
  if (open_to_signals) siglongjmp(away, 1);
}

/* By a handler that jumps, at some moment of the start. */
static void start_and_leave(long us) {
  gcrt_background_quit();
  if (sigsetjmp(away, 1) == 0) {
    open_to_signals = 1;
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = us}, NULL);
    (void)gcrt_background_start();
  }
  open_to_signals = 0;
  setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

START_TEST(a_handler_that_jumps_leaves_no_lock_behind) {
  choose(GCRT_CHOOSE_none);
  signal(SIGALRM, leave);
  for (unsigned i = 0; i < 2000; i++) start_and_leave(1 + i % 60);
  gcrt_background_quit();
  ck_assert(gcrt_background_start());
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle-background");
  TCase *tests = test_case(suite, "by time", 30);
  tcase_add_loop_test(tests, an_idle_program_is_collected, 0, GCRT_COUNT(trackers));
  tcase_add_test(tests, two_minutes_are_long);
  tcase_add_test(tests, a_collection_puts_it_off);
  tcase_add_test(tests, a_heap_of_some_size_starts_the_clock);
  tcase_add_test(tests, a_handler_that_jumps_leaves_no_lock_behind);
  return suite;
}

TEST_MAIN(make_suite)
