/* GCRT_DEBUG and GCRT_STRESS: the form of the gctrace line, clobbered objects, and a program that works under each.
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

static struct test_child run(const char *name, const char *argument, const char *debug, const char *stress) {
  char debug_setting[100], stress_setting[100];
  snprintf(debug_setting, sizeof debug_setting, "GCRT_DEBUG=%s", debug);
  snprintf(stress_setting, sizeof stress_setting, "GCRT_STRESS=%s", stress);
  const char *environment[] = {debug_setting, stress_setting, "GCRT_GOGC", NULL}, *arguments[] = {argument, NULL};
  struct test_child_options options = {.environment = environment, .timeout_seconds = 40};
  return test_child_exec_self(name, arguments, &options);
}

static const char trace_line[] =
    "^gc ([0-9]+) @[0-9]+\\.[0-9]+s [0-9]+%: [0-9.]+\\+[0-9.]+\\+[0-9.]+ ms clock, "
    "[0-9.]+\\+[0-9./]+\\+[0-9.]+ ms cpu, [0-9]+->[0-9]+->[0-9]+ MB, [0-9]+ MB goal, [0-9]+ MB stacks, "
    "[0-9]+ MB globals, [0-9]+ P( \\(forced\\))?$";

START_TEST(trace_has_one_line_a_collection) {
  struct test_child child = run("work", "13", "gctrace=1", "");
  test_assert_exited(&child, 0);
  unsigned cycles = 0, forced = 0, seen = 0, seen_forced = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u forced %u", &cycles, &forced), 2);
  ck_assert_uint_ge(cycles, 2);
  regex_t regex;
  ck_assert_int_eq(regcomp(&regex, trace_line, REG_EXTENDED), 0);
  char *rest = child.err;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line == 0) continue;
    regmatch_t match[3];
    ck_assert_msg(regexec(&regex, line, 3, match, 0) == 0, "not a trace line: %s", line);
    ck_assert_uint_eq(strtoul(line + match[1].rm_so, NULL, 10), ++seen);
    seen_forced += match[2].rm_so >= 0;
  }
  regfree(&regex);
  ck_assert_uint_eq(seen, cycles);
  ck_assert_uint_eq(seen_forced, forced);
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
  tcase_add_test(tc, trace_has_one_line_a_collection);
  tcase_add_test(tc, clobberfree_fills_what_is_freed);
  tcase_add_loop_test(tc, a_program_works_in_every_mode, 0, (int)(sizeof modes / sizeof *modes));
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
