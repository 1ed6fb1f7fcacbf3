/* See busy.h. The heap is many lists of small nodes: marking has something to do at many places, and a node that was
 * lost shows as a sum that is wrong. `heads` is the only root of it. */
#include "busy.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTS = 512, NODE_BYTES = 64 };

struct node {
  struct node *next;
  uint64_t check;
};

static struct node *heads[LISTS];
static size_t list_length;
static pthread_t collector;
static int collecting;
static unsigned collected;

struct test_child_options busy_options(bool verified) {
  static const char *plain[] = {"GCRT_TRACKER=uffd", "GCRT_STRESS", NULL};
  static const char *checked[] = {"GCRT_TRACKER=uffd", "GCRT_STRESS", "GCRT_DEBUG=checkmark=1,verify=1,clobberfree=1",
                                  NULL};
  const char **environment = verified ? checked : plain;
  return (struct test_child_options){.environment = getenv("GCRT_TRACKER") ? environment + 1 : environment,
                                     .timeout_seconds = SYSTEM_SANITIZED ? 240 : 100};
}

void busy_run(const char *const *arguments, bool verified, const char *setting) {
  struct test_child_options options = busy_options(verified);
  const char *environment[8] = {setting};
  size_t n = setting != NULL;
  for (size_t i = 0; options.environment[i]; i++) environment[n++] = options.environment[i];
  options.environment = environment;
  struct test_child child = test_child_exec_self(arguments[0], arguments + 1, &options);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}

int busy_probe(int argc, char **argv) {
  (void)argc, (void)argv;
  gc_collect();
  return 0;
}

const char *busy_unavailable(void) {
  const char *tracker = getenv("GCRT_TRACKER");
  if (tracker && strcmp(tracker, "none") == 0) return "with GCRT_TRACKER=none nothing is marked beside the program";
  static char reason[256];
  struct test_child_options options = busy_options(false);
  struct test_child child = test_child_exec_self("busy-probe", NULL, &options);
  const char *said = strstr(child.err, "GCRT_TRACKER=uffd: ");
  bool works = test_child_exited(&child, 0);
  ck_assert_msg(works || (test_child_signalled(&child, SIGABRT) && said), "%s", test_child_text(&child));
  if (!works) snprintf(reason, sizeof reason, "%.*s", (int)strcspn(said, "\n"), said);
  test_child_free(&child);
  return works ? NULL : reason;
}

static uint64_t node_check(size_t list, size_t i) { return ~(uint64_t)(list * 1000003 + i); }

static void *collect_always(void *unused) {
  while (__atomic_load_n(&collecting, __ATOMIC_ACQUIRE)) {
    gc_collect();
    __atomic_fetch_add(&collected, 1, __ATOMIC_RELEASE);
  }
  return unused;
}

void busy_start(size_t mebibytes) {
  if (SYSTEM_SANITIZED) mebibytes = (mebibytes + 7) / 8;
  list_length = (mebibytes << 20) / NODE_BYTES / LISTS;
  int percent = gc_set_percent(-1);
  for (size_t i = 0; i < list_length; i++)
    for (size_t list = 0; list < LISTS; list++) {
      struct node *node = gc_alloc(NODE_BYTES);
      TEST_REQUIRE(node != NULL);
      node->check = node_check(list, i);
      node->next = heads[list];
      heads[list] = node;
    }
  gc_set_percent(percent);
  __atomic_store_n(&collecting, 1, __ATOMIC_RELEASE);
  int error = pthread_create(&collector, NULL, collect_always, NULL);
  TEST_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  busy_wait(1);
}

void busy_check(void) {
  for (size_t list = 0; list < LISTS; list++) {
    size_t i = list_length;
    for (struct node *node = heads[list]; node; node = node->next) {
      TEST_REQUIRE(i-- > 0, "list %zu is longer than it was", list);
      TEST_REQUIRE(node->check == node_check(list, i), "node %zu of list %zu at %p holds %llx", i, list, (void *)node,
                   (unsigned long long)node->check);
    }
    TEST_REQUIRE(i == 0, "list %zu lacks %zu nodes", list, i);
  }
}

unsigned busy_collections(void) { return __atomic_load_n(&collected, __ATOMIC_ACQUIRE); }

void busy_wait(unsigned collections) {
  unsigned first = __atomic_load_n(&collected, __ATOMIC_ACQUIRE);
  while (__atomic_load_n(&collected, __ATOMIC_ACQUIRE) - first < collections) sched_yield();
}

size_t busy_descriptors(void) {
  size_t count = 0;
  DIR *directory = opendir("/proc/self/fd");
  TEST_REQUIRE(directory != NULL);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    char target[256];
    ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
    if (length < 0) continue;
    target[length] = '\0';
    count += strstr(target, "[userfaultfd]") != NULL || strstr(target, "/pagemap") != NULL;
  }
  closedir(directory);
  return count;
}

void busy_forget_thread(void) { collecting = 0; }

void busy_stop(void) {
  __atomic_store_n(&collecting, 0, __ATOMIC_RELEASE);
  pthread_join(collector, NULL);
  busy_check();
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
}
