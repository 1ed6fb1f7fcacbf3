/* Cancellation points are still cancellation points, and a cancelled thread is forgotten like any other.
 *
 * Every row of waits.c that POSIX calls a cancellation point is cancelled twice: while it waits, and with the request
 * already pending when it is called. */
#include "system.h"
#include "waits.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct wait_result wait_pause(struct wait_room *room) {
  (void)room;
  return (struct wait_result){pause(), errno};
}
static struct wait_result wait_sigsuspend(struct wait_room *room) {
  sigset_t set;
  sigemptyset(&set);
  (void)room;
  return (struct wait_result){sigsuspend(&set), errno};
}
static sigset_t blocked_usr2(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  return set;
}
static struct wait_result wait_sigwait(struct wait_room *room) {
  sigset_t set = blocked_usr2();
  int signal;
  (void)room;
  return (struct wait_result){sigwait(&set, &signal), 0};
}
static struct wait_result wait_sigwaitinfo(struct wait_room *room) {
  sigset_t set = blocked_usr2();
  (void)room;
  return (struct wait_result){sigwaitinfo(&set, NULL), errno};
}
static struct wait_result wait_sem_wait(struct wait_room *room) {
  static sem_t semaphore;
  (void)room;
  sem_init(&semaphore, 0, 0);
  return (struct wait_result){sem_wait(&semaphore), errno};
}
static struct wait_result wait_cond_wait(struct wait_room *room) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  (void)room;
  pthread_mutex_lock(&mutex);
  return (struct wait_result){pthread_cond_wait(&cond, &mutex), 0};
}
static pthread_t main_thread;
static struct wait_result wait_join(struct wait_room *room) {
  (void)room;
  return (struct wait_result){pthread_join(main_thread, NULL), 0};
}

static const struct wait_call more_calls[] = {
    {"pause", wait_pause, false, true, true, 0},        {"sigsuspend", wait_sigsuspend, false, true, true, 0},
    {"sigwait", wait_sigwait, false, true, false, 0},   {"sigwaitinfo", wait_sigwaitinfo, false, true, true, 0},
    {"sem_wait", wait_sem_wait, false, true, true, 0},  {"pthread_cond_wait", wait_cond_wait, false, true, false, 0},
    {"pthread_join", wait_join, false, true, false, 0},
};
enum { MORE = sizeof more_calls / sizeof *more_calls };

struct cancelled {
  const struct wait_call *call;
  struct wait_room room;
  pid_t tid;
  bool pending;
  uintptr_t object;
  int cleaned;
};

static void clean(void *arg) {
  struct cancelled *c = arg;
  void *p = test_reveal(c->object);
  TEST_REQUIRE(gc_base(p) == p && test_pattern_bad(p, 200, 3) == 200, "%s: an object was lost in a cancelled thread",
               c->call->name);
  void *q = gc_alloc(100);
  TEST_REQUIRE(q != NULL, "a cleanup handler cannot allocate");
  gc_collect();
  c->cleaned++;
}

static SYSTEM_NOINLINE void *run_cancelled(void *arg) {
  struct cancelled *c = arg;
  void *volatile object = gc_alloc(200);
  test_pattern_write(object, 200, 3);
  c->object = test_hide(object);
  pthread_cleanup_push(clean, c);
  if (c->pending) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  }
  __atomic_store_n(&c->tid, gettid(), __ATOMIC_RELEASE);
  struct wait_result result = c->call->run(&c->room);
  fprintf(stderr, "%s returned %ld with error %d\n", c->call->name, result.value, result.error);
  pthread_cleanup_pop(0);
  gc_keep_alive(object);
  return NULL;
}

static void check_cancelled(const struct wait_call *call, bool pending) {
  static struct cancelled c;
  c = (struct cancelled){.call = call, .pending = pending};
  if (!call->cancellation) return;
  main_thread = pthread_self();
  wait_room_open(&c.room, 100);
  if ((strncmp(call->name, "msg", 3) == 0) && (c.room.queue < 0 || c.room.full_queue < 0)) {
    wait_room_close(&c.room);
    TEST_SKIP("the kernel has no message queues");
  }
  pthread_t thread;
  void *value = NULL;
  ck_assert_int_eq(pthread_create(&thread, NULL, run_cancelled, &c), 0);
  if (!pending) {
    while (!__atomic_load_n(&c.tid, __ATOMIC_ACQUIRE)) sched_yield();
    ck_assert_msg(system_wait_asleep(c.tid), "%s: never slept", call->name);
    for (int i = 0; i < 3; i++) gc_collect();
    ck_assert_int_eq(pthread_cancel(thread), 0);
  }
  ck_assert_int_eq(pthread_join(thread, &value), 0);
  ck_assert_msg(value == PTHREAD_CANCELED, "%s: is no cancellation point any more", call->name);
  ck_assert_int_eq(c.cleaned, 1);
  uint32_t before = system_collections();
  for (int i = 0; i < 3; i++) gc_collect();
  ck_assert_uint_eq(system_collections(), before + 3);
  ck_assert_uint_eq(system_metrics().threads, 1);
  wait_room_wake(&c.room);
  wait_room_close(&c.room);
}

START_TEST(cancelled_while_it_waits) { check_cancelled(_i < MORE ? &more_calls[_i] : &wait_calls[_i - MORE], false); }
END_TEST

START_TEST(cancelled_before_it_waits) { check_cancelled(_i < MORE ? &more_calls[_i] : &wait_calls[_i - MORE], true); }
END_TEST

static int spinning;

static void *spin(void *unused) {
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  __atomic_store_n(&spinning, 1, __ATOMIC_RELEASE);
  for (;;) __asm__ volatile("" ::: "memory");
  return unused;
}

START_TEST(asynchronous_cancellation) {
  for (int i = 0; i < 10; i++) {
    pthread_t thread;
    void *value = NULL;
    spinning = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, spin, NULL), 0);
    while (!__atomic_load_n(&spinning, __ATOMIC_ACQUIRE)) sched_yield();
    gc_collect();
    ck_assert_int_eq(pthread_cancel(thread), 0);
    gc_collect();
    ck_assert_int_eq(pthread_join(thread, &value), 0);
    ck_assert_ptr_eq(value, PTHREAD_CANCELED);
    gc_collect();
  }
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

static void *disabled(void *unused) {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_cancel(pthread_self());
  struct timespec span = {.tv_nsec = 1000000};
  TEST_REQUIRE(nanosleep(&span, NULL) == 0);
  TEST_REQUIRE(gc_alloc(100) != NULL);
  gc_collect();
  return unused;
}

START_TEST(disabled_cancellation_stays_disabled) {
  pthread_t thread;
  void *value = NULL;
  ck_assert_int_eq(pthread_create(&thread, NULL, disabled, &spinning), 0);
  ck_assert_int_eq(pthread_join(thread, &value), 0);
  ck_assert_ptr_eq(value, &spinning);
}
END_TEST

/* Allocation and collection are no cancellation points: a thread with a pending request gets through them. */
static void *pending_allocates(void *unused) {
  pthread_cancel(pthread_self());
  for (int i = 0; i < 1000; i++) TEST_REQUIRE(gc_alloc((size_t)i * 10) != NULL);
  gc_collect();
  gc_free(gc_alloc(100));
  __atomic_store_n(&spinning, 2, __ATOMIC_RELEASE);
  pthread_testcancel();
  return unused;
}

START_TEST(allocation_is_no_cancellation_point) {
  pthread_t thread;
  void *value = NULL;
  ck_assert_int_eq(pthread_create(&thread, NULL, pending_allocates, NULL), 0);
  ck_assert_int_eq(pthread_join(thread, &value), 0);
  ck_assert_ptr_eq(value, PTHREAD_CANCELED);
  ck_assert_int_eq(spinning, 2);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *waiting = test_case(suite, "cancel-waiting", 20);
  tcase_add_loop_test(waiting, cancelled_while_it_waits, 0, MORE + wait_call_count);
  TCase *pending = test_case(suite, "cancel-pending", 20);
  tcase_add_loop_test(pending, cancelled_before_it_waits, 0, MORE + wait_call_count);
  TCase *other = test_case(suite, "cancel-other", 20);
  tcase_add_test(other, asynchronous_cancellation);
  tcase_add_test(other, disabled_cancellation_stays_disabled);
  tcase_add_test(other, allocation_is_no_cancellation_point);
  return suite;
}
TEST_MAIN(make_suite)
