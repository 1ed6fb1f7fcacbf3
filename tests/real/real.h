/* Real libraries on the collector: what a driver offers, and the test that all share (real.c). */
#ifndef GCRT_TESTS_REAL_H
#define GCRT_TESTS_REAL_H

#include <stdbool.h>

/* One driver: it defines real_program. run does the same work on either allocator and writes what it found to standard
 * output, nothing of it from addresses, times or random seeds. It returns the exit status. */
struct real_program {
  const char *name;
  int (*run)(bool collected);
};

extern const struct real_program real_program;

#endif
