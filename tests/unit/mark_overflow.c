/* Marking with next to no mark stack: what does not fit is found by searching the heap again, and nothing is lost. */
#include "base/options.h"
#include "mark/blocks.h"
#include "mark/mark.h"
#include "world/thread.h"

#include <gcrt.h>

#include "support/support.h"

#include <sys/wait.h>
#include <unistd.h>

enum { WIDTH = 4000, DEPTH = 30, LARGE = 1 << 20 };

struct node {
  struct node *next, *other;
  uintptr_t id;
};

static void **table; /* the only root of all that follows */

static struct node *chain(uintptr_t id) {
  struct node *head = NULL;
  for (unsigned i = 0; i < DEPTH; i++) {
    struct node *node = gc_alloc(sizeof *node);
    TEST_REQUIRE(node != NULL);
    *node = (struct node){head, gc_alloc(sizeof *node), id + i};
    node->other->id = ~(id + i);
    head = node;
  }
  return head;
}

static __attribute__((noinline)) void build(void) {
  table = gc_alloc(WIDTH * sizeof *table);
  for (uintptr_t i = 0; i < WIDTH; i++) table[i] = chain(i * DEPTH);
}

static void verify(void) {
  for (uintptr_t i = 0; i < WIDTH; i++) {
    unsigned length = 0;
    for (const struct node *node = table[i]; node; node = node->next, length++) {
      uintptr_t id = i * DEPTH + DEPTH - 1 - length;
      TEST_REQUIRE(gc_base(node) == node && node->id == id && gc_base(node->other) && node->other->id == ~id,
                   "node %lu of chain %lu", (unsigned long)length, (unsigned long)i);
    }
    TEST_REQUIRE(length == DEPTH);
  }
}

static uint64_t overflows(void) {
  struct runtime_metrics m;
  runtime_metrics_read(&m);
  return m.mark_overflows;
}

START_TEST(nothing_is_lost) {
  build();
  gcrt_mark_limit_blocks((size_t)_i);
  for (unsigned round = 0; round < 3; round++) {
    gc_collect();
    verify();
    /* What is freed by mistake is handed out again, and overwritten. */
    for (unsigned i = 0; i < 10000; i++) {
      uintptr_t *garbage = gc_alloc(sizeof(struct node));
      garbage[2] = 42;
    }
  }
  verify();
  ck_assert_uint_gt(overflows(), 0);
  gcrt_mark_limit_blocks(0);
  uint64_t before = overflows();
  gc_collect();
  verify();
  ck_assert_uint_eq(overflows(), before);
}
END_TEST

START_TEST(garbage_still_goes) {
  build();
  gcrt_mark_limit_blocks(1);
  gc_collect();
  struct runtime_metrics full, empty;
  runtime_metrics_read(&full);
  table = NULL;
  test_clear_stack();
  gc_collect();
  runtime_metrics_read(&empty);
  ck_assert_uint_gt(full.heap_objects, WIDTH * DEPTH * 2);
  ck_assert_uint_lt(empty.heap_objects, WIDTH * DEPTH / 4);
}
END_TEST

START_TEST(large_objects_are_shared) {
  enum { OBJECTS = 300 }; /* more than markers may share at once */
  table = gc_alloc(OBJECTS * sizeof *table);
  for (unsigned i = 0; i < OBJECTS; i++) {
    void **large = gc_alloc(LARGE / 4);
    TEST_REQUIRE(large != NULL);
    large[LARGE / 4 / sizeof *large - 1] = chain(i);
    table[i] = large;
  }
  gc_collect();
  gc_collect();
  for (unsigned i = 0; i < OBJECTS; i++) {
    void **large = table[i];
    const struct node *node = large[LARGE / 4 / sizeof *large - 1];
    for (unsigned n = 0; n < DEPTH; n++, node = node->next) {
      TEST_REQUIRE(gc_base(node) == node && node->id == i + DEPTH - 1 - n, "object %u, node %u", i, n);
    }
  }
}
END_TEST

/* A block that a helper was giving back when another thread forked is in the pool and in use: to the child it would be
 * two mark stacks. Here it is in the pool twice. */
START_TEST(forked_child_begins_with_mark_stacks_of_its_own) {
  /* Nobody else is to come upon it. */
  gcrt_options.tracker = GCRT_CHOOSE_none;
  build();
  gc_collect();
  struct gcrt_block *block = gcrt_block_take();
  ck_assert_ptr_nonnull(block);
  gcrt_block_give(block);
  gcrt_block_give(block);
  pid_t child = fork();
  if (child == 0) {
    alarm(30);
    TEST_REQUIRE(gcrt_block_memory() == 0, "%zu bytes are the parent's", gcrt_block_memory());
    for (unsigned round = 0; round < 2; round++) gc_collect();
    verify();
    _exit(0);
  }
  for (int times = 0; times < 2; times++) (void)gcrt_block_take();
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("mark-overflow");
  TCase *tests = test_case(suite, "overflow", 60);
  tcase_add_loop_test(tests, nothing_is_lost, 1, 4);
  tcase_add_test(tests, garbage_still_goes);
  tcase_add_test(tests, large_objects_are_shared);
  tcase_add_test(tests, forked_child_begins_with_mark_stacks_of_its_own);
  return suite;
}

TEST_MAIN(make_suite)
