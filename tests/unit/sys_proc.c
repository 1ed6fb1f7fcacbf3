/* Threads as the kernel sees them, threads of the library's own, and clocks. */
#include "sys/proc.h"
#include "sys/cgroup.h"
#include "sys/clock.h"
#include "sys/lock.h"

#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got;
static void on_signal(int signal) { got = signal; }

START_TEST(ids_are_the_kernels) {
  ck_assert_int_eq(gcrt_process_id(), getpid());
  ck_assert_int_eq(gcrt_thread_id(), (int)syscall(SYS_gettid));
}
END_TEST

struct other {
  pthread_barrier_t barrier;
  int tid;
};

static void *other_thread(void *arg) {
  struct other *other = arg;
  other->tid = gcrt_thread_id();
  pthread_barrier_wait(&other->barrier);
  pthread_barrier_wait(&other->barrier);
  return NULL;
}

START_TEST(a_thread_exists_until_it_ends) {
  struct other other;
  pthread_t thread;
  pthread_barrier_init(&other.barrier, NULL, 2);
  ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
  pthread_barrier_wait(&other.barrier);
  ck_assert_int_ne(other.tid, gcrt_thread_id());
  ck_assert(gcrt_thread_exists(other.tid));
  ck_assert(gcrt_thread_exists(gcrt_thread_id()));
  pthread_barrier_wait(&other.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  /* A joined thread has left the C library; the kernel may take a moment longer. */
  errno = ERANGE;
  while (gcrt_thread_exists(other.tid)) gcrt_thread_yield();
  ck_assert(!gcrt_thread_signal(other.tid, SIGUSR1));
  ck_assert_int_eq(errno, ERANGE);
  char text[64];
  gcrt_thread_describe(other.tid, text, sizeof text);
  ck_assert_str_eq(text, "unknown");
  ck_assert_int_eq(errno, ERANGE);
}
END_TEST

START_TEST(a_signal_reaches_the_thread) {
  signal(SIGUSR1, on_signal);
  ck_assert(gcrt_thread_signal(gcrt_thread_id(), SIGUSR1));
  ck_assert_int_eq(got, SIGUSR1);
  ck_assert(gcrt_thread_signal(gcrt_thread_id(), 0));
  ck_assert(!gcrt_thread_signal(gcrt_thread_id(), 1000));
}
END_TEST

START_TEST(another_process_has_no_thread_of_ours) {
  ck_assert(!gcrt_thread_exists(getppid()));
  ck_assert(!gcrt_thread_exists(1));
}
END_TEST

START_TEST(a_thread_is_described_by_name_and_state) {
  char text[64];
  prctl(PR_SET_NAME, "a) (name");
  gcrt_thread_describe(gcrt_thread_id(), text, sizeof text);
  ck_assert_str_eq(text, "a) (name, state R");
  gcrt_thread_describe(gcrt_thread_id(), text, 5);
  ck_assert_str_eq(text, "a) (");
}
END_TEST

START_TEST(processors_are_those_it_may_run_on) {
  const char *reason;
  uint64_t allowed = gcrt_cgroup_processors("", &reason);
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) TEST_SKIP("sched_getaffinity: %s", strerror(errno));
  uint64_t count = (uint64_t)CPU_COUNT(&set);
  ck_assert_uint_eq(gcrt_cpu_count(), count < allowed ? count : allowed);
  int first = 0;
  while (!CPU_ISSET(first, &set)) first++;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  ck_assert_int_eq(sched_setaffinity(0, sizeof set, &set), 0);
  ck_assert_uint_eq(gcrt_cpu_count(), 1);
}
END_TEST

static struct started {
  gcrt_word done;
  void *argument;
  uint64_t blocked;
  int tid;
  char name[20];
  bool stays;
  gcrt_word leave;
} started;

static void body(void *argument) {
  started.argument = argument;
  started.tid = gcrt_thread_id();
  prctl(PR_GET_NAME, started.name);
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &started.blocked, sizeof started.blocked);
  gcrt_store_release(&started.done, 1);
  gcrt_futex_wake(&started.done, 1);
  while (started.stays && !gcrt_load_acquire(&started.leave)) gcrt_futex_wait(&started.leave, 0, -1);
}

static void start_and_wait(const char *name) {
  ck_assert(gcrt_thread_start(body, &started, name));
  while (!gcrt_load_acquire(&started.done)) gcrt_futex_wait(&started.done, 0, -1);
}

/* Signal numbers count from 1; SIGKILL and SIGSTOP cannot be blocked, and 33 is the C library's for setuid. */
static uint64_t bit(int signal) { return UINT64_C(1) << (signal - 1); }

START_TEST(a_thread_of_the_librarys_blocks_signals) {
  sigset_t before, after;
  pthread_sigmask(SIG_BLOCK, NULL, &before);
  start_and_wait("gcrt-test");
  pthread_sigmask(SIG_BLOCK, NULL, &after);
  for (int i = 1; i <= 64; i++) ck_assert_int_eq(sigismember(&before, i), sigismember(&after, i));
  ck_assert_ptr_eq(started.argument, &started);
  ck_assert_str_eq(started.name, "gcrt-test");
  ck_assert_int_ne(started.tid, gcrt_thread_id());
  ck_assert_uint_eq(started.blocked | bit(32), ~(bit(SIGKILL) | bit(SIGSTOP) | bit(33)));
  while (gcrt_thread_exists(started.tid)) /* detached: it goes without being joined */
    gcrt_thread_yield();
}
END_TEST

START_TEST(a_long_name_is_cut) {
  start_and_wait("a name that is longer than the kernel keeps");
  ck_assert_str_eq(started.name, "a name that is ");
}
END_TEST

START_TEST(the_program_may_change_its_user_while_such_a_thread_runs) {
  started.stays = true;
  start_and_wait("gcrt-test");
  /* The C library waits for an answer of every thread. */
  ck_assert_int_eq(setuid(getuid()), 0);
  ck_assert_int_eq(setgid(getgid()), 0);
  gcrt_store_release(&started.leave, 1);
  gcrt_futex_wake(&started.leave, 1);
}
END_TEST

START_TEST(what_is_touched_is_resident) {
  enum { BYTES = 32 << 20 };
  uint64_t before = gcrt_process_resident();
  ck_assert_uint_gt(before, 0);
  char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(p, MAP_FAILED);
  ck_assert_uint_lt(gcrt_process_resident(), before + BYTES / 2);
  for (size_t i = 0; i < BYTES; i += 4096) p[i] = 1;
  /* The kernel's figure may lack some pages for each processor. */
  ck_assert_uint_ge(gcrt_process_resident(), before + BYTES - BYTES / 8);
  ck_assert_int_eq(munmap(p, BYTES), 0);
  ck_assert_uint_lt(gcrt_process_resident(), before + BYTES / 2);
}
END_TEST

START_TEST(clocks) {
  struct timespec low, high;
  clock_gettime(CLOCK_MONOTONIC, &low);
  uint64_t now = gcrt_clock_monotonic();
  clock_gettime(CLOCK_MONOTONIC, &high);
  ck_assert_uint_ge(now, (uint64_t)low.tv_sec * 1000000000U + (uint64_t)low.tv_nsec);
  ck_assert_uint_le(now, (uint64_t)high.tv_sec * 1000000000U + (uint64_t)high.tv_nsec);

  time_t seconds = time(NULL);
  ck_assert_uint_ge(gcrt_clock_realtime() / 1000000000U + 2, (uint64_t)seconds);
  ck_assert_uint_le(gcrt_clock_realtime() / 1000000000U, (uint64_t)time(NULL) + 2);

  uint64_t cpu = gcrt_clock_thread_cpu();
  ck_assert_uint_gt(cpu, 0);
  while (gcrt_clock_thread_cpu() == cpu) {
  }
  ck_assert_uint_gt(gcrt_clock_thread_cpu(), cpu);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/proc and sys/clock");
  TCase *tc = test_case(suite, "proc", 60);
  tcase_add_test(tc, ids_are_the_kernels);
  tcase_add_test(tc, a_thread_exists_until_it_ends);
  tcase_add_test(tc, a_signal_reaches_the_thread);
  tcase_add_test(tc, another_process_has_no_thread_of_ours);
  tcase_add_test(tc, a_thread_is_described_by_name_and_state);
  tcase_add_test(tc, processors_are_those_it_may_run_on);
  tcase_add_test(tc, what_is_touched_is_resident);
  tc = test_case(suite, "own threads", 60);
  tcase_add_test(tc, a_thread_of_the_librarys_blocks_signals);
  tcase_add_test(tc, a_long_name_is_cut);
  tcase_add_test(tc, the_program_may_change_its_user_while_such_a_thread_runs);
  tc = test_case(suite, "clock", 20);
  tcase_add_test(tc, clocks);
  return suite;
}

TEST_MAIN(make_suite)
