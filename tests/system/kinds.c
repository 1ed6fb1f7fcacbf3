/* What kind an object is of, scan, noscan or uncollectable, and that gc_realloc keeps kind and content; the string
 * functions, whose results are noscan. */
#include "system.h"

#include <errno.h>
#include <string.h>
#include <wchar.h>

/* The holders of a set's pointers are kept alive from here. */
static void *holders[SYSTEM_SET];

static void put_in_scan(size_t i, void *object, void *unused) {
  (void)unused;
  void **holder = gc_alloc(40);
  holder[2] = object;
  holders[i] = holder;
}

static void put_in_noscan(size_t i, void *object, void *unused) {
  (void)unused;
  void **holder = gc_alloc_noscan(40);
  holder[2] = object;
  holders[i] = holder;
}

START_TEST(scan_objects_keep_what_they_point_to) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_scan, NULL);
  system_collect();
  ck_assert(system_set_intact(&set));
  memset(holders, 0, sizeof holders);
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

START_TEST(noscan_objects_keep_nothing) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_noscan, NULL);
  system_collect();
  ck_assert(system_set_dead(&set));
  for (size_t i = 0; i < SYSTEM_SET; i++) ck_assert_ptr_eq(gc_base(holders[i]), holders[i]);
}
END_TEST

static const size_t path[] = {40, 100, 48, 5000, 6000, 200000, 300000, 2000000, 100000, 64, 70};

static void *walk(void *p) {
  for (size_t i = 0; i < sizeof path / sizeof *path; i++) {
    p = gc_realloc(p, path[i]);
    TEST_REQUIRE(p != NULL && gc_usable_size(p) >= path[i], "to %zu", path[i]);
    TEST_REQUIRE(gc_base(p) == p);
  }
  return p;
}

static void put_in_walked_scan(size_t i, void *object, void *unused) {
  put_in_scan(i, object, unused);
  holders[i] = walk(holders[i]);
}

static void put_in_walked_noscan(size_t i, void *object, void *unused) {
  put_in_noscan(i, object, unused);
  holders[i] = walk(holders[i]);
}

START_TEST(realloc_keeps_scan) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_walked_scan, NULL);
  system_collect();
  ck_assert(system_set_intact(&set));
}
END_TEST

START_TEST(realloc_keeps_noscan) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_walked_noscan, NULL);
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

static void *uncollectable_walked(size_t size) { return gc_realloc(walk(gc_alloc_uncollectable(size)), size); }

START_TEST(uncollectable_objects_live_until_freed) {
  system_allocate_fn *kinds[] = {gc_alloc_uncollectable, uncollectable_walked};
  static const size_t sizes[] = {16, 48, 3000, 70000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    struct system_set set;
    system_set_make(&set, sizes[s], kinds[_i], NULL, NULL);
    for (int i = 0; i < 3; i++) system_collect();
    ck_assert_msg(system_set_intact(&set), "%zu bytes", sizes[s]);
    for (size_t i = 0; i < SYSTEM_SET; i++) gc_free(test_reveal(set.hidden[i]));
    ck_assert_uint_eq(system_set_live(&set), 0);
  }
}
END_TEST

static uintptr_t uncollectable_holders[SYSTEM_SET];

static void put_in_uncollectable(size_t i, void *object, void *unused) {
  (void)unused;
  void **holder = gc_alloc_uncollectable(64);
  holder[7] = (char *)object + 20;
  uncollectable_holders[i] = test_hide(holder);
}

START_TEST(uncollectable_objects_are_roots) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_uncollectable, NULL);
  system_collect();
  ck_assert(system_set_intact(&set));
  for (size_t i = 0; i < SYSTEM_SET; i++) gc_free(test_reveal(uncollectable_holders[i]));
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

START_TEST(realloc_keeps_content) {
  struct test_random random = test_random_stream(2);
  for (int round = 0; round < 60; round++) {
    size_t size = test_random_below(&random, 5000);
    system_allocate_fn *kinds[] = {gc_alloc, gc_alloc_noscan};
    unsigned char *p = kinds[round % 2](size);
    test_pattern_write(p, size, 5);
    for (int step = 0; step < 20; step++) {
      size_t now = test_random_below(&random, test_random_once_in(&random, 8) ? 200000 : 6000);
      p = gc_realloc(p, now);
      ck_assert_ptr_nonnull(p);
      size_t kept = now < size ? now : size;
      for (size_t i = kept; i < now; i++)
        if (p[i] != 0) ck_abort_msg("byte %zu of %zu is %d after realloc from %zu", i, now, p[i], size);
      ck_assert_msg(test_pattern_bad(p, kept, 5) == kept, "content after realloc from %zu to %zu", size, now);
      test_pattern_write(p, now, 5);
      size = now;
    }
  }
}
END_TEST

START_TEST(realloc_within_the_cell_stays) {
  char *p = gc_alloc(100);
  size_t usable = gc_usable_size(p);
  ck_assert_ptr_eq(gc_realloc(p, usable), p);
}
END_TEST

START_TEST(realloc_to_zero_does_not_free) {
  static const size_t sizes[] = {1, 16, 100, 5000, 100000};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    char *p = gc_alloc(sizes[i]);
    memset(p, 'x', sizes[i]);
    p = gc_realloc(p, 0);
    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_eq(gc_base(p), p);
    ck_assert_uint_ge(gc_usable_size(p), 1);
    p = gc_realloc(p, sizes[i]);
    for (size_t at = 0; at < sizes[i]; at++)
      if (p[at] != 0) ck_abort_msg("byte %zu of %zu came back after a size of 0", at, sizes[i]);
  }
}
END_TEST

START_TEST(strings_are_copied) {
  static const char *const texts[] = {"", "a", "fifteen letters", "exactly sixteen.", "a little longer than sixteen"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    char *copy = gc_strdup(texts[i]);
    ck_assert_str_eq(copy, texts[i]);
    ck_assert_ptr_eq(gc_base(copy), copy);
    ck_assert_ptr_ne(copy, texts[i]);
    char *whole = gc_strndup(texts[i], 1000), *start = gc_strndup(texts[i], 3), *none = gc_strndup(texts[i], 0);
    ck_assert_str_eq(whole, texts[i]);
    ck_assert_uint_eq(strlen(start), strlen(texts[i]) < 3 ? strlen(texts[i]) : 3);
    ck_assert_int_eq(strncmp(start, texts[i], 3), 0);
    ck_assert_str_eq(none, "");
  }
  const char unterminated[4] = {'f', 'o', 'u', 'r'};
  char *four = gc_strndup(unterminated, 4);
  ck_assert_int_eq(memcmp(four, "four", 5), 0);
  volatile size_t most = SIZE_MAX;
  char *five = gc_strndup("fives", most);
  ck_assert_str_eq(five, "fives");
}
END_TEST

START_TEST(formatted_strings) {
  char *text = gc_asprintf("%d-%s-%c", -7, "seven", '7');
  ck_assert_str_eq(text, "-7-seven-7");
  char *empty = gc_asprintf("%s", "");
  ck_assert_str_eq(empty, "");
  char *wide = gc_asprintf("%*d", 100000, 5);
  ck_assert_uint_eq(strlen(wide), 100000);
  ck_assert_int_eq(wide[99999], '5');
  ck_assert_ptr_eq(gc_base(wide), wide);
  errno = 0;
  volatile wint_t no_character = 0x7fffffff;
  char *failed = gc_asprintf("%lc", no_character);
  ck_assert_ptr_null(failed);
  ck_assert_int_eq(errno, EILSEQ);
}
END_TEST

static void put_in_string(size_t i, void *object, void *how) {
  char text[sizeof(void *) * 2 + 1];
  uintptr_t word = (uintptr_t)object;
  for (size_t b = 0; b < sizeof text - 1; b++) text[b] = 'x';
  memcpy(text, &word, sizeof word);
  text[sizeof text - 1] = 0;
  /* A user-space address ends in zero bytes, where a string function would stop; strndup stops there too, so the
   * whole word is written after the copy was made. */
  char *copy = NULL;
  switch (*(int *)how) {
  case 0:
    copy = gc_strdup("0123456789abcdef");
    break;
  case 1:
    copy = gc_strndup("0123456789abcdef", 16);
    break;
  default:
    copy = gc_asprintf("%s", "0123456789abcdef");
  }
  memcpy(copy, text, 16);
  holders[i] = copy;
  memset(text, 0, sizeof text);
}

START_TEST(strings_are_noscan) {
  int how = _i;
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, put_in_string, &how);
  system_collect();
  ck_assert(system_set_dead(&set));
  for (size_t i = 0; i < SYSTEM_SET; i++) ck_assert_ptr_eq(gc_base(holders[i]), holders[i]);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *kinds = test_case(suite, "kinds", 10);
  tcase_add_test(kinds, scan_objects_keep_what_they_point_to);
  tcase_add_test(kinds, noscan_objects_keep_nothing);
  tcase_add_loop_test(kinds, uncollectable_objects_live_until_freed, 0, 2);
  tcase_add_test(kinds, uncollectable_objects_are_roots);
  TCase *resize = test_case(suite, "realloc", 10);
  tcase_add_test(resize, realloc_keeps_scan);
  tcase_add_test(resize, realloc_keeps_noscan);
  tcase_add_test(resize, realloc_keeps_content);
  tcase_add_test(resize, realloc_within_the_cell_stays);
  tcase_add_test(resize, realloc_to_zero_does_not_free);
  TCase *strings = test_case(suite, "strings", 10);
  tcase_add_test(strings, strings_are_copied);
  tcase_add_test(strings, formatted_strings);
  tcase_add_loop_test(strings, strings_are_noscan, 0, 3);
  return suite;
}
TEST_MAIN(make_suite)
