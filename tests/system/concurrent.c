/* What programs do while the heap is marked beside them: forks, libraries and threads that come and go, settings,
 * collections that several threads ask for at once, and memory that runs out.
 *
 * Each case is a fresh process with concurrent collections (busy.h), as its environment is read before main; what it
 * finds wrong it says on standard error. The moment is made likely, not certain: nothing here can make a correct
 * library fail. */
#include "busy.h"
#include "roots_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static size_t mebibytes(int argc, char **argv) { return argc > 1 ? strtoul(argv[1], NULL, 10) : 64; }

/* --- a list of its own for each thread --- */

struct link {
  struct link *next;
  uint64_t check;
};

static struct link *list_make(size_t n, uint64_t seed) {
  struct link *list = NULL;
  for (size_t i = 0; i < n; i++) {
    struct link *link = gc_alloc(sizeof *link + i % 90);
    TEST_REQUIRE(link != NULL && link->check == 0);
    link->next = list;
    link->check = seed + i;
    list = link;
  }
  return list;
}

static void list_check(const struct link *list, size_t n, uint64_t seed) {
  for (; n-- > 0; list = list->next) {
    TEST_REQUIRE(list != NULL && gc_base(list) == list && list->check == seed + n, "link %zu", n);
  }
  TEST_REQUIRE(list == NULL);
}

static int running;

static void *allocate_always(void *arg) {
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
    list_check(list_make(700, (uintptr_t)arg), 700, (uintptr_t)arg);
    gc_free(gc_alloc(70000));
  }
  return NULL;
}

static void start_allocating(pthread_t *threads, size_t n) {
  __atomic_store_n(&running, 1, __ATOMIC_RELEASE);
  for (size_t i = 0; i < n; i++)
    TEST_REQUIRE(pthread_create(&threads[i], NULL, allocate_always, (void *)(i * 1000)) == 0);
}

static void stop_allocating(const pthread_t *threads, size_t n) {
  __atomic_store_n(&running, 0, __ATOMIC_RELEASE);
  for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

/* --- fork and exec --- */

static void wait_for(pid_t child) {
  int status = 0;
  TEST_REQUIRE(child > 0, "fork: %s", strerror(errno));
  TEST_REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x",
               status);
}

static void *list_in_thread(void *arg) {
  list_check(list_make(5000, (uintptr_t)arg), 5000, (uintptr_t)arg);
  gc_collect();
  return NULL;
}

static _Noreturn void live_on(int generations);

static void fork_and_live_on(int generations) {
  pid_t child = fork();
  if (child == 0) live_on(generations);
  wait_for(child);
}

static void live_on(int generations) {
  alarm(90);
  busy_forget_thread();
  busy_check();
  struct link *list = list_make(3000, 5);
  for (int i = 0; i < 2; i++) gc_collect();
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, list_in_thread, (void *)77) == 0);
  if (generations > 0) fork_and_live_on(generations - 1);
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  gc_collect();
  list_check(list, 3000, 5);
  busy_check();
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(system_unbalanced(&m) == NULL, "%s", system_unbalanced(&m));
  _exit(0);
}

static int child_fork(int argc, char **argv) {
  pthread_t threads[2];
  busy_start(mebibytes(argc, argv));
  start_allocating(threads, 2);
  for (int i = 0; i < 6; i++) fork_and_live_on(i % 3);
  stop_allocating(threads, 2);
  busy_stop();
  return 0;
}

/* A tree keeps many markers at work. */
struct branch {
  struct branch *left, *right;
  uint64_t id, unused[5];
};

static struct branch *tree_make(unsigned depth, uint64_t id) {
  struct branch *branch = gc_alloc(sizeof *branch);
  TEST_REQUIRE(branch != NULL);
  branch->id = id;
  if (depth == 0) return branch;
  branch->left = tree_make(depth - 1, 2 * id);
  branch->right = tree_make(depth - 1, 2 * id + 1);
  return branch;
}

static void tree_check(const struct branch *branch, unsigned depth, uint64_t id) {
  TEST_REQUIRE(branch != NULL && gc_base(branch) == branch && branch->id == id, "branch %llu", (unsigned long long)id);
  if (depth == 0) return;
  tree_check(branch->left, depth - 1, 2 * id);
  tree_check(branch->right, depth - 1, 2 * id + 1);
}

/* No other thread of the program's: what the library's own are doing at the fork is all that is left to mend. */
static int child_fork_alone(int argc, char **argv) {
  unsigned depth = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 16;
  struct branch *tree = tree_make(depth, 1);
  gc_collect();
  gc_set_percent(4);
  for (uint64_t i = 0; i < 60; i++) {
    list_check(list_make(3000 + i % 4 * 5000, i), 3000 + i % 4 * 5000, i);
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      for (int round = 0; round < 2; round++) gc_collect();
      tree_check(tree, depth, 1);
      _exit(0);
    }
    wait_for(child);
  }
  tree_check(tree, depth, 1);
  return 0;
}

/* What a program finds that was executed. It has no tracker of its own. */
static int child_executed(int argc, char **argv) {
  (void)argc, (void)argv;
  TEST_REQUIRE(busy_descriptors() == 0, "%zu descriptors of the tracker were inherited", busy_descriptors());
  return 0;
}

static pid_t execute_by_vfork(char *const *arguments) {
  pid_t child = vfork();
  if (child != 0) return child;
  /* The parent sleeps where no signal reaches it. */
  busy_wait(2);
  execv(arguments[0], arguments);
  _exit(127);
}

static int child_exec(int argc, char **argv) {
  pthread_t threads[2];
  busy_start(mebibytes(argc, argv));
  start_allocating(threads, 2);
  char *const arguments[] = {(char *)(uintptr_t)test_program(), "--child", "executed", NULL};
  setenv("GCRT_TRACKER", "none", 1);
  for (int i = 0; i < 20; i++) {
    pid_t child = -1;
    if (i % 2) {
      TEST_REQUIRE(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
    } else {
      child = execute_by_vfork(arguments);
    }
    wait_for(child);
  }
  stop_allocating(threads, 2);
  busy_stop();
  return 0;
}

/* --- libraries --- */

static const char *const small[] = {"roots_library_bss", "roots_library_data", "roots_library_tls_bss",
                                    "roots_library_tls_data", NULL};
static const char *const large[] = {"roots_library_large", NULL};

static void **slots_of(void *library, const char *name) {
  void **(*slots)(void);
  *(void **)&slots = dlsym(library, name);
  TEST_REQUIRE(slots != NULL, "%s", dlerror());
  return slots();
}

/* From a frame of its own, which leaves no address behind. */
static SYSTEM_NOINLINE void fill_slots(void *library, const char *const *names, uint64_t seed) {
  for (size_t i = 0; names[i]; i++) slots_of(library, names[i])[3] = list_make(200, seed + i);
}

static void use_library(const char *path, const char *const *names, uint64_t seed) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  TEST_REQUIRE(library != NULL, "%s", dlerror());
  fill_slots(library, names, seed);
  test_clear_stack();
  busy_wait(2);
  for (size_t i = 0; names[i]; i++) {
    void **slots = slots_of(library, names[i]);
    list_check(slots[3], 200, seed + i);
    slots[3] = NULL;
  }
  TEST_REQUIRE(dlclose(library) == 0, "%s", dlerror());
}

static int child_libraries(int argc, char **argv) {
  busy_start(mebibytes(argc, argv));
  for (uint64_t i = 0; i < 20; i++) {
    use_library(ROOTS_MODULE, small, i * 1000);
    use_library(LARGE_MODULE, large, i * 1000 + 500);
  }
  /* And without waiting, as fast as they come and go: many go while their variables are scanned. */
  unsigned last = busy_collections() + 24;
  for (int i = 0; busy_collections() < last; i++) {
    void *library = dlopen(i % 2 ? LARGE_MODULE : ROOTS_MODULE, RTLD_NOW | RTLD_LOCAL);
    TEST_REQUIRE(library != NULL && dlclose(library) == 0);
  }
  busy_stop();
  return 0;
}

/* --- threads --- */

/* Not of a size that fills its cell: while the world is stopped for a check, pthread_join may store the result on the
 * stack, where its address is also that of the end of the object before it. */
struct errand {
  struct link *list;
  uint64_t seed;
  uint64_t unused;
};

static void *run_errand(void *arg) {
  struct errand *errand = arg;
  TEST_REQUIRE(gc_base(errand) == errand);
  list_check(errand->list, 50, errand->seed);
  struct errand *result = gc_alloc(sizeof *result);
  TEST_REQUIRE(result != NULL);
  result->seed = errand->seed + 7;
  result->list = list_make(50, result->seed);
  return result;
}

static SYSTEM_NOINLINE pthread_t send(uint64_t seed) {
  struct errand *errand = gc_alloc(sizeof *errand);
  TEST_REQUIRE(errand != NULL);
  errand->seed = seed;
  errand->list = list_make(50, seed);
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, run_errand, errand) == 0);
  return thread;
}

static int child_threads(int argc, char **argv) {
  busy_start(mebibytes(argc, argv));
  for (uint64_t round = 0; round < 150; round++) {
    pthread_t threads[6];
    for (size_t i = 0; i < 6; i++) threads[i] = send(round * 100 + i);
    test_clear_stack();
    if (round % 16 == 0) busy_wait(2);
    for (size_t i = 0; i < 6; i++) {
      void *result;
      TEST_REQUIRE(pthread_join(threads[i], &result) == 0);
      struct errand *errand = result;
      TEST_REQUIRE(gc_base(errand) == errand && errand->seed == round * 100 + i + 7);
      list_check(errand->list, 50, errand->seed);
    }
  }
  busy_stop();
  return 0;
}

static void *after_main(void *arg) {
  busy_start((size_t)arg);
  pthread_t threads[2];
  start_allocating(threads, 2);
  busy_wait(5);
  const char *reason;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "none") != 0, "%s", reason);
  stop_allocating(threads, 2);
  busy_stop();
  printf("lived on\n");
  exit(0);
}

/* The first thread is a zombie before the first collection, and with GCRT_TRACKER=auto before the tracker is opened:
 * its files in /proc cannot be read any more. */
static int child_main_ends(int argc, char **argv) {
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, after_main, (void *)mebibytes(argc, argv)) == 0);
  pthread_exit(NULL);
}

/* --- settings and collections --- */

static void *collect_some(void *unused) {
  for (int i = 0; i < 12; i++) gc_collect();
  return unused;
}

/* What was unreachable when it asked is gone, whoever else asks in the meantime. */
static void *collect_and_compare(void *unused) {
  for (int i = 0; i < 6; i++) {
    struct system_set set;
    system_set_make(&set, 192, gc_alloc, NULL, NULL);
    gc_collect();
    TEST_REQUIRE(system_set_dead(&set), "%zu of a set live on after gc_collect", system_set_live(&set));
  }
  return unused;
}

static int child_collect_at_once(int argc, char **argv) {
  pthread_t threads[4];
  busy_start(mebibytes(argc, argv));
  for (size_t i = 0; i < 4; i++)
    TEST_REQUIRE(pthread_create(&threads[i], NULL, i ? collect_some : collect_and_compare, NULL) == 0);
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  busy_stop();
  return 0;
}

static int child_settings(int argc, char **argv) {
  static const int percents[] = {-1, 100, 1, 0, 300, 50, 1000000};
  pthread_t threads[2];
  busy_start(mebibytes(argc, argv));
  start_allocating(threads, 2);
  int old = gc_set_percent(100);
  for (size_t i = 0; i < 70; i++) {
    TEST_REQUIRE(gc_set_percent(percents[i % 7]) == (i == 0 ? 100 : percents[(i - 1) % 7]));
    list_check(list_make(300, i), 300, i);
    if (i % 7 == 6) busy_wait(1);
  }
  gc_set_percent(old);
  for (int i = 0; i < 12; i++) {
    struct link *list = list_make(20000, 9);
    gc_free_os_memory();
    list_check(list, 20000, 9);
  }
  stop_allocating(threads, 2);
  busy_stop();
  return 0;
}

/* --- memory runs out --- */

/* The heap is reserved already: what is refused are mark stacks, threads and tables. */
static void limit_address_space(size_t more) {
  FILE *file = fopen("/proc/self/statm", "re");
  unsigned long pages = 0;
  TEST_REQUIRE(file != NULL && fscanf(file, "%lu", &pages) == 1);
  fclose(file);
  struct rlimit limit;
  TEST_REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
  TEST_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

static SYSTEM_NOINLINE size_t fill(size_t size) {
  void **list = NULL;
  size_t count = 0;
  for (void **node; (node = gc_alloc(size)) != NULL; count++, list = node) {
    node[0] = list;
    node[1] = (void *)~(uintptr_t)node;
  }
  TEST_REQUIRE(errno == ENOMEM, "errno %d", errno);
  size_t length = 0;
  for (void **node = list, **next; node; node = next, length++) {
    TEST_REQUIRE(node[1] == (void *)~(uintptr_t)node, "node %zu was overwritten", length);
    next = node[0];
    node[0] = NULL;
  }
  TEST_REQUIRE(length == count, "%zu nodes of %zu", length, count);
  return count;
}

enum { WIDTH = 16000, TABLES = 8 };
static void **tables;

/* Tables of pointers, each with the next in its last place, which is marked first: the mark stack holds all of them at
 * once. What is behind a pointer has a child that is found only where nothing of the stack is dropped. */
static void make_tables(void) {
  for (int n = 0; n < TABLES; n++) {
    void **table = gc_alloc_array(WIDTH + 1, sizeof *table);
    TEST_REQUIRE(table != NULL);
    table[WIDTH] = tables;
    tables = table;
    for (size_t i = 0; i < WIDTH; i++) {
      void **parent = table[i] = gc_alloc(sizeof *parent);
      TEST_REQUIRE(parent != NULL && (*parent = gc_alloc(16)) != NULL);
    }
  }
}

static void check_tables(void) {
  size_t n = 0;
  for (void **table = tables; table; table = table[WIDTH], n++) {
    TEST_REQUIRE(gc_base(table) == table);
    for (size_t i = 0; i < WIDTH; i++) {
      void **parent = table[i];
      TEST_REQUIRE(gc_base(parent) == parent && gc_base(*parent) == *parent, "table %zu, %zu", n, i);
    }
  }
  TEST_REQUIRE(!tables || n == TABLES);
}

static int child_exhaust(int argc, char **argv) {
  size_t size = strtoul(argv[2], NULL, 10);
  bool limited = strcmp(argv[3], "limit") == 0;
  busy_start(mebibytes(argc, argv));
  if (limited) limit_address_space((size_t)64 << 10);
  if (limited) {
    make_tables();
    busy_wait(2);
    TEST_REQUIRE(system_metrics().mark_overflows > 0, "the mark stack had room");
  }
  for (int round = 0; round < 4; round++) {
    TEST_REQUIRE(fill(size) > 0, "round %d", round);
    busy_check();
    check_tables();
  }
  busy_stop();
  printf("lived on\n");
  return 0;
}

static const struct test_child_entry children[] = {
    BUSY_CHILD,
    {"fork", child_fork},
    {"fork-alone", child_fork_alone},
    {"exec", child_exec},
    {"executed", child_executed},
    {"libraries", child_libraries},
    {"threads", child_threads},
    {"main-ends", child_main_ends},
    {"collect-at-once", child_collect_at_once},
    {"settings", child_settings},
    {"exhaust", child_exhaust},
    {NULL, NULL},
};

struct scenario {
  const char *arguments[5]; /* name, MiB, more */
  bool verified;
  const char *setting; /* one more of the environment, or NULL */
};

static const struct scenario scenarios[] = {
    {{"fork", "24"}, false, NULL},
    {{"fork", "6"}, true, NULL},
    {{"fork-alone", "17"}, false, "GCRT_MARKERS=8"},
    {{"fork-alone", "14"}, true, "GCRT_MARKERS=8"},
    {{"exec", "64"}, false, NULL},
    {{"libraries", "64"}, false, NULL},
    {{"libraries", "6"}, true, NULL},
#if !SYSTEM_SANITIZED /* which keep the argument of a new thread in memory of their own until it runs */
    {{"threads", "64"}, false, NULL},
    {{"threads", "6"}, true, NULL},
#endif
    {{"main-ends", "64"}, false, NULL},
    {{"main-ends", "64"}, false, "GCRT_TRACKER=auto"},
    {{"collect-at-once", "64"}, false, NULL},
    {{"collect-at-once", "6"}, true, NULL},
    {{"settings", "64"}, false, NULL},
    {{"settings", "6"}, true, NULL},
};

static void run(const struct scenario *scenario) {
  const char *unavailable = busy_unavailable();
  if (unavailable) TEST_SKIP("%s", unavailable);
  busy_run(scenario->arguments, scenario->verified, scenario->setting);
}

START_TEST(during_marking) { run(&scenarios[_i]); }
END_TEST

static const struct scenario exhaustions[] = {
    {{"exhaust", "32", "64", "reserve"}, false, "GCRT_HEAP_RESERVE=64MiB"},
    {{"exhaust", "32", "100000", "reserve"}, false, "GCRT_HEAP_RESERVE=64MiB"},
    {{"exhaust", "6", "3000", "reserve"}, true, "GCRT_HEAP_RESERVE=16MiB"},
    {{"exhaust", "64", "64", "limit"}, false, "GCRT_HEAP_RESERVE=128MiB"},
    {{"exhaust", "64", "100000", "limit"}, false, "GCRT_HEAP_RESERVE=128MiB"},
};

START_TEST(memory_runs_out_during_marking) {
  if (SYSTEM_SANITIZED) TEST_SKIP("sanitizers need more address space than the limit leaves");
  /* The one marker needs the whole mark stack. */
  setenv("GCRT_MARKERS", "1", 1);
  run(&exhaustions[_i]);
  unsetenv("GCRT_MARKERS");
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "concurrent", 120);
  tcase_add_loop_test(tc, during_marking, 0, sizeof scenarios / sizeof *scenarios);
  tcase_add_loop_test(tc, memory_runs_out_during_marking, 0, sizeof exhaustions / sizeof *exhaustions);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
