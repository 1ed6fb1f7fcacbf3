/* Reservations, what is committed and released of them, and limits. */
#include "sys/memory.h"

#include "support/support.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static bool filled(const unsigned char *bytes, unsigned char value, size_t size) {
  return bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static bool all_zero(const unsigned char *bytes, size_t size) { return filled(bytes, 0, size); }

START_TEST(page_size_is_the_systems) { ck_assert_uint_eq(gcrt_page_size(), (size_t)sysconf(_SC_PAGESIZE)); }
END_TEST

START_TEST(reservations_are_aligned_and_apart) {
  for (size_t alignment = 1; alignment <= (size_t)1 << 30; alignment *= 8) {
    char *a = gcrt_memory_reserve(4 * MIB, alignment), *b = gcrt_memory_reserve(4 * MIB, alignment);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq((uintptr_t)a % alignment, 0);
    ck_assert_uint_eq((uintptr_t)b % alignment, 0);
    ck_assert(a + 4 * MIB <= b || b + 4 * MIB <= a);
    ck_assert(gcrt_memory_commit(a, 4 * MIB));
    memset(a, 1, 4 * MIB);
    gcrt_memory_unmap(a, 4 * MIB);
    gcrt_memory_unmap(b, 4 * MIB);
  }
}
END_TEST

START_TEST(a_terabyte_costs_nothing) {
  size_t size = (size_t)1 << 40;
  char *start = gcrt_memory_reserve(size, 64 * MIB);
  if (!start) TEST_SKIP("the system gives no TiB of address space");
  ck_assert(gcrt_memory_commit(start, 4096 * 4));
  ck_assert(gcrt_memory_commit(start + size - 4096 * 16, 4096 * 16));
  start[0] = start[size - 1] = 1;
  gcrt_memory_unmap(start, size);
}
END_TEST

START_TEST(too_much_is_refused) {
  ck_assert_ptr_null(gcrt_memory_reserve((size_t)1 << 62, MIB));
  ck_assert_ptr_null(gcrt_memory_reserve(SIZE_MAX - 2 * MIB + 1, MIB));
  ck_assert_ptr_null(gcrt_memory_map((size_t)1 << 62));
}
END_TEST

static int touch(void *address) {
  *(volatile char *)address = 1;
  return 0;
}

START_TEST(what_is_not_committed_faults) {
  size_t page = gcrt_page_size();
  char *start = gcrt_memory_reserve(16 * page, page);
  ck_assert(gcrt_memory_commit(start + 4 * page, 4 * page));
  struct {
    size_t at;
    bool usable;
  } cases[] = {{0, false}, {4 * page - 1, false}, {4 * page, true}, {8 * page - 1, true}, {8 * page, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    signal(SIGSEGV, SIG_DFL);
    struct test_child child = test_child_fork(touch, start + cases[i].at, NULL);
    if (cases[i].usable)
      test_assert_exited(&child, 0);
    else
      test_assert_signalled(&child, SIGSEGV);
    test_child_free(&child);
  }
}
END_TEST

START_TEST(committed_memory_is_zero_and_committing_again_keeps_it) {
  unsigned char *start = gcrt_memory_reserve(MIB, MIB);
  ck_assert(gcrt_memory_commit(start, MIB / 2));
  ck_assert(all_zero(start, MIB / 2));
  memset(start, 0x5a, MIB / 2);
  ck_assert(gcrt_memory_commit(start, MIB));
  for (size_t i = 0; i < MIB; i++) ck_assert_uint_eq(start[i], i < MIB / 2 ? 0x5a : 0);
}
END_TEST

static size_t resident(void *start, size_t size) {
  unsigned char pages[MIB / 1024];
  size_t count = 0, page = gcrt_page_size();
  ck_assert_int_eq(mincore(start, size, pages), 0);
  for (size_t i = 0; i < size / page; i++) count += pages[i] & 1;
  return count * page;
}

START_TEST(released_memory_is_given_back_and_reads_as_zero) {
  unsigned char *start = gcrt_memory_reserve(MIB, MIB);
  ck_assert(gcrt_memory_commit(start, MIB));
  memset(start, 0x77, MIB);
  ck_assert_uint_eq(resident(start, MIB), MIB);
  gcrt_memory_release(start + MIB / 4, MIB / 2);
  ck_assert_uint_eq(resident(start, MIB), MIB / 2);
  for (size_t i = 0; i < MIB; i++) ck_assert_uint_eq(start[i], i >= MIB / 4 && i < MIB / 4 * 3 ? 0 : 0x77);
  memset(start, 0x11, MIB);
}
END_TEST

START_TEST(locked_memory_reads_as_zero_when_released) {
  size_t page = gcrt_page_size();
  unsigned char *start = gcrt_memory_map(4 * page);
  memset(start, 0x77, 4 * page);
  if (mlock(start, 4 * page) != 0) TEST_SKIP("mlock: %s", strerror(errno));
  gcrt_memory_release(start, 4 * page);
  ck_assert(all_zero(start, 4 * page));
}
END_TEST

START_TEST(tables_are_zero_and_usable) {
  unsigned char *table = gcrt_memory_map(3 * MIB);
  ck_assert_ptr_nonnull(table);
  ck_assert(all_zero(table, 3 * MIB));
  memset(table, 1, 3 * MIB);
  gcrt_memory_huge(table, 3 * MIB, true);
  gcrt_memory_huge(table, 3 * MIB, false);
  ck_assert_uint_eq(table[2 * MIB], 1);
  gcrt_memory_unmap(table, 3 * MIB);
}
END_TEST

static int under_limit(void *arg) {
  (void)arg;
  if (gcrt_memory_address_space_left() != SIZE_MAX) return 10;
  /* Near what is used already: a sanitizer's shadow is many TiB. */
  unsigned long used = 0;
  FILE *statm = fopen("/proc/self/statm", "r");
  if (!statm || fscanf(statm, "%lu", &used) != 1) return 11;
  fclose(statm);
  size_t room = (size_t)256 * MIB;
  struct rlimit limit = {used * gcrt_page_size() + room, RLIM_INFINITY};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 12;
  size_t left = gcrt_memory_address_space_left();
  if (left > room || left < room - (size_t)16 * MIB) return 13;
  if (gcrt_memory_reserve((size_t)512 * MIB, MIB)) return 14;
  if (gcrt_memory_map((size_t)512 * MIB)) return 15;
  char *start = gcrt_memory_reserve((size_t)128 * MIB, MIB);
  if (!start || !gcrt_memory_commit(start, (size_t)128 * MIB)) return 16;
  size_t less = gcrt_memory_address_space_left();
  if (less > left - (size_t)127 * MIB) return 17;
  limit.rlim_cur = MIB;
  if (setrlimit(RLIMIT_AS, &limit) != 0 || gcrt_memory_address_space_left() != 0) return 18;
  return 0;
}

START_TEST(an_address_space_limit_is_seen_and_obeyed) {
  struct rlimit limit;
  ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
  if (limit.rlim_cur != RLIM_INFINITY) TEST_SKIP("the tests run under an address-space limit");
  struct test_child child = test_child_fork(under_limit, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static int under_data_limit(void *arg) {
  (void)arg;
  char *start = gcrt_memory_reserve((size_t)64 * MIB, MIB);
  struct rlimit limit = {MIB, RLIM_INFINITY}; /* less than what is in use already */
  if (!start || setrlimit(RLIMIT_DATA, &limit) != 0) return 10;
  return gcrt_memory_commit(start, (size_t)64 * MIB) ? 11 : 0;
}

START_TEST(a_commit_beyond_a_limit_is_refused) {
  struct test_child child = test_child_fork(under_data_limit, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/memory");
  TCase *tc = test_case(suite, "memory", 60);
  tcase_add_test(tc, page_size_is_the_systems);
  tcase_add_test(tc, reservations_are_aligned_and_apart);
  tcase_add_test(tc, a_terabyte_costs_nothing);
  tcase_add_test(tc, too_much_is_refused);
  tcase_add_test(tc, what_is_not_committed_faults);
  tcase_add_test(tc, committed_memory_is_zero_and_committing_again_keeps_it);
  tcase_add_test(tc, released_memory_is_given_back_and_reads_as_zero);
  tcase_add_test(tc, locked_memory_reads_as_zero_when_released);
  tcase_add_test(tc, tables_are_zero_and_usable);
  tcase_add_test(tc, an_address_space_limit_is_seen_and_obeyed);
  tcase_add_test(tc, a_commit_beyond_a_limit_is_refused);
  return suite;
}

TEST_MAIN(make_suite)
