/* A heap of its own for each test: the library's tables are forgotten and taken anew, as large as the test wants.
 *
 * Each test runs in a process of its own, in which nothing else allocates from the heap. */
#ifndef GCRT_TESTS_UNIT_HEAP_FIXTURE_H
#define GCRT_TESTS_UNIT_HEAP_FIXTURE_H

#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/stats.h"

#include "support/support.h"

#include <stdio.h>
#include <string.h>

enum { MIB = 1 << 20 };

static inline void fresh_heap(size_t bytes) {
  memset(&gcrt_heap, 0, sizeof gcrt_heap);
  memset(&gcrt_heap_stats, 0, sizeof gcrt_heap_stats);
  gcrt_heap_init(bytes);
  ck_assert_uint_eq(gcrt_heap.reserved, bytes);
}

/* Whether every byte is `value`. Check notes each of its assertions in a file: loops over bytes and addresses use this
 * and TEST_REQUIRE. */
static inline bool filled(const void *start, unsigned char value, size_t size) {
  const unsigned char *bytes = start;
  return size == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static inline bool reads_zero(const void *start, size_t size) { return filled(start, 0, size); }

/* A cell of the slot through the cache, as allocation takes it; NULL: no memory. */
static inline void *take_cell(struct gcrt_cache *cache, unsigned slot) {
  void *cell = gcrt_cache_take(cache, slot);
  if (cell) return cell;
  return gcrt_cache_refill(cache, slot, 64) ? gcrt_cache_take(cache, slot) : NULL;
}

static inline struct gcrt_cache *new_cache(void) {
  struct gcrt_cache *cache = gcrt_cache_new();
  ck_assert_ptr_nonnull(cache);
  return cache;
}

/* What a collection does to a cell that is reachable. */
static inline void mark_cell(const void *cell) {
  struct gcrt_place place;
  TEST_REQUIRE(gcrt_find((uintptr_t)cell, &place));
  gcrt_store_byte(place.mark, (unsigned char)gcrt_black());
}

#endif
