/* The main function of the test programs.
 *
 * Called by main alone, before any thread exists. A program that is started with --child NAME runs that child and
 * nothing else. Check itself reads CK_RUN_SUITE, CK_RUN_CASE, CK_FORK and CK_TIMEOUT_MULTIPLIER; the line that repeats
 * a failed run keeps them. Output is the normal listing, failures only, so that a log shows what a person has to read.
 */
#include "runner.h"

#include "repeat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_child(int argc, char **argv, const struct test_child_entry *children) {
  for (; children != NULL && children->name != NULL; children++)
    if (strcmp(children->name, argv[2]) == 0) {
      int status = children->run(argc - 2, argv + 2);
      fflush(NULL);
      return status;
    }
  fprintf(stderr, "%s: no child is called %s\n", argv[0], argv[2]);
  return 2;
}

int test_main(int argc, char **argv, Suite *(*make_suite)(void), enum test_process process,
              const struct test_child_entry *children) {
  test_remember_program(argc, argv);
  if (argc >= 3 && strcmp(argv[1], "--child") == 0) return run_child(argc, argv, children);
  printf("seed: GCRT_TEST_SEED=%llu\n", (unsigned long long)test_seed());
  fflush(stdout);
  SRunner *runner = srunner_create(make_suite());
  if (getenv("CK_FORK") == NULL) srunner_set_fork_status(runner, process == TEST_FORKED ? CK_FORK : CK_NOFORK);
  srunner_run_all(runner, CK_NORMAL);
  int ran = srunner_ntests_run(runner);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  if (ran == 0) printf("no test ran: do CK_RUN_SUITE and CK_RUN_CASE name one?\n");
  if (failed > 0) test_print_repeat(stdout);
  return failed == 0 && ran > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

TCase *test_case(Suite *suite, const char *name, double timeout_seconds) {
  TCase *tc = tcase_create(name);
  tcase_set_timeout(tc, timeout_seconds);
  suite_add_tcase(suite, tc);
  return tc;
}

bool test_writes_fault(void) {
  const char *tracker = getenv("GCRT_TRACKER");
  return tracker && strcmp(tracker, "mprotect") == 0;
}

void test_print_skip(const char *name, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("skipped %s: ", name);
  vprintf(format, arguments);
  printf("\n");
  fflush(stdout);
  va_end(arguments);
}
