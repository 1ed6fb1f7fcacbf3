/* fork: the child has the whole heap, one thread, and a collector that works; vfork and exec do not disturb the parent.
 *
 * What a child finds wrong it says on standard error; its exit status is the verdict. */
#include "system.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct node {
  struct node *next;
  uint64_t check;
};

static struct node *kept;

static struct node *make_list(size_t n, uint64_t seed) {
  struct node *list = NULL;
  for (size_t i = 0; i < n; i++) {
    struct node *node = gc_alloc(sizeof *node + i % 60);
    TEST_REQUIRE(node != NULL);
    node->next = list;
    node->check = seed + i;
    list = node;
  }
  return list;
}

static void check_list(const struct node *list, size_t n, uint64_t seed) {
  for (size_t i = n; i-- > 0; list = list->next)
    TEST_REQUIRE(list != NULL && list->check == seed + i, "node %zu of %zu", i, n);
  TEST_REQUIRE(list == NULL);
}

static void *work(void *arg) {
  for (int i = 0; i < 5; i++) check_list(make_list(3000, (uintptr_t)arg), 3000, (uintptr_t)arg);
  return NULL;
}

/* What every child does. */
static int live_on(void *unused) {
  (void)unused;
  check_list(kept, 5000, 1);
  gc_collect();
  check_list(kept, 5000, 1);
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.threads == 1, "%u threads in a fresh child", m.threads);
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  work((void *)7);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) TEST_REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 100)) == 0);
  gc_collect();
  for (int i = 0; i < 2; i++) TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
  check_list(kept, 5000, 1);
  gc_free_os_memory();
  check_list(kept, 5000, 1);
  m = system_metrics();
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  return 0;
}

static void wait_for(pid_t child) {
  int status = 0;
  TEST_REQUIRE(child > 0, "fork: errno %d", errno);
  TEST_REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x",
               status);
}

static void fork_and_live_on(void) {
  pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(live_on(NULL));
  }
  wait_for(child);
}

START_TEST(child_allocates_and_collects) {
  kept = make_list(5000, 1);
  struct runtime_metrics before = system_metrics();
  for (int i = 0; i < 5; i++) fork_and_live_on();
  struct runtime_metrics after = system_metrics();
  ck_assert_uint_eq(after.mallocs, before.mallocs);
  check_list(kept, 5000, 1);
  gc_collect();
  check_list(kept, 5000, 1);
}
END_TEST

static int grandchild(void *depth) {
  live_on(NULL);
  if ((uintptr_t)depth == 0) return 0;
  pid_t child = fork();
  if (child == 0) _exit(grandchild((void *)((uintptr_t)depth - 1)));
  wait_for(child);
  return 0;
}

START_TEST(grandchildren) {
  kept = make_list(5000, 1);
  struct test_child child = test_child_fork(grandchild, (void *)3, &(struct test_child_options){.timeout_seconds = 20});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static int running;

static void *allocate_always(void *arg) {
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
    check_list(make_list(500, (uintptr_t)arg), 500, (uintptr_t)arg);
    gc_free(gc_alloc(50000));
  }
  return NULL;
}

static void *collect_always(void *unused) {
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) gc_collect();
  return unused;
}

static void *fork_often(void *unused) {
  for (int i = 0; i < 15; i++) fork_and_live_on();
  return unused;
}

/* Others allocate and collect at the moment of the fork: no lock of theirs may be left behind in the child. */
static void check_among_threads(bool from_thread) {
  pthread_t threads[4];
  kept = make_list(5000, 1);
  running = 1;
  for (size_t i = 0; i < 3; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate_always, (void *)(i + 1000)), 0);
  ck_assert_int_eq(pthread_create(&threads[3], NULL, collect_always, NULL), 0);
  if (from_thread)
    system_on_thread(fork_often, NULL);
  else
    fork_often(NULL);
  __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  check_list(kept, 5000, 1);
}

START_TEST(fork_among_threads) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the allocator of the sanitizer does not survive a fork among threads");
  check_among_threads(_i == 1);
}
END_TEST

START_TEST(two_threads_fork_at_once) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the allocator of the sanitizer does not survive a fork among threads");
  pthread_t threads[2];
  kept = make_list(5000, 1);
  for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, fork_often, NULL), 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}
END_TEST

static int prepared, in_parent, in_child;

static void allocate_in_hook(int *count) {
  ++*count;
  check_list(make_list(300, 5), 300, 5);
  gc_free(gc_alloc(100000));
}

static void prepare(void) { allocate_in_hook(&prepared); }
static void parent(void) { allocate_in_hook(&in_parent); }
static void child(void) { allocate_in_hook(&in_child); }

START_TEST(fork_hooks_allocate) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the allocator of the sanitizer does not survive a fork among threads");
  kept = make_list(5000, 1);
  for (int i = 0; i < 20; i++) ck_assert_int_eq(pthread_atfork(prepare, parent, child), 0);
  pthread_t thread;
  running = 1;
  ck_assert_int_eq(pthread_create(&thread, NULL, allocate_always, (void *)5), 0);
  for (int i = 0; i < 4; i++) fork_and_live_on();
  __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  ck_assert_int_eq(prepared, 80);
  ck_assert_int_eq(in_parent, 80);
}
END_TEST

static void *vfork_and_exec(void *unused) {
  for (int i = 0; i < 10; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      execlp("true", "true", (char *)NULL);
      _exit(127);
    }
    wait_for(pid);
    check_list(make_list(500, 3), 500, 3);
  }
  return unused;
}

START_TEST(vfork_and_exec_leave_the_parent_whole) {
  pthread_t threads[3];
  kept = make_list(5000, 1);
  running = 1;
  ck_assert_int_eq(pthread_create(&threads[0], NULL, allocate_always, (void *)9), 0);
  for (int i = 1; i < 3; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, vfork_and_exec, NULL), 0);
  for (int i = 1; i < 3; i++) pthread_join(threads[i], NULL);
  __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
  pthread_join(threads[0], NULL);
  gc_collect();
  check_list(kept, 5000, 1);
}
END_TEST

static int child_executed(int argc, char **argv) {
  (void)argc, (void)argv;
  kept = make_list(5000, 1);
  return live_on(NULL);
}

static const struct test_child_entry children[] = {{"executed", child_executed}, {NULL, NULL}};

START_TEST(child_executes_itself) {
  pthread_t thread;
  running = 1;
  ck_assert_int_eq(pthread_create(&thread, NULL, allocate_always, (void *)9), 0);
  for (int i = 0; i < 5; i++) {
    struct test_child result = test_child_exec_self("executed", NULL, NULL);
    test_assert_exited(&result, 0);
    test_child_free(&result);
  }
  __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "fork", 30);
  tcase_add_test(tc, child_allocates_and_collects);
  tcase_add_test(tc, grandchildren);
  tcase_add_loop_test(tc, fork_among_threads, 0, 2);
  tcase_add_test(tc, two_threads_fork_at_once);
  tcase_add_test(tc, fork_hooks_allocate);
  tcase_add_test(tc, vfork_and_exec_leave_the_parent_whole);
  tcase_add_test(tc, child_executes_itself);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
