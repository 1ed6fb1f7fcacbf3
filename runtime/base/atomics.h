/* Atomic words and bytes over libatomic_ops (its MIT core; nothing of libatomic_ops_gpl).
 *
 * Every shared word of the library is a gcrt_word read and written through these names, so the memory order stands at
 * each use: relaxed unless the name says acquire, release or full. A gcrt_word is as wide as a pointer; where a word
 * would be too wide there is a gcrt_byte, with relaxed loads and stores, and compare-and-swap. */
#ifndef GCRT_BASE_ATOMICS_H
#define GCRT_BASE_ATOMICS_H

#include "base/bits.h"

#include <atomic_ops.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef volatile AO_t gcrt_word;
typedef volatile unsigned char gcrt_byte;
typedef volatile unsigned gcrt_half; /* 32 bits */

static inline size_t gcrt_load(const gcrt_word *p) { return AO_load(p); }
static inline size_t gcrt_load_acquire(const gcrt_word *p) { return AO_load_acquire(p); }
static inline void gcrt_store(gcrt_word *p, size_t v) { AO_store(p, v); }
static inline void gcrt_store_release(gcrt_word *p, size_t v) { AO_store_release(p, v); }
static inline unsigned gcrt_load_half_acquire(const gcrt_half *p) { return AO_int_load_acquire(p); }
static inline void gcrt_store_half_release(gcrt_half *p, unsigned v) { AO_int_store_release(p, v); }
static inline void gcrt_fence(void) { AO_nop_full(); }
/* Stores before it are seen before stores after it. */
static inline void gcrt_release_fence(void) { AO_nop_write(); }

/* Store, then a full fence: the store is seen before any later load of this thread is made. */
static inline void gcrt_store_full(gcrt_word *p, size_t v) {
  AO_store(p, v);
  AO_nop_full();
}

/* The old value. */
static inline size_t gcrt_add(gcrt_word *p, size_t v) { return AO_fetch_and_add(p, v); }
static inline size_t gcrt_sub(gcrt_word *p, size_t v) { return AO_fetch_and_add(p, (AO_t)0 - v); }
static inline size_t gcrt_sub_full(gcrt_word *p, size_t v) { return AO_fetch_and_add_full(p, (AO_t)0 - v); }
static inline size_t gcrt_add_full(gcrt_word *p, size_t v) { return AO_fetch_and_add_full(p, v); }

static inline bool gcrt_cas(gcrt_word *p, size_t from, size_t to) { return AO_compare_and_swap(p, from, to); }
static inline bool gcrt_cas_full(gcrt_word *p, size_t from, size_t to) { return AO_compare_and_swap_full(p, from, to); }
static inline bool gcrt_cas_acquire(gcrt_word *p, size_t from, size_t to) {
  return AO_compare_and_swap_acquire(p, from, to);
}

/* Bytes, and eight of them that begin at a multiple of 8, where each comes whole. A volatile access to a byte is a
 * relaxed atomic one for the compiler and the processor. libatomic_ops says the same by functions, which gcc takes for
 * calls when it guesses branches and unrolls loops, and lays marking and sweeping out for the worse; ThreadSanitizer,
 * however, tells atomic accesses by them. */
#if GCRT_TSAN_INSTRUMENTED
GCRT_INLINE unsigned char gcrt_load_byte(const gcrt_byte *p) { return AO_char_load(p); }
GCRT_INLINE void gcrt_store_byte(gcrt_byte *p, unsigned char v) { AO_char_store(p, v); }
GCRT_INLINE uint64_t gcrt_load_bytes(const gcrt_byte *p) { return AO_load((const gcrt_word *)p); }
GCRT_INLINE void gcrt_store_bytes(gcrt_byte *p, uint64_t v) { AO_store((gcrt_word *)p, v); }
#else
GCRT_INLINE unsigned char gcrt_load_byte(const gcrt_byte *p) { return *p; }
GCRT_INLINE void gcrt_store_byte(gcrt_byte *p, unsigned char v) { *p = v; }
GCRT_INLINE uint64_t gcrt_load_bytes(const gcrt_byte *p) {
  uint64_t v;
  memcpy(&v, (const void *)p, sizeof v);
  return v;
}
GCRT_INLINE void gcrt_store_bytes(gcrt_byte *p, uint64_t v) { memcpy((void *)p, &v, sizeof v); }
#endif
_Static_assert(sizeof(AO_t) == sizeof(uint64_t), "eight bytes are a word");

static inline bool gcrt_cas_byte_full(gcrt_byte *p, unsigned char from, unsigned char to) {
  return AO_char_compare_and_swap_full(p, from, to);
}

/* Sets bits; true if this call set at least one that was clear. */
static inline bool gcrt_set_bits(gcrt_word *p, size_t bits) {
  for (;;) {
    size_t old = AO_load(p);
    if ((old & bits) == bits) return false;
    if (AO_compare_and_swap(p, old, old | bits)) return true;
  }
}

static inline void gcrt_clear_bits(gcrt_word *p, size_t bits) {
  for (;;) {
    size_t old = AO_load(p);
    if (AO_compare_and_swap(p, old, old & ~bits)) return;
  }
}

/* All earlier stores are seen by whoever finds the bits clear. */
static inline void gcrt_clear_bits_release(gcrt_word *p, size_t bits) {
  for (;;) {
    size_t old = AO_load(p);
    if (AO_compare_and_swap_release(p, old, old & ~bits)) return;
  }
}

/* Orders memory accesses of one thread against a signal handler that runs on it. */
static inline void gcrt_signal_fence(void) { AO_compiler_barrier(); }

#endif
