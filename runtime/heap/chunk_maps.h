/* Bit maps with one bit a chunk, as the chunk allocator and the release of free chunks share them. The caller holds
 * gcrt_heap.pages_lock. */
#ifndef GCRT_HEAP_CHUNK_MAPS_H
#define GCRT_HEAP_CHUNK_MAPS_H

#include "base/bits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void gcrt_map_set(uint64_t *map, size_t first, size_t n, bool value) {
  for (size_t i = first; i < first + n;) {
    unsigned offset = (unsigned)(i % 64);
    unsigned length = (unsigned)gcrt_min(64 - offset, first + n - i);
    uint64_t bits = gcrt_low_bits(length) << offset;
    if (value) {
      map[i / 64] |= bits;
    } else {
      map[i / 64] &= ~bits;
    }
    i += length;
  }
}

static inline size_t gcrt_map_count(const uint64_t *map, size_t first, size_t n) {
  size_t count = 0;
  for (size_t i = first; i < first + n;) {
    unsigned offset = (unsigned)(i % 64);
    unsigned length = (unsigned)gcrt_min(64 - offset, first + n - i);
    count += gcrt_popcount(map[i / 64] >> offset & gcrt_low_bits(length));
    i += length;
  }
  return count;
}

/* The first index from `from` on, below `end`, whose bit equals value; end if there is none. */
static inline size_t gcrt_map_next(const uint64_t *map, size_t from, size_t end, bool value) {
  while (from < end) {
    uint64_t word = value ? map[from / 64] : ~map[from / 64];
    word &= ~gcrt_low_bits(from % 64);
    if (word) return gcrt_min(end, from / 64 * 64 + gcrt_ctz(word));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

#endif
