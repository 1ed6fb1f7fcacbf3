/* Memory that goes back while objects are marked beside the program: under each tracker, with every check of the heap.
 *
 * Threads make lists and large objects, check and drop them, so that chunks are freed, given back and taken again at
 * any moment of a collection; one thread collects, two others give back all that is free, always. */
#include "cycle/scavenger.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "sys/proc.h"

#include "support/support.h"

#include <gcrt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORKERS = 3, ROUNDS = 60, LIST = 3000, LARGE_WORDS = 40000 };

static int working = WORKERS;
static gcrt_word released;

static bool goes_on(void) { return __atomic_load_n(&working, __ATOMIC_ACQUIRE) > 0; }

struct link {
  struct link *next;
  uintptr_t **large; /* a table of pointers of some hundred KiB, in a few of them */
  uintptr_t check;
};

static uintptr_t **make_large(uintptr_t check) {
  uintptr_t **large = gc_alloc(LARGE_WORDS * sizeof *large);
  TEST_REQUIRE(large != NULL);
  for (size_t i = 0; i < LARGE_WORDS; i += 512) {
    TEST_REQUIRE(large[i] == NULL, "memory is not zero");
    large[i] = gc_alloc(2000);
    TEST_REQUIRE(large[i] != NULL && *large[i] == 0);
    *large[i] = check + i;
  }
  return large;
}

static void check_large(uintptr_t **large, uintptr_t check) {
  for (size_t i = 0; i < LARGE_WORDS; i += 512) TEST_REQUIRE(large[i] && *large[i] == check + i, "word %zu", i);
}

static struct link *make_list(struct test_random *random, uintptr_t check) {
  struct link *list = NULL;
  for (size_t i = 0; i < LIST; i++) {
    struct link *link = gc_alloc(sizeof *link + test_random_below(random, 1500));
    TEST_REQUIRE(link != NULL && link->next == NULL && link->large == NULL && link->check == 0, "memory is not zero");
    *link = (struct link){list, i % 500 == 0 ? make_large(check + i) : NULL, check + i};
    list = link;
  }
  return list;
}

static void check_list(const struct link *list, uintptr_t check) {
  for (size_t i = LIST; i-- > 0; list = list->next) {
    TEST_REQUIRE(list != NULL && list->check == check + i, "link %zu", i);
    if (list->large) check_large(list->large, check + i);
  }
  TEST_REQUIRE(list == NULL);
}

static void *make_and_drop(void *arg) {
  struct test_random random = test_random_stream((uintptr_t)arg);
  struct link *old = make_list(&random, 1);
  for (uintptr_t round = 2; round < ROUNDS; round++) {
    struct link *list = make_list(&random, round);
    check_list(old, round - 1);
    check_list(list, round);
    old = list;
  }
  __atomic_fetch_sub(&working, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void *collect(void *unused) {
  while (goes_on()) gc_collect();
  return unused;
}

static void *give_back(void *unused) {
  TEST_REQUIRE(gc_alloc(1) != NULL); /* makes the thread known */
  while (goes_on()) {
    gcrt_add(&released, gcrt_scavenger_release(UINT64_MAX));
    usleep(20);
  }
  return unused;
}

static gcrt_word scavenged;

/* As the scavenger: no mutator, so it goes on in stops; but without a pace, and it has an end. */
static void scavenge(void *unused) {
  (void)unused;
  while (goes_on()) {
    (void)gcrt_release_some(SIZE_MAX, GCRT_RELEASE_GENTLY);
    usleep(20);
  }
  gcrt_store_release(&scavenged, 1);
}

/* With each tracker for its own reason: armed pages lose their memory and come back. */
static int child_race(int argc, char **argv) {
  (void)argc, (void)argv;
  pthread_t threads[WORKERS + 2];
  void *(*bodies[WORKERS + 2])(void *) = {collect, give_back, make_and_drop, make_and_drop, make_and_drop};
  for (uintptr_t i = 0; i < WORKERS + 2; i++)
    TEST_REQUIRE(pthread_create(&threads[i], NULL, bodies[i], (void *)i) == 0);
  TEST_REQUIRE(gcrt_thread_start(scavenge, NULL, "scavenge"));
  for (unsigned i = 0; i < WORKERS + 2; i++) TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
  while (!gcrt_load_acquire(&scavenged)) usleep(1000);
  struct gcrt_heap_usage usage;
  gcrt_heap_usage(&usage);
  TEST_REQUIRE(usage.heap_released == usage.heap_sys + usage.released_total - usage.reacquired_total);
  TEST_REQUIRE(gcrt_load(&released) > 0 && usage.released_total >= gcrt_load(&released));
  return 0;
}

/* A limit far below what is mapped brings the thread to work on all that is free, without a cycle. */
static int child_limit(int argc, char **argv) {
  (void)argc, (void)argv;
  void **large = gc_alloc_noscan(64 << 20);
  TEST_REQUIRE(large != NULL);
  memset(large, 1, 64 << 20);
  gc_free(large);
  size_t before = gcrt_heap_retained();
  TEST_REQUIRE(before >= 64 << 20);
  gcrt_scavenger_set_limit((uint64_t)1 << 40);
  TEST_REQUIRE(gcrt_scavenger_release(1 << 20) >= 1 << 20 && gcrt_heap_retained() < before);
  TEST_REQUIRE(gcrt_heap_retained() >= before - (4 << 20), "%zu left", gcrt_heap_retained());
  gcrt_scavenger_set_limit(16 << 20);
  double begin = test_now();
  while (gcrt_heap_retained() > 16 << 20) {
    TEST_REQUIRE(test_now() - begin < 30, "%zu bytes are kept", gcrt_heap_retained());
    usleep(10000);
  }
  struct gcrt_scavenger_stats stats;
  gcrt_scavenger_get_stats(&stats);
  TEST_REQUIRE(stats.cpu_ns > 0 && stats.assist_ns > 0);
  return 0;
}

static const struct test_child_entry children[] = {{"race", child_race}, {"limit", child_limit}, {NULL, NULL}};

static const char *const trackers[] = {"GCRT_TRACKER=uffd", "GCRT_TRACKER=mprotect", "GCRT_TRACKER=none"};

START_TEST(nothing_is_lost_while_objects_are_marked) {
  const char *environment[] = {trackers[_i % 3], "GCRT_STRESS",
                               _i < 3 ? "GCRT_DEBUG=verify=1,checkmark=1" : "GCRT_DEBUG=madvfree=1,verify=1", NULL};
  struct test_child child = test_child_exec_self(
      "race", NULL, &(struct test_child_options){.environment = environment, .timeout_seconds = 110});
  if (test_child_signalled(&child, SIGABRT) && strstr(child.err, "GCRT_TRACKER=uffd: ")) TEST_SKIP("%s", child.err);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(a_limit_is_obeyed_without_a_cycle) {
  const char *environment[] = {"GCRT_STRESS", "GCRT_GOGC=off", NULL};
  struct test_child child =
      test_child_exec_self("limit", NULL, &(struct test_child_options){.environment = environment});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("cycle/scavenger");
  TCase *tc = test_case(suite, "scavenger", 120);
  tcase_add_loop_test(tc, nothing_is_lost_while_objects_are_marked, 0, 6);
  tcase_add_test(tc, a_limit_is_obeyed_without_a_cycle);
  return suite;
}

TEST_MAIN_CHILDREN(make_suite, children)
