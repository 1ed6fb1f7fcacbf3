/* A static array that is much larger than the heap, with the only pointer to something in it, always at another place,
 * while the heap is marked. A program of its own, as the array is a root of every collection. */
#include "busy.h"

#include <stdlib.h>

enum { HUGE_WORDS = SYSTEM_SANITIZED ? 1 << 20 : 16 << 20, MOVES = 20000 };
static void *huge[HUGE_WORDS];

static SYSTEM_NOINLINE void put_there(uint64_t at) {
  uint64_t *object = gc_alloc(1000);
  TEST_REQUIRE(object != NULL);
  test_pattern_write(object, 1000, at);
  *(void *volatile *)&huge[at] = object;
}

static SYSTEM_NOINLINE void move(uint64_t from, uint64_t to) {
  void *p = *(void *volatile *)&huge[from];
  *(void *volatile *)&huge[from] = NULL;
  *(void *volatile *)&huge[to] = p;
}

static int child_huge_array(int argc, char **argv) {
  (void)argc, (void)argv;
  busy_start(64);
  uint64_t at = 0;
  put_there(at);
  for (uint64_t i = 0; i < MOVES; i++) {
    uint64_t to = (at + 1 + i * 7919) % HUGE_WORDS;
    if (to == at) continue;
    move(at, to);
    at = to;
    if (i % (MOVES / 5) == 0) busy_wait(1);
  }
  TEST_REQUIRE(gc_base(huge[at]) == huge[at] && test_pattern_bad(huge[at], 1000, 0) == 1000);
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
