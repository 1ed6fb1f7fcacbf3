/* The sweep: what is white goes, and white and black change places.
 *
 * It runs with every thread stopped and outside its critical sections, so no lock is held by anyone and none is taken
 * except the chunk allocator's, when a span ends. Nothing is written into heap memory unless `clobber` asks for it.
 * Cells that lie unused in windows were marked by gcrt_cache_mark_unused. Uncollectable objects were marked as roots,
 * so the same flip serves them.
 *
 * Spans are visited from the highest address down and pushed on the front of their lists: allocation then takes the
 * lowest first. */
#include "base/report.h"
#include "heap/heap.h"
#include "heap/stats.h"

#include <string.h>

struct sweep {
  uint64_t frees[GCRT_CLASSES];
  uint64_t large_freed_bytes;
  size_t live; /* bytes left */
  bool clobber;
};

static void clobber_cells(uintptr_t base, size_t cell, uint64_t mask) {
  for (; mask; mask &= mask - 1) memset((void *)(base + gcrt_ctz(mask) * cell), 0xdb, cell);
}

/* Cells left in the span. */
static size_t flip(struct sweep *sweep, size_t first, const struct gcrt_chunk *chunk, size_t bytes) {
  gcrt_word *allocs = &gcrt_heap.allocs[first * GCRT_WORDS];
  gcrt_mark *marks = gcrt_span_marks(chunk);
  size_t left = 0;
  size_t freed = 0;
  for (size_t i = 0; i * 64 < chunk->cells; i++) {
    uint64_t alloc = gcrt_load(&allocs[i]);
    if (alloc == 0) continue;
    uint64_t dead = gcrt_marks_with(marks + 64 * i, gcrt_heap.white);
    left += gcrt_popcount(alloc) - gcrt_popcount(dead);
    if (dead == 0) continue;
    gcrt_store(&allocs[i], alloc & ~dead);
    gcrt_marks_store(marks + 64 * i, dead, 0);
    freed += gcrt_popcount(dead);
    if (sweep->clobber) clobber_cells(gcrt_chunk_address(first) + i * 64 * bytes, bytes, dead);
  }
  sweep->frees[chunk->class] += freed;
  sweep->live += left * bytes;
  if (chunk->flags & GCRT_FLAG_LARGE) sweep->large_freed_bytes += freed * bytes;
  return left;
}

static void sweep_span(struct sweep *sweep, struct gcrt_span *span) {
  size_t first = gcrt_span_index(span);
  const struct gcrt_chunk *chunk = &gcrt_heap.chunks[first];
  size_t left = flip(sweep, first, chunk, chunk->cell ? chunk->cell : span->size);
  gcrt_store(&span->used, left);
  gcrt_store(&span->windows, 0);
  gcrt_store_byte(&span->owned, (chunk->flags & GCRT_FLAG_LARGE) != 0);
  gcrt_store_byte(&span->listed, false);
  if (left == 0) {
    gcrt_span_destroy(span);
  } else if (left < chunk->cells) {
    struct gcrt_central *central = &gcrt_heap.central[gcrt_load(&span->slot)];
    span->next = central->partial;
    central->partial = span;
    gcrt_store_byte(&span->listed, true);
  }
}

size_t gcrt_heap_sweep(bool clobber) {
  struct sweep sweep = {.clobber = clobber};
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_heap.central[slot].partial = NULL;
  for (size_t i = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK; i-- > 0;) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells == 0) continue;
    i = chunk->first;
    sweep_span(&sweep, &gcrt_heap.spans[i]);
  }
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) {
    if (sweep.frees[class]) gcrt_add(&gcrt_heap_stats.frees[class], sweep.frees[class]);
  }
  gcrt_add(&gcrt_heap_stats.large_freed_bytes, sweep.large_freed_bytes);
  gcrt_heap.white = gcrt_black();
  gcrt_store(&gcrt_heap.live, sweep.live);
  return sweep.live;
}
