/* The options' parser, row by row from the table itself, and what a malformed variable does to a program. */
#include "base/options.h"

#include "support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static bool accepts(const char *variable, const char *value, int64_t *result) {
  char expected[256] = "untouched";
  *result = -77;
  if (gcrt_option_parse(variable, value, result, expected, sizeof expected) == 0) {
    ck_assert_str_eq(expected, "untouched");
    return true;
  }
  ck_assert_msg(*result == -77, "%s=%s was refused but stored", variable, value);
  ck_assert_str_ne(expected, "untouched");
  ck_assert_uint_gt(strlen(expected), 0);
  return false;
}

static void assert_value(const char *variable, const char *value, int64_t expected) {
  int64_t result;
  ck_assert_msg(accepts(variable, value, &result), "%s=%s should be accepted", variable, value);
  ck_assert_msg(result == expected, "%s=%s gave %" PRId64, variable, value, result);
}

static void assert_refused(const char *variable, const char *value) {
  int64_t result;
  ck_assert_msg(!accepts(variable, value, &result), "%s=%s should be refused", variable, value);
}

static void assert_number(const struct gcrt_option_row *row, int64_t number) {
  char value[32];
  snprintf(value, sizeof value, "%" PRId64, number);
  if (number >= row->low && number <= row->high)
    assert_value(row->variable, value, number);
  else
    assert_refused(row->variable, value);
}

START_TEST(bounds_of_every_row) {
  const struct gcrt_option_row *row = &gcrt_option_rows[_i];
  if (row->type == GCRT_OPTION_TRACKER || row->type == GCRT_OPTION_LIMIT) return; /* not numbers alone */
  const int64_t numbers[] = {row->low,
                             row->low + 1,
                             row->high,
                             row->high - 1,
                             row->low - 1,
                             row->high + 1,
                             row->standard,
                             INT64_MAX,
                             INT64_MIN + 1,
                             -1,
                             (row->low + row->high) / 2};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) assert_number(row, numbers[i]);
}
END_TEST

START_TEST(malformed_values_of_every_row) {
  const struct gcrt_option_row *row = &gcrt_option_rows[_i];
  static const char *const values[] = {
      "",
      " ",
      "abc",
      "-",
      "+1",
      "1 ",
      " 1",
      "0x40",
      "64x",
      "1e3",
      "1.5",
      "1,5",
      "--1",
      "64\n",
      "of",
      "offf",
      "OFF",
      "KiB",
      "B",
      "64%",
      "64k",
      "64KB",
      "99999999999999999999",
      "1KiBs",
      "1kib",
      "-64",
      "1 KiB",
      "18446744073709551680",
  };
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) assert_refused(row->variable, values[i]);
  bool limit = row->type == GCRT_OPTION_LIMIT;
  if (row->type != GCRT_OPTION_PERCENT && !limit) assert_refused(row->variable, "off");
  if (row->type != GCRT_OPTION_SIZE && !limit) assert_refused(row->variable, "64B");
  if (row->low <= 64 && row->type != GCRT_OPTION_TRACKER)
    assert_value(row->variable, "0000000000000000000000000064", 64);
}
END_TEST

START_TEST(trackers_have_names) {
  assert_value("GCRT_TRACKER", "auto", GCRT_CHOOSE_auto);
  assert_value("GCRT_TRACKER", "none", GCRT_CHOOSE_none);
  assert_value("GCRT_TRACKER", "uffd", GCRT_CHOOSE_uffd);
  assert_value("GCRT_TRACKER", "explicit", GCRT_CHOOSE_explicit);
  assert_value("GCRT_TRACKER", "mprotect", GCRT_CHOOSE_mprotect);
  assert_refused("GCRT_TRACKER", "uff");
  assert_refused("GCRT_TRACKER", "uffd,none");
  assert_refused("GCRT_TRACKER", "2");
}
END_TEST

START_TEST(off_is_a_percentage) { assert_value("GCRT_GOGC", "off", -1); }
END_TEST

START_TEST(sizes_have_binary_suffixes) {
  const int64_t mib = 1 << 20;
  assert_value("GCRT_HEAP_RESERVE", "16777216", 16 * mib);
  assert_value("GCRT_HEAP_RESERVE", "16777216B", 16 * mib);
  assert_value("GCRT_HEAP_RESERVE", "16384KiB", 16 * mib);
  assert_value("GCRT_HEAP_RESERVE", "17MiB", 17 * mib);
  assert_value("GCRT_HEAP_RESERVE", "3GiB", 3072 * mib);
  assert_value("GCRT_HEAP_RESERVE", "1TiB", 1048576 * mib);
  assert_refused("GCRT_HEAP_RESERVE", "15MiB");
  assert_refused("GCRT_HEAP_RESERVE", "16777216TiB"); /* 2^64 */
  assert_refused("GCRT_HEAP_RESERVE", "8388608TiB");  /* 2^63 */
  assert_refused("GCRT_HEAP_RESERVE", "1PiB");
}
END_TEST

START_TEST(limits_are_bytes_off_or_automatic) {
  const char *variable = "GCRT_MEMLIMIT";
  const int64_t mib = 1 << 20;
  assert_value(variable, "0", 0);
  assert_value(variable, "1B", 1);
  assert_value(variable, "3KiB", 3072);
  assert_value(variable, "512MiB", 512 * mib);
  assert_value(variable, "4GiB", 4096 * mib);
  assert_value(variable, "8388607TiB", INT64_MAX - (1024 * 1024 * mib - 1));
  assert_value(variable, "9223372036854775806", INT64_MAX - 1);
  assert_value(variable, "9223372036854775807", GCRT_LIMIT_OFF);
  assert_value(variable, "off", GCRT_LIMIT_OFF);
  assert_value(variable, "auto", GCRT_LIMIT_AUTO(90));
  assert_value(variable, "auto:1", GCRT_LIMIT_AUTO(1));
  assert_value(variable, "auto:85", GCRT_LIMIT_AUTO(85));
  assert_value(variable, "auto:100", GCRT_LIMIT_AUTO(100));
  static const char *const bad[] = {
      "9223372036854775808", /* 2^63 */
      "8388608TiB",          /* 2^63 */
      "16777216TiB",         /* 2^64 */
      "9007199254740992KiB", /* 2^63 */
      "auto:",
      "auto:0",
      "auto:101",
      "auto:-1",
      "auto:+5",
      "auto: 5",
      "auto:90%",
      "auto:1.5",
      "auto:90:90",
      "auto:18446744073709551617", /* 2^64 + 1 */
      "auto90",
      "auto950",
      "automatic",
      "AUTO",
      "aut",
      ":90",
      "90%",
      "off:90",
      "none",
      "1PiB",
      "1MB",
      "1.5GiB",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_refused(variable, bad[i]);
}
END_TEST

START_TEST(a_limit_tells_its_percentage) {
  ck_assert_int_eq(gcrt_limit_percent(GCRT_LIMIT_OFF), 0);
  ck_assert_int_eq(gcrt_limit_percent(0), 0);
  ck_assert_int_eq(gcrt_limit_percent(512 << 20), 0);
  ck_assert_int_eq(gcrt_limit_percent(GCRT_LIMIT_AUTO(1)), 1);
  ck_assert_int_eq(gcrt_limit_percent(GCRT_LIMIT_AUTO(100)), 100);
}
END_TEST

START_TEST(an_unknown_variable_is_refused) { assert_refused("GCRT_NOTHING", "1"); }
END_TEST

START_TEST(what_is_accepted_is_said_with_its_bounds) {
  int64_t result;
  char expected[256], bound[32];
  for (size_t i = 0; i < gcrt_option_row_count; i++) {
    const struct gcrt_option_row *row = &gcrt_option_rows[i];
    ck_assert_int_eq(gcrt_option_parse(row->variable, "x", &result, expected, sizeof expected), -1);
    if (row->type == GCRT_OPTION_TRACKER) {
      ck_assert_str_eq(expected, "one of auto, none, uffd, explicit, mprotect");
      continue;
    }
    if (row->type == GCRT_OPTION_LIMIT) {
      ck_assert_str_eq(
          expected, "bytes, written N, NB, NKiB, NMiB, NGiB or NTiB, or auto:PERCENT from 1 to 100, or auto, or off");
      continue;
    }
    if (row->type == GCRT_OPTION_SIZE) {
      ck_assert_ptr_nonnull(strstr(expected, "from 16 MiB to 4 TiB"));
      ck_assert_ptr_nonnull(strstr(expected, "KiB"));
      continue;
    }
    snprintf(bound, sizeof bound, "from %" PRId64 " to %" PRId64, row->low, row->high);
    ck_assert_msg(strstr(expected, bound), "%s: %s", row->variable, expected);
    ck_assert_int_eq(row->type == GCRT_OPTION_PERCENT, strstr(expected, ", or off") != NULL);
  }
}
END_TEST

START_TEST(defaults_are_the_rows) {
  struct gcrt_options options;
  memset(&options, 0x55, sizeof options);
  gcrt_options_default(&options);
#define OPTION(type, field, variable, standard, low, high, text) ck_assert_int_eq(options.field, standard);
  GCRT_OPTIONS(OPTION)
#undef OPTION
#define KEY(key, text) ck_assert_int_eq(options.debug.key, 0);
  GCRT_DEBUG_KEYS(KEY)
#undef KEY
  for (size_t i = 0; i < gcrt_option_row_count; i++) {
    const struct gcrt_option_row *row = &gcrt_option_rows[i];
    ck_assert_msg(row->standard >= row->low && row->standard <= row->high, "%s: default", row->variable);
    ck_assert_msg(strncmp(row->variable, "GCRT_", 5) == 0 && strlen(row->text) > 20, "%s", row->variable);
  }
}
END_TEST

START_TEST(debug_lists) {
  struct gcrt_options options;
  char expected[256];
  gcrt_options_default(&options);
  ck_assert_int_eq(gcrt_debug_parse(&options, "verify=1", expected, sizeof expected), 0);
  ck_assert(options.debug.verify == 1 && options.debug.gctrace == 0);
  ck_assert_int_eq(gcrt_debug_parse(&options, "gctrace=1,verify=0,clobberfree=1", expected, sizeof expected), 0);
  ck_assert(options.debug.verify == 0 && options.debug.gctrace == 1 && options.debug.clobberfree == 1);
  ck_assert_int_eq(options.debug.checkmark, 0);
  static const char *const bad[] = {
      "",           "gctrace",  "gctrace=",   "gctrace=2",    "gctrace=10",  "gctrace=1,",
      ",gctrace=1", "=1",       "gctrace=1 ", " gctrace=1",   "nothing=1",   "gctrace=1;verify=1",
      "GCTRACE=1",  "gctrac=1", "gctracee=1", "verify=1,x=1", "gctrace=yes", "checkmark=1,,verify=1",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct gcrt_options before = options;
    ck_assert_msg(gcrt_debug_parse(&options, bad[i], expected, sizeof expected) == -1, "\"%s\"", bad[i]);
    ck_assert_msg(memcmp(&before, &options, sizeof options) == 0, "\"%s\" was refused but stored", bad[i]);
    for (size_t key = 0; key < gcrt_debug_row_count; key++)
      ck_assert_msg(strstr(expected, gcrt_debug_rows[key].key), "%s", expected);
  }
}
END_TEST

static int read_and_print(void *arg) {
  (void)arg;
  gcrt_options_read();
  printf("gogc %" PRId64 " signal %" PRId64 " reserve %" PRId64 " gctrace %" PRId64 " verify %" PRId64
         " memlimit %" PRId64 "\n",
         gcrt_options.gogc, gcrt_options.signal, gcrt_options.heap_reserve, gcrt_options.debug.gctrace,
         gcrt_options.debug.verify, gcrt_options.memlimit);
  return 0;
}

static struct test_child read_with(const char *const *settings) {
  const char *environment[32];
  size_t count = 0;
  for (size_t i = 0; i < gcrt_option_row_count; i++)
    environment[count++] = gcrt_option_rows[i].variable; /* removes it */
  environment[count++] = "GCRT_DEBUG";
  for (; *settings; settings++) environment[count++] = *settings;
  environment[count] = NULL;
  struct test_child_options options = {.environment = environment};
  return test_child_fork(read_and_print, NULL, &options);
}

START_TEST(the_environment_is_read) {
  const char *const settings[] = {"GCRT_GOGC=off",
                                  "GCRT_SIGNAL=",
                                  "GCRT_HEAP_RESERVE=1GiB",
                                  "GCRT_MEMLIMIT=auto:75",
                                  "GCRT_DEBUG=gctrace=1,verify=1",
                                  NULL};
  struct test_child child = read_with(settings);
  test_assert_exited(&child, 0);
  ck_assert_str_eq(child.out, "gogc -1 signal 60 reserve 1073741824 gctrace 1 verify 1 memlimit -75\n");
  ck_assert_str_eq(child.err, "");
  test_child_free(&child);
}
END_TEST

START_TEST(unset_and_empty_mean_the_default) {
  const char *const settings[] = {"GCRT_GOGC=", "GCRT_DEBUG=", NULL};
  struct test_child child = read_with(settings);
  test_assert_exited(&child, 0);
  ck_assert_str_eq(child.out,
                   "gogc 100 signal 60 reserve 274877906944 gctrace 0 verify 0 memlimit 9223372036854775807\n");
  ck_assert_str_eq(child.err, "");
  test_child_free(&child);
}
END_TEST

START_TEST(a_malformed_variable_ends_the_program) {
  char setting[64], line[128];
  const char *variable = (size_t)_i < gcrt_option_row_count ? gcrt_option_rows[_i].variable : "GCRT_DEBUG";
  snprintf(setting, sizeof setting, "%s=bad value", variable);
  const char *const settings[] = {setting, NULL};
  struct test_child child = read_with(settings);
  test_assert_exited(&child, 2);
  ck_assert_str_eq(child.out, "");
  snprintf(line, sizeof line, "gcrt: %s=bad value: expected ", variable);
  ck_assert_msg(strncmp(child.err, line, strlen(line)) == 0, "%s", child.err);
  ck_assert_uint_gt(child.err_size, strlen(line) + 10);
  ck_assert_ptr_eq(strchr(child.err, '\n'), child.err + child.err_size - 1);
  test_child_free(&child);
}
END_TEST

START_TEST(a_long_value_does_not_hide_what_is_accepted) {
  char setting[3000] = "GCRT_GOGC=";
  memset(setting + 10, '9', sizeof setting - 11);
  setting[sizeof setting - 1] = '\0';
  const char *const settings[] = {setting, NULL};
  struct test_child child = read_with(settings);
  test_assert_exited(&child, 2);
  test_assert_err_has(&child, "999...: expected a percentage from 0 to 2147483647, or off\n");
  test_child_free(&child);
}
END_TEST

START_TEST(an_unknown_variable_gets_a_warning) {
  const char *const settings[] = {"GCRT_GOCG=50", "GCRT_TEST_SEED=1", NULL};
  struct test_child child = read_with(settings);
  test_assert_exited(&child, 0);
  ck_assert_str_eq(child.err, "gcrt: GCRT_GOCG is not an option of this library and has no effect\n");
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("base/options");
  TCase *tc = test_case(suite, "parser", 20);
  tcase_add_loop_test(tc, bounds_of_every_row, 0, (int)gcrt_option_row_count);
  tcase_add_loop_test(tc, malformed_values_of_every_row, 0, (int)gcrt_option_row_count);
  tcase_add_test(tc, trackers_have_names);
  tcase_add_test(tc, off_is_a_percentage);
  tcase_add_test(tc, sizes_have_binary_suffixes);
  tcase_add_test(tc, limits_are_bytes_off_or_automatic);
  tcase_add_test(tc, a_limit_tells_its_percentage);
  tcase_add_test(tc, an_unknown_variable_is_refused);
  tcase_add_test(tc, what_is_accepted_is_said_with_its_bounds);
  tcase_add_test(tc, defaults_are_the_rows);
  tcase_add_test(tc, debug_lists);
  tc = test_case(suite, "environment", 60);
  tcase_add_test(tc, the_environment_is_read);
  tcase_add_test(tc, unset_and_empty_mean_the_default);
  tcase_add_loop_test(tc, a_malformed_variable_ends_the_program, 0, (int)gcrt_option_row_count + 1);
  tcase_add_test(tc, a_long_value_does_not_hide_what_is_accepted);
  tcase_add_test(tc, an_unknown_variable_gets_a_warning);
  return suite;
}

TEST_MAIN(make_suite)
