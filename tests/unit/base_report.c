/* Messages: the formatter against the C library's, and what reaches standard error. */
#include "base/report.h"

#include "support/support.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SAME(...)                                                                                                      \
  do {                                                                                                                 \
    char ours[256], theirs[256];                                                                                       \
    size_t length = gcrt_format(ours, sizeof ours, __VA_ARGS__);                                                       \
    ck_assert_int_eq((int)length, snprintf(theirs, sizeof theirs, __VA_ARGS__));                                       \
    ck_assert_str_eq(ours, theirs);                                                                                    \
  } while (0)

START_TEST(every_conversion_is_as_the_c_library_has_it) {
  SAME("%s", "plain");
  SAME("no conversion");
  SAME("%c%c", 'a', 'z');
  SAME("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
  SAME("%u %u", 0U, UINT_MAX);
  SAME("%x %x %x", 0U, 0xdeadbeefU, UINT_MAX);
  SAME("%ld %ld %ld", 0L, LONG_MAX, LONG_MIN);
  SAME("%lu %lx", ULONG_MAX, ULONG_MAX);
  SAME("%zu %zd", SIZE_MAX, (ssize_t)-5);
  SAME("%p", (void *)0x7f0012345678);
  SAME("100%%");
  SAME("%s=%d, %s=%lu: %p%c", "a", -3, "b", 77UL, (void *)1, '!');
}
END_TEST

START_TEST(null_is_shown) {
  char text[32];
  const char *volatile nothing = NULL;
  gcrt_format(text, sizeof text, "%s %p", nothing, (void *)0);
  ck_assert_str_eq(text, "(null) 0x0");
}
END_TEST

START_TEST(long_text_is_cut_and_terminated) {
  for (size_t size = 1; size <= 12; size++) {
    char text[16];
    memset(text, '#', sizeof text);
    size_t length = gcrt_format(text, size, "%s%d", "abcde", 12345);
    size_t expected = size - 1 < 10 ? size - 1 : 10;
    ck_assert_uint_eq(length, expected);
    ck_assert_uint_eq(strlen(text), expected);
    ck_assert_int_eq(strncmp(text, "abcde12345", expected), 0);
    for (size_t i = size; i < sizeof text; i++) ck_assert_int_eq(text[i], '#');
  }
  ck_assert_uint_eq(gcrt_format(NULL, 0, "abc"), 0);
}
END_TEST

static int warn(void *arg) {
  (void)arg;
  errno = ERANGE;
  gcrt_warn("%d and %s", 7, "seven");
  gcrt_warn("second");
  return errno == ERANGE ? 0 : 1;
}

START_TEST(a_warning_is_one_line_and_the_program_goes_on) {
  struct test_child child = test_child_fork(warn, NULL, NULL);
  test_assert_exited(&child, 0);
  ck_assert_str_eq(child.err, "gcrt: 7 and seven\ngcrt: second\n");
  ck_assert_str_eq(child.out, "");
  test_child_free(&child);
}
END_TEST

static int warn_long(void *arg) {
  gcrt_warn("%s", (const char *)arg);
  return 0;
}

START_TEST(a_line_too_long_is_cut_before_its_newline) {
  char text[5000];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  struct test_child child = test_child_fork(warn_long, text, NULL);
  test_assert_exited(&child, 0);
  ck_assert_uint_gt(child.err_size, 500);
  ck_assert_uint_lt(child.err_size, sizeof text);
  ck_assert_int_eq(child.err[child.err_size - 1], '\n');
  ck_assert_ptr_eq(strchr(child.err, '\n'), child.err + child.err_size - 1);
  test_child_free(&child);
}
END_TEST

static int die(void *arg) {
  (void)arg;
  gcrt_fatal("lost %zu bytes", (size_t)12);
}

static int misuse(void *arg) {
  (void)arg;
  gcrt_misuse("gc_free", (void *)0x7f00, "the object was freed already");
}

static int check(void *arg) {
  GCRT_CHECK(1 + 1 == 2);
  GCRT_CHECK(arg != NULL);
  return 0;
}

START_TEST(fatal_misuse_and_check_abort_with_a_line) {
  struct test_child child = test_child_fork(die, NULL, NULL);
  test_assert_signalled(&child, SIGABRT);
  ck_assert_str_eq(child.err, "gcrt: lost 12 bytes\n");
  test_child_free(&child);

  child = test_child_fork(misuse, NULL, NULL);
  test_assert_signalled(&child, SIGABRT);
  ck_assert_str_eq(child.err, "gcrt: gc_free(0x7f00): the object was freed already\n");
  test_child_free(&child);

  child = test_child_fork(check, NULL, NULL);
  test_assert_signalled(&child, SIGABRT);
  test_assert_err_has(&child, "base_report.c:");
  test_assert_err_has(&child, ": broken invariant: arg != NULL\n");
  test_child_free(&child);

  child = test_child_fork(check, &child, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("base/report");
  TCase *tc = test_case(suite, "format", 20);
  tcase_add_test(tc, every_conversion_is_as_the_c_library_has_it);
  tcase_add_test(tc, null_is_shown);
  tcase_add_test(tc, long_text_is_cut_and_terminated);
  tc = test_case(suite, "messages", 60);
  tcase_add_test(tc, a_warning_is_one_line_and_the_program_goes_on);
  tcase_add_test(tc, a_line_too_long_is_cut_before_its_newline);
  tcase_add_test(tc, fatal_misuse_and_check_abort_with_a_line);
  return suite;
}

TEST_MAIN(make_suite)
