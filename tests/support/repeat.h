/* The seed of a run, its length, and the line that repeats it. */
#ifndef GCRT_TESTS_REPEAT_H
#define GCRT_TESTS_REPEAT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* GCRT_TEST_SEED, or a random seed that was drawn once; the same in every child of the program. */
uint64_t test_seed(void);

/* GCRT_TORTURE_SECONDS, 3 where it is not set. */
double test_torture_seconds(void);

/* Seconds of the monotonic clock. */
double test_now(void);

/* Keeps test_program: main calls it first. argv is kept. */
void test_remember_program(int argc, char **argv);

/* The path that starts this program again. */
const char *test_program(void);

/* Writes the command line that repeats this run: environment, program and arguments, and a newline. */
void test_print_repeat(FILE *to);

/* The end of TEST_REQUIRE: prints what failed, where and how to repeat it, and aborts. Any thread may call it. */
_Noreturn void test_fail(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As ck_assert_msg, but for any thread and any process, also a child's: the program aborts at once. */
#define TEST_REQUIRE(condition, ...)                                                                                   \
  do {                                                                                                                 \
    if (__builtin_expect(!(condition), 0)) test_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__);                 \
  } while (0)

#endif
