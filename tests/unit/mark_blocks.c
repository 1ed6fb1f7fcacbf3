/* The deque of blocks: order, bounds, and that thieves and owner together see each block exactly once. */
#include "mark/blocks.h"

#include "support/support.h"

#include <pthread.h>

enum { THIEVES = 3, BLOCKS = 200000, POOL = 256 };

static struct gcrt_deque deque;
static struct gcrt_block blocks[POOL];
static gcrt_word seen[POOL], taken, done;

START_TEST(owner_takes_the_newest_and_thieves_the_oldest) {
  for (unsigned i = 0; i < 3; i++) ck_assert(gcrt_deque_push(&deque, &blocks[i]));
  ck_assert_ptr_eq(gcrt_deque_steal(&deque), &blocks[0]);
  ck_assert_ptr_eq(gcrt_deque_pop(&deque), &blocks[2]);
  ck_assert(!gcrt_deque_empty(&deque));
  ck_assert_ptr_eq(gcrt_deque_pop(&deque), &blocks[1]);
  ck_assert(gcrt_deque_empty(&deque));
  ck_assert_ptr_null(gcrt_deque_pop(&deque));
  ck_assert_ptr_null(gcrt_deque_steal(&deque));
}
END_TEST

START_TEST(full_deque_refuses) {
  for (unsigned i = 0; i < GCRT_DEQUE_BLOCKS; i++) TEST_REQUIRE(gcrt_deque_push(&deque, &blocks[i % POOL]));
  ck_assert(!gcrt_deque_push(&deque, &blocks[0]));
  ck_assert_ptr_eq(gcrt_deque_steal(&deque), &blocks[0]);
  ck_assert(gcrt_deque_push(&deque, &blocks[0]));
}
END_TEST

static void note(struct gcrt_block *block) {
  gcrt_add_full(&seen[block - blocks], 1);
  gcrt_add_full(&taken, 1);
}

static void *thief(void *unused) {
  (void)unused;
  while (!gcrt_load_acquire(&done) || !gcrt_deque_empty(&deque)) {
    struct gcrt_block *block = gcrt_deque_steal(&deque);
    if (block) note(block);
  }
  return NULL;
}

START_TEST(every_block_is_taken_once) {
  pthread_t threads[THIEVES];
  struct test_random r = test_random_stream(1);
  for (unsigned i = 0; i < THIEVES; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, thief, NULL), 0);
  for (unsigned i = 0; i < BLOCKS;) {
    if (test_random_once_in(&r, 3)) {
      struct gcrt_block *block = gcrt_deque_pop(&deque);
      if (block) note(block);
    } else if (gcrt_deque_push(&deque, &blocks[i % POOL])) {
      i++;
    }
  }
  struct gcrt_block *block;
  while ((block = gcrt_deque_pop(&deque))) note(block);
  gcrt_store_release(&done, 1);
  for (unsigned i = 0; i < THIEVES; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_uint_eq(gcrt_load(&taken), BLOCKS);
  for (unsigned i = 0; i < POOL; i++) {
    TEST_REQUIRE(gcrt_load(&seen[i]) == BLOCKS / POOL + (i < BLOCKS % POOL), "block %u", i);
  }
}
END_TEST

START_TEST(pool_is_bounded) {
  gcrt_block_bound(2);
  struct gcrt_block *first = gcrt_block_take();
  struct gcrt_block *second = gcrt_block_take();
  ck_assert_ptr_nonnull(first);
  ck_assert_ptr_nonnull(second);
  ck_assert_ptr_null(gcrt_block_take());
  gcrt_block_give(first);
  ck_assert_ptr_eq(gcrt_block_take(), first);
  ck_assert_uint_eq(gcrt_block_memory(), 2 * sizeof(struct gcrt_block));
  gcrt_block_give(first);
  gcrt_block_give(second);
  gcrt_block_trim(0);
  ck_assert_uint_eq(gcrt_block_memory(), 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("mark-blocks");
  TCase *tests = test_case(suite, "deque", 30);
  tcase_add_test(tests, owner_takes_the_newest_and_thieves_the_oldest);
  tcase_add_test(tests, full_deque_refuses);
  tcase_add_test(tests, every_block_is_taken_once);
  tcase_add_test(tests, pool_is_bounded);
  return suite;
}

TEST_MAIN(make_suite)
