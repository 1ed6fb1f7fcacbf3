/* The memory limit: in all its forms, kept while it can be, passed rather than take all of the processors' time, and
 * changed at any moment. No verdict depends on how fast the machine is. */
#include "system.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { PATIENCE = 60 /* seconds */, NODE = 512, SLACK = 16 };

struct node {
  struct node *next;
  size_t number;
  char rest[NODE - 16];
};

/* Live nodes, each at the head of nothing: replaced one by one. */
static struct node **table;
static size_t nodes;
static struct test_random numbers;

static struct node *new_node(size_t number) {
  struct node *node = gc_alloc(sizeof *node);
  TEST_REQUIRE(node != NULL && node->number == 0 && node->rest[NODE - 17] == 0, "memory is not zero");
  node->number = number;
  memset(node->rest, 1, sizeof node->rest);
  return node;
}

static void make_live(size_t bytes) {
  nodes = bytes / NODE;
  table = gc_alloc(nodes * sizeof *table);
  TEST_REQUIRE(table != NULL);
  for (size_t i = 0; i < nodes; i++) table[i] = new_node(i);
}

static void check_live(void) {
  for (size_t i = 0; i < nodes; i++)
    TEST_REQUIRE(table[i]->number == i && table[i]->rest[NODE - 17] == 1, "node %zu", i);
}

/* Garbage, and some nodes replaced. */
static void churn(size_t bytes) {
  for (size_t done = 0; done < bytes; done += (size_t)4 * NODE) {
    for (int i = 0; i < 3; i++) (void)new_node(done);
    size_t i = nodes ? test_random_below(&numbers, nodes) : 0;
    if (nodes) table[i] = new_node(i);
  }
}

static size_t resident(void) {
  unsigned long total = 0, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &total, &pages) != 2) pages = 0;
  if (file) fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* --- forms -------------------------------------------------------------------------------------------------------- */

static int child_show(int argc, char **argv) {
  (void)argc, (void)argv;
  struct runtime_metrics m = system_metrics();
  printf("limit %llu, %u%%, asked %lld\n", (unsigned long long)m.memory_limit, m.memory_limit_percent,
         (long long)gc_set_memory_limit(-1));
  TEST_REQUIRE(m.memory_mapped == m.sys - m.heap_released);
  /* It is none any longer. */
  TEST_REQUIRE(gc_set_memory_limit(100 * MIB) >= 0 && gc_set_memory_limit(-5) == (int64_t)(100 * MIB));
  TEST_REQUIRE(gc_set_memory_limit(INT64_MAX) == (int64_t)(100 * MIB) && gc_set_memory_limit(-1) == INT64_MAX);
  m = system_metrics();
  TEST_REQUIRE(m.memory_limit == UINT64_MAX && m.memory_limit_percent == 0);
  return 0;
}

static const struct {
  const char *value, *shows;
} forms[] = {
    {"", "limit 18446744073709551615, 0%, asked 9223372036854775807"},
    {"off", "limit 18446744073709551615, 0%, asked 9223372036854775807"},
    {"123456789", "limit 123456789, 0%, asked 123456789"},
    {"123456789B", "limit 123456789, 0%, asked 123456789"},
    {"1000KiB", "limit 1024000, 0%, asked 1024000"},
    {"256MiB", "limit 268435456, 0%, asked 268435456"},
    {"3GiB", "limit 3221225472, 0%, asked 3221225472"},
    {"2TiB", "limit 2199023255552, 0%, asked 2199023255552"},
    {"auto", ", 90%, asked "},
    {"auto:50", ", 50%, asked "},
};

static struct test_child run(const char *name, const char *const *arguments, const char *limit, const char *more) {
  char setting[100];
  snprintf(setting, sizeof setting, "GCRT_MEMLIMIT=%s", limit);
  const char *environment[] = {"GCRT_STRESS", "GCRT_HEAP_RESERVE", setting, more ? more : "GCRT_GOGC", NULL};
  return test_child_exec_self(name, arguments,
                              &(struct test_child_options){.environment = environment, .timeout_seconds = 150});
}

START_TEST(every_form) {
  struct test_child child = run("show", NULL, forms[_i].value, NULL);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, forms[_i].shows);
  test_child_free(&child);
}
END_TEST

/* --- kept --------------------------------------------------------------------------------------------------------- */

/* With collections off but for the limit. */
static int child_only_limit(int argc, char **argv) {
  (void)argc, (void)argv;
  churn(200 * MIB);
  struct runtime_metrics m = system_metrics();
  bool limited = m.memory_limit != UINT64_MAX;
  TEST_REQUIRE((m.num_gc > 0) == limited, "%u collections", m.num_gc);
  if (!limited) return 0;
  TEST_REQUIRE(m.memory_mapped <= m.memory_limit + SLACK * MIB, "%llu", (unsigned long long)m.memory_mapped);
  TEST_REQUIRE(m.next_gc < m.memory_limit);
  /* And no longer. */
  gc_set_memory_limit(INT64_MAX);
  uint32_t collections = system_collections();
  churn(100 * MIB);
  TEST_REQUIRE(system_collections() == collections && system_metrics().next_gc == UINT64_MAX);
  return 0;
}

START_TEST(off_collects_for_the_limit_alone) {
  struct test_child child = run("only-limit", NULL, _i ? "48MiB" : "off", "GCRT_GOGC=off");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static int child_step(int argc, char **argv) {
  (void)argc, (void)argv;
  make_live(12 * MIB);
  for (size_t limit = 160; limit >= 40; limit -= 40) {
    gc_set_memory_limit((int64_t)(limit * MIB));
    churn(200 * MIB);
    struct runtime_metrics m = system_metrics();
    const char *bad = system_unbalanced(&m);
    TEST_REQUIRE(bad == NULL, "%s", bad);
    TEST_REQUIRE(m.memory_mapped <= (limit + SLACK) * MIB || m.limiter_total_ns > 0, "%llu bytes at %zu MiB",
                 (unsigned long long)m.memory_mapped, limit);
    check_live();
  }
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.scavenge_assist_ns > 0 || m.scavenge_cpu_ns > 0);
  return 0;
}

START_TEST(limit_is_stepped_down) {
  struct test_child child = run("step", NULL, "off", "GCRT_GOGC=off");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

/* What is free is in pieces that are too small: it has to go back for each object that takes new memory. */
static int child_room(int argc, char **argv) {
  (void)argc, (void)argv;
  static void *small[100], *large[30];
  for (int i = 0; i < 100; i++) TEST_REQUIRE((small[i] = gc_alloc_noscan(MIB - 4096)) != NULL);
  for (int i = 0; i < 100; i++) memset(small[i], 1, MIB - 4096);
  for (int i = 0; i < 100; i += 2) small[i] = NULL;
  test_clear_stack();
  gc_collect();
  struct runtime_metrics before = system_metrics();
  TEST_REQUIRE(before.heap_idle - before.heap_released >= 40 * MIB, "it went back already");
  gc_set_memory_limit((int64_t)(120 * MIB));
  for (int i = 0; i < 20; i++) {
    TEST_REQUIRE((large[i] = gc_alloc_noscan(2 * MIB - 4096)) != NULL);
    struct runtime_metrics m = system_metrics();
    /* The tables grow by as much as new chunks need. */
    TEST_REQUIRE(m.memory_mapped <= 121 * MIB, "%llu with %d", (unsigned long long)m.memory_mapped, i);
  }
  struct runtime_metrics after = system_metrics();
  TEST_REQUIRE(after.scavenge_assist_ns > 0 && after.released_total > before.released_total + 10 * MIB);
  TEST_REQUIRE(after.num_gc == before.num_gc, "collected for what was free");
  /* And where nothing is free, an object waits for a collection: small[] is garbage, but for a few by chance. */
  memset(small, 0, sizeof small);
  test_clear_stack();
  for (int i = 20; i < 30; i++) TEST_REQUIRE((large[i] = gc_alloc_noscan(5 * MIB)) != NULL);
  after = system_metrics();
  TEST_REQUIRE(after.num_gc > before.num_gc && after.memory_mapped <= (120 + SLACK) * MIB);
  return 0;
}

START_TEST(free_memory_makes_room) {
  struct test_child child = run("room", NULL, "off", "GCRT_GOGC=off");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static bool over;
static uint64_t mapped_most, resident_most;

static void *watch(void *unused) {
  while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
    struct runtime_metrics m = system_metrics();
    if (m.memory_mapped > mapped_most) mapped_most = m.memory_mapped;
    size_t bytes = resident();
    if (bytes > resident_most) resident_most = bytes;
    usleep(500);
  }
  return unused;
}

/* Uses the memory that it allocates, so that marking is not most of what is done. */
static void work(size_t bytes) {
  static unsigned char digest[NODE];
  for (size_t done = 0; done < bytes; done += (size_t)4 * NODE) {
    churn((size_t)4 * NODE);
    for (int i = 0; i < 60; i++) {
      const struct node *node = table[test_random_below(&numbers, nodes)];
      for (size_t k = 0; k < sizeof node->rest; k += 8) digest[k] ^= (unsigned char)node->rest[k];
    }
  }
}

static int child_bound(int argc, char **argv) {
  (void)argc, (void)argv;
  size_t before = resident();
  pthread_t watcher;
  TEST_REQUIRE(pthread_create(&watcher, NULL, watch, NULL) == 0);
  make_live((size_t)(256 * 0.8 - 4) * MIB);
  work(200 * MIB);
  __atomic_store_n(&over, true, __ATOMIC_RELEASE);
  pthread_join(watcher, NULL);
  check_live();
  struct runtime_metrics m = system_metrics();
  printf("mapped %llu, resident %llu of %zu, limited %llu ns, %u collections\n", (unsigned long long)mapped_most,
         (unsigned long long)resident_most, before, (unsigned long long)m.limiter_total_ns, m.num_gc);
  if (m.limiter_total_ns > 0) return 77;
  TEST_REQUIRE(m.num_gc > 0 && mapped_most <= (256 + SLACK) * MIB);
  if (!SYSTEM_SANITIZED) TEST_REQUIRE(resident_most <= before + (256 + SLACK) * MIB);
  return 0;
}

static const char *const trackers[] = {"GCRT_TRACKER=none", "GCRT_TRACKER=uffd"};

START_TEST(live_at_four_fifths_keeps_the_limit) {
  const char *environment[] = {"GCRT_STRESS", "GCRT_MEMLIMIT=256MiB", "GCRT_GOGC=off", trackers[_i], NULL};
  struct test_child child = test_child_exec_self(
      "bound", NULL, &(struct test_child_options){.environment = environment, .timeout_seconds = 150});
  if (system_uffd_refused(&child)) TEST_SKIP("userfaultfd does not work here");
  if (test_child_exited(&child, 77)) TEST_SKIP("marking is slow here, the limiter was needed: %s", child.out);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

/* --- not to be kept ----------------------------------------------------------------------------------------------- */

static uint64_t process_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until the limiter limits. */
static void get_pressed(void) {
  double begin = test_now();
  while (system_metrics().limiter_last_cycle == 0) {
    churn(MIB);
    TEST_REQUIRE(test_now() - begin < PATIENCE, "the collector was never held back");
  }
}

static int child_full(int argc, char **argv) {
  (void)argc, (void)argv;
  make_live(64 * MIB);
  get_pressed();
  struct runtime_metrics before = system_metrics();
  uint64_t begin = process_ns();
  /* Time of processors, not of the clock: others may want them. */
  while (process_ns() - begin < UINT64_C(3000000000)) churn(MIB);
  struct runtime_metrics after = system_metrics();
  /* Waiting for threads to stop is no processor time. */
  uint64_t collector = after.gc_cpu_ns - after.stopping_total_ns - (before.gc_cpu_ns - before.stopping_total_ns);
  double share = (double)collector / (double)(process_ns() - begin);
  printf("%.0f%% of the time, limited %.2f s, pressed %.2f s, %u collections, %llu MiB\n", share * 100,
         (double)after.limiter_total_ns / 1e9, (double)after.limiter_pressed_ns / 1e9, after.num_gc,
         (unsigned long long)after.memory_mapped >> 20);
  TEST_REQUIRE(share < 0.7, "the collector took %.2f of the time", share);
  TEST_REQUIRE(after.num_gc > before.num_gc && after.limiter_last_cycle <= after.num_gc + 1);
  TEST_REQUIRE(after.limiter_total_ns > before.limiter_total_ns);
  TEST_REQUIRE(after.limiter_pressed_ns <= (uint64_t)(test_now() * 1e9));
  check_live();
  /* Relief. */
  gc_set_memory_limit(INT64_MAX);
  gc_set_percent(1000);
  double wait = test_now();
  while (system_metrics().limiter_pressed_ns != 0) {
    churn(64 * MIB);
    TEST_REQUIRE(test_now() - wait < PATIENCE, "still under pressure");
  }
  check_live();
  return 0;
}

START_TEST(all_alive_leaves_half_of_the_time) {
  const char *environment[] = {"GCRT_STRESS",       "GCRT_MEMLIMIT=64MiB",    "GCRT_GOGC=off",
                               "GCRT_TRACKER=none", "GCRT_HEAP_RESERVE=4GiB", NULL};
  struct test_child child = test_child_exec_self(
      "full", NULL, &(struct test_child_options){.environment = environment, .timeout_seconds = 150});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

struct told {
  size_t check;
  unsigned calls, inside;
  enum gc_limit_action action;
};

static enum gc_limit_action handler(const struct gc_limit_report *report, void *arg) {
  struct told *told = arg;
  TEST_REQUIRE(__atomic_add_fetch(&told->inside, 1, __ATOMIC_ACQ_REL) == 1, "two handlers at once");
  TEST_REQUIRE(told->check == 12345, "the argument was reclaimed");
  TEST_REQUIRE(report->pressed_ns >= 50000000 && report->limited_ns > 0);
  TEST_REQUIRE(report->limit == 32 * MIB && report->mapped > 0 && report->live > 0);
  TEST_REQUIRE(told->calls > 0 || (report->mapped > 28 * MIB && report->live > 24 * MIB));
  /* All may be done here. */
  for (int i = 0; i < 1000; i++) TEST_REQUIRE(new_node(7)->number == 7);
  gc_collect();
  (void)system_metrics();
  TEST_REQUIRE(gc_set_memory_limit(-1) == (int64_t)(32 * MIB));
  if (told->action == GC_LIMIT_DROP_CACHES && told->calls == 0) {
    for (size_t i = nodes / 16; i < nodes; i++) table[i] = NULL;
    __atomic_store_n(&nodes, nodes / 16, __ATOMIC_RELEASE);
  }
  __atomic_sub_fetch(&told->inside, 1, __ATOMIC_ACQ_REL);
  __atomic_add_fetch(&told->calls, 1, __ATOMIC_ACQ_REL);
  return told->action;
}

/* Only the library knows of it; hidden from the collector here. */
static uintptr_t set_handler(enum gc_limit_action action) {
  struct told *told = gc_alloc(sizeof *told);
  *told = (struct told){.check = 12345, .action = action};
  TEST_REQUIRE(gc_set_limit_handler(handler, told, 0) == -1 && errno == EINVAL);
  TEST_REQUIRE(gc_set_limit_handler(handler, told, 50000000) == 0);
  return test_hide(told);
}

static struct told *reveal(uintptr_t hidden) { return (struct told *)~hidden; }

static unsigned wait_for_calls(uintptr_t hidden, unsigned calls) {
  double begin = test_now();
  for (;;) {
    unsigned so_far = __atomic_load_n(&reveal(hidden)->calls, __ATOMIC_ACQUIRE);
    if (so_far >= calls) return so_far;
    churn(MIB);
    TEST_REQUIRE(test_now() - begin < PATIENCE, "called %u times", so_far);
  }
}

static int child_handler(int argc, char **argv) {
  (void)argc;
  enum gc_limit_action action = (enum gc_limit_action)atoi(argv[1]);
  uintptr_t hidden = set_handler(action);
  test_clear_stack();
  make_live(32 * MIB);
  if (action == GC_LIMIT_DROP_CACHES) {
    size_t all = nodes;
    wait_for_calls(hidden, 1);
    TEST_REQUIRE(__atomic_load_n(&nodes, __ATOMIC_ACQUIRE) <= all / 16);
    double begin = test_now();
    while (system_metrics().memory_mapped > (32 + SLACK) * MIB || system_metrics().limiter_pressed_ns) {
      churn(MIB);
      TEST_REQUIRE(test_now() - begin < PATIENCE, "no relief");
    }
  } else {
    wait_for_calls(hidden, 3);
    TEST_REQUIRE(gc_set_limit_handler(NULL, NULL, 0) == 0);
    usleep(200000);
    churn(32 * MIB);
  }
  check_live();
  printf("lived on\n");
  return 0;
}

START_TEST(handler_is_told) {
  char action[2] = {(char)('0' + _i), 0};
  const char *arguments[] = {action, NULL};
  const char *environment[] = {"GCRT_STRESS", "GCRT_MEMLIMIT=32MiB", "GCRT_GOGC=off", "GCRT_TRACKER=none", NULL};
  struct test_child child = test_child_exec_self(
      "handler", arguments, &(struct test_child_options){.environment = environment, .timeout_seconds = 150});
  if (_i == GC_LIMIT_ABORT) {
    test_assert_signalled(&child, SIGABRT);
    test_assert_err_has(&child, "the memory limit of 33554432 bytes cannot be kept");
  } else {
    test_assert_exited(&child, 0);
    test_assert_out_has(&child, "lived on");
  }
  test_child_free(&child);
}
END_TEST

/* --- settings ----------------------------------------------------------------------------------------------------- */

static int child_min_heap(int argc, char **argv) {
  (void)argc, (void)argv;
  gc_collect();
  TEST_REQUIRE(gc_set_min_heap(64 * MIB) == 0);
  TEST_REQUIRE(system_metrics().next_gc == 64 * MIB);
  uint32_t collections = system_collections();
  churn(40 * MIB);
  TEST_REQUIRE(system_collections() == collections, "collected below the least heap");
  for (double begin = test_now(); system_collections() == collections;) {
    churn(40 * MIB);
    TEST_REQUIRE(test_now() - begin < PATIENCE, "not collected");
  }
  /* A limit goes first. */
  gc_set_memory_limit((int64_t)(24 * MIB));
  TEST_REQUIRE(system_metrics().next_gc < 24 * MIB);
  gc_set_memory_limit(INT64_MAX);
  TEST_REQUIRE(gc_set_min_heap(MIB) == 64 * MIB);
  gc_collect();
  TEST_REQUIRE(system_metrics().next_gc < 4 * MIB);
  TEST_REQUIRE(gc_set_min_heap(0) == MIB && system_metrics().next_gc == 4 * MIB);
  return 0;
}

START_TEST(least_heap) {
  if (SYSTEM_SANITIZED) TEST_SKIP("a sanitizer's variables and stacks count for the goal");
  struct test_child child = run("min-heap", NULL, "off", NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static void *change(void *arg) {
  struct test_random random = test_random_stream((uintptr_t)arg);
  static const size_t limits[] = {16, 32, 64, 256, 4096};
  while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
    int64_t limit = (int64_t)(limits[test_random_below(&random, 5)] * MIB);
    gc_set_memory_limit(test_random_once_in(&random, 3) ? INT64_MAX : limit);
    gc_set_percent((int)test_random_below(&random, 400) - 1);
    gc_set_min_heap(test_random_below(&random, 32) * MIB);
    (void)gc_set_limit_handler(NULL, NULL, 0);
    usleep(300);
  }
  return NULL;
}

static void *allocate(void *arg) {
  struct test_random random = test_random_stream((uintptr_t)arg);
  enum { KEPT = 4000 };
  struct node **kept = gc_alloc(KEPT * sizeof *kept);
  TEST_REQUIRE(kept != NULL);
  for (size_t i = 0; i < 300000; i++) {
    size_t place = test_random_below(&random, KEPT);
    if (kept[place]) TEST_REQUIRE(kept[place]->number == place && kept[place]->rest[NODE - 17] == 1, "%zu", place);
    kept[place] = new_node(place);
    if (i % 1000 == 0) TEST_REQUIRE(gc_alloc_noscan(test_random_below(&random, 2 * MIB)) != NULL);
  }
  return NULL;
}

static int child_change(int argc, char **argv) {
  (void)argc, (void)argv;
  pthread_t changers[2], workers[2];
  for (uintptr_t i = 0; i < 2; i++) TEST_REQUIRE(pthread_create(&changers[i], NULL, change, (void *)(i + 1)) == 0);
  for (uintptr_t i = 0; i < 2; i++) TEST_REQUIRE(pthread_create(&workers[i], NULL, allocate, (void *)(i + 3)) == 0);
  for (int i = 0; i < 5; i++) {
    usleep(50000);
    pid_t pid = fork();
    TEST_REQUIRE(pid >= 0);
    if (pid == 0) {
      gc_set_memory_limit((int64_t)(32 * MIB));
      churn(40 * MIB);
      gc_collect();
      _exit(0);
    }
    int status = -1;
    TEST_REQUIRE(waitpid(pid, &status, 0) == pid && status == 0, "status %x", status);
  }
  for (int i = 0; i < 2; i++) pthread_join(workers[i], NULL);
  __atomic_store_n(&over, true, __ATOMIC_RELEASE);
  for (int i = 0; i < 2; i++) pthread_join(changers[i], NULL);
  struct runtime_metrics m = system_metrics();
  const char *bad = system_unbalanced(&m);
  TEST_REQUIRE(bad == NULL, "%s", bad);
  return 0;
}

START_TEST(settings_change_while_others_allocate) {
  struct test_child child = run("change", NULL, "off", _i ? "GCRT_DEBUG=verify=1" : NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static const struct test_child_entry children[] = {
    {"room", child_room},         {"show", child_show}, {"only-limit", child_only_limit}, {"step", child_step},
    {"bound", child_bound},       {"full", child_full}, {"handler", child_handler},       {"change", child_change},
    {"min-heap", child_min_heap}, {NULL, NULL},
};

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *forms_case = test_case(suite, "memlimit-forms", 60);
  tcase_add_loop_test(forms_case, every_form, 0, sizeof forms / sizeof *forms);
  TCase *kept = test_case(suite, "memlimit-kept", 160);
  tcase_add_loop_test(kept, off_collects_for_the_limit_alone, 0, 2);
  tcase_add_test(kept, limit_is_stepped_down);
  tcase_add_test(kept, free_memory_makes_room);
  tcase_add_loop_test(kept, live_at_four_fifths_keeps_the_limit, 0, 2);
  TCase *full = test_case(suite, "memlimit-passed", 160);
  tcase_add_test(full, all_alive_leaves_half_of_the_time);
  tcase_add_loop_test(full, handler_is_told, GC_LIMIT_CARRY_ON, GC_LIMIT_ABORT + 1);
  TCase *settings = test_case(suite, "memlimit-settings", 160);
  tcase_add_test(settings, least_heap);
  tcase_add_loop_test(settings, settings_change_while_others_allocate, 0, 2);
  return suite;
}

TEST_MAIN_CHILDREN(make_suite, children)
