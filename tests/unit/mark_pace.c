/* How much of a processor marking takes, with threads that want all of them and with none. */
#include "base/atomics.h"
#include "mark/pace.h"
#include "base/bits.h"
#include "sys/clock.h"
#include "sys/lock.h"
#include "sys/proc.h"

#include "support/support.h"

#include <pthread.h>

enum { MOST_THREADS = 256, BUSY_NS = 100000000, ATTEMPTS = 20 };

static gcrt_word stop_now;
static pthread_t threads[MOST_THREADS];
static unsigned busy;

static void *keep_busy(void *unused) {
  while (!gcrt_load(&stop_now)) continue;
  return unused;
}

static void use_processors(unsigned count) {
  busy = count;
  for (unsigned i = 0; i < count; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_busy, NULL), 0);
}

static void leave_processors(void) {
  gcrt_store(&stop_now, 1);
  for (unsigned i = 0; i < busy; i++) pthread_join(threads[i], NULL);
}

static void use_thread_time(uint64_t ns) {
  uint64_t begin = gcrt_clock_thread_cpu();
  while (gcrt_clock_thread_cpu() - begin < ns) continue;
}

static void pass_time(uint64_t ns) {
  gcrt_word never = 0;
  uint64_t begin = gcrt_clock_monotonic();
  while (gcrt_clock_monotonic() - begin < ns) gcrt_futex_wait(&never, 0, (int64_t)ns);
}

/* Pieces of work of which one ended in a rest, of so many. */
static unsigned rests_of(unsigned pieces) {
  unsigned rests = 0;
  for (unsigned i = 0; i < pieces; i++) {
    use_thread_time(100000);
    if (!gcrt_pace_is_due()) continue;
    gcrt_pace_rest();
    rests++;
  }
  return rests;
}

/* False: something else than this process has used the processors. */
static bool begin_saturated(void) {
  for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
    gcrt_pace_end();
    pass_time(BUSY_NS);
    if (gcrt_pace_begin(50) == 0) return true;
  }
  return false;
}

START_TEST(rests_while_all_processors_are_wanted) {
  unsigned count = gcrt_cpu_count();
  if (count > MOST_THREADS) TEST_SKIP("more than %d processors", MOST_THREADS);
  use_processors(count);
  if (begin_saturated()) {
    ck_assert(gcrt_pace_rests());
    uint64_t wall = gcrt_clock_monotonic(), cpu = gcrt_clock_thread_cpu();
    unsigned rests = rests_of(20);
    wall = gcrt_clock_monotonic() - wall;
    cpu = gcrt_clock_thread_cpu() - cpu;
    /* What others take meanwhile looks like an idle processor. */
    bool still = gcrt_pace_rests();
    ck_assert_uint_ge(rests, 1);
    ck_assert(!still || rests < 20 || wall >= cpu + cpu / 4 * 3);
    gcrt_pace_hurry();
    ck_assert_uint_eq(rests_of(5), 0);
    gcrt_pace_relax();
    ck_assert(rests_of(5) > 0 || !still || !gcrt_pace_rests());
    leave_processors();
  } else {
    leave_processors();
    TEST_SKIP("the processors are used by others");
  }
}
END_TEST

START_TEST(whole_processor_is_never_left) {
  use_processors(gcrt_min(gcrt_cpu_count(), MOST_THREADS));
  gcrt_pace_end();
  pass_time(BUSY_NS);
  gcrt_pace_begin(100);
  ck_assert(!gcrt_pace_rests());
  ck_assert_uint_eq(rests_of(10), 0);
  leave_processors();
}
END_TEST

START_TEST(idle_processors_are_counted) {
  gcrt_pace_end();
  pass_time(BUSY_NS);
  ck_assert_uint_eq(gcrt_pace_begin(50), gcrt_cpu_count());
  ck_assert(!gcrt_pace_rests());
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("mark/pace");
  TCase *tests = test_case(suite, "pace", 30);
  tcase_add_test(tests, rests_while_all_processors_are_wanted);
  tcase_add_test(tests, whole_processor_is_never_left);
  tcase_add_test(tests, idle_processors_are_counted);
  return suite;
}

TEST_MAIN(make_suite)
