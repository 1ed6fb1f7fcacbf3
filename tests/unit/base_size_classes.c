/* The table of size classes: every size gets the smallest class that holds it, and the promised waste is kept. */
#include "base/size_classes.h"

#include "support/support.h"

enum { CHUNK = 64 * 1024 };

START_TEST(cells_grow_by_granules) {
  ck_assert_uint_eq(gcrt_class_size[0], 0);
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) {
    ck_assert_uint_gt(gcrt_class_size[class], gcrt_class_size[class - 1]);
    ck_assert_uint_eq(gcrt_class_size[class] % GCRT_GRANULE, 0);
    ck_assert_uint_gt(gcrt_class_chunks[class], 0);
  }
  ck_assert_uint_eq(gcrt_class_size[GCRT_CLASSES - 1], GCRT_SMALL_MAX);
}
END_TEST

START_TEST(every_size_has_the_smallest_class_that_holds_it) {
  unsigned expected = 1;
  for (unsigned size = 1; size <= GCRT_SMALL_MAX; size++) {
    if (size > gcrt_class_size[expected]) expected++;
    TEST_REQUIRE(gcrt_class_of(size) == expected, "%u bytes are in class %u, not %u", size, gcrt_class_of(size),
                 expected);
  }
}
END_TEST

START_TEST(cells_waste_less_than_an_eighth_above_128_bytes) {
  for (unsigned size = 1; size <= GCRT_SMALL_MAX; size++) {
    unsigned cell = gcrt_class_size[gcrt_class_of(size)], waste = cell - size;
    if (size > 128)
      TEST_REQUIRE(waste * 8 < cell, "%u bytes take %u", size, cell);
    else
      TEST_REQUIRE(waste < GCRT_GRANULE, "%u bytes take %u", size, cell);
  }
}
END_TEST

START_TEST(span_tails_waste_at_most_an_eighth_and_no_chunk_is_needless) {
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) {
    unsigned cell = gcrt_class_size[class], chunks = gcrt_class_chunks[class];
    unsigned span = chunks * CHUNK;
    ck_assert_msg((span % cell) * 8 <= span, "class %u: a tail of %u in %u", class, span % cell, span);
    for (unsigned fewer = 1; fewer < chunks; fewer++)
      ck_assert_msg((fewer * CHUNK % cell) * 8 > fewer * CHUNK, "class %u: %u chunks do", class, fewer);
  }
}
END_TEST

START_TEST(powers_of_two_cost_themselves) {
  for (unsigned size = 16; size <= GCRT_SMALL_MAX; size *= 2)
    ck_assert_uint_eq(gcrt_class_size[gcrt_class_of(size)], size);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("base/size_classes");
  TCase *tc = test_case(suite, "table", 20);
  tcase_add_test(tc, cells_grow_by_granules);
  tcase_add_test(tc, every_size_has_the_smallest_class_that_holds_it);
  tcase_add_test(tc, cells_waste_less_than_an_eighth_above_128_bytes);
  tcase_add_test(tc, span_tails_waste_at_most_an_eighth_and_no_chunk_is_needless);
  tcase_add_test(tc, powers_of_two_cost_themselves);
  return suite;
}

TEST_MAIN(make_suite)
