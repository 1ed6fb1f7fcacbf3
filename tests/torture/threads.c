/* Threads that come and go while others collect.
 *
 * Every way a thread starts and ends: joined, detached, by return, by pthread_exit, cancelled in a sleep, from
 * thrd_create, on a stack of its own, with destructors of thread-specific data that allocate, and made behind the
 * library's back with gc_thread_register. What a thread gets as its argument, and what it returns, is kept by nothing
 * else. The number of threads known to the library must come back to what it was. */
#include "torture.h"

#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { LIST = 20, MOST_AT_ONCE = 6 };

struct cell {
  struct cell *next;
  uint64_t id;
  unsigned char pattern[40];
};

static atomic_uint detached_running;
static atomic_uint destructed;
static pthread_key_t key;
static __thread struct cell *tls_list;
static sem_t never_posted;
static int silent_pipe[2];

/* A list whose cells follow from its id. */
static struct cell *list_new(uint64_t id) {
  struct cell *head = NULL;
  for (unsigned i = LIST; i > 0; i--) {
    struct cell *c = gc_alloc(sizeof *c + 32 * i);
    TEST_REQUIRE(c != NULL);
    c->next = head;
    c->id = ~(id + i);
    test_pattern_write(c->pattern, sizeof c->pattern, id + i);
    head = c;
  }
  return head;
}

static void list_check(const struct cell *c, uint64_t id, const char *where) {
  for (unsigned i = 1; i <= LIST; i++, c = c->next) {
    TEST_REQUIRE(gc_base(c) == c && c->id == ~(id + i), "lost: cell %u of list %llu in %s at %p", i,
                 (unsigned long long)id, where, (const void *)c);
    TEST_REQUIRE(test_pattern_bad(c->pattern, sizeof c->pattern, id + i) == sizeof c->pattern,
                 "damaged: cell %u of list %llu in %s", i, (unsigned long long)id, where);
  }
}

/* Runs when a thread ends: its value is kept by the C library's table alone, and it may allocate. */
static void destroy_value(void *value) {
  list_check(value, 7000, "thread-specific data at a thread's end");
  struct cell *fresh = list_new(7100);
  list_check(value, 7000, "thread-specific data at a thread's end");
  list_check(fresh, 7100, "a destructor's stack");
  atomic_fetch_add(&destructed, 1);
}

/* What each thread does, however it started: lists on its stack, in its thread-local variables and values. */
static struct cell *live(struct cell *argument) {
  list_check(argument, 5000, "a thread's argument");
  struct cell *own = list_new(5200);
  tls_list = list_new(5300);
  pthread_setspecific(key, list_new(7000));
  for (unsigned i = 0; i < 30; i++) {
    char *garbage = gc_alloc(200 + 40 * i);
    TEST_REQUIRE(garbage != NULL);
    memset(garbage, 0xee, 100);
  }
  list_check(argument, 5000, "a thread's argument");
  list_check(own, 5200, "a thread's stack");
  list_check(tls_list, 5300, "a thread-local variable");
  return list_new(6000);
}

static void *end_by_return(void *argument) { return live(argument); }

static void *end_by_exit(void *argument) { pthread_exit(live(argument)); }

static int end_of_thrd(void *argument) {
  live(argument);
  return 17;
}

static void *end_detached(void *argument) {
  live(argument);
  atomic_fetch_sub(&detached_running, 1);
  return NULL;
}

static void note_cancelled(void *list) { list_check(list, 5000, "a cancelled thread's stack"); }

/* Waits in a call that is a cancellation point. An interior pointer says in which. */
static void wait_for_ever(unsigned way) {
  struct timespec long_time = {3600, 0};
  struct timespec never = {(time_t)1 << 36, 0};
  char byte;
  switch (way) {
  case 0:
    nanosleep(&long_time, NULL);
    break;
  case 1:
    sem_timedwait(&never_posted, &never);
    break;
  case 2:
    TEST_REQUIRE(read(silent_pipe[0], &byte, 1) == 1);
    break;
  default:
    pause();
  }
  TEST_REQUIRE(false, "a wait that only a cancellation ends came back, way %u: %s", way, strerror(errno));
}

static void *end_cancelled(void *argument) {
  unsigned way = (uintptr_t)argument & 3;
  struct cell *list = (void *)((char *)argument - way);
  pthread_cleanup_push(note_cancelled, list);
  live(list);
  wait_for_ever(way);
  pthread_cleanup_pop(0);
  return NULL;
}

static void join(pthread_t thread, bool cancelled) {
  void *result = NULL;
  TEST_REQUIRE(pthread_join(thread, &result) == 0);
  if (cancelled)
    TEST_REQUIRE(result == PTHREAD_CANCELED, "%p", result);
  else
    list_check(result, 6000, "the result of a thread");
}

static __attribute__((noinline)) void spawn_joined(struct test_random *r) {
  pthread_t threads[MOST_AT_ONCE];
  unsigned count = 1 + (unsigned)test_random_below(r, MOST_AT_ONCE);
  for (unsigned i = 0; i < count; i++)
    TEST_REQUIRE(pthread_create(&threads[i], NULL, test_random_once_in(r, 2) ? end_by_return : end_by_exit,
                                list_new(5000)) == 0);
  test_clear_stack();
  gc_collect();
  for (unsigned i = 0; i < count; i++) join(threads[i], false);
}

static __attribute__((noinline)) void spawn_detached(void) {
  pthread_t thread;
  atomic_fetch_add(&detached_running, 1);
  TEST_REQUIRE(pthread_create(&thread, NULL, end_detached, list_new(5000)) == 0);
  TEST_REQUIRE(pthread_detach(thread) == 0);
}

static __attribute__((noinline)) void spawn_cancelled(struct test_random *r) {
  pthread_t threads[4];
  for (unsigned way = 0; way < 4; way++)
    TEST_REQUIRE(pthread_create(&threads[way], NULL, end_cancelled, (char *)list_new(5000) + way) == 0);
  if (test_random_once_in(r, 2)) usleep(500);
  test_clear_stack();
  gc_collect();
  for (unsigned way = 0; way < 4; way++) TEST_REQUIRE(pthread_cancel(threads[way]) == 0);
  for (unsigned way = 0; way < 4; way++) join(threads[way], true);
}

static __attribute__((noinline)) void spawn_thrd(void) {
  thrd_t thread;
  int result = 0;
  TEST_REQUIRE(thrd_create(&thread, end_of_thrd, list_new(5000)) == thrd_success);
  gc_collect();
  TEST_REQUIRE(thrd_join(thread, &result) == thrd_success && result == 17, "%d", result);
}

static __attribute__((noinline)) void spawn_on_own_stack(void) {
  enum { BYTES = 256 << 10 };
  pthread_attr_t attributes;
  pthread_t thread;
  void *stack = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  TEST_REQUIRE(stack != MAP_FAILED);
  pthread_attr_init(&attributes);
  TEST_REQUIRE(pthread_attr_setstack(&attributes, stack, BYTES) == 0);
  TEST_REQUIRE(pthread_create(&thread, &attributes, end_by_return, list_new(5000)) == 0);
  gc_collect();
  join(thread, false);
  pthread_attr_destroy(&attributes);
  munmap(stack, BYTES);
}

/* A thread that pthread_create of this program never saw: the C library's own is called. */
static void *end_unseen(void *unused) {
  (void)unused;
  TEST_REQUIRE(gc_thread_register() == 0);
  live(list_new(5000));
  pthread_setspecific(key, NULL);
  tls_list = NULL;
  TEST_REQUIRE(gc_thread_unregister() == 0);
  return NULL;
}

static void spawn_unseen(void) {
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
  void *libc = TORTURE_TSAN ? NULL : dlopen("libc.so.6", RTLD_NOLOAD | RTLD_NOW);
  pthread_t thread;
  if (libc == NULL) return;
  *(void **)&create = dlsym(libc, "pthread_create");
  TEST_REQUIRE(create != NULL && create(&thread, NULL, end_unseen, NULL) == 0);
  gc_collect();
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  dlclose(libc);
}

static void churn(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  do {
    switch (test_random_below(r, 9)) {
    case 0:
      if (atomic_load(&detached_running) < 16) spawn_detached();
      break;
    case 1:
      spawn_cancelled(r);
      break;
    case 2:
      spawn_thrd();
      break;
    case 3:
      spawn_on_own_stack();
      break;
    case 4:
      spawn_unseen();
      break;
    default:
      spawn_joined(r);
    }
    torture_check_metrics();
  } while (torture_continues(worker));
}

static void allocate_and_collect(struct torture_worker *worker) {
  struct cell *kept = list_new(9000);
  do {
    for (unsigned i = 0; i < 200; i++) kept->next = list_new(9000)->next;
    list_check(kept, 9000, "the stack of the thread that collects");
    gc_collect();
  } while (torture_continues(worker));
}

static void churn_or_collect(struct torture_worker *worker) {
  if (worker->index == 0)
    allocate_and_collect(worker);
  else
    churn(worker);
}

/* Detached threads end some time after they have said so; the count has to come down however long that takes. */
static void wait_for_threads(uint32_t expected) {
  double limit = test_now() + TORTURE_TIMEOUT / 2;
  struct runtime_metrics m;
  do {
    torture_read_metrics(&m);
    if (m.threads <= expected && atomic_load(&detached_running) == 0) return;
    usleep(1000);
  } while (test_now() < limit);
  TEST_REQUIRE(false, "the library knows %u threads, and %u should be left", m.threads, expected);
}

START_TEST(threads_come_and_go) {
  struct runtime_metrics m;
  TEST_REQUIRE(pthread_key_create(&key, destroy_value) == 0);
  TEST_REQUIRE(sem_init(&never_posted, 0, 0) == 0 && pipe(silent_pipe) == 0);
  struct torture_heap base = torture_heap_now();
  torture_read_metrics(&m);
  torture_run(3, 1, churn_or_collect, NULL);
  wait_for_threads(m.threads);
  TEST_REQUIRE(atomic_load(&destructed) > 0);
  torture_heap_check(&base, 2000, 4 << 20);
  pthread_key_delete(key);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("threads");
  TCase *tc = test_case(suite, "churn", TORTURE_TIMEOUT);
  tcase_add_test(tc, threads_come_and_go);
  return suite;
}

TEST_MAIN(make_suite)
