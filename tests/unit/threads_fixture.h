/* Several threads that begin at once, for tests of what they share. */
#ifndef GCRT_TESTS_UNIT_THREADS_FIXTURE_H
#define GCRT_TESTS_UNIT_THREADS_FIXTURE_H

#include "support/support.h"

#include <pthread.h>

enum { THREADS = 4 };

/* Runs body on THREADS threads, each with its own element of an array, and `beside`, which may be NULL, on this one. */
static inline void run_threads(void *(*body)(void *element), void *array, size_t size, void (*beside)(void)) {
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++) {
    TEST_REQUIRE(pthread_create(&threads[i], NULL, body, (char *)array + i * size) == 0);
  }
  if (beside) beside();
  for (unsigned i = 0; i < THREADS; i++) TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
}

#endif
