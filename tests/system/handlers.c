/* The program's own signal handlers: what they hold is found on both stacks, what sigaction tells is the program's own,
 * and a handler for the stop signal is refused with a message. */
#include "system.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct system_set on_alternate, on_normal;
static int inside, leave, how;
static int wake[2];

static SYSTEM_NOINLINE void wait_inside(void) {
  __atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
  if (how == 0) {
    while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE)) __asm__ volatile("" ::: "memory");
  } else if (how == 1) {
    while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE)) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
  } else {
    char byte;
    TEST_REQUIRE(read(wake[0], &byte, 1) == 1);
  }
}

static void hold_in_handler(int signal) {
  void *volatile pointers[SYSTEM_SET];
  (void)pointers, (void)signal;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(on_alternate.hidden[i]);
  wait_inside();
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = NULL;
}

static SYSTEM_NOINLINE void hold_and_raise(void) {
  void *volatile pointers[SYSTEM_SET];
  (void)pointers;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(on_normal.hidden[i]);
  raise(SIGUSR1);
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = NULL;
}

static void *handler_thread(void *memory) {
  stack_t stack = {.ss_sp = memory, .ss_size = 1 << 16};
  if (memory) TEST_REQUIRE(sigaltstack(&stack, NULL) == 0);
  hold_and_raise();
  stack.ss_flags = SS_DISABLE;
  if (memory) TEST_REQUIRE(sigaltstack(&stack, NULL) == 0);
  return NULL;
}

static void check_handler(bool alternate) {
  gc_set_percent(-1);
  ck_assert_int_eq(pipe(wake), 0);
  struct sigaction action = {.sa_handler = hold_in_handler, .sa_flags = alternate ? SA_ONSTACK : 0};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  system_set_make(&on_alternate, 48, gc_alloc, NULL, NULL);
  system_set_make(&on_normal, 48, gc_alloc, NULL, NULL);
  void *memory = alternate ? malloc(1 << 16) : NULL;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, handler_thread, memory), 0);
  while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE)) sched_yield();
  for (int i = 0; i < 5; i++) {
    system_collect();
    ck_assert_msg(system_set_intact(&on_normal), "what the interrupted function holds was lost");
    ck_assert_msg(system_set_intact(&on_alternate), "what the handler holds was lost");
  }
  __atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
  ck_assert_int_eq(write(wake[1], "x", 1), 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&on_alternate));
  ck_assert(system_set_dead(&on_normal));
  free(memory);
}

START_TEST(both_stacks_of_a_handler) {
  how = _i;
  check_handler(true);
}
END_TEST

START_TEST(handler_on_the_normal_stack) {
  how = _i;
  check_handler(false);
}
END_TEST

static volatile sig_atomic_t first_called, second_called, value_seen, depth_seen, depth_now;

static void first(int signal) {
  first_called++;
  (void)signal;
}
static void second(int signal) {
  second_called++;
  (void)signal;
}
static void with_info(int signal, siginfo_t *info, void *context) {
  (void)signal;
  value_seen = info->si_value.sival_int + (context == NULL);
}

START_TEST(sigaction_tells_the_programs_own) {
  struct sigaction action = {.sa_handler = first, .sa_flags = SA_RESTART | SA_NODEFER}, old;
  sigaddset(&action.sa_mask, SIGUSR2);
  ck_assert_int_eq(sigaction(SIGUSR1, &action, &old), 0);
  ck_assert(old.sa_handler == SIG_DFL);
  gc_collect();
  ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
  ck_assert(old.sa_handler == first);
  ck_assert_int_eq(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO | SA_RESETHAND | SA_ONSTACK),
                   SA_RESTART | SA_NODEFER);
  ck_assert_int_eq(sigismember(&old.sa_mask, SIGUSR2), 1);
  ck_assert_int_eq(sigismember(&old.sa_mask, SIGTERM), 0);
  struct sigaction info = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO};
  ck_assert_int_eq(sigaction(SIGUSR1, &info, &old), 0);
  ck_assert(old.sa_handler == first);
  ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
  ck_assert(old.sa_sigaction == with_info && (old.sa_flags & SA_SIGINFO));
  ck_assert_int_eq(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711}), 0);
  ck_assert_int_eq(value_seen, 4711);
}
END_TEST

START_TEST(full_mask_of_a_handler_is_kept) {
  struct sigaction action = {.sa_handler = first}, old;
  sigfillset(&action.sa_mask);
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
  for (int signal = 1; signal < 32; signal++)
    if (signal != SIGKILL && signal != SIGSTOP && !(signal == SIGSEGV && test_writes_fault()))
      ck_assert_msg(sigismember(&old.sa_mask, signal) == 1, "signal %d", signal);
}
END_TEST

START_TEST(errors_of_sigaction_are_kept) {
  struct sigaction action = {.sa_handler = first};
  static const int bad[] = {0, -1, 65, 1000, SIGKILL, SIGSTOP};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    ck_assert_int_eq(sigaction(bad[i], &action, NULL), -1);
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert(signal(bad[i], first) == SIG_ERR);
    ck_assert_int_eq(errno, EINVAL);
  }
}
END_TEST

START_TEST(resethand_resets) {
  struct sigaction action = {.sa_handler = first, .sa_flags = (int)SA_RESETHAND}, old;
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  raise(SIGUSR1);
  ck_assert_int_eq(first_called, 1);
  ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
  ck_assert(old.sa_handler == SIG_DFL);
}
END_TEST

static void recursive(int signal) {
  depth_now++;
  if (depth_now > depth_seen) depth_seen = depth_now;
  if (depth_now < 3 && first_called == 0) raise(signal);
  first_called = 1;
  depth_now--;
}

START_TEST(nodefer_nests_and_the_default_does_not) {
  struct sigaction action = {.sa_handler = recursive, .sa_flags = SA_NODEFER};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  raise(SIGUSR1);
  ck_assert_int_eq(depth_seen, 3);
  first_called = 0, depth_seen = 0;
  action.sa_flags = 0;
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  raise(SIGUSR1);
  ck_assert_int_eq(depth_seen, 1);
}
END_TEST

START_TEST(ignored_is_ignored) {
  struct sigaction action = {.sa_handler = SIG_IGN}, old;
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  raise(SIGUSR1);
  ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
  ck_assert(old.sa_handler == SIG_IGN);
}
END_TEST

START_TEST(signal_returns_the_old) {
  ck_assert(signal(SIGUSR1, first) == SIG_DFL);
  ck_assert(signal(SIGUSR1, second) == first);
  raise(SIGUSR1);
  ck_assert_int_eq(second_called, 1);
  raise(SIGUSR1);
  ck_assert_int_eq(second_called, 2);
  ck_assert(signal(SIGUSR1, SIG_IGN) == second);
  raise(SIGUSR1);
  ck_assert(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  struct sigaction old;
  signal(SIGUSR2, first);
  ck_assert_int_eq(sigaction(SIGUSR2, NULL, &old), 0);
  ck_assert(old.sa_handler == first && (old.sa_flags & SA_RESTART));
}
END_TEST

static int collecting_thread_done;

static void *busy(void *unused) {
  while (!__atomic_load_n(&collecting_thread_done, __ATOMIC_ACQUIRE)) __asm__ volatile("" ::: "memory");
  return unused;
}

static int child_stop_signal(int argc, char **argv) {
  (void)argc;
  struct sigaction action = {.sa_handler = argv[1][0] == 'i' ? SIG_IGN : first}, old;
  errno = 0;
  int result =
      argv[1][0] == 's' ? (signal(SIGRTMAX - 4, first) == SIG_ERR ? -1 : 0) : sigaction(SIGRTMAX - 4, &action, NULL);
  printf("result %d %s\n", result, errno == EINVAL ? "EINVAL" : strerror(errno));
  TEST_REQUIRE(sigaction(SIGRTMAX - 4, NULL, &old) == 0, "asking is no error");
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, busy, NULL) == 0);
  for (int i = 0; i < 5; i++) gc_collect();
  __atomic_store_n(&collecting_thread_done, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  printf("collected %d\n", (int)first_called);
  return 0;
}

static const struct test_child_entry children[] = {{"stop-signal", child_stop_signal}, {NULL, NULL}};

START_TEST(handler_for_the_stop_signal_is_refused) {
  static const char *const ways[] = {"action", "ignore", "signal"};
  const char *arguments[] = {ways[_i], NULL}, *environment[] = {"GCRT_SIGNAL", NULL};
  char number[20];
  struct test_child child = test_child_exec_self(
      "stop-signal", arguments, &(struct test_child_options){.environment = environment, .timeout_seconds = 20});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "result -1 EINVAL\n");
  test_assert_out_has(&child, "collected 0\n");
  test_assert_err_has(&child, "gcrt: ");
  snprintf(number, sizeof number, "%d", SIGRTMAX - 4);
  test_assert_err_has(&child, number);
  test_assert_err_has(&child, "GCRT_SIGNAL");
  test_child_free(&child);
}
END_TEST

START_TEST(default_for_the_stop_signal_changes_nothing) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  ck_assert_int_eq(sigaction(SIGRTMAX - 4, &action, NULL), 0);
  ck_assert(signal(SIGRTMAX - 4, SIG_DFL) != SIG_ERR);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, busy, NULL), 0);
  for (int i = 0; i < 5; i++) gc_collect();
  __atomic_store_n(&collecting_thread_done, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
}
END_TEST

static sigjmp_buf out;
static pid_t sleeper;
static int sleeps;

static void jump_out(int signal) {
  (void)signal;
  siglongjmp(out, 1);
}

static void *jump_out_of_sleep(void *unused) {
  sleeper = gettid();
  for (int round = 0; round < 5; round++) {
    if (sigsetjmp(out, 1) == 0) {
      __atomic_fetch_add(&sleeps, 1, __ATOMIC_RELEASE);
      nanosleep(&(struct timespec){.tv_sec = 100}, NULL);
      TEST_REQUIRE(false, "the handler did not jump");
    }
    /* From here the thread is no longer waiting and has to be stopped like any other. */
    void **list = NULL;
    for (int i = 0; i < 20000; i++) {
      void **node = gc_alloc(64);
      node[0] = list;
      node[1] = (void *)(uintptr_t)(i + 1);
      list = node;
    }
    for (int i = 20000; i > 0; i--, list = list[0])
      TEST_REQUIRE((uintptr_t)list[1] == (uintptr_t)i, "a thread that jumped out of a wait was not searched");
  }
  __atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
  return unused;
}

START_TEST(handlers_may_jump_out_of_a_wait) {
  struct sigaction action = {.sa_handler = jump_out};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  pthread_t thread;
  int sent = 0;
  ck_assert_int_eq(pthread_create(&thread, NULL, jump_out_of_sleep, NULL), 0);
  while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE)) {
    /* One signal for each wait: a second one would jump out of the work that follows. */
    if (__atomic_load_n(&sleeps, __ATOMIC_ACQUIRE) > sent) {
      ck_assert(system_wait_asleep(sleeper));
      gc_collect();
      ck_assert_int_eq(pthread_kill(thread, SIGUSR1), 0);
      sent++;
    }
    gc_collect();
  }
  pthread_join(thread, NULL);
}
END_TEST

static int ticks;

static void on_tick(int signal) {
  (void)signal;
  __atomic_fetch_add(&ticks, 1, __ATOMIC_RELAXED);
}

static void *allocate_under_ticks(void *unused) {
  for (int round = 0; round < 20 || __atomic_load_n(&ticks, __ATOMIC_RELAXED) < 50; round++) {
    void **list = NULL;
    for (int i = 0; i < 3000; i++) {
      void **node = gc_alloc(64);
      node[0] = list;
      node[1] = (void *)(uintptr_t)(i + 1);
      list = node;
    }
    for (int i = 3000; i > 0; i--, list = list[0]) TEST_REQUIRE((uintptr_t)list[1] == (uintptr_t)i);
  }
  __atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
  return unused;
}

/* Handlers run in the midst of allocations and of stops. */
START_TEST(signals_arrive_during_allocation_and_collection) {
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, allocate_under_ticks, NULL), 0);
  int sent = 0;
  while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE)) {
    ck_assert_int_eq(pthread_kill(thread, SIGUSR1), 0);
    if (++sent % 50 == 0) gc_collect();
  }
  pthread_join(thread, NULL);
  ck_assert_int_ge(ticks, 50);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *stacks = test_case(suite, "handlers-stacks", 20);
  tcase_add_loop_test(stacks, both_stacks_of_a_handler, 0, 3);
  tcase_add_loop_test(stacks, handler_on_the_normal_stack, 0, 3);
  tcase_add_test(stacks, signals_arrive_during_allocation_and_collection);
  tcase_add_test(stacks, handlers_may_jump_out_of_a_wait);
  TCase *actions = test_case(suite, "handlers-actions", 20);
  tcase_add_test(actions, sigaction_tells_the_programs_own);
  tcase_add_test(actions, full_mask_of_a_handler_is_kept);
  tcase_add_test(actions, errors_of_sigaction_are_kept);
  tcase_add_test(actions, resethand_resets);
  tcase_add_test(actions, nodefer_nests_and_the_default_does_not);
  tcase_add_test(actions, ignored_is_ignored);
  tcase_add_test(actions, signal_returns_the_old);
  tcase_add_loop_test(actions, handler_for_the_stop_signal_is_refused, 0, 3);
  tcase_add_test(actions, default_for_the_stop_signal_changes_nothing);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
