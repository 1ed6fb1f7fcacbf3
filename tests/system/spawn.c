/* A thread that waits for a child to execute a program does not hold up a collection.
 *
 * vfork, posix_spawn, system and popen suspend the calling thread in the kernel, where no signal reaches it, until the
 * child has executed its program. Here the child is made to wait before that: it opens a FIFO that the test opens for
 * writing only after the collections. Collections that wait for the thread would never end; no clock decides. */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char directory[] = "/tmp/gcrt-spawn-XXXXXX";
static char fifo[100], command[300];
static pid_t spawner;
static int started;

static void announce(void) {
  spawner = gettid();
  __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
}

static void check_exit(int status, int expected) {
  TEST_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == expected, "status %x", status);
}

static void spawn_waits(bool path) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, fifo, O_RDONLY, 0);
  char *arguments[] = {"sh", "-c", "read line; exit 7", NULL};
  pid_t child = 0;
  announce();
  int error = path ? posix_spawnp(&child, "sh", &actions, NULL, arguments, environ)
                   : posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environ);
  TEST_REQUIRE(error == 0, "%s", strerror(error));
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  TEST_REQUIRE(waitpid(child, &status, 0) == child);
  check_exit(status, 7);
}

static void run_vfork(void) {
  announce();
  pid_t child = vfork();
  if (child == 0) {
    int fd = open(fifo, O_RDONLY);
    dup2(fd, 0);
    execl("/bin/sh", "sh", "-c", "read line; exit 7", (char *)NULL);
    _exit(127);
  }
  int status = 0;
  TEST_REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
  check_exit(status, 7);
}

static void run_posix_spawn(void) { spawn_waits(false); }
static void run_posix_spawnp(void) { spawn_waits(true); }

static void run_system(void) {
  snprintf(command, sizeof command, "read line < %s; exit 7", fifo);
  announce();
  check_exit(system(command), 7);
}

static void run_popen(void) {
  snprintf(command, sizeof command, "read line < %s; echo \"got $line\"; exit 7", fifo);
  announce();
  FILE *stream = popen(command, "r");
  TEST_REQUIRE(stream != NULL);
  char line[100] = "";
  TEST_REQUIRE(fgets(line, sizeof line, stream) != NULL && strcmp(line, "got go\n") == 0, "%s", line);
  check_exit(pclose(stream), 7);
}

static void run_pclose(void) {
  snprintf(command, sizeof command, "read line < %s; exit 7", fifo);
  FILE *stream = popen(command, "w");
  TEST_REQUIRE(stream != NULL);
  announce();
  check_exit(pclose(stream), 7);
}

static void run_waitpid(void) {
  char *arguments[] = {"sh", "-c", command, NULL};
  snprintf(command, sizeof command, "read line < %s; exit 7", fifo);
  pid_t child = 0;
  TEST_REQUIRE(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
  announce();
  int status = 0;
  TEST_REQUIRE(waitpid(child, &status, 0) == child, "errno %d", errno);
  check_exit(status, 7);
}

static const struct spawn_case {
  const char *name;
  void (*run)(void);
} cases[] = {
    {"posix_spawn", run_posix_spawn}, {"posix_spawnp", run_posix_spawnp}, {"system", run_system}, {"popen", run_popen},
    {"pclose", run_pclose},           {"waitpid", run_waitpid},           {"vfork", run_vfork},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct system_set kept;
static struct system_event ready = SYSTEM_EVENT_INITIALIZER;

static void *run_case(void *arg) {
  void *volatile pointers[SYSTEM_SET];
  (void)pointers;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(kept.hidden[i]);
  system_event_post(&ready);
  ((const struct spawn_case *)arg)->run();
  for (size_t i = 0; i < SYSTEM_SET; i++) TEST_REQUIRE(pointers[i] == test_reveal(kept.hidden[i]));
  TEST_REQUIRE(gc_alloc(100) != NULL);
  return NULL;
}

START_TEST(collections_go_on_while_a_child_starts) {
  gc_set_percent(-1);
  ck_assert_ptr_nonnull(mkdtemp(directory));
  snprintf(fifo, sizeof fifo, "%s/fifo", directory);
  ck_assert_int_eq(mkfifo(fifo, 0600), 0);
  system_set_make(&kept, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, run_case, (void *)&cases[_i]), 0);
  system_event_wait(&ready, 1);
  while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert_msg(system_wait_asleep(spawner), "%s never slept", cases[_i].name);
  uint32_t before = system_collections();
  for (int i = 0; i < 10; i++) system_collect();
  ck_assert_uint_eq(system_collections(), before + 10);
  ck_assert_msg(system_set_intact(&kept), "%s: what the caller holds was lost", cases[_i].name);
  int fd = open(fifo, O_WRONLY);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(write(fd, "go\n", 3), 3);
  close(fd);
  pthread_join(thread, NULL);
  unlink(fifo);
  rmdir(directory);
}
END_TEST

START_TEST(results_are_libcs) {
  int status = system("exit 3");
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3);
  ck_assert_int_ne(system(NULL), 0);
  pid_t child = 0;
  char *arguments[] = {"nothing", NULL};
  ck_assert_int_eq(posix_spawn(&child, "/nonexistent/program", NULL, NULL, arguments, environ), ENOENT);
  ck_assert_int_eq(posix_spawnp(&child, "gcrt-no-such-program", NULL, NULL, arguments, environ), ENOENT);
  errno = 0;
  ck_assert_ptr_null(popen("true", "x"));
  ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* A child starts with the signal mask of its parent, without what the library does to masks of its own. */
START_TEST(children_get_the_programs_mask) {
  const char *test = "grep -q '^SigBlk:[[:space:]]*0000000000000000$' /proc/self/status";
  if (access("/proc/self/status", R_OK) != 0) TEST_SKIP("no /proc");
  ck_assert_int_eq(system(test), 0);
  FILE *stream = popen(test, "r");
  ck_assert_ptr_nonnull(stream);
  ck_assert_int_eq(pclose(stream), 0);
  char *arguments[] = {"sh", "-c", (char *)test, NULL};
  pid_t child = 0;
  int status = 0;
  ck_assert_int_eq(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ), 0);
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

static int spawning = 4;

static void *spawn_many(void *unused) {
  for (int i = 0; i < 8; i++) {
    char *arguments[] = {"true", NULL};
    pid_t child = 0;
    int status = 0;
    TEST_REQUIRE(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
    void **list = NULL;
    for (int n = 0; n < 2000; n++) {
      void **node = gc_alloc(64);
      node[0] = list;
      list = node;
    }
    TEST_REQUIRE(waitpid(child, &status, 0) == child && status == 0, "errno %d", errno);
  }
  __atomic_fetch_sub(&spawning, 1, __ATOMIC_RELEASE);
  return unused;
}

START_TEST(four_threads_spawn_while_another_collects) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, spawn_many, NULL), 0);
  while (__atomic_load_n(&spawning, __ATOMIC_ACQUIRE) > 0) gc_collect();
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "spawn", 30);
  tcase_add_loop_test(tc, collections_go_on_while_a_child_starts, 0, CASES);
  tcase_add_test(tc, results_are_libcs);
  tcase_add_test(tc, children_get_the_programs_mask);
  tcase_add_test(tc, four_threads_spawn_while_another_collects);
  return suite;
}
TEST_MAIN(make_suite)
