/* Signal handlers that hold the only pointer to an object while others collect, and jumps out of sleeping calls.
 *
 * A handler must not call the library, so it only moves a pointer: out of the thread's slot, onto the handler's own
 * stack (an alternate one or not), and back when at least two collections have ended meanwhile. It runs where the
 * thread waits or computes, never inside the library, for the signal is blocked elsewhere: a handler that waits for a
 * collection inside the allocator would wait for itself. Collectors stop when all keepers have, not before, so no
 * handler waits in vain. */
#include "token.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

enum {
  KEEPERS = 3,
  THREADS = KEEPERS + 1,
  TWO_COLLECTIONS = 2,
  ALTERNATE_STACK = 64 << 10,
  HOLD = SIGUSR1,
  JUMP = SIGUSR2
};

static atomic_uint collections;
static atomic_uint keepers_running;

/* What the handler of a thread works on: the only pointer to the token is in `slot`, or on the handler's stack. */
struct keeper {
  void *volatile slot;
  volatile sig_atomic_t held; /* times the handler has kept the pointer */
  int epoll;
  sigjmp_buf back;
};

static __thread struct keeper *volatile keeper;

static void wait_for_collections(void) {
  unsigned seen = atomic_load(&collections);
  while (atomic_load(&collections) - seen < TWO_COLLECTIONS) __asm__ volatile("" : : : "memory");
}

static void hold(int signal) {
  int error = errno;
  (void)signal;
  struct keeper *k = keeper;
  void *volatile only = k->slot;
  k->slot = NULL;
  test_clear_stack();
  wait_for_collections();
  k->slot = only;
  only = NULL;
  k->held++;
  errno = error;
}

static void jump(int signal) {
  (void)signal;
  siglongjmp(keeper->back, 1);
}

static void install(void (*handler)(int), int signal, int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  sigfillset(&action.sa_mask);
  TEST_REQUIRE(sigaction(signal, &action, NULL) == 0);
}

static void set_mask(int how, int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  TEST_REQUIRE(pthread_sigmask(how, &set, NULL) == 0);
}

/* Computes for a while, without the library. */
static void compute(void) {
  for (unsigned i = 0; i < 20000; i++) __asm__ volatile("" : : "r"(i));
}

/* One of the calls in which a thread sleeps; a handler that returns may break it off with EINTR. */
static void sleep_somehow(const struct keeper *k, unsigned way) {
  static const struct timespec time = {0, 3000000};
  struct timespec until;
  struct timeval select_time = {0, 3000};
  struct epoll_event event;
  sem_t sem;
  switch (way) {
  case 0:
    nanosleep(&time, NULL);
    break;
  case 1:
    poll(NULL, 0, 3);
    break;
  case 2:
    select(0, NULL, NULL, NULL, &select_time);
    break;
  case 3:
    sem_init(&sem, 0, 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 3000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    sem_timedwait(&sem, &until);
    break;
  case 4:
    usleep(3000);
    break;
  default:
    epoll_wait(k->epoll, &event, 1, 3);
  }
}

enum { SLEEPS = 6 };

/* A thread whose token is held by its handler now and then. The signal comes from itself: it is pending when the
 * thread unblocks it, or the collector sends it, also in its sleep. */
static __attribute__((noinline)) void keep_by_handler(struct torture_worker *worker, struct keeper *k, uint64_t id) {
  struct test_random *r = &worker->random;
  k->slot = token_pointer(token_new(r, id), r);
  test_clear_stack();
  sig_atomic_t before = k->held;
  if (test_random_once_in(r, 2)) pthread_kill(pthread_self(), HOLD);
  set_mask(SIG_UNBLOCK, HOLD);
  if (test_random_once_in(r, 2))
    compute();
  else
    sleep_somehow(k, (unsigned)test_random_below(r, SLEEPS));
  if (k->held == before) raise(HOLD);
  set_mask(SIG_BLOCK, HOLD);
  TEST_REQUIRE(k->held != before, "the handler never ran");
  token_check(k->slot, id, "a signal handler's stack");
  k->slot = NULL;
}

/* The threads that signals may be sent to; a thread leaves under the lock, so that none is sent to one that is gone. */
static struct {
  pthread_mutex_t lock;
  pthread_t thread[KEEPERS];
  bool known[KEEPERS];
} targets = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void enter(unsigned index, struct keeper *k, int signal) {
  memset(k, 0, sizeof *k);
  k->epoll = epoll_create1(EPOLL_CLOEXEC);
  TEST_REQUIRE(k->epoll >= 0);
  keeper = k;
  set_mask(SIG_BLOCK, signal);
  pthread_mutex_lock(&targets.lock);
  targets.thread[index] = pthread_self();
  targets.known[index] = true;
  pthread_mutex_unlock(&targets.lock);
}

static void leave(unsigned index, struct keeper *k) {
  pthread_mutex_lock(&targets.lock);
  targets.known[index] = false;
  pthread_mutex_unlock(&targets.lock);
  atomic_fetch_sub(&keepers_running, 1);
  close(k->epoll);
}

static void send_to_any(struct test_random *r, int signal) {
  unsigned index = (unsigned)test_random_below(r, KEEPERS);
  pthread_mutex_lock(&targets.lock);
  if (targets.known[index]) pthread_kill(targets.thread[index], signal);
  pthread_mutex_unlock(&targets.lock);
}

static void keep(struct torture_worker *worker, bool alternate) {
  struct keeper k;
  stack_t stack = {.ss_size = ALTERNATE_STACK, .ss_sp = alternate ? malloc(ALTERNATE_STACK) : NULL};
  uint64_t id = (uint64_t)(worker->index + 1) << 40;
  if (alternate) TEST_REQUIRE(stack.ss_sp != NULL && sigaltstack(&stack, NULL) == 0);
  enter(worker->index, &k, HOLD);
  do keep_by_handler(worker, &k, id++);
  while (torture_continues(worker));
  leave(worker->index, &k);
  stack.ss_flags = SS_DISABLE;
  if (alternate) TEST_REQUIRE(sigaltstack(&stack, NULL) == 0);
  free(stack.ss_sp);
}

/* Collects until the last keeper has stopped, and sends it into its handler, in its sleep or when it next may. */
static void collect(struct torture_worker *worker) {
  while (atomic_load(&keepers_running) > 0) {
    char *garbage = gc_alloc(torture_size(&worker->random, 1));
    TEST_REQUIRE(garbage != NULL);
    garbage[0] = 1;
    if (test_random_once_in(&worker->random, 4)) send_to_any(&worker->random, HOLD);
    gc_collect();
    atomic_fetch_add(&collections, 1);
  }
}

static void keep_or_collect(struct torture_worker *worker) {
  bool *alternate = worker->shared;
  if (worker->index < KEEPERS)
    keep(worker, *alternate);
  else
    collect(worker);
}

START_TEST(handlers_are_searched) {
  bool alternate = _i == 1;
  install(hold, HOLD, SA_RESTART | (alternate ? SA_ONSTACK : 0));
  struct torture_heap base = torture_heap_now();
  atomic_store(&keepers_running, KEEPERS);
  torture_run(THREADS, 1.0 / 3, keep_or_collect, &alternate);
  torture_heap_check(&base, 200, 8 << 20);
}
END_TEST

/* After a jump out of a sleeping call the thread runs again, and must be stopped again: it moves its token to and fro
 * without a pause while others collect. */
static __attribute__((noinline)) void move_about(uint64_t id, struct test_random *r) {
  void *volatile a = token_pointer(token_new(r, id), r);
  void *volatile b = NULL;
  for (unsigned i = 0; i < 3000; i++) {
    b = a;
    a = NULL;
    test_clear_stack();
    a = b;
    b = NULL;
  }
  token_check(a, id, "the stack, after a jump out of a sleeping call");
}

static __attribute__((noinline)) void sleep_and_jump(struct keeper *k, unsigned way, bool pending) {
  if (sigsetjmp(k->back, 1) == 0) {
    if (pending) pthread_kill(pthread_self(), JUMP);
    set_mask(SIG_UNBLOCK, JUMP);
    sleep_somehow(k, way);
    set_mask(SIG_BLOCK, JUMP);
  }
}

static void jump_out(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  struct keeper k;
  uint64_t id = (uint64_t)(worker->index + 1) << 40;
  enter(worker->index, &k, JUMP);
  do {
    k.slot = token_new(r, id);
    sleep_and_jump(&k, (unsigned)test_random_below(r, SLEEPS), test_random_once_in(r, 8));
    token_check(k.slot, id++, "the stack, during a jump out of a sleeping call");
    k.slot = NULL;
    move_about(id++, r);
  } while (torture_continues(worker));
  leave(worker->index, &k);
}

/* Sends the signal that makes sleepers jump, as long as they run, and collects in between. */
static void wake_sleepers(struct torture_worker *worker) {
  while (atomic_load(&keepers_running) > 0) {
    send_to_any(&worker->random, JUMP);
    gc_collect();
  }
}

static void jump_or_wake(struct torture_worker *worker) {
  if (worker->index < KEEPERS)
    jump_out(worker);
  else
    wake_sleepers(worker);
}

START_TEST(jumps_out_of_sleep) {
  install(jump, JUMP, 0);
  struct torture_heap base = torture_heap_now();
  atomic_store(&keepers_running, KEEPERS);
  torture_run(THREADS, 1.0 / 3, jump_or_wake, NULL);
  torture_heap_check(&base, 200, 8 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("signals");
  TCase *tc = test_case(suite, "handlers", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, handlers_are_searched, 0, 2);
  tcase_add_test(tc, jumps_out_of_sleep);
  return suite;
}

TEST_MAIN(make_suite)
