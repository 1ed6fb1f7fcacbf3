/* The environment options: what is malformed ends the program before main with status 2 and a line that names the
 * variable, the value and what is accepted; what is good takes effect. */
#include "system.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const malformed[][2] = {
    {"GCRT_GOGC", "abc"},
    {"GCRT_GOGC", "-5"},
    {"GCRT_GOGC", "10x"},
    {"GCRT_GOGC", "100%"},
    {"GCRT_GOGC", "1.5"},
    {"GCRT_GOGC", "1e3"},
    {"GCRT_GOGC", "offf"},
    {"GCRT_GOGC", "99999999999999999999"},
    {"GCRT_GOGC", "18446744073709551716"},
    {"GCRT_GOGC", "2147483648"},
    {"GCRT_MARKERS", "65"},
    {"GCRT_MARKERS", "abc"},
    {"GCRT_MARKERS", "-1"},
    {"GCRT_MARKERS", "2x"},
    {"GCRT_MARKERS", "1.5"},
    {"GCRT_MARKERS", "4294967297"},
    {"GCRT_SIGNAL", "0"},
    {"GCRT_SIGNAL", "9"},
    {"GCRT_SIGNAL", "19"},
    {"GCRT_SIGNAL", "65"},
    {"GCRT_SIGNAL", "-1"},
    {"GCRT_SIGNAL", "SIGNAL"},
    {"GCRT_SIGNAL", "60x"},
    {"GCRT_STOP_TIMEOUT", "abc"},
    {"GCRT_STOP_TIMEOUT", "-1"},
    {"GCRT_STOP_TIMEOUT", "10s"},
    {"GCRT_STOP_TIMEOUT", "99999999999999999999"},
    {"GCRT_HEAP_RESERVE", "abc"},
    {"GCRT_HEAP_RESERVE", "12XB"},
    {"GCRT_HEAP_RESERVE", "-1"},
    {"GCRT_HEAP_RESERVE", "1.5GiB"},
    {"GCRT_HEAP_RESERVE", "GiB"},
    {"GCRT_HEAP_RESERVE", "1GB"},
    {"GCRT_HEAP_RESERVE", "1GiBs"},
    {"GCRT_HEAP_RESERVE", "0"},
    {"GCRT_HEAP_RESERVE", "99999999999TiB"},
    {"GCRT_HEAP_RESERVE", "16777216TiB"},
    {"GCRT_MEMLIMIT", "1MB"},
    {"GCRT_MEMLIMIT", "auto:101"},
    {"GCRT_STRESS", "abc"},
    {"GCRT_STRESS", "-1"},
    {"GCRT_STRESS", "1x"},
    {"GCRT_DEBUG", "nonsense=1"},
    {"GCRT_DEBUG", "gctrace=x"},
    {"GCRT_DEBUG", "gctrace=1,nonsense=1"},
    {"GCRT_DEBUG", "clobberfree=yes"},
    {"GCRT_DEBUG", "=1"},
};
enum { MALFORMED = sizeof malformed / sizeof *malformed };

/* Says what took effect. */
static int child_report(int argc, char **argv) {
  (void)argc, (void)argv;
  void **list = NULL;
  for (int i = 0; i < 100; i++) {
    void **node = gc_alloc(64);
    if (node == NULL) return 1;
    node[0] = list;
    list = node;
  }
  struct runtime_metrics m = system_metrics();
  printf("cycles %u\n", m.num_gc);
  gc_collect();
  m = system_metrics();
  printf("markers %u\n", m.markers);
  printf("percent %d\n", gc_set_percent(100));
  size_t length = 0;
  for (void **node = list; node; node = node[0]) length++;
  printf("list %zu\n", length);
  return 0;
}

/* Fills the heap; prints how many MiB fitted. */
static int child_fill(int argc, char **argv) {
  (void)argc, (void)argv;
  void **list = NULL;
  size_t count = 0;
  for (void **node; count < 4096 && (node = gc_alloc(1 << 20)) != NULL; count++) {
    node[0] = list;
    list = node;
  }
  printf("filled %zu\n", count);
  gc_keep_alive(list);
  return 0;
}

static void *spin(void *flag) {
  while (!__atomic_load_n((int *)flag, __ATOMIC_ACQUIRE))
    ;
  return NULL;
}

/* Stops another thread by the signal given; SIGRTMAX-4 must then be the program's to use. */
static int child_signal(int argc, char **argv) {
  (void)argc;
  int flag = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, spin, &flag)) return 1;
  for (int i = 0; i < 5; i++) gc_collect();
  __atomic_store_n(&flag, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  struct sigaction action = {.sa_handler = SIG_IGN};
  printf("own %d\n", sigaction(atoi(argv[1]), &action, NULL));
  if (atoi(argv[1]) != SIGRTMAX - 4) printf("former %d\n", sigaction(SIGRTMAX - 4, &action, NULL));
  return 0;
}

static const struct test_child_entry children[] = {
    {"report", child_report}, {"fill", child_fill}, {"signal", child_signal}, {NULL, NULL}};

static struct test_child run(const char *name, const char *argument, const char *variable, const char *value) {
  char setting[200];
  snprintf(setting, sizeof setting, "%s=%s", variable, value);
  const char *environment[] = {"GCRT_GOGC", "GCRT_STRESS", "GCRT_DEBUG", "GCRT_MARKERS", "GCRT_SIGNAL", setting, NULL};
  const char *arguments[] = {argument, NULL};
  struct test_child_options options = {.environment = environment, .timeout_seconds = 20};
  return test_child_exec_self(name, argument ? arguments : NULL, &options);
}

START_TEST(malformed_values_end_the_program) {
  const char *variable = malformed[_i][0], *value = malformed[_i][1];
  struct test_child child = run("report", NULL, variable, value);
  test_assert_exited(&child, 2);
  char expected[200];
  snprintf(expected, sizeof expected, "gcrt: %s=%s: expected ", variable, value);
  test_assert_err_has(&child, expected);
  ck_assert_msg(strncmp(child.err, expected, strlen(expected)) == 0, "%s", test_child_text(&child));
  const char *end = strchr(child.err, '\n');
  ck_assert_msg(end != NULL && end[1] == 0, "should be one line: %s", test_child_text(&child));
  ck_assert_msg(child.out_size == 0, "main should not have run: %s", test_child_text(&child));
  test_child_free(&child);
}
END_TEST

static const struct {
  const char *variable, *value, *line;
} good[] = {
    {"GCRT_GOGC", "50", "percent 50\n"},
    {"GCRT_GOGC", "100", "percent 100\n"},
    {"GCRT_GOGC", "off", "percent -1\n"},
    {"GCRT_GOGC", "1000", "percent 1000\n"},
    {"GCRT_GOGC", "2147483647", "percent 2147483647\n"},
    {"GCRT_GOGC", "", "percent 100\n"},
    {"GCRT_MARKERS", "1", "markers 1\n"},
    {"GCRT_MARKERS", "3", "markers 3\n"},
    {"GCRT_MARKERS", "64", "markers 64\n"},
    {"GCRT_HEAP_RESERVE", "64MiB", "list 100\n"},
    {"GCRT_HEAP_RESERVE", "67108864", "list 100\n"},
    {"GCRT_HEAP_RESERVE", "67108864B", "list 100\n"},
    {"GCRT_HEAP_RESERVE", "65536KiB", "list 100\n"},
    {"GCRT_HEAP_RESERVE", "1GiB", "list 100\n"},
    {"GCRT_HEAP_RESERVE", "1TiB", "list 100\n"},
    {"GCRT_STOP_TIMEOUT", "500", "list 100\n"},
    {"GCRT_STRESS", "0", "cycles 0\n"},
    {"GCRT_STRESS", "1", "list 100\n"},
    {"GCRT_STRESS", "1000000", "cycles 0\n"},
    {"GCRT_DEBUG", "", "list 100\n"},
    {"GCRT_DEBUG", "clobberfree=1", "list 100\n"},
    {"GCRT_DEBUG", "checkmark=1,verify=1", "list 100\n"},
    {"GCRT_DEBUG", "gctrace=0", "list 100\n"},
};
enum { GOOD = sizeof good / sizeof *good };

START_TEST(good_values_take_effect) {
  struct test_child child = run("report", NULL, good[_i].variable, good[_i].value);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, good[_i].line);
  test_assert_out_has(&child, "list 100\n");
  ck_assert_msg(child.err_size == 0, "no message is due: %s", test_child_text(&child));
  test_child_free(&child);
}
END_TEST

START_TEST(stress_collects_at_every_nth_allocation) {
  struct test_child child = run("report", NULL, "GCRT_STRESS", "10");
  test_assert_exited(&child, 0);
  unsigned cycles = 0;
  ck_assert_int_eq(sscanf(child.out, "cycles %u", &cycles), 1);
  ck_assert_msg(cycles >= 9 && cycles <= 12, "%u collections in 100 allocations", cycles);
  test_child_free(&child);
}
END_TEST

START_TEST(reserve_bounds_the_heap) {
  struct test_child child = run("fill", NULL, "GCRT_HEAP_RESERVE", "64MiB");
  test_assert_exited(&child, 0);
  unsigned filled = 0;
  ck_assert_int_eq(sscanf(child.out, "filled %u", &filled), 1);
  ck_assert_msg(filled >= 48 && filled <= 64, "%u MiB fitted", filled);
  test_child_free(&child);
}
END_TEST

START_TEST(signal_can_be_chosen) {
  char number[20], other[40];
  int signal = _i == 0 ? SIGRTMIN + 3 : _i == 1 ? SIGRTMAX : SIGRTMAX - 4;
  snprintf(number, sizeof number, "%d", signal);
  struct test_child child = run("signal", number, "GCRT_SIGNAL", number);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "own -1\n");
  if (signal != SIGRTMAX - 4) test_assert_out_has(&child, "former 0\n");
  snprintf(other, sizeof other, "%d", signal);
  test_assert_err_has(&child, other);
  test_child_free(&child);
}
END_TEST

START_TEST(unknown_variable_is_told) {
  struct test_child child = run("report", NULL, "GCRT_GOCG", "50");
  test_assert_exited(&child, 0);
  test_assert_err_has(&child, "GCRT_GOCG");
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *bad = test_case(suite, "options-malformed", 30);
  tcase_add_loop_test(bad, malformed_values_end_the_program, 0, MALFORMED);
  TCase *accepted = test_case(suite, "options-good", 30);
  tcase_add_loop_test(accepted, good_values_take_effect, 0, GOOD);
  tcase_add_test(accepted, stress_collects_at_every_nth_allocation);
  tcase_add_test(accepted, reserve_bounds_the_heap);
  tcase_add_loop_test(accepted, signal_can_be_chosen, 0, 3);
  tcase_add_test(accepted, unknown_variable_is_told);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
