/* Functions and programs in other processes, with an environment of their own and their output captured. */
#ifndef GCRT_TESTS_CHILD_H
#define GCRT_TESTS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A function that a fresh process of the same program can be asked to run: its name, and what it does. It returns the
 * exit status. argv[0] is the name, then the arguments of the request; argv ends in NULL. */
struct test_child_entry {
  const char *name;
  int (*run)(int argc, char **argv);
};

/* How a process ended, and what it wrote. The texts come from malloc and end in a 0 byte. */
struct test_child {
  int status; /* of waitpid */
  bool timed_out;
  char *out;
  size_t out_size;
  char *err;
  size_t err_size;
};

/* What may be said about a process that is to run. All may be left out. */
struct test_child_options {
  const char *const *environment; /* "NAME=value" sets, "NAME" removes; ends in NULL */
  const char *input;              /* standard input; none reads as empty */
  double timeout_seconds;         /* killed after it; 0 is 60 */
};

/* Starts this program anew (exec) and runs the entry `name` of its children there: for what is read when the library
 * starts. arguments may be NULL, otherwise it ends in NULL. */
struct test_child test_child_exec_self(const char *name, const char *const *arguments,
                                       const struct test_child_options *options);

/* Starts another program: argv[0] is its path, or is searched for in PATH. */
struct test_child test_child_exec(const char *const *argv, const struct test_child_options *options);

/* Forks and runs fn(arg) in the child, without exec; its return value is the exit status. Environment variables are
 * set in the child, but what reads them when the program starts does not see them. */
struct test_child test_child_fork(int (*fn)(void *arg), void *arg, const struct test_child_options *options);

void test_child_free(struct test_child *child);

/* Whether it exited with this status, or was killed by this signal. */
bool test_child_exited(const struct test_child *child, int status);
bool test_child_signalled(const struct test_child *child, int signal);

/* One line on how it ended, and what it wrote: for a message. In a buffer of the calling thread. */
const char *test_child_text(const struct test_child *child);

#define test_assert_exited(child, status)                                                                              \
  ck_assert_msg(test_child_exited((child), (status)), "should exit with %d; %s", (status), test_child_text(child))
#define test_assert_signalled(child, signal)                                                                           \
  ck_assert_msg(test_child_signalled((child), (signal)), "should die of signal %d; %s", (signal),                      \
                test_child_text(child))
#define test_assert_out_has(child, text)                                                                               \
  ck_assert_msg(strstr((child)->out, (text)) != NULL, "\"%s\" should be in the output; %s", (text),                    \
                test_child_text(child))
#define test_assert_err_has(child, text)                                                                               \
  ck_assert_msg(strstr((child)->err, (text)) != NULL, "\"%s\" should be in the errors; %s", (text),                    \
                test_child_text(child))

#endif
