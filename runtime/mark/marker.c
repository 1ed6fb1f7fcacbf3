/* The mark loop.
 *
 * A word that points into the heap becomes a candidate: its mark byte and its memory are prefetched, and it waits in a
 * short queue until they have arrived. If the object is white then, it is marked and pushed on the mark stack; the
 * stack is emptied from the top, so an object is scanned while its memory is still in the cache. The mark bit is set
 * before the stack, so the stack never holds more entries than there are objects.
 *
 * The queue is in the frame of the loop and the top of the stack in registers: nothing else points there, so the
 * compiler keeps them. Chunk entries stay in the cache. What was tried and what it cost is in docs/design/mark.md.
 *
 * Runs on several threads at once, with the mutators stopped or running, without an atomic operation for an object: two
 * markers that meet at one both scan it (heap/marks.h), and what a mutator writes meanwhile is scanned again (cycle.h).
 * A chunk's entry is read from its cell count on, which is published last (heap/layout.h). Nothing is allocated but
 * blocks. */
#include "mark/marker.h"

#include "base/report.h"
#include "mark/copies.h"
#include "mark/pace.h"

/* Pointers on a dirty page that make a copy of it worth its while: a table's has hundreds. */
enum { DENSE = 64 };

/* How often the team hears how much was scanned. */
enum { STEPS_BETWEEN_COUNTS = 1024 };

struct candidate {
  gcrt_mark *mark;
  uintptr_t start;
  bool noscan;
};

/* The state of a running loop. */
struct loop {
  struct gcrt_marker *marker;
  uintptr_t base;
  size_t used;
  const struct gcrt_chunk *chunks;
  uintptr_t *entries; /* of the top block; NULL: there is none */
  size_t count;
  uint32_t head, waiting;
  size_t scanned; /* bytes of objects, not yet told to the team */
  unsigned white;
  bool alone;
  struct candidate candidates[GCRT_CANDIDATES];
};

static void loop_start(struct loop *loop, struct gcrt_marker *marker) {
  loop->marker = marker;
  loop->base = gcrt_heap.base;
  loop->used = gcrt_load(&gcrt_heap.used);
  loop->chunks = gcrt_heap.chunks;
  loop->entries = marker->block ? marker->block->entries : NULL;
  loop->count = marker->block ? marker->block->count : GCRT_BLOCK_ENTRIES;
  loop->head = 0;
  loop->waiting = 0;
  loop->scanned = 0;
  loop->white = gcrt_heap.white;
  loop->alone = marker->alone;
}

/* The top block is full, or there is none. False: no memory, and the object stays unscanned. */
GCRT_COLD static bool next_block(struct loop *loop) {
  struct gcrt_marker *marker = loop->marker;
  struct gcrt_block *fresh = gcrt_block_take();
  if (fresh && marker->block) {
    marker->block->count = loop->count;
    if (!gcrt_deque_push(&marker->deque, marker->block)) {
      gcrt_block_give(fresh);
      fresh = NULL;
    }
  }
  if (!fresh) {
    gcrt_team_overflowed();
    return false;
  }
  marker->block = fresh;
  loop->entries = fresh->entries;
  loop->count = 0;
  return true;
}

/* The top block is empty: the next one comes from the deque. */
GCRT_COLD static bool previous_block(struct loop *loop) {
  struct gcrt_marker *marker = loop->marker;
  if (!marker->block) return false;
  struct gcrt_block *full = gcrt_deque_pop(&marker->deque);
  if (!full) return false;
  gcrt_block_give(marker->block);
  marker->block = full;
  loop->entries = full->entries;
  loop->count = full->count;
  return true;
}

/* Gives half of the top block to the markers that have nothing: the lower, older half, which stands for the larger
 * parts of the graph. */
GCRT_COLD static void share_half(struct loop *loop) {
  if (!gcrt_team_may_share(loop->marker)) return;
  struct gcrt_block *half = gcrt_block_take();
  if (!half) return;
  half->count = loop->count / 2;
  size_t rest = loop->count - half->count;
  for (size_t i = 0; i < half->count; i++) half->entries[i] = loop->entries[i];
  if (!gcrt_deque_push(&loop->marker->deque, half)) {
    gcrt_block_give(half);
    return;
  }
  for (size_t i = 0; i < rest; i++) loop->entries[i] = loop->entries[loop->count - rest + i];
  loop->count = rest;
}

/* Marks an object; false if it is marked, or if the cell is not handed out. */
GCRT_INLINE bool set_mark(const struct loop *loop, gcrt_mark *mark) {
  if (gcrt_load_byte(mark) != loop->white) return false;
  gcrt_store_byte(mark, (unsigned char)(3 - loop->white));
  return true;
}

/* A candidate whose memory has arrived. */
GCRT_INLINE void settle(struct loop *loop, const struct candidate *candidate) {
  if (!set_mark(loop, candidate->mark) || candidate->noscan) return;
  if (GCRT_UNLIKELY(loop->count == GCRT_BLOCK_ENTRIES) && !next_block(loop)) return;
  loop->entries[loop->count++] = candidate->start;
}

/* The address is in the heap. Of an object that is marked already, as most are that a scan for the second time comes
 * upon, the memory is not wanted; fetching it costs as much as all the rest. */
GCRT_INLINE void add_candidate_of(struct loop *loop, uintptr_t address, bool mostly_marked) {
  /* gcrt_find_cell, without what the loop knows already. */
  size_t offset = address - loop->base;
  const struct gcrt_chunk *chunk = &loop->chunks[offset >> GCRT_CHUNK_SHIFT];
  uint32_t cells = gcrt_chunk_cells(chunk);
  size_t first = chunk->first;
  uint32_t index = (uint32_t)(((offset - (first << GCRT_CHUNK_SHIFT)) / GCRT_GRANULE * chunk->magic) >> 31);
  if (index >= cells) return;
  gcrt_mark *mark = gcrt_span_marks(chunk) + index;
  /* Most pointers point to the start. */
  uintptr_t start = gcrt_predict(loop->base + (first << GCRT_CHUNK_SHIFT) + (size_t)index * chunk->cell, address);
  GCRT_PREFETCH_WRITE(mark);
  if (!mostly_marked) GCRT_PREFETCH(start);
  struct candidate *slot = &loop->candidates[loop->head++ % GCRT_CANDIDATES];
  if (loop->waiting == GCRT_CANDIDATES) {
    settle(loop, slot);
  } else {
    loop->waiting++;
  }
  slot->mark = mark;
  slot->start = start;
  slot->noscan = chunk->flags & GCRT_FLAG_NOSCAN;
}

GCRT_INLINE void add_candidate(struct loop *loop, uintptr_t address) { add_candidate_of(loop, address, false); }

/* Words are read whole, whoever writes them; foreign memory may be poisoned for a sanitizer. */
GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_words(struct loop *loop, uintptr_t start, uintptr_t end,
                                                      bool mostly_marked) {
  for (uintptr_t at = start; at < end; at += GCRT_WORD_BYTES) {
    uintptr_t value = *(const volatile uintptr_t *)at;
    if (value - loop->base < loop->used) add_candidate_of(loop, value, mostly_marked);
  }
}

GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan(struct loop *loop, uintptr_t start, uintptr_t end) {
  scan_words(loop, start, end, false);
}

/* A large object: in slices, which other markers may take. */
GCRT_READS_FOREIGN_MEMORY GCRT_NOINLINE static void scan_large(struct loop *loop, uintptr_t start) {
  uintptr_t end = start + gcrt_heap.spans[gcrt_chunk_index(start)].size;
  if (end - start > GCRT_SLICE && gcrt_work_share((struct gcrt_range){start, end})) return;
  loop->scanned += end - start;
  scan(loop, start, end);
}

GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_object(struct loop *loop, uintptr_t start) {
  size_t cell = loop->chunks[(start - loop->base) >> GCRT_CHUNK_SHIFT].cell;
  if (GCRT_LIKELY(cell)) {
    loop->scanned += cell;
    scan(loop, start, start + cell);
  } else {
    scan_large(loop, start);
  }
}

GCRT_INLINE bool others_wait(void) {
  return ((gcrt_load(&gcrt_team_crew) & 0xffff) | gcrt_load(&gcrt_team_hungry)) != 0;
}

/* Until queue, stack and deque are empty (true), or so many steps were taken. */
GCRT_READS_FOREIGN_MEMORY GCRT_INLINE bool drain_some(struct loop *loop, size_t steps) {
  bool all = false;
  while (steps-- != 0) {
    if (GCRT_LIKELY(loop->entries && loop->count)) {
      if (GCRT_UNLIKELY(loop->count >= 16 && !loop->alone && others_wait()) && gcrt_deque_empty(&loop->marker->deque)) {
        share_half(loop);
      }
      scan_object(loop, loop->entries[--loop->count]);
    } else if (loop->waiting) {
      /* Straight on to the scan: a list has never more than one candidate, and each step would go through the stack. */
      uint32_t oldest = loop->head - loop->waiting--;
      struct candidate candidate = loop->candidates[oldest % GCRT_CANDIDATES];
      if (set_mark(loop, candidate.mark) && !candidate.noscan) scan_object(loop, candidate.start);
    } else if (!previous_block(loop)) {
      all = true;
      break;
    }
  }
  if (loop->marker->block) loop->marker->block->count = loop->count;
  gcrt_team_scanned(loop->marker, loop->scanned);
  loop->scanned = 0;
  return all;
}

static void settle_all(struct loop *loop) {
  while (loop->waiting) {
    uint32_t oldest = loop->head - loop->waiting--;
    struct candidate candidate = loop->candidates[oldest % GCRT_CANDIDATES];
    settle(loop, &candidate);
  }
}

/* Leaves what is grey on the stack, for a drain to come. */
static void leave_grey(struct loop *loop) {
  settle_all(loop);
  if (loop->marker->block) loop->marker->block->count = loop->count;
}

/* While this marker rests, others may have what is grey. */
GCRT_NOINLINE static void rest(struct loop *loop) {
  struct gcrt_marker *marker = loop->marker;
  leave_grey(loop);
  gcrt_marker_leave(marker);
  gcrt_pace_rest();
  if (!marker->block) marker->block = gcrt_deque_pop(&marker->deque);
  loop->entries = marker->block ? marker->block->entries : NULL;
  loop->count = marker->block ? marker->block->count : GCRT_BLOCK_ENTRIES;
}

GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void drain(struct loop *loop) {
  while (!drain_some(loop, STEPS_BETWEEN_COUNTS)) {
    if (GCRT_UNLIKELY(gcrt_team_is_to_rest(loop->marker))) rest(loop);
  }
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_slice(struct gcrt_marker *marker, struct gcrt_range range) {
  struct loop loop;
  loop_start(&loop, marker);
  loop.scanned = range.end - range.start;
  scan(&loop, range.start, range.end);
  drain(&loop);
}

/* An object that fills its cell and ends just at `address`. */
GCRT_INLINE void visit_ending_at(struct loop *loop, uintptr_t address) {
  struct gcrt_place place;
  if (!gcrt_find_cell(address - 1, &place) || !(place.chunk->flags & GCRT_FLAG_TIGHT)) return;
  if (gcrt_place_start(&place) + gcrt_place_size(&place) == address) add_candidate(loop, address - 1);
}

GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_root(struct loop *loop, struct gcrt_range range, bool one_past_end) {
  if (!one_past_end) {
    scan(loop, range.start, range.end);
    return;
  }
  for (uintptr_t at = range.start; at < range.end; at += GCRT_WORD_BYTES) {
    uintptr_t value = *(const volatile uintptr_t *)at;
    if (value - loop->base > loop->used) continue;
    if (value - loop->base < loop->used) add_candidate(loop, value);
    if (value % GCRT_GRANULE == 0) visit_ending_at(loop, value);
  }
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_root(struct gcrt_marker *marker, struct gcrt_range range,
                                                bool one_past_end) {
  struct loop loop;
  loop_start(&loop, marker);
  scan_root(&loop, range, one_past_end);
  drain(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_grey_root(struct gcrt_marker *marker, struct gcrt_range range,
                                                     bool one_past_end) {
  struct loop loop;
  loop_start(&loop, marker);
  scan_root(&loop, range, one_past_end);
  leave_grey(&loop);
}

/* Cells of a span that overlap [low, high): the first, and the one behind the last. */
struct cells {
  uintptr_t span;
  size_t cell, first, end;
  const gcrt_mark *marks; /* NULL: all count as marked */
};

static struct cells cells_between(const struct loop *loop, const struct gcrt_chunk *chunk, uintptr_t low,
                                  uintptr_t high) {
  struct cells cells = {.span = loop->base + ((size_t)chunk->first << GCRT_CHUNK_SHIFT)};
  cells.cell = chunk->cell ? chunk->cell : gcrt_heap.spans[chunk->first].size;
  cells.first = (low - cells.span) / cells.cell;
  cells.end = gcrt_min((high - 1 - cells.span) / cells.cell + 1, chunk->cells);
  cells.marks = gcrt_span_marks(chunk);
  return cells;
}

/* The first marked cell from i on. Most cells of a page that is allocated from are white: eight are passed over at
 * once. */
GCRT_INLINE size_t next_marked(const struct loop *loop, const struct cells *cells, size_t i) {
  const unsigned black = 3 - loop->white;
  if (!cells->marks) return i;
  while (i < cells->end && gcrt_load_byte(&cells->marks[i]) != black) {
    i++;
    while (i % 8 == 0 && i < cells->end && !gcrt_marks_eight_have(&cells->marks[i], black)) i += 8;
  }
  return i;
}

/* The words of marked cells between two addresses of one page. */
GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_marked(struct loop *loop, const struct cells *cells, uintptr_t low,
                                                       uintptr_t high) {
  for (size_t i = cells->first; (i = next_marked(loop, cells, i)) < cells->end; i++) {
    uintptr_t start = gcrt_max(low, cells->span + i * cells->cell);
    scan_words(loop, start, gcrt_min(high, cells->span + (i + 1) * cells->cell), true);
  }
}

/* The same for words that are not what the copy of their page holds. `kept` gets them, and `changed` a bit for each; it
 * is the copy itself, or NULL when it is the last time. */
GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_changed(struct loop *loop, const struct cells *cells, uintptr_t low,
                                                        uintptr_t high, const uintptr_t *copy, uintptr_t *kept,
                                                        uint64_t *changed) {
  uintptr_t page = gcrt_align_down(low, GCRT_COPY_BYTES);
  for (size_t i = cells->first; (i = next_marked(loop, cells, i)) < cells->end; i++) {
    uintptr_t end = gcrt_min(high, cells->span + (i + 1) * cells->cell);
    for (uintptr_t at = gcrt_max(low, cells->span + i * cells->cell); at < end; at += GCRT_WORD_BYTES) {
      uintptr_t value = *(const volatile uintptr_t *)at;
      size_t word = (at - page) / GCRT_WORD_BYTES;
      if (value == copy[word]) continue;
      if (kept) {
        kept[word] = value;
        changed[word / 64] |= UINT64_C(1) << (word % 64);
      }
      if (value - loop->base < loop->used) add_candidate_of(loop, value, true);
    }
  }
}

/* Of what the copy got, words are kept whose objects are black by now, or that point elsewhere. */
static void keep_seen(const struct loop *loop, uintptr_t *copy, const uint64_t *changed) {
  for (size_t i = 0; i < GCRT_COPY_WORDS / 64; i++) {
    for (uint64_t bits = changed[i]; bits; bits &= bits - 1) {
      uintptr_t *word = &copy[i * 64 + gcrt_ctz(bits)];
      struct gcrt_place place;
      if (*word - loop->base >= gcrt_heap.reserved) continue;
      if (!gcrt_find_cell(*word, &place) || gcrt_load_byte(place.mark) != gcrt_black()) *word = 0;
    }
  }
}

/* A page, or a part of one, on which these cells are. */
GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_page(struct loop *loop, const struct cells *cells, uintptr_t low,
                                                     uintptr_t high, bool last) {
  size_t page = gcrt_align_down(low - loop->base, GCRT_COPY_BYTES);
  const uintptr_t *read = last ? gcrt_copy_find(page) : NULL;
  uintptr_t *copy = last ? NULL : gcrt_copy_take(page);
  if (read) {
    scan_changed(loop, cells, low, high, read, NULL, NULL);
  } else if (copy) {
    uint64_t changed[GCRT_COPY_WORDS / 64] = {0};
    scan_changed(loop, cells, low, high, copy, copy, changed);
    settle_all(loop);
    keep_seen(loop, copy, changed);
    gcrt_copy_give(page);
  } else {
    uint32_t before = loop->head;
    scan_marked(loop, cells, low, high);
    if (!last && loop->head - before >= DENSE) (void)gcrt_copy_make(page);
  }
}

/* All that is between two addresses counts as one cell that is black. */
GCRT_READS_FOREIGN_MEMORY void gcrt_marker_written_root(struct gcrt_marker *marker, struct gcrt_range range) {
  struct loop loop;
  loop_start(&loop, marker);
  const struct cells all = {.span = range.start, .cell = range.end - range.start, .end = 1};
  while (range.start < range.end) {
    uintptr_t end = gcrt_min(range.end, gcrt_align_down(range.start, GCRT_COPY_BYTES) + GCRT_COPY_BYTES);
    scan_page(&loop, &all, range.start, end, false);
    range.start = end;
  }
  leave_grey(&loop);
}

GCRT_READS_FOREIGN_MEMORY GCRT_INLINE void scan_range(struct gcrt_marker *marker, struct gcrt_range range, bool last) {
  struct loop loop;
  loop_start(&loop, marker);
  while (range.start < range.end) {
    const struct gcrt_chunk *chunk = &loop.chunks[(range.start - loop.base) >> GCRT_CHUNK_SHIFT];
    uintptr_t end = gcrt_min(range.end, gcrt_align_down(range.start, GCRT_COPY_BYTES) + GCRT_COPY_BYTES);
    if (gcrt_chunk_cells(chunk) && !(chunk->flags & GCRT_FLAG_NOSCAN)) {
      struct cells cells = cells_between(&loop, chunk, range.start, end);
      scan_page(&loop, &cells, range.start, end, last);
    }
    range.start = end;
  }
  leave_grey(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_written(struct gcrt_marker *marker, struct gcrt_range range) {
  scan_range(marker, range, false);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_written_last(struct gcrt_marker *marker, struct gcrt_range range) {
  scan_range(marker, range, true);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_rest(struct gcrt_marker *marker) {
  struct loop loop;
  loop_start(&loop, marker);
  drain(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_visit(struct gcrt_marker *marker, uintptr_t start, size_t cell,
                                                 uint64_t cells) {
  struct loop loop;
  loop_start(&loop, marker);
  for (; cells; cells &= cells - 1) add_candidate(&loop, start + gcrt_ctz(cells) * cell);
  drain(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_rescan(struct gcrt_marker *marker, uintptr_t start, size_t cell,
                                                  uint64_t cells) {
  struct loop loop;
  loop_start(&loop, marker);
  for (; cells; cells &= cells - 1) scan_object(&loop, start + gcrt_ctz(cells) * cell);
  drain(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_block(struct gcrt_marker *marker, struct gcrt_block *block) {
  if (marker->block) gcrt_block_give(marker->block);
  marker->block = block;
  struct loop loop;
  loop_start(&loop, marker);
  drain(&loop);
}

GCRT_READS_FOREIGN_MEMORY void gcrt_marker_assist(struct gcrt_marker *marker, struct gcrt_block *block, size_t steps) {
  GCRT_CHECK(!marker->block);
  marker->block = block;
  struct loop loop;
  loop_start(&loop, marker);
  (void)drain_some(&loop, steps);
  leave_grey(&loop);
  gcrt_marker_leave(marker);
}

void gcrt_marker_leave(struct gcrt_marker *marker) {
  if (!marker->block || marker->block->count == 0) return;
  if (!gcrt_deque_push(&marker->deque, marker->block)) {
    marker->block->count = 0;
    gcrt_team_overflowed();
    return;
  }
  marker->block = NULL;
}

void gcrt_marker_finish(struct gcrt_marker *marker) {
  if (!marker->block) return;
  GCRT_CHECK(marker->block->count == 0);
  struct gcrt_block *block = marker->block;
  marker->block = NULL;
  gcrt_block_give(block);
}
