/* Mark bytes: one for every cell, beside the alloc bits.
 *
 * A marker that finds an object white stores one byte: no atomic operation, as no other cell shares the byte. Two
 * markers that find the same object in the same moment both scan it, which costs time and nothing else. Mark bits, set
 * by compare-and-swap, made two markers hardly faster than one (docs/design/mark.md).
 *
 * Between collections the byte of a cell is gcrt_heap.white (1 or 2) if its alloc bit is set, and 0 if it is not.
 * Marking stores the other value; the sweep stores 0 where white is left, and then the two values change their meaning,
 * so what survives need not be touched.
 *
 * gc_free stores 0 as well; while objects are marked beside the program it stores GCRT_MARK_FREED, which is no colour,
 * so that the cell is known not to be free yet. A marker that read white just before may still store its colour over
 * it. */
#ifndef GCRT_HEAP_MARKS_H
#define GCRT_HEAP_MARKS_H

#include "base/atomics.h"

/* Relaxed loads and stores, by two markers at once: an object is marked in one of their orders. */
typedef gcrt_byte gcrt_mark;

/* A bit for each of eight bytes in order of memory, which are 0 or 1. */
static inline uint64_t gcrt_marks_gather(uint64_t bytes) { return (bytes * UINT64_C(0x0102040810204080)) >> 56; }

enum { GCRT_MARK_FREED = 3 };

/* Which of the 64 bytes are not 0. They may be changing. */
static inline uint64_t gcrt_marks_any(const gcrt_mark *marks) {
  uint64_t mask = 0;
  for (unsigned group = 0; group < 8; group++) {
    uint64_t bytes = gcrt_load_bytes(marks + 8 * group);
    mask |= gcrt_marks_gather((bytes | bytes >> 1) & UINT64_C(0x0101010101010101)) << (8 * group);
  }
  return mask;
}

/* Which of the 64 bytes have this value, 1 or 2, or are GCRT_MARK_FREED. They may be changing. */
static inline uint64_t gcrt_marks_with(const gcrt_mark *marks, unsigned value) {
  uint64_t mask = 0;
  for (unsigned group = 0; group < 8; group++) {
    uint64_t bytes = gcrt_load_bytes(marks + 8 * group);
    mask |= gcrt_marks_gather((bytes >> (value - 1)) & UINT64_C(0x0101010101010101)) << (8 * group);
  }
  return mask;
}

/* Whether any of eight bytes, the first at a multiple of 8, has this value, 1 or 2, or is GCRT_MARK_FREED. */
static inline bool gcrt_marks_eight_have(const gcrt_mark *marks, unsigned value) {
  return ((gcrt_load_bytes(marks) >> (value - 1)) & UINT64_C(0x0101010101010101)) != 0;
}

/* Stores a value into the bytes of `mask`, and touches no other: they may be changing. */
static inline void gcrt_marks_store(gcrt_mark *marks, uint64_t mask, unsigned value) {
  for (unsigned group = 0; group < 8 && mask; group++, mask >>= 8, marks += 8) {
    uint64_t bits = mask & 0xff;
    if (bits == 0xff) {
      gcrt_store_bytes(marks, value * UINT64_C(0x0101010101010101));
    } else {
      for (; bits; bits &= bits - 1) gcrt_store_byte(&marks[__builtin_ctzll(bits)], (unsigned char)value);
    }
  }
}

#endif
