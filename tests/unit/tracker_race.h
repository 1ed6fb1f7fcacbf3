/* Threads that write to pages while others scan them: whoever looks only at the pages that a tracker reports has seen
 * everything in the end. The pages are in the tracker and armed. */
#ifndef GCRT_TESTS_UNIT_TRACKER_RACE_H
#define GCRT_TESTS_UNIT_TRACKER_RACE_H

#include "sys/tracker.h"

#include "support/support.h"

#include <pthread.h>
#include <stdint.h>

enum { RACE_PAGES = 64, RACE_WRITERS_MOST = 8 };

struct race {
  const struct gcrt_tracker *tracker;
  uintptr_t start; /* of memory that is zero */
  size_t page_bytes;
  unsigned writers, rounds;
  pthread_barrier_t begin, end;
  unsigned numbers, busy; /* for the writers; those that still write */
  uint32_t seen[RACE_PAGES];
};

/* In each round every page counts up once, for each writer in a word and an order of its own. */
static void *race_count_up(void *argument) {
  struct race *race = argument;
  unsigned writer = __atomic_fetch_add(&race->numbers, 1, __ATOMIC_RELAXED);
  struct test_random random = test_random_stream(writer);
  for (unsigned round = 0; round < race->rounds; round++) {
    size_t first = test_random_below(&random, RACE_PAGES), step = 2 * test_random_below(&random, RACE_PAGES / 2) + 1;
    pthread_barrier_wait(&race->begin);
    for (size_t i = 0; i < RACE_PAGES; i++) {
      uint32_t *word = (uint32_t *)(race->start + (first + i * step) % RACE_PAGES * race->page_bytes) + writer;
      __atomic_store_n(word, *word + 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_sub(&race->busy, 1, __ATOMIC_RELEASE);
    pthread_barrier_wait(&race->end);
  }
  return NULL;
}

static void race_look(void *argument, uintptr_t low, uintptr_t high) {
  struct race *race = argument;
  for (; low < high; low += race->page_bytes) {
    const uint32_t *words = (const uint32_t *)low;
    uint32_t sum = 0;
    for (unsigned i = 0; i < race->writers; i++) sum += __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    race->seen[(low - race->start) / race->page_bytes] = sum;
  }
}

/* Half of the pages for each of two scanners, as long as anyone writes and once more. */
static void race_scan_half(struct race *race, bool upper) {
  size_t half = RACE_PAGES / 2 * race->page_bytes;
  uintptr_t low = race->start + (upper ? half : 0);
  bool busy = true;
  while (busy) {
    busy = __atomic_load_n(&race->busy, __ATOMIC_ACQUIRE) != 0;
    TEST_REQUIRE(race->tracker->written(low, low + half, true, race_look, race));
  }
}

static void *race_scan_upper(void *argument) {
  struct race *race = argument;
  for (unsigned round = 0; round < race->rounds; round++) {
    pthread_barrier_wait(&race->begin);
    race_scan_half(race, true);
    pthread_barrier_wait(&race->end);
  }
  return NULL;
}

static void race_run(struct race *race) {
  unsigned writers = race->writers;
  TEST_REQUIRE(writers <= RACE_WRITERS_MOST);
  pthread_barrier_init(&race->begin, NULL, writers + 2);
  pthread_barrier_init(&race->end, NULL, writers + 2);
  pthread_t threads[RACE_WRITERS_MOST + 1];
  for (unsigned i = 0; i <= writers; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, i < writers ? race_count_up : race_scan_upper, race), 0);
  for (uint32_t round = 1; round <= race->rounds; round++) {
    __atomic_store_n(&race->busy, writers, __ATOMIC_RELEASE);
    pthread_barrier_wait(&race->begin);
    race_scan_half(race, false);
    pthread_barrier_wait(&race->end);
    for (size_t i = 0; i < RACE_PAGES; i++)
      TEST_REQUIRE(race->seen[i] == round * writers, "page %zu in round %u: %u seen", i, round, race->seen[i]);
  }
  for (unsigned i = 0; i <= writers; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

#endif
