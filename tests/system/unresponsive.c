/* A thread that does not take the stop signal is named on standard error, and the collection waits for it.
 *
 * It blocks the signal by a raw system call, which no interposed function sees, and sleeps several times the time-out
 * in another one. */
#include "system.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int deaf, finished;

static void *be_deaf(void *unused) {
  const unsigned long all = ~0UL;
  const struct timespec span = {1, 0};
  pthread_setname_np(pthread_self(), "deaf-one");
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof all);
  atomic_store(&deaf, 1);
  syscall(SYS_nanosleep, &span, NULL);
  atomic_store(&finished, 1);
  syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &all, NULL, sizeof all);
  return unused;
}

static int collect_beside_it(int argc, char **argv) {
  (void)argc;
  (void)argv;
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, be_deaf, NULL) == 0);
  while (!atomic_load(&deaf)) sched_yield();
  gc_collect();
  TEST_REQUIRE(atomic_load(&finished), "the collection did not wait");
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  gc_collect();
  return 0;
}

START_TEST(it_is_named_after_the_time_out) {
  static const char *const environment[] = {"GCRT_STOP_TIMEOUT=100", NULL};
  struct test_child_options options = {.environment = environment, .timeout_seconds = 60};
  struct test_child child = test_child_exec_self("collect", NULL, &options);
  test_assert_exited(&child, 0);
  test_assert_err_has(&child, "deaf-one");
  test_assert_err_has(&child, "has not stopped for");
  test_assert_err_has(&child, "does not take the stop signal");
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("unresponsive");
  tcase_add_test(test_case(suite, "unresponsive", 90), it_is_named_after_the_time_out);
  return suite;
}

static const struct test_child_entry children[] = {{"collect", collect_beside_it}, {NULL, NULL}};

TEST_MAIN_CHILDREN(make_suite, children)
