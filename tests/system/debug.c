/* GCRT_DEBUG and GCRT_STRESS: the forms of the traces' lines, clobbered objects, and a program that works under each.
 *
 * The work is the same for all: lists and trees with contents, made by three threads, checked at the end. */
#include "system.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tree {
  struct tree *left, *right;
  uint64_t check;
};

static SYSTEM_NOINLINE struct tree *make_tree(int depth, uint64_t check) {
  struct tree *tree = gc_alloc(sizeof *tree);
  TEST_REQUIRE(tree != NULL && tree->left == NULL && tree->right == NULL && tree->check == 0, "memory is not zero");
  if (depth > 0) {
    tree->left = make_tree(depth - 1, check * 2);
    tree->right = make_tree(depth - 1, check * 2 + 1);
  }
  tree->check = check;
  return tree;
}

static size_t check_tree(const struct tree *tree, uint64_t check) {
  TEST_REQUIRE(tree->check == check, "a node holds %llx", (unsigned long long)tree->check);
  return 1 + (tree->left ? check_tree(tree->left, check * 2) + check_tree(tree->right, check * 2 + 1) : 0);
}

static int depth;

static void *work(void *arg) {
  struct tree *kept = make_tree(depth, (uintptr_t)arg);
  char *name = gc_asprintf("thread %zu", (size_t)arg);
  for (int i = 0; i < 4; i++) {
    struct tree *dropped = make_tree(depth, 5);
    TEST_REQUIRE(check_tree(dropped, 5) == ((size_t)2 << depth) - 1);
    gc_free(gc_realloc(gc_alloc_noscan(100), 7000));
  }
  TEST_REQUIRE(check_tree(kept, (uintptr_t)arg) == ((size_t)2 << depth) - 1);
  TEST_REQUIRE(strncmp(name, "thread ", 7) == 0);
  return NULL;
}

/* argv[1]: depth of the trees. Prints how often it collected. */
static int child_work(int argc, char **argv) {
  (void)argc;
  depth = atoi(argv[1]);
  /* Starts the thread of concurrent collections: while one starts it, others collect in one stop. */
  gc_collect();
  pthread_t threads[2];
  for (size_t i = 0; i < 2; i++) TEST_REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(i + 2)) == 0);
  work((void *)1);
  for (size_t i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  gc_collect();
  struct runtime_metrics m = system_metrics();
  printf("cycles %u forced %u\n", m.num_gc, m.num_forced_gc);
  return 0;
}

static int child_clobber(int argc, char **argv) {
  (void)argc, (void)argv;
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  for (int i = 0; i < 2; i++) system_collect();
  size_t freed = 0, clobbered = 0;
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    const unsigned char *p = test_reveal(set.hidden[i]);
    if (gc_base(p) != NULL) continue;
    freed++;
    size_t same = 0;
    while (same < 48 && p[same] == 0xdb) same++;
    clobbered += same == 48;
  }
  printf("freed %zu clobbered %zu\n", freed, clobbered);
  unsigned char *explicit = gc_alloc_noscan(1000);
  memset(explicit, 1, 1000);
  gc_free(explicit);
  printf("free %d\n", explicit[0] == 0xdb && explicit[999] == 0xdb);
  for (int i = 0; i < 2000; i++) {
    unsigned char *p = gc_alloc(48);
    for (int b = 0; b < 48; b++) TEST_REQUIRE(p[b] == 0, "a new object is not zero");
  }
  return 0;
}

static const struct test_child_entry children[] = {{"work", child_work}, {"clobber", child_clobber}, {NULL, NULL}};

/* tracker: NULL leaves GCRT_TRACKER as it is. */
static struct test_child run_with(const char *tracker, const char *name, const char *argument, const char *debug,
                                  const char *stress) {
  char debug_setting[100], stress_setting[100], tracker_setting[100];
  snprintf(debug_setting, sizeof debug_setting, "GCRT_DEBUG=%s", debug);
  snprintf(stress_setting, sizeof stress_setting, "GCRT_STRESS=%s", stress);
  snprintf(tracker_setting, sizeof tracker_setting, "GCRT_TRACKER=%s", tracker ? tracker : "");
  const char *environment[] = {debug_setting, stress_setting, "GCRT_GOGC", tracker ? tracker_setting : NULL, NULL};
  const char *arguments[] = {argument, NULL};
  struct test_child_options options = {.environment = environment, .timeout_seconds = 40};
  return test_child_exec_self(name, arguments, &options);
}

static struct test_child run(const char *name, const char *argument, const char *debug, const char *stress) {
  return run_with(NULL, name, argument, debug, stress);
}

#define MS "[0-9]+(\\.[0-9]+)?"
#define SIZES " ms cpu, ([0-9]+)->([0-9]+)->[0-9]+ MB, [0-9]+ MB goal, [0-9]+ MB stacks, [0-9]+ MB globals, [0-9]+ P"

/* Groups: the number, START, END, (forced). */
static const struct {
  const char *tracker, *line;
  unsigned groups[4];
} traces[] = {
    {"none",
     "^gc ([0-9]+) @[0-9]+\\.[0-9]+s [0-9]+%: 0\\+0\\+" MS " ms clock, 0\\+0\\+" MS SIZES "( \\(forced\\))?$",
     {1, 4, 5, 6}},
    {"uffd",
     "^gc ([0-9]+) @[0-9]+\\.[0-9]+s [0-9]+%: " MS "\\+" MS "\\+" MS " ms clock, " MS "\\+" MS "\\+" MS SIZES
     ", uffd: [1-8] rounds, [0-9]+ pages, [0-9]+ in the stop, " MS " ms arming( \\(forced\\))?$",
     {1, 8, 9, 11}},
};

/* The number of the group's match. */
static unsigned long number_of(const char *line, const regmatch_t *match) {
  ck_assert_msg(match->rm_so >= 0, "no number there: %s", line);
  return strtoul(line + match->rm_so, NULL, 10);
}

START_TEST(trace_has_one_line_a_collection) {
  struct test_child child = run_with(traces[_i].tracker, "work", "13", "gctrace=1", "");
  if (system_uffd_refused(&child)) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  unsigned cycles = 0, forced = 0, seen = 0, seen_forced = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u forced %u", &cycles, &forced), 2);
  ck_assert_uint_ge(cycles, 2);
  regex_t regex;
  ck_assert_int_eq(regcomp(&regex, traces[_i].line, REG_EXTENDED), 0);
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line == 0) continue;
    regmatch_t match[12];
    const unsigned *group = traces[_i].groups;
    ck_assert_msg(regexec(&regex, line, 12, match, 0) == 0, "not a trace line: %s", line);
    ck_assert_uint_eq(number_of(line, &match[group[0]]), ++seen);
    /* Nothing is allocated in a stop. */
    unsigned long start = number_of(line, &match[group[1]]), end = number_of(line, &match[group[2]]);
    ck_assert_msg(_i > 0 || start == end, "%s", line);
    seen_forced += match[group[3]].rm_so >= 0;
  }
  regfree(&regex);
  ck_assert_uint_eq(seen, cycles);
  ck_assert_uint_eq(seen_forced, forced);
  test_child_free(&child);
}
END_TEST

#define PLAN " assist ratio=[0-9]+\\.[0-9]{3} \\(scan [0-9]+ MB in [0-9]+->[0-9]+ MB\\) workers=[1-9] share=[0-9]+%$"
#define RESULT                                                                                                         \
  " B work( \\([0-9]+ B exp\\.\\))? in ([0-9]+) B -> ([0-9]+) B \\(∆goal ([+-][0-9]+), cons/mark "                   \
  "[0-9]+\\.[0-9]{3}\\)$"

/* The first line of a collection, or NULL; the second. */
static const struct {
  const char *tracker, *plan, *result;
} pacer_traces[] = {
    {"none", NULL, "^pacer: gc ([0-9]+) one stop for [0-9]+\\+[0-9]+\\+[0-9]+" RESULT},
    {"uffd", "^pacer: gc ([0-9]+)" PLAN,
     "^pacer: gc ([0-9]+) [0-9]+% CPU \\([0-9]+ exp\\.\\) for [0-9]+\\+[0-9]+\\+[0-9]+" RESULT},
};

static void match_line(const char *pattern, const char *line, regmatch_t *match) {
  regex_t regex;
  ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED), 0);
  ck_assert_msg(line && regexec(&regex, line, 12, match, 0) == 0, "not a line of the pacer: %s", line ? line : "none");
  regfree(&regex);
}

START_TEST(pacer_trace_has_a_plan_and_a_result) {
  /* Deep enough for several collections by the goal: a single one may begin when all allocation is over. */
  struct test_child child = run_with(pacer_traces[_i].tracker, "work", "15", "gcpacertrace=1", "");
  if (system_uffd_refused(&child)) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  unsigned cycles = 0, seen = 0, growing = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u", &cycles), 1);
  ck_assert_uint_ge(cycles, 2);
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != 0;) {
    regmatch_t match[12];
    seen++;
    if (pacer_traces[_i].plan) {
      match_line(pacer_traces[_i].plan, line, match);
      ck_assert_uint_eq(number_of(line, &match[1]), seen);
      line = strsep(&rest, "\n");
    }
    match_line(pacer_traces[_i].result, line, match);
    ck_assert_uint_eq(number_of(line, &match[1]), seen);
    unsigned long begin = number_of(line, &match[3]), end = number_of(line, &match[4]);
    /* Nothing is allocated in a stop. */
    ck_assert_msg(pacer_traces[_i].plan || begin == end, "%s", line);
    growing += begin < end;
    /* The goal that it says: 4 MiB at least. */
    ck_assert_msg((long)end - strtol(line + match[5].rm_so, NULL, 10) >= 4 << 20, "%s", line);
  }
  ck_assert_uint_eq(seen, cycles);
  ck_assert_uint_eq(growing > 0, pacer_traces[_i].plan != NULL);
  test_child_free(&child);
}
END_TEST

enum { GIB_IN_KIB = 1 << 20 };

#define KIB(name) " ([0-9]+) KiB " name

/* The heap is within what the library has, and time goes on. Three lines a collection beside the program, two of one in
 * a stop. */
START_TEST(heap_trace_has_what_there_is) {
  static const struct {
    const char *tracker;
    unsigned lines;
  } traced[] = {{"none", 2}, {"uffd", 3}};
  struct test_child child = run_with(traced[_i].tracker, "work", "13", "heaptrace=1", "");
  if (system_uffd_refused(&child)) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  unsigned cycles = 0, seen = 0, alive = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u", &cycles), 1);
  regex_t regex;
  ck_assert_int_eq(regcomp(&regex,
                           "^heap @([0-9]+\\.[0-9]{3})s" KIB("alloc,") KIB("live,") KIB("goal,") KIB("total,")
                               KIB("RSS,") " off KiB limit$",
                           REG_EXTENDED),
                   0);
  double last = 0;
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line == 0) continue;
    regmatch_t match[7];
    ck_assert_msg(regexec(&regex, line, 7, match, 0) == 0, "not a line of the heap: %s", line);
    double time = strtod(line + match[1].rm_so, NULL);
    unsigned long alloc = number_of(line, &match[2]), live = number_of(line, &match[3]);
    unsigned long goal = number_of(line, &match[4]), total = number_of(line, &match[5]);
    unsigned long resident = number_of(line, &match[6]);
    ck_assert_msg(time >= last && alloc <= total && goal >= live && goal >= 4096, "%s", line);
    ck_assert_msg(resident > 0 && total < GIB_IN_KIB, "%s", line);
    alive += live > 0;
    last = time;
    seen++;
  }
  regfree(&regex);
  ck_assert_uint_ge(seen, cycles * traced[_i].lines);
  ck_assert_uint_gt(alive, 0);
  test_child_free(&child);
}
END_TEST

static const struct {
  const char *tracker, *phases[8];
} phase_orders[] = {
    {"none", {"STOP", "SWEEP", "IDLE"}},
    {"uffd", {"ARM", "ROOTS", "MARK", "PRECLEAN", "STOP", "SWEEP", "IDLE"}},
};

START_TEST(phases_come_in_their_order) {
  struct test_child child = run_with(phase_orders[_i].tracker, "work", "12", "phasetrace=1", "");
  if (system_uffd_refused(&child)) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  unsigned cycles = 0, number = 1, next = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u", &cycles), 1);
  double last = 0;
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line == 0) continue;
    char expected[64], name[16] = "";
    double time = 0;
    ck_assert_msg(sscanf(line, "gc %*u @%lfs %15s", &time, name) == 2, "not a line of a phase: %s", line);
    snprintf(expected, sizeof expected, "gc %u @%.6fs %s", number, time, phase_orders[_i].phases[next]);
    ck_assert_str_eq(line, expected);
    ck_assert_msg(time >= last, "%s after %f", line, last);
    last = time;
    if (phase_orders[_i].phases[++next] != NULL) continue;
    next = 0;
    number++;
  }
  ck_assert_uint_eq(next, 0);
  ck_assert_uint_eq(number - 1, cycles);
  test_child_free(&child);
}
END_TEST

START_TEST(clobberfree_fills_what_is_freed) {
  struct test_child child = run("clobber", NULL, "clobberfree=1", "");
  test_assert_exited(&child, 0);
  unsigned freed = 0, clobbered = 0, by_free = 0;
  ck_assert_msg(sscanf(child.out, "freed %u clobbered %u\nfree %u", &freed, &clobbered, &by_free) == 3, "%s",
                test_child_text(&child));
  ck_assert_uint_ge(freed, SYSTEM_SET * 3 / 4);
  ck_assert_uint_eq(clobbered, freed);
  ck_assert_uint_eq(by_free, 1);
  test_child_free(&child);
}
END_TEST

static const struct {
  const char *debug, *stress, *depth;
} modes[] = {
    {"", "", "13"},
    {"clobberfree=1", "", "13"},
    {"checkmark=1", "", "13"},
    {"verify=1", "", "13"},
    {"clobberfree=1,checkmark=1,verify=1", "", "12"},
    {"", "1", "5"},
    {"", "7", "7"},
    {"clobberfree=1", "3", "6"},
    {"checkmark=1,verify=1", "5", "6"},
    {"clobberfree=1,checkmark=1,verify=1", "11", "7"},
};

START_TEST(a_program_works_in_every_mode) {
  struct test_child child = run("work", modes[_i].depth, modes[_i].debug, modes[_i].stress);
  test_assert_exited(&child, 0);
  ck_assert_msg(child.err_size == 0, "no message is due: %s", test_child_text(&child));
  if (modes[_i].stress[0]) {
    unsigned cycles = 0;
    ck_assert_int_eq(sscanf(child.out, "cycles %u", &cycles), 1);
    unsigned allocations = 3 * 5 * ((2u << atoi(modes[_i].depth)) - 1), stride = (unsigned)atoi(modes[_i].stress);
    /* Threads that ask at once may share a collection. */
    ck_assert_msg(cycles >= allocations / stride / 3, "%u collections in %u allocations", cycles, allocations);
  }
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "debug", 60);
  tcase_add_loop_test(tc, trace_has_one_line_a_collection, 0, (int)(sizeof traces / sizeof *traces));
  tcase_add_loop_test(tc, pacer_trace_has_a_plan_and_a_result, 0, (int)(sizeof pacer_traces / sizeof *pacer_traces));
  tcase_add_loop_test(tc, heap_trace_has_what_there_is, 0, 2);
  tcase_add_loop_test(tc, phases_come_in_their_order, 0, (int)(sizeof phase_orders / sizeof *phase_orders));
  tcase_add_test(tc, clobberfree_fills_what_is_freed);
  tcase_add_loop_test(tc, a_program_works_in_every_mode, 0, (int)(sizeof modes / sizeof *modes));
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
