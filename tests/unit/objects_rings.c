/* The pools' deque: order, growth, and that owner and thieves together see each item exactly once. */
#include "objects/rings.h"

#include "threads_fixture.h"

#include <stdlib.h>

enum { ITEMS = 300000, ROUNDS = 40 };

static struct gcrt_rings rings;
static gcrt_word done;
static gcrt_word seen[ITEMS + 1];

static void push(size_t number) {
  struct gcrt_pooled item = {number, number + 7};
  while (!gcrt_rings_push(&rings, item)) {
    size_t slots = gcrt_rings_next_slots(&rings);
    struct gcrt_ring *ring = calloc(1, gcrt_ring_size(slots));
    TEST_REQUIRE(ring != NULL);
    gcrt_rings_grow(&rings, ring, slots);
  }
}

static size_t whole(struct gcrt_pooled item) {
  TEST_REQUIRE(item.item == 0 || item.bytes == item.item + 7, "%zu came with %zu", item.item, item.bytes);
  return item.item;
}

static size_t pop(void) { return whole(gcrt_rings_pop(&rings)); }
static size_t steal(void) { return whole(gcrt_rings_steal(&rings)); }

static void count(struct gcrt_pooled item, void *argument) {
  (void)whole(item);
  ++*(size_t *)argument;
}

static size_t visited(void) {
  size_t items = 0;
  gcrt_rings_visit(&rings, count, &items);
  return items;
}

START_TEST(owner_takes_the_newest_and_thieves_the_oldest) {
  for (size_t i = 1; i <= 3; i++) push(i);
  ck_assert_uint_eq(visited(), 3);
  ck_assert_uint_eq(steal(), 1);
  ck_assert_uint_eq(pop(), 3);
  ck_assert_uint_eq(pop(), 2);
  ck_assert_uint_eq(pop(), 0);
  ck_assert_uint_eq(steal(), 0);
}
END_TEST

START_TEST(order_is_kept_over_many_rings) {
  for (size_t i = 1; i <= 1000; i++) push(i);
  ck_assert_uint_eq(visited(), 1000);
  for (size_t i = 1; i <= 300; i++) ck_assert_uint_eq(steal(), i);
  for (size_t i = 1000; i > 300; i--) ck_assert_uint_eq(pop(), i);
  ck_assert_uint_eq(pop(), 0);
  ck_assert_uint_eq(steal(), 0);
  push(5);
  ck_assert_uint_eq(steal(), 5);
}
END_TEST

/* What was taken must not be found again in a slot, by a collector. */
START_TEST(no_slot_keeps_what_was_taken) {
  for (size_t i = 1; i <= GCRT_RING_LEAST; i++) push(i);
  for (size_t i = 1; i <= GCRT_RING_LEAST; i++) ck_assert_uint_ne(i % 2 ? steal() : pop(), 0);
  const struct gcrt_ring *ring = (const struct gcrt_ring *)rings.tail;
  for (size_t i = 0; i < GCRT_RING_LEAST; i++) ck_assert_uint_eq(ring->slots[i].item, 0);
}
END_TEST

/* The ring's indices are half words. */
START_TEST(indices_run_over) {
  push(1);
  (void)pop();
  struct gcrt_ring *ring = (struct gcrt_ring *)rings.head;
  gcrt_store(&ring->ends, 0xfffffffdfffffffd);
  for (size_t round = 0; round < 4; round++) {
    for (size_t i = 1; i <= 10; i++) push(i);
    for (size_t i = 1; i <= 5; i++) ck_assert_uint_eq(steal(), i);
    for (size_t i = 10; i > 5; i--) ck_assert_uint_eq(pop(), i);
    ck_assert_uint_eq(pop(), 0);
  }
  ck_assert_ptr_eq((void *)rings.head, ring);
}
END_TEST

START_TEST(clearing_keeps_a_small_ring_only) {
  push(1);
  (void)pop();
  size_t head = rings.head;
  gcrt_rings_clear(&rings);
  ck_assert_uint_eq(rings.head, head);
  ck_assert_uint_eq(rings.tail, head);
  for (size_t i = 1; i <= 1000; i++) push(i);
  while (steal()) continue;
  gcrt_rings_clear(&rings);
  ck_assert_uint_eq(rings.head, 0);
  ck_assert_uint_eq(rings.tail, 0);
  push(9);
  ck_assert_uint_eq(pop(), 9);
}
END_TEST

/* As a fork leaves it: who was about to take an item is gone, and so is who was about to push one. */
START_TEST(half_done_operations_cost_a_slot_at_most) {
  for (size_t i = 1; i <= 3; i++) push(i);
  struct gcrt_ring *ring = (struct gcrt_ring *)rings.tail;
  gcrt_store(&ring->ends, (size_t)3 << 32 | 1); /* a thief has 1, and has not cleared its slot */
  gcrt_store(&ring->slots[3].item, 4);          /* the owner had 4 to push */
  for (size_t i = 10; i < 100; i++) push(i);
  for (size_t i = 99; i >= 10; i--) ck_assert_uint_eq(pop(), i);
  ck_assert_uint_eq(steal(), 2);
  ck_assert_uint_eq(pop(), 3);
  ck_assert_uint_eq(pop(), 0);
}
END_TEST

/* A thief that is late: the owner has come round to the slot that it has not cleared, and may not have read. */
START_TEST(slot_of_a_late_thief_is_not_used) {
  push(1);
  push(2);
  struct gcrt_ring *ring = (struct gcrt_ring *)rings.tail;
  gcrt_store(&ring->ends, (size_t)2 << 32 | 1);
  for (size_t i = 3; i <= GCRT_RING_LEAST + 1; i++) {
    struct gcrt_slot *slot = gcrt_rings_push(&rings, (struct gcrt_pooled){i, i + 7});
    ck_assert_msg((slot != NULL) == (i <= GCRT_RING_LEAST), "item %zu", i);
  }
  ck_assert_uint_eq(ring->slots[0].item, 1);
  gcrt_store(&ring->slots[0].item, 0);
  ck_assert_ptr_eq(gcrt_rings_push(&rings, (struct gcrt_pooled){20, 27}), &ring->slots[0]);
}
END_TEST

START_TEST(half_done_growth_is_completed) {
  for (size_t i = 1; i <= GCRT_RING_LEAST; i++) push(i);
  size_t slots = gcrt_rings_next_slots(&rings);
  struct gcrt_ring *ring = calloc(1, gcrt_ring_size(slots));
  ck_assert_ptr_nonnull(ring);
  size_t head = rings.head;
  gcrt_rings_grow(&rings, ring, slots);
  gcrt_store(&rings.head, head); /* as if the owner had come no further */
  for (size_t i = GCRT_RING_LEAST + 1; i <= 200; i++) push(i);
  for (size_t i = 1; i <= 200; i++) ck_assert_uint_eq(steal(), i);
}
END_TEST

static void note(size_t item) {
  if (item) gcrt_add_full(&seen[item], 1);
}

static void *thief(void *unused) {
  (void)unused;
  while (!gcrt_load_acquire(&done)) note(steal());
  return NULL;
}

/* Fills and empties at random, so that owner and thieves meet at the last item again and again. */
static void own(void) {
  struct test_random r = test_random_stream(1);
  for (size_t next = 1; next <= ITEMS;) {
    size_t burst = test_random_once_in(&r, 100) ? 500 : 1 + test_random_below(&r, 4);
    for (size_t i = 0; i < burst && next <= ITEMS; i++) push(next++);
    burst = test_random_below(&r, 6);
    for (size_t i = 0; i < burst; i++) note(pop());
  }
  for (size_t item; (item = pop()) != 0;) note(item);
  gcrt_store_release(&done, 1);
}

START_TEST(every_item_is_taken_once) {
  char unused[THREADS];
  run_threads(thief, unused, 1, own);
  for (size_t item; (item = steal()) != 0;) note(item);
  for (size_t i = 1; i <= ITEMS; i++) TEST_REQUIRE(gcrt_load(&seen[i]) == 1, "item %zu: %zu", i, gcrt_load(&seen[i]));
  ck_assert_uint_eq(visited(), 0);
}
END_TEST

static void *rob(void *unused) {
  (void)unused;
  while (!gcrt_load_acquire(&done)) continue;
  for (size_t item; (item = steal()) != 0;) note(item);
  return NULL;
}

static void begin(void) { gcrt_store_release(&done, 1); }

/* So often that they run at the same time in some rounds also on a machine that is busy. */
START_TEST(thieves_share_what_there_is) {
  for (size_t round = 1; round <= ROUNDS; round++) {
    for (size_t i = 1; i <= ITEMS; i++) push(i);
    char unused[THREADS];
    gcrt_store(&done, 0);
    run_threads(rob, unused, 1, begin);
    for (size_t i = 1; i <= ITEMS; i++) {
      TEST_REQUIRE(gcrt_load(&seen[i]) == round, "item %zu: %zu in %zu rounds", i, gcrt_load(&seen[i]), round);
    }
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("objects-rings");
  TCase *tests = test_case(suite, "deque", 30);
  tcase_add_test(tests, owner_takes_the_newest_and_thieves_the_oldest);
  tcase_add_test(tests, order_is_kept_over_many_rings);
  tcase_add_test(tests, no_slot_keeps_what_was_taken);
  tcase_add_test(tests, indices_run_over);
  tcase_add_test(tests, clearing_keeps_a_small_ring_only);
  tcase_add_test(tests, half_done_operations_cost_a_slot_at_most);
  tcase_add_test(tests, slot_of_a_late_thief_is_not_used);
  tcase_add_test(tests, half_done_growth_is_completed);
  tcase_add_test(tests, every_item_is_taken_once);
  tcase_add_test(tests, thieves_share_what_there_is);
  return suite;
}

TEST_MAIN(make_suite)
