/* The futex and the lock: exclusion, wake-ups, time-outs, errno. */
#include "sys/lock.h"
#include "sys/clock.h"

#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

enum { THREADS = 4, ROUNDS = 20000 };

static struct gcrt_lock lock;
static volatile size_t counter, inside;

static void *count(void *arg) {
  for (unsigned i = 0; i < ROUNDS; i++) {
    gcrt_lock(&lock);
    TEST_REQUIRE(inside == 0);
    inside = 1;
    counter = counter + 1;
    /* Lets others find the lock held, so that some of them sleep. */
    if (i % 512 == (uintptr_t)arg) sched_yield();
    inside = 0;
    gcrt_unlock(&lock);
  }
  return NULL;
}

START_TEST(four_threads_exclude_each_other) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, count, (void *)i), 0);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_uint_eq(counter, THREADS * ROUNDS);
  ck_assert_uint_eq(gcrt_load(&lock.state), 0);
}
END_TEST

START_TEST(trying_does_not_wait) {
  struct gcrt_lock own = {0};
  ck_assert(gcrt_lock_try(&own));
  ck_assert(!gcrt_lock_try(&own));
  gcrt_unlock(&own);
  ck_assert(gcrt_lock_try(&own));
  gcrt_lock_reset(&own);
  gcrt_lock(&own);
  gcrt_unlock(&own);
  ck_assert_uint_eq(gcrt_load(&own.state), 0);
}
END_TEST

static void *take(void *arg) {
  gcrt_lock(arg);
  counter = counter + 1;
  gcrt_unlock(arg);
  return NULL;
}

START_TEST(sleepers_are_woken_one_after_the_other) {
  pthread_t threads[THREADS];
  gcrt_lock(&lock);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, take, &lock), 0);
  /* 2 tells that a thread is about to sleep; only then can it be woken. */
  while (gcrt_load(&lock.state) != 2) sched_yield();
  ck_assert_uint_eq(counter, 0);
  gcrt_unlock(&lock);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_uint_eq(counter, THREADS);
}
END_TEST

static int unlock_free(void *arg) {
  gcrt_unlock(arg);
  return 0;
}

START_TEST(unlocking_a_free_lock_is_found) {
  struct test_child child = test_child_fork(unlock_free, &lock, NULL);
  ck_assert(!test_child_exited(&child, 0));
  test_assert_err_has(&child, "broken invariant");
  test_child_free(&child);
}
END_TEST

START_TEST(a_futex_times_out) {
  gcrt_word word = 7;
  const int64_t timeout = 20 * 1000 * 1000;
  errno = ERANGE;
  uint64_t before = gcrt_clock_monotonic(), rounds_began = before;
  /* May wake for no reason: only the round that times out is measured. */
  while (gcrt_futex_wait(&word, 7, timeout)) rounds_began = gcrt_clock_monotonic();
  ck_assert_uint_ge(gcrt_clock_monotonic() - rounds_began, (uint64_t)timeout);
  ck_assert_int_eq(errno, ERANGE);
  while (gcrt_futex_wait(&word, 7, 0)) {
  }
  ck_assert_int_eq(errno, ERANGE);
}
END_TEST

START_TEST(another_value_does_not_sleep) {
  gcrt_word word = 7;
  ck_assert(gcrt_futex_wait(&word, 6, -1));
  /* Only the low half counts. */
  word = ((size_t)9 << 32) | 6;
  ck_assert(gcrt_futex_wait(&word, 7, -1));
  while (gcrt_futex_wait(&word, 6, 1000)) {
  }
}
END_TEST

static gcrt_word ping, pong;

static void *answer(void *arg) {
  for (size_t i = 1; i <= ROUNDS / 10; i++) {
    while (gcrt_load_acquire(&ping) != i) gcrt_futex_wait(&ping, (uint32_t)(i - 1), -1);
    gcrt_store_release(&pong, i);
    gcrt_futex_wake(&pong, 1);
  }
  return arg;
}

START_TEST(a_wake_reaches_the_sleeper) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, answer, NULL), 0);
  for (size_t i = 1; i <= ROUNDS / 10; i++) {
    gcrt_store_release(&ping, i);
    gcrt_futex_wake(&ping, 1);
    while (gcrt_load_acquire(&pong) != i) gcrt_futex_wait(&pong, (uint32_t)(i - 1), -1);
  }
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/lock");
  TCase *tc = test_case(suite, "lock", 120);
  tcase_add_test(tc, four_threads_exclude_each_other);
  tcase_add_test(tc, trying_does_not_wait);
  tcase_add_test(tc, sleepers_are_woken_one_after_the_other);
  tcase_add_test(tc, unlocking_a_free_lock_is_found);
  tc = test_case(suite, "futex", 60);
  tcase_add_test(tc, a_futex_times_out);
  tcase_add_test(tc, another_value_does_not_sleep);
  tcase_add_test(tc, a_wake_reaches_the_sleeper);
  return suite;
}

TEST_MAIN(make_suite)
