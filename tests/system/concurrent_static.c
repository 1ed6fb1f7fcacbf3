/* A static array that is much larger than the heap, with the only pointers to objects in it, always at other places,
 * while the heap is marked. A program of its own, as the array is a root of every collection. */
#include "busy.h"

#include <stdlib.h>

enum { HUGE_WORDS = SYSTEM_SANITIZED ? 1 << 20 : 16 << 20, OBJECTS = 200, COLLECTIONS = 12 };
static void *huge[HUGE_WORDS];

static SYSTEM_NOINLINE void put_there(uint64_t at, uint64_t id) {
  uint64_t *object = gc_alloc(1000);
  TEST_REQUIRE(object != NULL);
  test_pattern_write(object, 1000, id);
  *(void *volatile *)&huge[at] = object;
}

static SYSTEM_NOINLINE void move(uint64_t from, uint64_t to, uint64_t id) {
  void *p = *(void *volatile *)&huge[from];
  *(void *volatile *)&huge[from] = NULL;
  TEST_REQUIRE(gc_base(p) == p && test_pattern_bad(p, 1000, id) == 1000, "object %llu was lost at %p",
               (unsigned long long)id, p);
  *(void *volatile *)&huge[to] = p;
}

static int child_huge_array(int argc, char **argv) {
  (void)argc, (void)argv;
  static uint64_t at[OBJECTS];
  struct test_random r = test_random_stream(1);
  busy_start(64);
  for (uint64_t id = 0; id < OBJECTS; id++) put_there(at[id] = id * (HUGE_WORDS / OBJECTS), id);
  for (unsigned last = busy_collections() + COLLECTIONS; busy_collections() < last;) {
    uint64_t id = test_random_below(&r, OBJECTS), to = test_random_below(&r, HUGE_WORDS);
    if (huge[to]) continue;
    move(at[id], to, id);
    at[id] = to;
    /* One that is new is found in the last stop or not at all. */
    if (test_random_below(&r, 2) == 0) put_there(to, id);
    /* What was lost is handed out again. */
    TEST_REQUIRE(gc_alloc(1000) != NULL);
  }
  busy_stop();
  return 0;
}

static const struct test_child_entry children[] = {BUSY_CHILD, {"huge-array", child_huge_array}, {NULL, NULL}};

START_TEST(pointer_moves_through_a_huge_array) {
  const char *unavailable = busy_unavailable();
  if (unavailable) TEST_SKIP("%s", unavailable);
  busy_run((const char *[]){"huge-array", NULL}, false, NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  tcase_add_test(test_case(suite, "concurrent-static", 120), pointer_moves_through_a_huge_array);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
