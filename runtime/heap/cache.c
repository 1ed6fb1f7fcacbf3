/* Thread caches: see cache.h for the invariants.
 *
 * A refill takes the free cells of one bitmap word of a span that the thread owns, so threads meet at a lock only when
 * a span is used up. Zeroing happens here, in pieces that stay in the first-level cache until they are handed out;
 * cells that were never used are not zeroed again.
 *
 * Called by the owning thread inside a critical section (world/thread.h), except gcrt_cache_count and gcrt_cache_holds.
 * Not async-signal-safe. A free list threaded through the cells was not chosen: it writes into memory before it is
 * handed out and cannot tell a free cell from an object. */
#include "heap/cache.h"

#include "base/report.h"
#include "base/tsan.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "sys/memory.h"
#include "sys/proc.h"

#include <string.h>

uint16_t gcrt_slot_table[GCRT_TABLE_MAX + 1];

static gcrt_word caches;

static size_t cache_size(void) { return gcrt_align_up(sizeof(struct gcrt_cache), gcrt_page_size()); }

void gcrt_cache_init_table(void) {
  for (size_t size = 0; size <= GCRT_TABLE_MAX; size++) {
    unsigned class = gcrt_class_of(size ? (unsigned)size : 1);
    gcrt_slot_table[size] = (uint16_t)gcrt_slot_of(class, GCRT_SCAN, gcrt_class_size[class] == size);
  }
}

struct gcrt_cache *gcrt_cache_new(void) {
  struct gcrt_cache *cache = gcrt_memory_map(cache_size());
  if (cache) gcrt_add(&caches, 1);
  return cache;
}

size_t gcrt_cache_bytes(size_t *count) {
  *count = gcrt_load(&caches);
  return cache_size();
}

/* Zeroes the cells of `mask`, run by run. Runs of small cells are short: a call for each would cost more than the
 * stores. */
static void zero_cells(uintptr_t base, size_t cell, uint64_t mask) {
  while (mask) {
    unsigned start = gcrt_ctz(mask);
    uint64_t rest = ~(mask >> start);
    unsigned length = rest ? gcrt_ctz(rest) : 64 - start;
    char *p = (char *)base + start * cell;
    size_t bytes = length * cell;
    if (bytes <= 128) {
      for (size_t i = 0; i < bytes; i += GCRT_GRANULE) memset(p + i, 0, GCRT_GRANULE);
    } else {
      memset(p, 0, bytes);
    }
    if (start + length >= 64) break;
    mask &= ~gcrt_low_bits(start + length);
  }
}

static void tell_tsan(uintptr_t base, size_t cell, uint64_t mask) {
  for (; GCRT_TSAN_BUILD && mask; mask &= mask - 1) gcrt_tsan_new_memory(base + gcrt_ctz(mask) * cell, cell);
}

/* The lowest n set bits of mask. */
static uint64_t lowest_bits(uint64_t mask, unsigned n) {
  if (gcrt_popcount(mask) <= n) return mask;
  uint64_t kept = 0;
  for (; n; n--) {
    kept |= mask & -mask;
    mask &= mask - 1;
  }
  return kept;
}

/* Moves the free cells of the span's next word that has any into the window. False: the span is used up. */
static bool window_from(struct gcrt_cache *cache, unsigned slot, struct gcrt_span *span, unsigned limit) {
  struct gcrt_window *window = &cache->windows[slot];
  struct gcrt_refill *refill = &cache->refill[slot];
  size_t first = gcrt_span_index(span);
  struct gcrt_chunk *chunk = &gcrt_heap.chunks[first];
  gcrt_word *allocs = &gcrt_heap.allocs[first * GCRT_WORDS];
  for (uint32_t i = refill->cursor; i * 64 < chunk->cells; i++) {
    uint64_t valid = gcrt_low_bits((unsigned)gcrt_min(64, chunk->cells - i * 64));
    uint64_t mask = valid & ~gcrt_load_acquire(&allocs[i]);
    if (mask == 0) continue;
    if (gcrt_load(&gcrt_heap.marking)) mask &= ~gcrt_marks_any(gcrt_span_marks(chunk) + i * 64);
    if (mask == 0) continue;
    mask = lowest_bits(mask, limit);
    refill->cursor = i;
    gcrt_set_bits(&span->windows, (size_t)1 << i);
    gcrt_set_bits(&allocs[i], mask);
    gcrt_mark *marks = gcrt_span_marks(chunk) + i * 64;
    gcrt_marks_store(marks, mask, gcrt_heap.white);
    unsigned count = gcrt_popcount(mask);
    gcrt_add(&span->used, count);
    gcrt_add(&gcrt_heap.live, (size_t)count * chunk->cell);
    uintptr_t base = gcrt_chunk_address(first) + (size_t)i * 64 * chunk->cell;
    uint32_t fresh = span->fresh > i * 64 ? span->fresh - i * 64 : 0;
    tell_tsan(base, chunk->cell, mask);
    zero_cells(base, chunk->cell, mask & gcrt_low_bits(fresh));
    uint32_t top = i * 64 + gcrt_log2(mask) + 1;
    if (top > span->fresh) span->fresh = top;
    window->base = base;
    window->cell = chunk->cell;
    gcrt_store(&window->alloc, (size_t)&allocs[i]);
    window->marks = marks;
    gcrt_store(&refill->taken, gcrt_load(&refill->taken) + count);
    gcrt_store(&window->mask, mask);
    return true;
  }
  return false;
}

bool gcrt_cache_refill(struct gcrt_cache *cache, unsigned slot, unsigned cells) {
  struct gcrt_refill *refill = &cache->refill[slot];
  GCRT_CHECK(cache->windows[slot].mask == 0);
  if (!refill->active) {
    refill->active = 1;
    size_t n = gcrt_load(&cache->slots);
    cache->used[n] = (uint16_t)slot;
    gcrt_store_release(&cache->slots, n + 1);
  }
  unsigned limit = (unsigned)gcrt_max(1, GCRT_WINDOW_BYTES / gcrt_class_size[gcrt_slot_class(slot)]);
  if (limit > cells) limit = cells;
  for (;;) {
    if (!refill->span) {
      refill->cursor = 0;
      refill->span = gcrt_central_take(slot);
      if (!refill->span) return false;
    }
    gcrt_store_full(&cache->activity, gcrt_load(&cache->activity) + 1);
    bool filled = window_from(cache, slot, refill->span, limit);
    gcrt_store_release(&cache->activity, gcrt_load(&cache->activity) + 1);
    if (filled) return true;
    struct gcrt_span *span = refill->span;
    refill->span = NULL;
    gcrt_central_give(span);
  }
}

void gcrt_cache_keep_unused(struct gcrt_cache *cache) {
  size_t n = gcrt_load(&cache->slots);
  for (size_t i = 0; i < n; i++) {
    unsigned slot = cache->used[i];
    struct gcrt_window *window = &cache->windows[slot];
    if (window->mask) {
      gcrt_marks_store(window->marks, window->mask, gcrt_black());
      size_t word = (size_t)((gcrt_word *)window->alloc - gcrt_heap.allocs);
      gcrt_heap.spans[word / GCRT_WORDS].kept_windows |= UINT64_C(1) << (word % GCRT_WORDS);
    }
    struct gcrt_refill *refill = &cache->refill[slot];
    if (refill->span) gcrt_store_byte(&refill->span->owned, false);
    refill->span = NULL;
    refill->cursor = 0;
  }
}

bool gcrt_cache_holds(const struct gcrt_cache *cache, unsigned slot, const gcrt_word *alloc, size_t bit) {
  const struct gcrt_window *window = &cache->windows[slot];
  for (;;) {
    size_t before = gcrt_load_acquire(&cache->activity);
    bool held = gcrt_load(&window->alloc) == (size_t)alloc && (gcrt_load(&window->mask) & bit) != 0;
    gcrt_fence();
    if (before % 2 == 0 && gcrt_load(&cache->activity) == before) return held;
    gcrt_thread_yield();
  }
}

void gcrt_cache_count(const struct gcrt_cache *cache, uint64_t *counts) {
  size_t n = gcrt_load_acquire(&cache->slots);
  for (size_t i = 0; i < n; i++) {
    unsigned slot = cache->used[i];
    const gcrt_word *mask = &cache->windows[slot].mask;
    for (;;) {
      size_t before = gcrt_load_acquire(&cache->activity);
      uint64_t taken = gcrt_load(&cache->refill[slot].taken) - gcrt_popcount(gcrt_load(mask));
      gcrt_fence();
      if (before % 2 == 0 && gcrt_load(&cache->activity) == before) {
        counts[gcrt_slot_class(slot)] += taken;
        break;
      }
      gcrt_thread_yield();
    }
  }
}

void gcrt_cache_retire(struct gcrt_cache *cache) {
  size_t n = gcrt_load(&cache->slots);
  for (size_t i = 0; i < n; i++) {
    unsigned slot = cache->used[i];
    struct gcrt_window *window = &cache->windows[slot];
    struct gcrt_refill *refill = &cache->refill[slot];
    struct gcrt_span *owned = refill->span;
    /* In a forked child the cache of another thread may be newer than the alloc bits: what they do not show as taken
     * was not counted either. */
    if (window->mask) window->mask &= gcrt_load((gcrt_word *)window->alloc);
    unsigned unused = gcrt_popcount(window->mask);
    gcrt_add(&gcrt_heap_stats.retired[gcrt_slot_class(slot)], gcrt_load(&refill->taken) - unused);
    if (unused) {
      struct gcrt_span *span = &gcrt_heap.spans[gcrt_heap.chunks[gcrt_chunk_index(window->base)].first];
      /* After a sweep the span may be another thread's, which takes the cells as soon as their bits are clear: the mark
       * bytes must be stored before, or they land on what that thread has stored. */
      gcrt_marks_store(window->marks, window->mask, gcrt_load(&gcrt_heap.marking) ? GCRT_MARK_FREED : 0);
      gcrt_clear_bits_release((gcrt_word *)window->alloc, window->mask);
      gcrt_store(&window->mask, 0);
      gcrt_sub(&gcrt_heap.live, (size_t)unused * window->cell);
      gcrt_sub_full(&span->used, unused);
      if (span != owned) gcrt_central_freed(span);
    }
    if (owned) gcrt_central_give(owned);
  }
  gcrt_sub(&caches, 1);
  gcrt_memory_unmap(cache, cache_size());
}
