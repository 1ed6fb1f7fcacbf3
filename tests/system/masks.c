/* Threads that block every signal stop all the same, and never see the stop signal.
 *
 * Each case is a thread that blocks or waits for the full set in one of the ways a program has. Collections run while
 * it does; that they return is the test (its time limit ends it if not). Then SIGUSR1 is sent, which is the program's
 * own, and must be the only signal that the thread receives. */
#include "system.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <unistd.h>

static pid_t waiter;
static int started, stop_now, handled, foreign_seen;

static void on_usr1(int signal) {
  if (signal == SIGUSR1) __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
}

static void saw(int signal) {
  if (signal != SIGUSR1) __atomic_store_n(&foreign_seen, signal, __ATOMIC_RELAXED);
}

static bool stopping(void) { return __atomic_load_n(&stop_now, __ATOMIC_ACQUIRE) != 0; }

static void announce(void) {
  waiter = gettid();
  __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
}

static sigset_t full_set(void) {
  sigset_t set;
  sigfillset(&set);
  return set;
}

static void block_all(void) {
  sigset_t set = full_set();
  TEST_REQUIRE(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
}

static void spin(void) {
  announce();
  void *volatile object = gc_alloc(32);
  while (!stopping()) __asm__ volatile("" ::: "memory");
  TEST_REQUIRE(gc_base(object) == object);
}

static void spin_with_setmask(void) {
  block_all();
  spin();
}

static void spin_with_block(void) {
  sigset_t set = full_set();
  TEST_REQUIRE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  spin();
}

static void spin_with_sigprocmask(void) {
  sigset_t set = full_set();
  TEST_REQUIRE(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
  spin();
}

static void spin_with_one_blocked(void) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
    sigaddset(&set, signal);
    TEST_REQUIRE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  }
  spin();
}

static void spin_after_siglongjmp(void) {
  static sigjmp_buf buffer;
  block_all();
  if (sigsetjmp(buffer, 1) == 0) {
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    siglongjmp(buffer, 1);
  }
  spin();
}

static void spin_in_handler(int signal) {
  saw(signal);
  spin();
}

static void spin_in_a_handler_that_masks_all(void) {
  struct sigaction action = {.sa_handler = spin_in_handler, .sa_mask = full_set()}, old;
  TEST_REQUIRE(sigaction(SIGUSR1, &action, &old) == 0);
  raise(SIGUSR1);
  sigaction(SIGUSR1, &old, NULL);
}

static void read_signalfd(void) {
  sigset_t set = full_set();
  block_all();
  int fd = signalfd(-1, &set, SFD_CLOEXEC);
  TEST_REQUIRE(fd >= 0);
  announce();
  while (!stopping()) {
    struct signalfd_siginfo info;
    ssize_t n = read(fd, &info, sizeof info);
    TEST_REQUIRE(n == sizeof info, "read of a signalfd gave %zd, errno %d", n, errno);
    saw((int)info.ssi_signo);
  }
  close(fd);
}

static void poll_signalfd(void) {
  sigset_t set = full_set();
  block_all();
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  TEST_REQUIRE(fd >= 0);
  announce();
  while (!stopping()) {
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    TEST_REQUIRE(poll(&poller, 1, 10000) == 1);
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) == sizeof info)
      saw((int)info.ssi_signo);
    else
      TEST_REQUIRE(errno == EAGAIN);
  }
  close(fd);
}

static void wait_with_sigwait(void) {
  sigset_t set = full_set();
  block_all();
  announce();
  while (!stopping()) {
    int signal = 0;
    int error = sigwait(&set, &signal);
    TEST_REQUIRE(error == 0, "sigwait: %s", strerror(error));
    saw(signal);
  }
}

static void wait_with_sigwaitinfo(void) {
  sigset_t set = full_set();
  block_all();
  announce();
  while (!stopping()) {
    siginfo_t info;
    int signal = sigwaitinfo(&set, &info);
    TEST_REQUIRE(signal > 0, "sigwaitinfo: errno %d", errno);
    saw(signal);
  }
}

static void wait_with_sigtimedwait(void) {
  sigset_t set = full_set();
  block_all();
  announce();
  while (!stopping()) {
    siginfo_t info;
    int signal = sigtimedwait(&set, &info, &(struct timespec){.tv_sec = 10});
    TEST_REQUIRE(signal > 0, "sigtimedwait: errno %d", errno);
    saw(signal);
  }
}

static sigset_t all_but_usr1(void) {
  sigset_t set = full_set();
  sigdelset(&set, SIGUSR1);
  return set;
}

static void wait_with_sigsuspend(void) {
  sigset_t set = all_but_usr1();
  block_all();
  announce();
  while (!stopping()) TEST_REQUIRE(sigsuspend(&set) == -1 && errno == EINTR);
}

static void wait_with_ppoll(void) {
  sigset_t set = all_but_usr1();
  block_all();
  announce();
  while (!stopping()) TEST_REQUIRE(ppoll(NULL, 0, &(struct timespec){.tv_sec = 10}, &set) == -1 && errno == EINTR);
}

static void wait_with_pselect(void) {
  sigset_t set = all_but_usr1();
  block_all();
  announce();
  while (!stopping())
    TEST_REQUIRE(pselect(0, NULL, NULL, NULL, &(struct timespec){.tv_sec = 10}, &set) == -1 && errno == EINTR);
}

static void wait_with_epoll_pwait(void) {
  sigset_t set = all_but_usr1();
  struct epoll_event event;
  int fd = epoll_create1(EPOLL_CLOEXEC);
  block_all();
  announce();
  while (!stopping()) TEST_REQUIRE(epoll_pwait(fd, &event, 1, 10000, &set) == -1 && errno == EINTR);
  close(fd);
}

static void poll_with_everything_masked(void) {
  sigset_t set = full_set();
  announce();
  while (!stopping()) TEST_REQUIRE(ppoll(NULL, 0, &(struct timespec){.tv_nsec = 2000000}, &set) == 0);
}

static void spin_as_created(void) { spin(); }

static const struct mask_case {
  const char *name;
  void (*run)(void);
  bool sleeps;
  bool created_masked; /* by the attributes of the thread */
} cases[] = {
    {"pthread_sigmask(SIG_SETMASK)", spin_with_setmask, false, false},
    {"pthread_sigmask(SIG_BLOCK)", spin_with_block, false, false},
    {"sigprocmask", spin_with_sigprocmask, false, false},
    {"one signal after the other", spin_with_one_blocked, false, false},
    {"siglongjmp to a full mask", spin_after_siglongjmp, false, false},
    {"sa_mask of a handler", spin_in_a_handler_that_masks_all, false, false},
    {"pthread_attr_setsigmask_np", spin_as_created, false, true},
    {"read of a signalfd", read_signalfd, true, false},
    {"poll of a signalfd", poll_signalfd, true, false},
    {"sigwait", wait_with_sigwait, true, false},
    {"sigwaitinfo", wait_with_sigwaitinfo, true, false},
    {"sigtimedwait", wait_with_sigtimedwait, true, false},
    {"sigsuspend", wait_with_sigsuspend, true, false},
    {"ppoll", wait_with_ppoll, true, false},
    {"pselect", wait_with_pselect, true, false},
    {"epoll_pwait", wait_with_epoll_pwait, true, false},
    {"ppoll with a full mask", poll_with_everything_masked, false, false},
};
enum { CASES = sizeof cases / sizeof *cases };

static int ended;

static void *run_case(void *arg) {
  const struct mask_case *c = arg;
  c->run();
  /* Not one stop signal is left waiting for the thread. */
  sigset_t pending;
  TEST_REQUIRE(sigpending(&pending) == 0);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++)
    TEST_REQUIRE(sigismember(&pending, signal) == 0, "signal %d is pending", signal);
  __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
  return NULL;
}

START_TEST(stops_and_never_sees_the_signal) {
  const struct mask_case *c = &cases[_i];
  struct sigaction action = {.sa_handler = on_usr1};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (c->created_masked) {
    sigset_t set = full_set();
    ck_assert_int_eq(pthread_attr_setsigmask_np(&attributes, &set), 0);
  }
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, &attributes, run_case, (void *)c), 0);
  while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) sched_yield();
  if (c->sleeps) ck_assert_msg(system_wait_asleep(waiter), "%s: never slept", c->name);
  uint32_t before = system_collections();
  for (int i = 0; i < 30; i++) gc_collect();
  ck_assert_uint_eq(system_collections(), before + 30);
  if (c->sleeps) ck_assert_msg(system_wait_asleep(waiter), "%s: left its wait", c->name);
  __atomic_store_n(&stop_now, 1, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE)) {
    if (c->sleeps) pthread_kill(thread, SIGUSR1);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  pthread_join(thread, NULL);
  ck_assert_msg(foreign_seen == 0, "%s: received signal %d", c->name, foreign_seen);
}
END_TEST

/* What a program set it reads back, as far as the stop signal is not concerned. */
START_TEST(mask_reads_back) {
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN + 1);
  ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &old), 0);
  for (int signal = 1; signal < 32; signal++) ck_assert_int_eq(sigismember(&old, signal), signal == SIGUSR1);
  ck_assert_int_eq(sigismember(&old, SIGRTMIN + 1), 1);
  set = full_set();
  ck_assert_int_eq(sigprocmask(SIG_SETMASK, &set, &old), 0);
  ck_assert_int_eq(sigismember(&old, SIGUSR1), 1);
  ck_assert_int_eq(sigismember(&old, SIGUSR2), 0);
  ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &old), 0);
  for (int signal = 1; signal < 32; signal++)
    if (signal != SIGKILL && signal != SIGSTOP && !(signal == SIGSEGV && test_writes_fault()))
      ck_assert_msg(sigismember(&old, signal) == 1, "signal %d", signal);
  sigset_t before = set;
  ck_assert_int_eq(sigprocmask(SIG_SETMASK, &set, NULL), 0);
  ck_assert_msg(memcmp(&before, &set, 8) == 0, "the caller's set was changed");
}
END_TEST

START_TEST(bad_how_is_einval) {
  sigset_t set = full_set();
  ck_assert_int_eq(pthread_sigmask(99, &set, NULL), EINVAL);
  errno = 0;
  ck_assert_int_eq(sigprocmask(99, &set, NULL), -1);
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "masks", 20);
  tcase_add_loop_test(tc, stops_and_never_sees_the_signal, 0, CASES);
  tcase_add_test(tc, mask_reads_back);
  tcase_add_test(tc, bad_how_is_einval);
  return suite;
}
TEST_MAIN(make_suite)
