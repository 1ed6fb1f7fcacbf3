/* The main function of a test program. */
#ifndef GCRT_TESTS_RUNNER_H
#define GCRT_TESTS_RUNNER_H

#include "child.h"

#include <check.h>
#include <stdbool.h>

/* What meson takes as "skipped" from a whole program. */
#define TEST_EXIT_SKIPPED 77

/* Whether each test runs in a process of its own. Forked is the usual way; a program whose tests are about processes,
 * or whose state is made once for all tests, runs in place. CK_FORK=no in the environment wins over both. */
enum test_process { TEST_FORKED, TEST_IN_PLACE };

/* Runs the suite that make_suite returns and returns the exit status: EXIT_SUCCESS or EXIT_FAILURE.
 * children may be NULL; otherwise it ends in an entry without a name. */
int test_main(int argc, char **argv, Suite *(*make_suite)(void), enum test_process process,
              const struct test_child_entry *children);

/* A case of the suite with its own time limit in seconds (before CK_TIMEOUT_MULTIPLIER). */
TCase *test_case(Suite *suite, const char *name, double timeout_seconds);

/* Prints "skipped NAME: why". Use TEST_SKIP in a test function: it returns from it. */
void test_print_skip(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define TEST_SKIP(...)                                                                                                 \
  do {                                                                                                                 \
    test_print_skip(__func__, __VA_ARGS__);                                                                            \
    return;                                                                                                            \
  } while (0)

/* Whether GCRT_TRACKER=mprotect is set: system calls cannot write into objects that are searched for pointers
 * (swapcontext is one), and SIGSEGV cannot be blocked. */
bool test_writes_fault(void);

#define TEST_MAIN(make_suite)                                                                                          \
  int main(int argc, char **argv) { return test_main(argc, argv, make_suite, TEST_FORKED, NULL); }
#define TEST_MAIN_IN_PLACE(make_suite)                                                                                 \
  int main(int argc, char **argv) { return test_main(argc, argv, make_suite, TEST_IN_PLACE, NULL); }
#define TEST_MAIN_CHILDREN(make_suite, children)                                                                       \
  int main(int argc, char **argv) { return test_main(argc, argv, make_suite, TEST_FORKED, children); }

#endif
