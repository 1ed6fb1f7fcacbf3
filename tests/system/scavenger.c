/* Memory goes back by itself: of an idle program, in a forked child, lazily, and not where the program locks it.
 *
 * No verdict depends on how fast it goes: what is to happen is waited for. */
#include "system.h"

#include <dirent.h>
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { PATIENCE = 40 /* seconds */, FULL = 96, NODE = 1000 };

struct node {
  struct node *next;
  size_t number;
  char rest[NODE - 16];
};

static struct node *kept, *dropped;

static struct node *make_list(size_t bytes) {
  struct node *list = NULL;
  for (size_t i = 0; i < bytes / NODE; i++) {
    struct node *node = gc_alloc(sizeof *node);
    TEST_REQUIRE(node != NULL && node->next == NULL && node->rest[NODE - 17] == 0, "memory is not zero");
    node->next = list;
    node->number = i;
    memset(node->rest, 1, sizeof node->rest);
    list = node;
  }
  return list;
}

static void check_list(const struct node *list, size_t bytes) {
  for (size_t i = bytes / NODE; i-- > 0; list = list->next)
    TEST_REQUIRE(list != NULL && list->number == i && list->rest[NODE - 17] == 1, "node %zu", i);
  TEST_REQUIRE(list == NULL);
}

static void *fill(void *unused) {
  kept = make_list(8 * MIB);
  dropped = make_list(FULL * MIB);
  return unused;
}

/* The last collection that there is. */
static void drop(void) {
  dropped = NULL;
  system_collect();
}

static size_t resident(void) {
  unsigned long total = 0, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &total, &pages) != 2) pages = 0;
  if (file) fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Until so many bytes have been released in all, and none is left to be. */
static struct runtime_metrics wait_for_release(uint64_t bytes) {
  double begin = test_now();
  for (;;) {
    struct runtime_metrics m = system_metrics();
    TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
    if (m.released_total >= bytes && m.heap_unreleased == 0) return m;
    TEST_REQUIRE(test_now() - begin < PATIENCE, "%llu bytes released after %d s, %llu to go",
                 (unsigned long long)m.released_total, PATIENCE, (unsigned long long)m.heap_unreleased);
    usleep(20000);
  }
}

/* How often the scavenger has gone to sleep; -1: there is none. */
static long sleeps(void) {
  long found = -1;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *entry; tasks && (entry = readdir(tasks)) != NULL;) {
    char path[300], line[128], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status)) {
      long count;
      if (sscanf(line, "Name: %31s", name) == 1 && strcmp(name, "gcrt-scavenger") != 0) break;
      if (sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1) found = count;
    }
    if (status) fclose(status);
  }
  if (tasks) closedir(tasks);
  return found;
}

static int child_idle(int argc, char **argv) {
  (void)argc, (void)argv;
  system_on_thread(fill, NULL);
  size_t resident_full = resident();
  struct runtime_metrics full = system_metrics();
  drop();
  uint32_t collections = system_collections();
  struct runtime_metrics m = wait_for_release(full.released_total + 40 * MIB);
  size_t resident_after = resident();
  TEST_REQUIRE(m.num_gc == collections, "%u collections while it was idle", m.num_gc - collections);
  TEST_REQUIRE(m.heap_released >= full.heap_released + 40 * MIB);
  TEST_REQUIRE(m.heap_inuse + m.heap_idle - m.heap_released <= m.release_goal);
  TEST_REQUIRE(m.scavenge_cpu_ns > 0 && m.release_refused == 0);
  if (resident_full != 0 && !SYSTEM_SANITIZED)
    TEST_REQUIRE(resident_after + 36 * MIB <= resident_full, "resident: %zu before, %zu after", resident_full,
                 resident_after);
  check_list(kept, 8 * MIB);
  /* With nothing to do it sleeps. (It may still have been on its way.) */
  usleep(300000);
  long before = sleeps();
  usleep(500000);
  TEST_REQUIRE(before >= 0 && sleeps() == before, "%ld wake-ups", sleeps() - before);
  /* What went back comes again. */
  system_on_thread(fill, NULL);
  check_list(dropped, FULL * MIB);
  struct runtime_metrics again = system_metrics();
  TEST_REQUIRE(again.reacquired_total >= m.reacquired_total + 40 * MIB);
  drop();
  wait_for_release(again.released_total + 40 * MIB);
  return 0;
}

static int child_fork(int argc, char **argv) {
  (void)argc, (void)argv;
  system_on_thread(fill, NULL);
  struct runtime_metrics full = system_metrics();
  drop();
  for (int i = 0; i < 30; i++) {
    usleep((useconds_t)i * 700);
    pid_t pid = fork();
    TEST_REQUIRE(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
      struct runtime_metrics m = system_metrics();
      TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
      check_list(kept, 8 * MIB);
      if (i % 10 != 9) _exit(0);
      /* It gets one of its own. */
      system_on_thread(fill, NULL);
      drop();
      wait_for_release(m.released_total + 40 * MIB);
      TEST_REQUIRE(sleeps() >= 0, "no thread");
      check_list(kept, 8 * MIB);
      _exit(0);
    }
    int status = -1;
    TEST_REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
  }
  wait_for_release(full.released_total + 40 * MIB);
  check_list(kept, 8 * MIB);
  return 0;
}

static int child_locked(int argc, char **argv) {
  (void)argc, (void)argv;
  if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
    printf("mlockall: %s\n", strerror(errno));
    return 77;
  }
  system_on_thread(fill, NULL);
  struct runtime_metrics full = system_metrics();
  drop();
  double begin = test_now();
  struct runtime_metrics m = system_metrics();
  while (m.release_refused == 0) {
    TEST_REQUIRE(test_now() - begin < PATIENCE, "nothing was tried");
    usleep(10000);
    m = system_metrics();
  }
  /* Once a collection is enough: it does not go on trying. */
  usleep(300000);
  m = system_metrics();
  TEST_REQUIRE(m.release_refused <= m.num_gc, "%llu times", (unsigned long long)m.release_refused);
  TEST_REQUIRE(m.released_total == full.released_total);
  TEST_REQUIRE(m.heap_unreleased >= 40 * MIB, "%llu", (unsigned long long)m.heap_unreleased);
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  check_list(kept, 8 * MIB);
  return 0;
}

static int child_lazy(int argc, char **argv) {
  (void)argc, (void)argv;
  system_on_thread(fill, NULL);
  struct runtime_metrics full = system_metrics();
  drop();
  struct runtime_metrics m = wait_for_release(full.released_total + 40 * MIB);
  TEST_REQUIRE(m.release_refused == 0);
  for (int i = 0; i < 3; i++) {
    /* make_list looks whether it is zero. */
    system_on_thread(fill, NULL);
    check_list(dropped, FULL * MIB);
    drop();
    gc_free_os_memory();
    m = system_metrics();
    TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  }
  check_list(kept, 8 * MIB);
  return 0;
}

/* argv[1]: microseconds until its last thread ends, while the scavenger is started, or works. */
static int child_last_thread(int argc, char **argv) {
  (void)argc;
  system_on_thread(fill, NULL);
  drop();
  usleep((useconds_t)atoi(argv[1]));
  pthread_exit(NULL);
}

static const struct test_child_entry children[] = {
    {"idle", child_idle},
    {"fork", child_fork},
    {"locked", child_locked},
    {"lazy", child_lazy},
    {"last-thread", child_last_thread},
    {NULL, NULL},
};

/* Without the variables that would change what is kept; setting may be NULL. */
static struct test_child run(const char *name, const char *debug) {
  const char *environment[] = {"GCRT_GOGC", "GCRT_STRESS", "GCRT_HEAP_RESERVE=4GiB", debug, NULL};
  return test_child_exec_self(name, NULL,
                              &(struct test_child_options){.environment = environment, .timeout_seconds = 100});
}

START_TEST(an_idle_program_gets_smaller) {
  struct test_child child = run("idle", NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(forks_find_every_chunk) {
  struct test_child child = run("fork", NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(locked_memory_is_left_alone) {
  if (SYSTEM_SANITIZED) TEST_SKIP("a sanitizer's mlockall does nothing, and its memory is too much to be locked");
  struct test_child child = run("locked", NULL);
  if (test_child_exited(&child, 77)) TEST_SKIP("%s", child.out);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(lazy_release_loses_nothing_and_reuse_is_zero) {
  struct test_child child = run("lazy", "GCRT_DEBUG=madvfree=1,verify=1");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(the_process_ends_with_its_last_thread) {
  static const char *const delays[] = {"0", "100", "1000", "100000"};
  const char *arguments[] = {delays[_i], NULL};
  const char *environment[] = {"GCRT_GOGC", "GCRT_STRESS", NULL};
  struct test_child child = test_child_exec_self(
      "last-thread", arguments, &(struct test_child_options){.environment = environment, .timeout_seconds = 30});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(trace_lines_add_up) {
  struct test_child child = run("idle", "GCRT_DEBUG=scavtrace=1");
  test_assert_exited(&child, 0);
  regex_t regex;
  ck_assert_int_eq(regcomp(&regex,
                           "^scav ([0-9]+) @[0-9]+\\.[0-9]{3}s ([0-9]+) KiB work \\(bg\\), ([0-9]+) KiB work "
                           "\\(eager\\), [0-9]+ KiB now, ([0-9]+) KiB total, ([0-9]+)% util$",
                           REG_EXTENDED),
                   0);
  unsigned long lines = 0, sum = 0;
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    regmatch_t match[6];
    if (*line == 0) continue;
    ck_assert_msg(regexec(&regex, line, 6, match, 0) == 0, "not a trace line: %s", line);
    ck_assert_uint_eq(strtoul(line + match[1].rm_so, NULL, 10), ++lines);
    unsigned long work = strtoul(line + match[2].rm_so, NULL, 10) + strtoul(line + match[3].rm_so, NULL, 10);
    ck_assert_uint_gt(work, 0);
    sum += work;
    /* What was released after the reading is in the next line. */
    ck_assert_uint_ge(strtoul(line + match[4].rm_so, NULL, 10), sum);
    ck_assert_uint_le(strtoul(line + match[5].rm_so, NULL, 10), 100);
  }
  regfree(&regex);
  ck_assert_uint_ge(lines, 1);
  ck_assert_uint_ge(sum, 40 * 1024);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "scavenger", 120);
  tcase_add_test(tc, an_idle_program_gets_smaller);
  tcase_add_test(tc, forks_find_every_chunk);
  tcase_add_test(tc, locked_memory_is_left_alone);
  tcase_add_test(tc, lazy_release_loses_nothing_and_reuse_is_zero);
  tcase_add_loop_test(tc, the_process_ends_with_its_last_thread, 0, 4);
  tcase_add_test(tc, trace_lines_add_up);
  return suite;
}

TEST_MAIN_CHILDREN(make_suite, children)
