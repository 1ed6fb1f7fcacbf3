/* Little address space and exhausted memory: the library starts with what there is, says ENOMEM when it is used up, and
 * the program lives on, as often as it likes.
 *
 * Limits are set by a child that then executes itself, because the reservation is made before main. */
#include "system.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* All that hangs on the list is live. */
static void **list;

static size_t fill(size_t size, size_t most) {
  size_t count = 0;
  for (; count < most; count++) {
    errno = 0;
    void **node = gc_alloc(size);
    if (node == NULL) {
      TEST_REQUIRE(errno == ENOMEM, "errno %d", errno);
      return count;
    }
    node[0] = list;
    node[1] = (void *)~(uintptr_t)node;
    list = node;
  }
  return count;
}

static size_t length(void) {
  size_t n = 0;
  for (void **node = list; node; node = node[0], n++)
    TEST_REQUIRE(node[1] == (void *)~(uintptr_t)node, "node %zu was overwritten", n);
  return n;
}

/* Unlinks as it goes: a single stale pointer may then keep one node, not the list. */
static void drop(void) {
  for (void **node = list, **next; node; node = next) {
    next = node[0];
    node[0] = NULL;
  }
  list = NULL;
  test_clear_stack();
}

static void check_balance(void) {
  struct runtime_metrics m = system_metrics();
  const char *bad = system_unbalanced(&m);
  TEST_REQUIRE(bad == NULL, "%s", bad);
}

/* Fills and empties the heap `rounds` times with objects of `size` bytes. */
static int child_exhaust(int argc, char **argv) {
  (void)argc;
  size_t size = strtoul(argv[1], NULL, 10), rounds = strtoul(argv[2], NULL, 10), first = 0;
  for (size_t round = 0; round < rounds; round++) {
    size_t count = fill(size, SIZE_MAX);
    TEST_REQUIRE(length() == count);
    if (round == 0) first = count;
    printf("round %zu: %zu objects\n", round, count);
    /* A few objects may be kept by chance; a heap that shrinks from round to round is a leak. */
    TEST_REQUIRE(count * size >= ((size_t)8 << 20) && count >= first / 2, "%zu objects, at first %zu", count, first);
    check_balance();
    for (int i = 0; i < 3; i++) {
      errno = 0;
      void *p = gc_alloc((size_t)1 << 30);
      TEST_REQUIRE(p == NULL && errno == ENOMEM, "gave %p, errno %d, in round %zu", p, errno, round);
    }
    drop();
  }
  TEST_REQUIRE(gc_alloc(64) != NULL);
  printf("lived on\n");
  return 0;
}

static int child_fail_often(int argc, char **argv) {
  (void)argc, (void)argv;
  fill(1000, 1000);
  for (int i = 0; i < 300; i++) {
    errno = 0;
    void *p = gc_alloc_noscan((size_t)1 << 40);
    TEST_REQUIRE(p == NULL && errno == ENOMEM);
    fill(1000, 1);
  }
  TEST_REQUIRE(length() == 1300);
  check_balance();
  printf("lived on\n");
  return 0;
}

static int done;

static void *fill_in_thread(void *arg) {
  size_t failed = 0;
  for (int round = 0; round < 20; round++) {
    void **mine = NULL;
    for (void **node; (node = gc_alloc(4096)) != NULL; mine = node) {
      node[0] = mine;
      node[100] = arg;
    }
    TEST_REQUIRE(errno == ENOMEM);
    failed++;
    for (void **node = mine, **next; node; node = next) {
      TEST_REQUIRE(node[100] == arg);
      next = node[0];
      node[0] = NULL;
    }
  }
  __atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
  return (void *)failed;
}

static int child_threads(int argc, char **argv) {
  (void)argc, (void)argv;
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++) TEST_REQUIRE(pthread_create(&threads[i], NULL, fill_in_thread, (void *)(i + 1)) == 0);
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  check_balance();
  TEST_REQUIRE(gc_alloc(4096) != NULL);
  printf("lived on, %d\n", done);
  return 0;
}

static int child_start(int argc, char **argv) {
  (void)argc, (void)argv;
  fill(1000, 4000);
  gc_collect();
  TEST_REQUIRE(length() == 4000);
  check_balance();
  printf("started\n");
  return 0;
}

/* At least argv[1] MiB of objects. */
static int child_fill(int argc, char **argv) {
  (void)argc;
  size_t least = strtoul(argv[1], NULL, 10) << 20, count = fill(4096, SIZE_MAX);
  TEST_REQUIRE(count * 4096 >= least, "%zu KiB", count * 4);
  TEST_REQUIRE(length() == count);
  drop();
  TEST_REQUIRE(gc_alloc(64) != NULL);
  printf("filled\n");
  return 0;
}

/* Lowers a limit to argv[1] MiB and executes this program again as the child argv[2]. */
static int execute_limited(int argc, char **argv, int resource) {
  struct rlimit limit = {strtoul(argv[1], NULL, 10) << 20, strtoul(argv[1], NULL, 10) << 20};
  TEST_REQUIRE(argc >= 3 && setrlimit(resource, &limit) == 0);
  char *arguments[8] = {(char *)test_program(), "--child"};
  for (int i = 2; i < argc && i < 7; i++) arguments[i] = argv[i];
  execv(test_program(), arguments);
  perror("execv");
  return 1;
}

static int child_limited(int argc, char **argv) { return execute_limited(argc, argv, RLIMIT_AS); }
static int child_limited_data(int argc, char **argv) { return execute_limited(argc, argv, RLIMIT_DATA); }

static const struct test_child_entry children[] = {{"exhaust", child_exhaust},
                                                   {"fail-often", child_fail_often},
                                                   {"threads", child_threads},
                                                   {"start", child_start},
                                                   {"fill", child_fill},
                                                   {"limited", child_limited},
                                                   {"limited-data", child_limited_data},
                                                   {NULL, NULL}};

static void check_child(const char *name, const char *const *arguments, const char *reserve, const char *output) {
  char setting[100];
  snprintf(setting, sizeof setting, "GCRT_HEAP_RESERVE=%s", reserve ? reserve : "");
  const char *environment[] = {reserve ? setting : "GCRT_HEAP_RESERVE", "GCRT_STRESS", NULL};
  struct test_child child = test_child_exec_self(
      name, arguments, &(struct test_child_options){.environment = environment, .timeout_seconds = 40});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, output);
  test_child_free(&child);
}

static const char *const exhaust_cases[][3] = {
    {"64", "3", NULL}, {"1000", "10", NULL}, {"40000", "20", NULL}, {"1048576", "30", NULL}};

START_TEST(small_reserve_is_exhausted_again_and_again) {
  check_child("exhaust", exhaust_cases[_i], "32MiB", "lived on");
}
END_TEST

START_TEST(impossible_sizes_again_and_again) { check_child("fail-often", NULL, NULL, "lived on"); }
END_TEST

START_TEST(four_threads_exhaust_the_heap) { check_child("threads", NULL, "32MiB", "lived on, 4"); }
END_TEST

static const char *const limits[] = {"128", "256", "1024", "8192"};

START_TEST(starts_under_an_address_space_limit) {
  if (SYSTEM_SANITIZED) TEST_SKIP("sanitizers need more address space than the limit leaves");
  const char *arguments[] = {limits[_i], "start", NULL};
  check_child("limited", arguments, NULL, "started");
}
END_TEST

START_TEST(exhausts_an_address_space_limit) {
  if (SYSTEM_SANITIZED) TEST_SKIP("sanitizers need more address space than the limit leaves");
  const char *arguments[] = {"256", "exhaust", "65536", "6", NULL};
  check_child("limited", arguments, NULL, "lived on");
}
END_TEST

/* What was asked for is taken where it leaves a quarter; otherwise half of what is left. */
static const char *const reserves[][3] = {{"140MiB", "130"}, {"", "90"}};

START_TEST(an_address_space_limit_leaves_what_was_asked_for) {
  if (SYSTEM_SANITIZED) TEST_SKIP("sanitizers need more address space than the limit leaves");
  const char *arguments[] = {"200", "fill", reserves[_i][1], NULL};
  check_child("limited", arguments, *reserves[_i][0] ? reserves[_i][0] : NULL, "filled");
}
END_TEST

static const char *const data_limits[][2] = {{"100", "75"}, {"200", "160"}, {"400", "330"}};

START_TEST(a_limit_on_data_leaves_most_of_it_to_the_heap) {
  if (test_writes_fault()) TEST_SKIP("the tracker's own table counts as data, 64 MiB");
  if (SYSTEM_SANITIZED) TEST_SKIP("the memory of sanitizers counts as well");
  const char *arguments[] = {data_limits[_i][0], "fill", data_limits[_i][1], NULL};
  check_child("limited-data", arguments, NULL, "filled");
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *memory = test_case(suite, "limits-memory", 60);
  tcase_add_loop_test(memory, small_reserve_is_exhausted_again_and_again, 0, 4);
  tcase_add_test(memory, impossible_sizes_again_and_again);
  tcase_add_test(memory, four_threads_exhaust_the_heap);
  TCase *space = test_case(suite, "limits-address-space", 60);
  tcase_add_loop_test(space, starts_under_an_address_space_limit, 0, 4);
  tcase_add_test(space, exhausts_an_address_space_limit);
  tcase_add_loop_test(space, an_address_space_limit_leaves_what_was_asked_for, 0, 2);
  TCase *data = test_case(suite, "limits-data", 60);
  tcase_add_loop_test(data, a_limit_on_data_leaves_most_of_it_to_the_heap, 0, 3);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
