/* Threads: made by every means, many, short-lived, detached, on stacks of the program's own, unknown to the library.
 *
 * Unknown threads are made by libc's own pthread_create, taken from the C library itself, so that the library's is
 * passed by; a thread made by a bare clone() has no thread-local storage and could call no library at all. */
#include "system.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include <unistd.h>

struct node {
  struct node *next;
  uint64_t check;
};

/* Makes and checks a list of n nodes; the check depends on `seed`. */
static void make_and_check(size_t n, uint64_t seed) {
  struct node *list = NULL;
  for (size_t i = 0; i < n; i++) {
    struct node *node = gc_alloc(sizeof *node + i % 100);
    TEST_REQUIRE(node != NULL);
    node->next = list;
    node->check = seed + i;
    list = node;
    if (i % 7 == 0) TEST_REQUIRE(gc_alloc_noscan(i % 1000) != NULL);
  }
  for (size_t i = n; i-- > 0; list = list->next)
    TEST_REQUIRE(list != NULL && list->check == seed + i, "node %zu of list %llu", i, (unsigned long long)seed);
}

static void *list_thread(void *arg) {
  make_and_check(4000, (uintptr_t)arg << 32);
  return arg;
}

START_TEST(sixty_four_threads) {
  pthread_t threads[64];
  for (size_t i = 0; i < 64; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, list_thread, (void *)(i + 1)), 0);
  for (int i = 0; i < 10; i++) gc_collect();
  for (size_t i = 0; i < 64; i++) {
    void *value = NULL;
    ck_assert_int_eq(pthread_join(threads[i], &value), 0);
    ck_assert_ptr_eq(value, (void *)(i + 1));
  }
  ck_assert_uint_eq(system_metrics().threads, 1);
  ck_assert_uint_ge(system_collections(), 10);
}
END_TEST

static int c11_thread(void *arg) {
  make_and_check(2000, (uintptr_t)arg);
  return 42;
}

START_TEST(c11_threads) {
  thrd_t threads[4];
  for (size_t i = 0; i < 4; i++)
    ck_assert_int_eq(thrd_create(&threads[i], c11_thread, (void *)(i << 40)), thrd_success);
  gc_collect();
  for (size_t i = 0; i < 4; i++) {
    int value = 0;
    ck_assert_int_eq(thrd_join(threads[i], &value), thrd_success);
    ck_assert_int_eq(value, 42);
  }
}
END_TEST

static int finished;

static void *detached_thread(void *arg) {
  make_and_check(50, (uintptr_t)arg);
  __atomic_fetch_add(&finished, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* Waits until the library knows of `most` threads at most; it has ten seconds, which only a bug needs. */
static bool wait_for_threads(uint32_t most) {
  for (int i = 0; i < 10000; i++) {
    if (system_metrics().threads <= most) return true;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return false;
}

START_TEST(detached_threads) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  for (size_t i = 0; i < 200; i++) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, i % 2 ? &attributes : NULL, detached_thread, (void *)(i << 32)), 0);
    if (i % 2 == 0) ck_assert_int_eq(pthread_detach(thread), 0);
    if (i % 20 == 0) gc_collect();
  }
  while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) < 200) gc_collect();
  ck_assert(wait_for_threads(1));
  gc_collect();
  pthread_attr_destroy(&attributes);
}
END_TEST

static struct system_set on_stack;
static struct system_event ready = SYSTEM_EVENT_INITIALIZER, go = SYSTEM_EVENT_INITIALIZER;

static SYSTEM_NOINLINE void hold_set(void) {
  void *volatile pointers[SYSTEM_SET];
  (void)pointers;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(on_stack.hidden[i]);
  system_event_post(&ready);
  system_event_wait(&go, 1);
  for (size_t i = 0; i < SYSTEM_SET; i++) TEST_REQUIRE(pointers[i] == test_reveal(on_stack.hidden[i]));
}

/* Ends with the pointers still lying on its stack. */
static void *hold_set_thread(void *unused) {
  hold_set();
  return unused;
}

START_TEST(stacks_of_the_programs_own) {
  gc_set_percent(-1);
  size_t size = _i ? (size_t)PTHREAD_STACK_MIN + 65536 : 1 << 20;
  void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(stack, MAP_FAILED);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ck_assert_int_eq(pthread_attr_setstack(&attributes, stack, size), 0);
  system_set_make(&on_stack, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, &attributes, hold_set_thread, NULL), 0);
  system_event_wait(&ready, 1);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert(system_set_intact(&on_stack));
  system_event_post(&go);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert_msg(system_set_dead(&on_stack), "a stack is searched after its thread has ended");
  munmap(stack, size);
  gc_collect();
}
END_TEST

START_TEST(stacks_go_with_their_threads) {
  gc_set_percent(-1);
  system_set_make(&on_stack, 48, gc_alloc, NULL, NULL);
  system_event_post(&go);
  system_on_thread(hold_set_thread, NULL);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&on_stack));
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

static pthread_key_t key;
static int destroyed;

static void destroy(void *value) {
  struct node *node = value;
  TEST_REQUIRE(node->check == 77, "a value was reclaimed before its destructor ran");
  make_and_check(300, 5);
  gc_collect();
  TEST_REQUIRE(node->check == 77);
  if (__atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED) % 3 != 0) {
    struct node *again = gc_alloc(sizeof *again);
    again->check = 77;
    pthread_setspecific(key, again);
  }
}

static void *keyed_thread(void *unused) {
  struct node *node = gc_alloc(sizeof *node);
  node->check = 77;
  pthread_setspecific(key, node);
  return unused;
}

START_TEST(key_destructors_allocate_and_collect) {
  ck_assert_int_eq(pthread_key_create(&key, destroy), 0);
  for (int i = 0; i < 5; i++) system_on_thread(keyed_thread, NULL);
  ck_assert_int_ge(destroyed, 15);
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

static void *exiting_thread(void *arg) {
  make_and_check(100, 1);
  pthread_exit(arg);
}

START_TEST(pthread_exit_ends_a_thread) {
  for (size_t i = 0; i < 20; i++) {
    pthread_t thread;
    void *value = NULL;
    ck_assert_int_eq(pthread_create(&thread, NULL, exiting_thread, (void *)i), 0);
    ck_assert_int_eq(pthread_join(thread, &value), 0);
    ck_assert_ptr_eq(value, (void *)i);
  }
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

static pthread_t main_thread;

static void *outlive_main(void *unused) {
  pthread_join(main_thread, NULL);
  for (int i = 0; i < 5; i++) {
    make_and_check(5000, 9);
    gc_collect();
  }
  TEST_REQUIRE(system_metrics().threads == 1);
  printf("outlived\n");
  exit(0);
  return unused;
}

static int child_main_exits(int argc, char **argv) {
  (void)argc, (void)argv;
  pthread_t thread;
  main_thread = pthread_self();
  TEST_REQUIRE(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
  pthread_exit(NULL);
}

static const struct test_child_entry children[] = {{"main-exits", child_main_exits}, {NULL, NULL}};

START_TEST(the_main_thread_may_exit_first) {
  struct test_child child =
      test_child_exec_self("main-exits", NULL, &(struct test_child_options){.timeout_seconds = 20});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "outlived");
  test_child_free(&child);
}
END_TEST

static void *register_thread(void *unused) {
  uint32_t before = system_metrics().threads;
  errno = 0;
  TEST_REQUIRE(gc_thread_unregister() == -1 && errno == ENOENT);
  TEST_REQUIRE(gc_thread_register() == 0);
  TEST_REQUIRE(system_metrics().threads == before + 1);
  TEST_REQUIRE(gc_thread_register() == 0, "registering twice is no error");
  hold_set();
  make_and_check(3000, 3);
  TEST_REQUIRE(gc_thread_unregister() == 0);
  TEST_REQUIRE(system_metrics().threads == before);
  errno = 0;
  TEST_REQUIRE(gc_thread_unregister() == -1 && errno == ENOENT);
  system_event_post(&ready);
  system_event_wait(&go, 2);
  TEST_REQUIRE(gc_thread_register() == 0, "a thread may come back");
  make_and_check(3000, 4);
  return unused;
}

START_TEST(unknown_threads_register) {
  system_pthread_create_fn *create = system_libc_pthread_create();
  if (create == NULL) TEST_SKIP("no libc.so.6 to take pthread_create from");
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer must see every pthread_create");
  gc_set_percent(-1);
  system_set_make(&on_stack, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(create(&thread, NULL, register_thread, NULL), 0);
  system_event_wait(&ready, 1);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert(system_set_intact(&on_stack));
  system_event_post(&go);
  system_event_wait(&ready, 2);
  gc_collect();
  system_event_post(&go);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  gc_collect();
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

static void *unknown_allocates(void *unused) {
  void *object = gc_alloc(48);
  TEST_REQUIRE(object != NULL);
  hold_set();
  make_and_check(20000, 6);
  gc_collect();
  make_and_check(20000, 7);
  gc_keep_alive(object);
  return unused;
}

START_TEST(unknown_threads_may_allocate) {
  system_pthread_create_fn *create = system_libc_pthread_create();
  if (create == NULL) TEST_SKIP("no libc.so.6 to take pthread_create from");
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer must see every pthread_create");
  gc_set_percent(-1);
  system_set_make(&on_stack, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(create(&thread, NULL, unknown_allocates, NULL), 0);
  system_event_wait(&ready, 1);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert_msg(system_set_intact(&on_stack), "the stack of a thread that has allocated is not searched");
  gc_set_percent(100);
  system_event_post(&go);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  for (int i = 0; i < 3; i++) gc_collect();
  ck_assert_uint_eq(system_metrics().threads, 1);
}
END_TEST

START_TEST(known_threads_register_for_nothing) {
  ck_assert_int_eq(gc_thread_register(), 0);
  ck_assert_uint_eq(system_metrics().threads, 1);
  errno = 0;
  ck_assert_int_eq(gc_thread_unregister(), -1);
  ck_assert_int_eq(errno, ENOENT);
}
END_TEST

static int pipe_ends[2];

static void *read_pipe(void *arg) {
  char byte = 0;
  ssize_t n = read(pipe_ends[0], &byte, 1);
  return n == 1 && byte == 'x' ? arg : NULL;
}

static void *nested(void *arg) { return gc_call_blocking(read_pipe, arg); }

static int token;

static void *blocking_thread(void *arg) {
  void *volatile kept = test_reveal(on_stack.hidden[0]);
  system_event_post(&ready);
  void *result = gc_call_blocking(*(int *)arg ? nested : read_pipe, &token);
  TEST_REQUIRE(result == &token);
  TEST_REQUIRE(gc_base(kept) == kept, "what the caller of gc_call_blocking holds was reclaimed");
  make_and_check(1000, 8);
  return NULL;
}

START_TEST(blocking_calls_do_not_hold_up_collections) {
  gc_set_percent(-1);
  ck_assert_int_eq(pipe(pipe_ends), 0);
  system_set_make(&on_stack, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  int how = _i;
  ck_assert_int_eq(pthread_create(&thread, NULL, blocking_thread, &how), 0);
  system_event_wait(&ready, 1);
  for (int i = 0; i < 10; i++) system_collect();
  ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_uint_eq(system_collections(), 10);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *made = test_case(suite, "threads", 30);
  tcase_add_test(made, sixty_four_threads);
  tcase_add_test(made, c11_threads);
  tcase_add_test(made, detached_threads);
  tcase_add_loop_test(made, stacks_of_the_programs_own, 0, 2);
  tcase_add_test(made, stacks_go_with_their_threads);
  tcase_add_test(made, key_destructors_allocate_and_collect);
  tcase_add_test(made, pthread_exit_ends_a_thread);
  tcase_add_test(made, the_main_thread_may_exit_first);
  TCase *unknown = test_case(suite, "threads-unknown", 30);
  tcase_add_test(unknown, unknown_threads_register);
  tcase_add_test(unknown, unknown_threads_may_allocate);
  tcase_add_test(unknown, known_threads_register_for_nothing);
  TCase *blocking = test_case(suite, "threads-blocking", 30);
  tcase_add_loop_test(blocking, blocking_calls_do_not_hold_up_collections, 0, 2);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
