/* Bit arithmetic against slow definitions, and atomic words from several threads. */
#include "base/atomics.h"
#include "base/bits.h"

#include "support/support.h"

#include <pthread.h>

START_TEST(counts_and_logarithms) {
  for (unsigned bit = 0; bit < 64; bit++) {
    uint64_t one = UINT64_C(1) << bit;
    ck_assert_uint_eq(gcrt_ctz(one), bit);
    ck_assert_uint_eq(gcrt_ctz(~(one - 1)), bit);
    ck_assert_uint_eq(gcrt_log2(one), bit);
    ck_assert_uint_eq(gcrt_log2(one | (one - 1)), bit);
    ck_assert_uint_eq(gcrt_popcount(one - 1), bit);
    ck_assert_uint_eq(gcrt_low_bits(bit), one - 1);
  }
  ck_assert_uint_eq(gcrt_low_bits(64), UINT64_MAX);
  ck_assert_uint_eq(gcrt_popcount(UINT64_MAX), 64);
}
END_TEST

START_TEST(alignment) {
  for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    ck_assert(gcrt_is_power_of_two(alignment));
    for (size_t x = 0; x < 3 * alignment; x += alignment < 16 ? 1 : alignment / 16) {
      size_t down = x / alignment * alignment, up = (x + alignment - 1) / alignment * alignment;
      ck_assert_uint_eq(gcrt_align_down(x, alignment), down);
      ck_assert_uint_eq(gcrt_align_up(x, alignment), up);
    }
  }
  ck_assert(!gcrt_is_power_of_two(0) && !gcrt_is_power_of_two(3) && !gcrt_is_power_of_two(SIZE_MAX));
  ck_assert(gcrt_is_power_of_two(SIZE_MAX / 2 + 1));
  ck_assert_uint_eq(gcrt_min(3, 5), 3);
  ck_assert_uint_eq(gcrt_max(3, 5), 5);
}
END_TEST

START_TEST(words_are_changed_as_said) {
  gcrt_word word = 0;
  gcrt_store(&word, 5);
  ck_assert_uint_eq(gcrt_load(&word), 5);
  ck_assert_uint_eq(gcrt_add(&word, 3), 5);
  ck_assert_uint_eq(gcrt_sub(&word, 7), 8);
  ck_assert_uint_eq(gcrt_add_full(&word, SIZE_MAX), 1);
  ck_assert_uint_eq(gcrt_load_acquire(&word), 0);
  ck_assert(gcrt_cas(&word, 0, SIZE_MAX) && !gcrt_cas(&word, 0, 1));
  ck_assert(gcrt_cas_full(&word, SIZE_MAX, 2) && !gcrt_cas_full(&word, SIZE_MAX, 1));
  ck_assert(gcrt_cas_acquire(&word, 2, 0) && !gcrt_cas_acquire(&word, 2, 1));
  gcrt_store_full(&word, 9);
  ck_assert_uint_eq(word, 9);
  gcrt_store_release(&word, 0xf0);
  ck_assert(gcrt_set_bits(&word, 0x18));
  ck_assert_uint_eq(word, 0xf8);
  ck_assert(!gcrt_set_bits(&word, 0x88));
  gcrt_clear_bits(&word, 0x8c);
  ck_assert_uint_eq(word, 0x70);
}
END_TEST

enum { THREADS = 4, ROUNDS = 20000 };
static gcrt_word total, bits, firsts;

static void *change(void *arg) {
  size_t own = (size_t)1 << (uintptr_t)arg;
  for (unsigned i = 0; i < ROUNDS; i++) {
    gcrt_add(&total, 3);
    gcrt_sub(&total, 1);
    if (gcrt_set_bits(&bits, own | 0x100)) gcrt_clear_bits(&bits, own);
  }
  if (gcrt_set_bits(&bits, 0x200)) gcrt_add_full(&firsts, 1);
  return NULL;
}

START_TEST(no_change_is_lost_between_threads) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, change, (void *)i), 0);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  ck_assert_uint_eq(total, 2 * THREADS * ROUNDS);
  ck_assert_uint_eq(bits, 0x300);
  ck_assert_uint_eq(firsts, 1);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("base/bits and base/atomics");
  TCase *tc = test_case(suite, "bits", 20);
  tcase_add_test(tc, counts_and_logarithms);
  tcase_add_test(tc, alignment);
  tc = test_case(suite, "atomics", 60);
  tcase_add_test(tc, words_are_changed_as_said);
  tcase_add_test(tc, no_change_is_lost_between_threads);
  return suite;
}

TEST_MAIN(make_suite)
