/* The mark loop.
 *
 * A word that points into the heap becomes a candidate: its mark word is prefetched, and it waits in a short queue until
 * that has arrived. If the object is white it is marked and pushed on the mark stack. What is popped from the stack is
 * prefetched and waits in a second short queue until it is scanned. Both waits hide a cache miss; nothing is looked at
 * on the way in except the chunk table, which stays in the cache. The mark bit is set before the stack, so the stack
 * never holds more entries than there are objects.
 *
 * Two queues were chosen over one: with one, the object of every candidate would be prefetched, and in a graph most
 * candidates turn out to be marked already (docs/design/mark.md has the figures).
 *
 * Runs with the mutators stopped, on several threads at once; mark words are set by compare-and-swap unless the marker
 * is alone. Nothing is allocated but blocks. */
#include "mark/marker.h"

#include "base/report.h"

static void push_grey(struct gcrt_marker *marker, uintptr_t start) {
  struct gcrt_block *block = marker->block;
  if (GCRT_UNLIKELY(!block || block->count == GCRT_BLOCK_ENTRIES)) {
    struct gcrt_block *fresh = gcrt_block_take();
    if (fresh && block && !gcrt_deque_push(&marker->deque, block)) {
      gcrt_block_give(fresh);
      fresh = NULL;
    }
    if (!fresh) {
      gcrt_team_overflowed();
      return;
    }
    marker->block = block = fresh;
  }
  block->entries[block->count++] = start;
}

/* Sets the mark bit; false if it was set. */
GCRT_INLINE bool set_mark(const struct gcrt_marker *marker, struct gcrt_pair *pair, size_t bit) {
  size_t mark = gcrt_load(&pair->mark);
  if (mark & bit) return false;
  if ((gcrt_load(&pair->alloc) & bit) == 0) return false;
  if (!marker->alone) return gcrt_set_bits(&pair->mark, bit);
  gcrt_store(&pair->mark, mark | bit);
  return true;
}

/* The oldest candidate leaves its queue. */
GCRT_INLINE void settle(struct gcrt_marker *marker, const struct gcrt_candidate *candidate) {
  if (!set_mark(marker, candidate->pair, candidate->bit)) return;
  if (candidate->chunk->flags & GCRT_FLAG_NOSCAN) return;
  push_grey(marker, candidate->start);
}

GCRT_INLINE void add_candidate(struct gcrt_marker *marker, uintptr_t address) {
  struct gcrt_place place;
  if (!gcrt_find_cell(address, &place)) return;
  GCRT_PREFETCH_WRITE(place.pair);
  uint32_t at = marker->candidate_head;
  struct gcrt_candidate *slot = &marker->candidates[at % GCRT_CANDIDATES];
  if (marker->candidate_count == GCRT_CANDIDATES) {
    settle(marker, slot);
  } else {
    marker->candidate_count++;
  }
  *slot = (struct gcrt_candidate){place.pair, place.bit, gcrt_place_start(&place), place.chunk};
  marker->candidate_head = at + 1;
}

static void settle_all(struct gcrt_marker *marker) {
  while (marker->candidate_count) {
    uint32_t oldest = marker->candidate_head - marker->candidate_count;
    marker->candidate_count--;
    struct gcrt_candidate candidate = marker->candidates[oldest % GCRT_CANDIDATES];
    settle(marker, &candidate);
  }
}

/* Object memory is read while nobody writes it; foreign memory may be poisoned for a sanitizer. */
GCRT_READS_FOREIGN_MEMORY static void scan(struct gcrt_marker *marker, uintptr_t start, uintptr_t end) {
  uintptr_t base = gcrt_heap.base;
  size_t used = gcrt_load(&gcrt_heap.used);
  for (const uintptr_t *word = (const uintptr_t *)start; word < (const uintptr_t *)end; word++) {
    uintptr_t value = *(const volatile uintptr_t *)word;
    if (GCRT_UNLIKELY(value - base < used)) add_candidate(marker, value);
  }
}

void gcrt_marker_scan_slice(struct gcrt_marker *marker, struct gcrt_range range) {
  scan(marker, range.start, range.end);
}

void gcrt_marker_visit(struct gcrt_marker *marker, uintptr_t address) { add_candidate(marker, address); }

/* An object that fills its cell and ends just at `address`. */
static void visit_ending_at(struct gcrt_marker *marker, uintptr_t address) {
  struct gcrt_place place;
  if (!gcrt_find_cell(address - 1, &place) || !(place.chunk->flags & GCRT_FLAG_TIGHT)) return;
  if (gcrt_place_start(&place) + gcrt_place_size(&place) == address) add_candidate(marker, address - 1);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_scan_roots(struct gcrt_marker *marker, struct gcrt_range range,
                                                      bool one_past_end) {
  if (!one_past_end) {
    scan(marker, range.start, range.end);
    return;
  }
  uintptr_t base = gcrt_heap.base;
  size_t used = gcrt_load(&gcrt_heap.used);
  for (const uintptr_t *word = (const uintptr_t *)range.start; word < (const uintptr_t *)range.end; word++) {
    uintptr_t value = *(const volatile uintptr_t *)word;
    if (value - base > used) continue;
    add_candidate(marker, value);
    if (value % GCRT_GRANULE == 0) visit_ending_at(marker, value);
  }
}

void gcrt_marker_scan_object(struct gcrt_marker *marker, uintptr_t start) {
  const struct gcrt_chunk *chunk = &gcrt_heap.chunks[gcrt_chunk_index(start)];
  if (GCRT_LIKELY(chunk->cell)) {
    scan(marker, start, start + chunk->cell);
    return;
  }
  uintptr_t end = start + gcrt_heap.spans[chunk->first].size;
  if (end - start > GCRT_SLICE && gcrt_team_share((struct gcrt_range){start, end})) return;
  scan(marker, start, end);
}

/* Gives half of the stack to the markers that have nothing. */
GCRT_COLD static void share_half(struct gcrt_marker *marker) {
  struct gcrt_block *half = gcrt_block_take();
  if (!half) return;
  struct gcrt_block *block = marker->block;
  half->count = block->count / 2;
  block->count -= half->count;
  /* The lower, older half: it stands for the larger parts of the graph. */
  for (size_t i = 0; i < half->count; i++) half->entries[i] = block->entries[i];
  for (size_t i = 0; i < block->count; i++) block->entries[i] = block->entries[i + half->count];
  if (gcrt_deque_push(&marker->deque, half)) return;
  for (size_t i = 0; i < half->count; i++) block->entries[block->count++] = half->entries[i];
  gcrt_block_give(half);
}

/* Moves grey objects from the stack into the queue where they wait for their memory. False: the stack is empty. */
static bool pop_grey(struct gcrt_marker *marker) {
  struct gcrt_block *block = marker->block;
  if (!block) return false;
  if (block->count == 0) {
    struct gcrt_block *full = gcrt_deque_pop(&marker->deque);
    if (!full) return false;
    gcrt_block_give(block);
    marker->block = block = full;
  }
  if (block->count >= 16 && gcrt_team_hungry() && gcrt_deque_empty(&marker->deque)) share_half(marker);
  uintptr_t start = block->entries[--block->count];
  GCRT_PREFETCH(start);
  marker->grey[marker->grey_head++ % GCRT_GREY] = start;
  marker->grey_count++;
  return true;
}

void gcrt_marker_drain(struct gcrt_marker *marker) {
  for (;;) {
    while (marker->grey_count < GCRT_GREY && pop_grey(marker)) continue;
    if (marker->grey_count == 0) {
      if (marker->candidate_count == 0) return;
      settle_all(marker);
      continue;
    }
    uint32_t oldest = marker->grey_head - marker->grey_count;
    marker->grey_count--;
    gcrt_marker_scan_object(marker, marker->grey[oldest % GCRT_GREY]);
  }
}

void gcrt_marker_finish(struct gcrt_marker *marker) {
  GCRT_CHECK(marker->candidate_count == 0 && marker->grey_count == 0);
  if (!marker->block) return;
  GCRT_CHECK(marker->block->count == 0);
  gcrt_block_give(marker->block);
  marker->block = NULL;
}
