/* No system call of the program's fails because of a collection, and a signal of its own still interrupts it.
 *
 * One thread for every row of the table in waits.c waits, all at once, while the first thread collects. What a call
 * returns decides; no clock does, except that a call must not return before its time. */
#include "system.h"
#include "waits.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 64 };

static struct waiter {
  const struct wait_call *call;
  struct wait_room room;
  struct wait_result result;
  pthread_t thread;
  pid_t tid;
  double elapsed;
  int ended;
  bool made;
} waiters[MOST];

static void *run_waiter(void *arg) {
  struct waiter *w = arg;
  void *volatile object = gc_alloc(64);
  double start = test_now();
  __atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
  w->result = w->call->run(&w->room);
  w->elapsed = test_now() - start;
  TEST_REQUIRE(gc_base(object) == object, "%s: an object of the waiting thread was reclaimed", w->call->name);
  __atomic_store_n(&w->ended, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* Whether this machine can make the call: message queues and semaphore sets may be switched off. */
static bool possible(const struct waiter *w) {
  bool messages = strncmp(w->call->name, "msg", 3) == 0, semaphores = strncmp(w->call->name, "sem", 3) == 0;
  if (messages) return w->room.queue >= 0 && w->room.full_queue >= 0;
  return !semaphores || w->room.semaphores >= 0;
}

/* Linux lets some calls, such as semop, fail with EINTR when the process goes on after SIGSTOP, without any handler
 * (signal(7)). SIGCONT stays pending where it is blocked in all threads, and tells of it. */
static void watch_for_stops(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCONT);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
}

static bool was_stopped(void) {
  sigset_t set;
  return sigpending(&set) == 0 && sigismember(&set, SIGCONT);
}

/* All rooms first, as each forks; then the threads. */
static void start_waiters(double seconds) {
  ck_assert_int_le(wait_call_count, MOST);
  watch_for_stops();
  for (int i = 0; i < wait_call_count; i++) {
    waiters[i].call = &wait_calls[i];
    wait_room_open(&waiters[i].room, seconds);
  }
  for (int i = 0; i < wait_call_count; i++) {
    struct waiter *w = &waiters[i];
    if (!possible(w)) {
      test_print_skip(w->call->name, "the kernel has no such queues");
      continue;
    }
    w->made = true;
    ck_assert_int_eq(pthread_create(&w->thread, NULL, run_waiter, w), 0);
  }
  for (int i = 0; i < wait_call_count; i++)
    while (waiters[i].made && !__atomic_load_n(&waiters[i].tid, __ATOMIC_ACQUIRE)) sched_yield();
}

static void end_waiters(void) {
  for (int i = 0; i < wait_call_count; i++) {
    if (waiters[i].made) pthread_join(waiters[i].thread, NULL);
    wait_room_close(&waiters[i].room);
  }
}

static bool all_ended(bool timed) {
  for (int i = 0; i < wait_call_count; i++)
    if (waiters[i].made && waiters[i].call->timed == timed && !__atomic_load_n(&waiters[i].ended, __ATOMIC_ACQUIRE))
      return false;
  return true;
}

static void wake_untimed(void) {
  for (int i = 0; i < wait_call_count; i++)
    if (waiters[i].made && !waiters[i].call->timed) wait_room_wake(&waiters[i].room);
}

/* NULL, or a call that came back although nobody had woken it. */
static const struct waiter *find_too_early(void) {
  for (int i = 0; i < wait_call_count; i++) {
    const struct waiter *w = &waiters[i];
    if (w->made && !w->call->timed && __atomic_load_n(&w->ended, __ATOMIC_ACQUIRE)) return w;
  }
  return NULL;
}

START_TEST(collections_interrupt_nothing) {
  start_waiters(0.3);
  uint32_t before = system_collections();
  while (!all_ended(true) || system_collections() < before + 20) gc_collect();
  const struct waiter *early = find_too_early();
  wake_untimed();
  end_waiters();
  if (was_stopped()) TEST_SKIP("the process was stopped and continued, which interrupts calls by itself");
  ck_assert_msg(!early, "%s returned %ld with error %d before it was woken", early->call->name, early->result.value,
                early->result.error);
  for (int i = 0; i < wait_call_count; i++) {
    const struct waiter *w = &waiters[i];
    if (!w->made) continue;
    int expected = w->call->timed ? w->call->on_timeout : 0;
    ck_assert_msg(w->result.error == expected, "%s: returned %ld with error %d (%s), expected %d", w->call->name,
                  w->result.value, w->result.error, strerror(w->result.error), expected);
    if (w->call->timed)
      ck_assert_msg(w->elapsed >= 0.299, "%s: returned after %.3f s of 0.3", w->call->name, w->elapsed);
  }
}
END_TEST

static void on_signal(int signal) { (void)signal; }

START_TEST(own_signals_interrupt) {
  struct sigaction action = {.sa_handler = on_signal};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  start_waiters(100);
  for (int i = 0; i < wait_call_count; i++)
    if (waiters[i].made) ck_assert_msg(system_wait_asleep(waiters[i].tid), "%s: never slept", waiters[i].call->name);
  for (int i = 0; i < 5; i++) gc_collect();
  for (int i = 0; i < wait_call_count; i++) {
    struct waiter *w = &waiters[i];
    if (!w->made || !w->call->interrupted) continue;
    /* The signal may come before the call has begun to wait, so it is sent until it has done its work. */
    for (int sent = 0; !__atomic_load_n(&w->ended, __ATOMIC_ACQUIRE); sent++) {
      ck_assert_msg(sent < 5000, "%s: goes on waiting after signals", w->call->name);
      pthread_kill(w->thread, SIGUSR1);
      nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    pthread_join(w->thread, NULL);
    ck_assert_msg(w->result.error == EINTR, "%s: returned %ld with error %d, expected EINTR", w->call->name,
                  w->result.value, w->result.error);
  }
  for (int i = 0; i < 3; i++) gc_collect();
  /* The test's process ends with the threads that no signal interrupts; what the system keeps is given back. */
  for (int i = 0; i < wait_call_count; i++) wait_room_wake(&waiters[i].room);
  for (int i = 0; i < wait_call_count; i++) wait_room_close(&waiters[i].room);
}
END_TEST

static int paused, returned;
static pid_t pauser;

static void *pause_once(void *how) {
  sigset_t none;
  sigemptyset(&none);
  __atomic_store_n(&pauser, gettid(), __ATOMIC_RELEASE);
  int result = how ? sigsuspend(&none) : pause();
  TEST_REQUIRE(result == -1 && errno == EINTR);
  __atomic_store_n(&returned, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void on_pause(int signal) {
  (void)signal;
  __atomic_fetch_add(&paused, 1, __ATOMIC_RELAXED);
}

START_TEST(pause_waits_for_the_programs_own_signal) {
  struct sigaction action = {.sa_handler = on_pause};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, pause_once, _i ? &paused : NULL), 0);
  while (!__atomic_load_n(&pauser, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(pauser));
  for (int i = 0; i < 50; i++) gc_collect();
  ck_assert_int_eq(__atomic_load_n(&returned, __ATOMIC_ACQUIRE), 0);
  while (!__atomic_load_n(&returned, __ATOMIC_ACQUIRE)) {
    pthread_kill(thread, SIGUSR1);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  pthread_join(thread, NULL);
  ck_assert_int_ge(paused, 1);
}
END_TEST

static struct timespec remaining;

static void *sleep_long(void *unused) {
  __atomic_store_n(&pauser, gettid(), __ATOMIC_RELEASE);
  int result = nanosleep(&(struct timespec){.tv_sec = 100}, &remaining);
  TEST_REQUIRE(result == -1 && errno == EINTR);
  __atomic_store_n(&returned, 1, __ATOMIC_RELEASE);
  return unused;
}

START_TEST(interrupted_sleep_tells_what_remains) {
  struct sigaction action = {.sa_handler = on_pause};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, sleep_long, NULL), 0);
  while (!__atomic_load_n(&pauser, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(pauser));
  for (int i = 0; i < 20; i++) gc_collect();
  while (!__atomic_load_n(&returned, __ATOMIC_ACQUIRE)) {
    pthread_kill(thread, SIGUSR1);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  pthread_join(thread, NULL);
  ck_assert_int_le(remaining.tv_sec, 100);
  ck_assert_int_ge(remaining.tv_sec, 50);
}
END_TEST

/* A handler with SA_RESTART: what libc restarts is restarted with the library in between as well. */
static int pipe_ends[2];

static void *read_byte(void *unused) {
  char byte = 0;
  __atomic_store_n(&pauser, gettid(), __ATOMIC_RELEASE);
  ssize_t n = read(pipe_ends[0], &byte, 1);
  TEST_REQUIRE(n == 1 && byte == 'x', "read gave %zd, errno %d", n, errno);
  return unused;
}

START_TEST(restarting_handlers_restart) {
  struct sigaction action = {.sa_handler = on_pause, .sa_flags = SA_RESTART};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  ck_assert_int_eq(pipe(pipe_ends), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, read_byte, NULL), 0);
  while (!__atomic_load_n(&pauser, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(pauser));
  for (int i = 0; i < 20; i++) {
    pthread_kill(thread, SIGUSR1);
    gc_collect();
  }
  ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
  pthread_join(thread, NULL);
  ck_assert_int_ge(paused, 1);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "eintr", 30);
  tcase_add_test(tc, collections_interrupt_nothing);
  tcase_add_loop_test(tc, pause_waits_for_the_programs_own_signal, 0, 2);
  TCase *own = test_case(suite, "eintr-own-signals", 30);
  tcase_add_test(own, own_signals_interrupt);
  tcase_add_test(own, interrupted_sleep_tells_what_remains);
  tcase_add_test(own, restarting_handlers_restart);
  return suite;
}
TEST_MAIN(make_suite)
