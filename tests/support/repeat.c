/* The seed of a run and the command that repeats it.
 *
 * test_remember_program runs before any thread exists and fixes the seed, by the environment too, so that forked and
 * exec'ed children share it; after that everything here only reads. A message is written by one write(2), since the
 * threads of a torture test may fail together. */
#include "repeat.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char program_path[4096];
static int program_argc;
static char **program_argv;
static uint64_t seed;

static void read_seed(void) {
  const char *text = getenv("GCRT_TEST_SEED");
  if (text != NULL && *text != '\0') {
    char *end;
    errno = 0;
    seed = strtoull(text, &end, 0);
    if (*end != '\0' || errno != 0) {
      fprintf(stderr, "GCRT_TEST_SEED=%s: expected a number of 64 bits\n", text);
      exit(2);
    }
    return;
  }
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
    seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u ^ (uint64_t)getpid();
  seed >>= 16;
  char value[32];
  snprintf(value, sizeof value, "%llu", (unsigned long long)seed);
  setenv("GCRT_TEST_SEED", value, 1);
}

void test_remember_program(int argc, char **argv) {
  ssize_t size = readlink("/proc/self/exe", program_path, sizeof program_path - 1);
  if (size <= 0) snprintf(program_path, sizeof program_path, "%s", argv[0]);
  program_argc = argc;
  program_argv = argv;
  read_seed();
}

const char *test_program(void) { return program_path; }

uint64_t test_seed(void) { return seed; }

double test_torture_seconds(void) {
  const char *text = getenv("GCRT_TORTURE_SECONDS");
  if (text == NULL || *text == '\0') return 3;
  char *end;
  double seconds = strtod(text, &end);
  if (*end != '\0' || !(seconds > 0)) {
    fprintf(stderr, "GCRT_TORTURE_SECONDS=%s: expected a number of seconds over 0\n", text);
    exit(2);
  }
  return seconds;
}

double test_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void append(char *line, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *line, size_t size, const char *format, ...) {
  size_t used = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + used, size - used, format, arguments);
  va_end(arguments);
}

static void repeat_line(char *line, size_t size) {
  append(line, size, "repeat with:");
  for (char **at = environ; *at != NULL; at++)
    if (strncmp(*at, "GCRT_", 5) == 0 || strncmp(*at, "CK_", 3) == 0) {
      int name = (int)(strchrnul(*at, '=') - *at);
      append(line, size, " %.*s='%s'", name, *at, (*at)[name] == '=' ? *at + name + 1 : "");
    }
  append(line, size, " %s", program_path);
  for (int i = 1; i < program_argc; i++) append(line, size, " '%s'", program_argv[i]);
  append(line, size, "\n");
}

void test_print_repeat(FILE *to) {
  char line[8192] = "";
  repeat_line(line, sizeof line);
  fputs(line, to);
  fflush(to);
}

_Noreturn void test_fail(const char *file, int line, const char *condition, const char *format, ...) {
  char text[12288] = "";
  append(text, sizeof text, "%s:%d: not true: %s:", file, line, condition);
  size_t used = strlen(text);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + used, sizeof text - used, format, arguments);
  va_end(arguments);
  append(text, sizeof text, "\n");
  repeat_line(text, sizeof text);
  ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
  abort();
}
