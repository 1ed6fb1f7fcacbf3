/* A program that handles NULL lives on: under each kind of limit it is refused memory thousands of times, and goes on
 * allocating and checking its data in between. The handler is asked before, and asked again.
 *
 * Limits are set by a child that then executes itself, because the reservation is made before main. */
#include "system.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { REFUSALS = 2000, SMALL = 200 };

struct node {
  struct node *next;
  uintptr_t check;
  char rest[];
};

static struct node *list, *reserve;
static size_t length, refused;

static struct node *try_node(size_t size) {
  errno = 0;
  struct node *node = gc_alloc(size);
  TEST_REQUIRE(node != NULL || errno == ENOMEM, "errno %d", errno);
  if (node == NULL) {
    refused++;
    return NULL;
  }
  TEST_REQUIRE(node->next == NULL && node->check == 0, "memory is not zero");
  node->check = ~(uintptr_t)node;
  return node;
}

static void check_list(void) {
  size_t n = 0;
  for (struct node *node = list; node; node = node->next, n++)
    TEST_REQUIRE(node->check == ~(uintptr_t)node, "node %zu", n);
  TEST_REQUIRE(n == length);
}

static void drop(size_t count) {
  for (; count && list; count--, length--) {
    struct node *next = list->next;
    list->next = NULL;
    list = next;
  }
}

/* Takes what there is, in large pieces and the rest in small ones; a NULL each time. What was dropped must be found
 * by the very next allocation. */
static int child_refuse(int argc, char **argv) {
  (void)argc, (void)argv;
  static const size_t sizes[] = {200 * 1024, 5000, SMALL};
  struct test_random random = test_random_stream(1);
  double begin = test_now();
  /* What an empty heap could not hold takes no collection. */
  gc_collect();
  uint32_t collections = system_collections();
  for (int i = 0; i < 100; i++) TEST_REQUIRE(try_node(1024 * MIB) == NULL);
  TEST_REQUIRE(system_collections() == collections);
  while (refused < REFUSALS) {
    for (size_t i = 0; i < 3; i++) {
      for (struct node *node; (node = try_node(sizes[i])) != NULL; list = node, length++) node->next = list;
    }
    for (int i = 0; i < 2; i++) {
      TEST_REQUIRE(try_node(1024 * MIB) == NULL && try_node((size_t)3 << 40) == NULL);
    }
    check_list();
    drop(1 + test_random_below(&random, length / 8));
    test_clear_stack();
    struct runtime_metrics m = system_metrics();
    const char *bad = system_unbalanced(&m);
    TEST_REQUIRE(bad == NULL, "%s", bad);
  }
  check_list();
  drop(SIZE_MAX);
  test_clear_stack();
  for (int i = 0; i < 100; i++) TEST_REQUIRE(try_node(40000) != NULL);
  printf("lived on: %zu refused in %.1f s, %u collections\n", refused, test_now() - begin, system_collections());
  return 0;
}

/* Drops all that it can each time: the allocation after a NULL has to succeed. */
static int child_drop(int argc, char **argv) {
  (void)argc, (void)argv;
  for (int round = 0; round < 50; round++) {
    for (struct node *node; (node = try_node(60000)) != NULL; list = node, length++) node->next = list;
    TEST_REQUIRE(length > 100, "%zu nodes in round %d", length, round);
    drop(SIZE_MAX);
    test_clear_stack();
    TEST_REQUIRE(try_node(60000) != NULL, "round %d", round);
  }
  printf("lived on\n");
  return 0;
}

/* --- the handler -------------------------------------------------------------------------------------------------- */

static unsigned asked;
static size_t asked_for;

static int handler(size_t size, void *arg) {
  const struct node *token = arg;
  TEST_REQUIRE(token->check == 77, "the argument was reclaimed");
  asked++;
  asked_for = size;
  /* It is not asked for this one. */
  TEST_REQUIRE(gc_alloc_noscan((size_t)3 << 40) == NULL);
  if (!reserve) return 0;
  reserve = NULL;
  return 1;
}

static int child_handler(int argc, char **argv) {
  (void)argc, (void)argv;
  struct node *token = gc_alloc_noscan(64);
  token->check = 77;
  TEST_REQUIRE(gc_set_oom_handler(handler, token) == 0);
  token = NULL;
  reserve = gc_alloc(4 * MIB);
  TEST_REQUIRE(reserve != NULL);
  size_t before_first = 0;
  for (struct node *node; (node = try_node(30000)) != NULL; list = node, length++) {
    node->next = list;
    if (asked == 0) before_first++;
  }
  TEST_REQUIRE(asked == 2 && asked_for == 30000, "asked %u times, for %zu", asked, asked_for);
  /* What it dropped was used. */
  TEST_REQUIRE(length >= before_first + 50, "%zu, then %zu", before_first, length);
  check_list();
  TEST_REQUIRE(gc_set_oom_handler(NULL, NULL) == 0 && try_node(MIB) == NULL && asked == 2);
  printf("lived on\n");
  return 0;
}

/* --- under limits ------------------------------------------------------------------------------------------------- */

/* Lowers a limit, argv[1], to argv[2] MiB and executes this program again as the child argv[3]. */
static int child_limited(int argc, char **argv) {
  TEST_REQUIRE(argc == 4);
  size_t bytes = strtoul(argv[2], NULL, 10) * MIB;
  struct rlimit limit = {bytes, bytes};
  TEST_REQUIRE(setrlimit(strcmp(argv[1], "as") == 0 ? RLIMIT_AS : RLIMIT_DATA, &limit) == 0);
  char *arguments[] = {(char *)test_program(), "--child", argv[3], NULL};
  execv(test_program(), arguments);
  perror("execv");
  return 1;
}

static const struct test_child_entry children[] = {
    {"refuse", child_refuse},   {"drop", child_drop}, {"handler", child_handler},
    {"limited", child_limited}, {NULL, NULL},
};

static const struct {
  const char *kind, *megabytes, *reserve;
} limits[] = {
    {NULL, NULL, "GCRT_HEAP_RESERVE=24MiB"},
    {"as", "128", "GCRT_HEAP_RESERVE"},
    /* Tables count as data; those of 2 GiB are 250 MiB. */
    {"data", "340", "GCRT_HEAP_RESERVE=2GiB"},
};
enum { LIMITS = sizeof limits / sizeof *limits };

static void run(const char *name, unsigned i) {
  const char *arguments[] = {limits[i].kind, limits[i].megabytes, name, NULL};
  const char *environment[] = {limits[i].reserve, "GCRT_STRESS", "GCRT_MEMLIMIT", NULL};
  const struct test_child_options options = {.environment = environment, .timeout_seconds = 200};
  struct test_child child = limits[i].kind ? test_child_exec_self("limited", arguments, &options)
                                           : test_child_exec_self(name, NULL, &options);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "lived on");
  printf("%s", child.out);
  test_child_free(&child);
}

static const char *without_sense(unsigned i) {
  if (!limits[i].kind) return NULL;
  if (SYSTEM_SANITIZED) return "sanitizers need more memory than the limit leaves";
  bool data = strcmp(limits[i].kind, "data") == 0;
  return data && test_writes_fault() ? "making a page writable may be refused as well, which ends the program" : NULL;
}

#define SKIP_WITHOUT_SENSE                                                                                             \
  if (without_sense((unsigned)_i)) TEST_SKIP("%s", without_sense((unsigned)_i))

START_TEST(refused_thousands_of_times) {
  SKIP_WITHOUT_SENSE;
  run("refuse", (unsigned)_i);
}
END_TEST

START_TEST(what_was_dropped_is_found_at_once) {
  SKIP_WITHOUT_SENSE;
  run("drop", (unsigned)_i);
}
END_TEST

START_TEST(handler_is_asked) {
  SKIP_WITHOUT_SENSE;
  run("handler", (unsigned)_i);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tests = test_case(suite, "out-of-memory", 240);
  tcase_add_loop_test(tests, refused_thousands_of_times, 0, LIMITS);
  tcase_add_loop_test(tests, what_was_dropped_is_found_at_once, 0, LIMITS);
  tcase_add_loop_test(tests, handler_is_asked, 0, LIMITS);
  return suite;
}

TEST_MAIN_CHILDREN(make_suite, children)
