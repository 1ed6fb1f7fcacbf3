/* Spans: their birth and end, and the central lists that hand them to threads.
 *
 * Invariants: a span is owned by at most one thread, or listed in the central list of its slot, or neither; neither
 * means that it had no free cell when it was last looked at. A span whose cells are all free is taken apart as soon as
 * nobody owns it, so its chunks serve every size class.
 *
 * Lock order: a slot's central lock, then the chunk allocator's. Thread-safe, not async-signal-safe. Lists by fullness
 * were not chosen: the sweep lists spans by address, which keeps the low part of the heap full. A thread that finds no
 * span sweeps some before it takes a fresh one, so that a sweep that lags behind does not make the heap larger. */
#include "base/report.h"
#include "base/tsan.h"
#include "heap/heap.h"
#include "sys/memory.h"

#include <string.h>

/* Bytes; large objects are counted in these steps, as what is not touched is not resident. */
enum { LARGE_ROUNDING = 4096, ZERO_BY_HAND = 4 << 20 };

/* Batches that a thread sweeps for one span before it takes a fresh one. */
enum { SWEEP_FOR_ONE = 8 };

static uint8_t slot_flags(unsigned slot) {
  static const uint8_t of_kind[GCRT_KINDS] = {
      [GCRT_NOSCAN] = GCRT_FLAG_NOSCAN, [GCRT_UNCOLLECTABLE] = GCRT_FLAG_UNCOLLECTABLE};
  return (uint8_t)(of_kind[gcrt_slot_kind(slot)] | (gcrt_slot_tight(slot) ? GCRT_FLAG_TIGHT : 0));
}

/* The count goes last: a marker may be reading the entry because some word happens to point here. */
static void publish(struct gcrt_chunk *chunk, const struct gcrt_chunk *entry) {
  chunk->first = entry->first;
  chunk->magic = entry->magic;
  chunk->cell = entry->cell;
  chunk->flags = entry->flags;
  chunk->class = entry->class;
  gcrt_store_half_release(&chunk->cells, entry->cells);
}

/* Enters a span into the tables; `size` is that of a large object. The entries are complete before any address of the
 * span is handed out. */
static struct gcrt_span *span_enter(size_t first, size_t chunks, const struct gcrt_chunk *entry, unsigned slot,
                                    uint32_t fresh, size_t size) {
  struct gcrt_span *span = &gcrt_heap.spans[first];
  /* A late gcrt_central_freed may look at it under the lock of the slot it had in an earlier life: it finds it owned
   * before it finds it in use. */
  gcrt_store_byte(&span->owned, true);
  gcrt_store(&span->used, 0);
  gcrt_store(&span->windows, 0);
  span->next = NULL;
  span->size = size;
  span->fresh = fresh;
  span->kept_windows = 0;
  gcrt_store_byte(&span->swept, (uint8_t)gcrt_load(&gcrt_heap.epoch));
  gcrt_store_byte(&span->listed, false);
  gcrt_store_byte(&span->watched, false);
  gcrt_store(&span->slot, slot);
  if (entry->flags & GCRT_FLAG_UNCOLLECTABLE) {
    gcrt_set_bits(&gcrt_heap.uncollectable_map[first / 64], (size_t)1 << (first % 64));
  }
  gcrt_store_release(&span->chunks, chunks);
  for (size_t i = 0; i < chunks; i++) publish(&gcrt_heap.chunks[first + i], entry);
  return span;
}

/* The page of fine mark bytes that a span of this chunk will touch, if it is the first; pages are no smaller than that.
 */
static void count_fine(size_t first) {
  size_t page = (first << GCRT_MARKS_SHIFT_FINE) / gcrt_page_size();
  if (gcrt_set_bits(&gcrt_heap.fine_map[page / 64], (size_t)1 << (page % 64))) gcrt_add(&gcrt_heap.fine_pages, 1);
}

/* Under the slot's lock, so that gcrt_central_freed never sees it half made. */
static struct gcrt_span *span_small(unsigned slot) {
  unsigned class = gcrt_slot_class(slot);
  size_t chunks = gcrt_class_chunks[class];
  bool zeroed;
  size_t first = gcrt_pages_take(chunks, 1, &zeroed);
  if (first == SIZE_MAX) return NULL;
  uint32_t cell = gcrt_class_size[class];
  uint32_t units = cell / GCRT_GRANULE;
  struct gcrt_chunk entry = {
      .first = (uint32_t)first,
      .magic = (uint32_t)(((UINT64_C(1) << 31) + units - 1) / units),
      .cells = (uint32_t)(chunks * GCRT_CHUNK / cell),
      .cell = (uint16_t)cell,
      .flags = (uint8_t)(slot_flags(slot) | (cell < GCRT_FINE_CELL ? GCRT_FLAG_FINE : 0)),
      .class = (uint8_t) class,
  };
  if (cell < GCRT_FINE_CELL) count_fine(first);
  return span_enter(first, chunks, &entry, slot, zeroed ? 0 : entry.cells, 0);
}

/* Zeroes memory that was used before. The caller cannot be stopped meanwhile, so what is very large goes back to the
 * operating system instead, and comes zeroed, page by page, when it is touched. */
static void zero_large(uintptr_t start, size_t bytes) {
  if (bytes < ZERO_BY_HAND) {
    memset((void *)start, 0, bytes);
  } else {
    gcrt_memory_release((void *)start, gcrt_align_up(bytes, gcrt_page_size()));
  }
}

struct gcrt_span *gcrt_span_large(size_t size, size_t alignment, enum gcrt_kind kind) {
  size_t chunks = size / GCRT_CHUNK + (size % GCRT_CHUNK != 0);
  if (chunks > gcrt_heap.reserved / GCRT_CHUNK) return NULL;
  size_t bytes = gcrt_align_up(size, LARGE_ROUNDING);
  unsigned slot = gcrt_slot_of(0, kind, bytes % GCRT_CHUNK == 0);
  struct gcrt_central *central = &gcrt_heap.central[slot];
  bool zeroed;
  /* The lock has nothing to guard but the child of a fork, which finds the span made or not. */
  gcrt_lock(&central->lock);
  struct gcrt_span *span = NULL;
  size_t first = gcrt_pages_take(chunks, gcrt_max(1, alignment / GCRT_CHUNK), &zeroed);
  if (first != SIZE_MAX) {
    struct gcrt_chunk entry = {
        .first = (uint32_t)first, .cells = 1, .flags = (uint8_t)(slot_flags(slot) | GCRT_FLAG_LARGE)};
    span = span_enter(first, chunks, &entry, slot, 1, bytes);
    gcrt_store(&span->used, 1);
    gcrt_add(&gcrt_heap.large_mallocs, 1);
    gcrt_add(&gcrt_heap.large_bytes, bytes);
    gcrt_add(&gcrt_heap.live, bytes);
    gcrt_store_byte(gcrt_span_marks(&entry), (unsigned char)gcrt_heap.white);
    gcrt_set_bits(&gcrt_heap.allocs[first * GCRT_WORDS], 1);
  }
  gcrt_unlock(&central->lock);
  if (!span) return NULL;
  if (kind == GCRT_NOSCAN) gcrt_pages_untracked(first, chunks);
  gcrt_tsan_new_memory(gcrt_chunk_address(first), chunks * GCRT_CHUNK);
  if (!zeroed) zero_large(gcrt_chunk_address(first), bytes);
  return span;
}

static void forget_freed(const struct gcrt_chunk *chunk) {
  gcrt_mark *marks = gcrt_span_marks(chunk);
  for (size_t i = 0; i * 64 < chunk->cells; i++) gcrt_marks_store(marks + 64 * i, gcrt_marks_any(marks + 64 * i), 0);
}

void gcrt_span_destroy(struct gcrt_span *span) {
  size_t first = gcrt_span_index(span);
  size_t chunks = gcrt_load(&span->chunks);
  bool never_used = span->fresh == 0;
  if (gcrt_heap.chunks[first].flags & GCRT_FLAG_NOSCAN) gcrt_pages_tracked(first, chunks);
  size_t marking = gcrt_load(&gcrt_heap.marking);
  GCRT_CHECK(gcrt_load(&span->used) == 0 && marking != GCRT_MARKING);
  /* Marking has begun since it was decided. Threads that knew have freed cells here in the way of marking. */
  if (marking) forget_freed(&gcrt_heap.chunks[first]);
  if (gcrt_heap.chunks[first].flags & GCRT_FLAG_UNCOLLECTABLE) {
    gcrt_clear_bits(&gcrt_heap.uncollectable_map[first / 64], (size_t)1 << (first % 64));
  }
  for (size_t i = 0; i < chunks; i++) gcrt_heap.chunks[first + i] = (struct gcrt_chunk){0};
  gcrt_store_byte(&span->listed, false);
  gcrt_store_release(&span->chunks, 0);
  gcrt_pages_give(first, chunks, never_used);
}

/* Under the slot's lock. */
static struct gcrt_span *take_listed(struct gcrt_central *central) {
  struct gcrt_span *span = central->partial;
  if (!span) return NULL;
  central->partial = span->next;
  gcrt_store_byte(&span->listed, false);
  gcrt_store_byte(&span->owned, true);
  return span;
}

/* Sweeps for the span that the caller needs. The caller cannot be stopped meanwhile, so it gives up soon. */
static struct gcrt_span *take_swept(struct gcrt_central *central) {
  struct gcrt_span *span = NULL;
  for (unsigned batch = 0; !span && batch < SWEEP_FOR_ONE && gcrt_heap_sweep_some(); batch++) {
    gcrt_lock(&central->lock);
    span = take_listed(central);
    gcrt_unlock(&central->lock);
  }
  return span;
}

struct gcrt_span *gcrt_central_take(unsigned slot) {
  struct gcrt_central *central = &gcrt_heap.central[slot];
  gcrt_lock(&central->lock);
  struct gcrt_span *span = take_listed(central);
  gcrt_unlock(&central->lock);
  if (!span) span = take_swept(central);
  if (span) return span;
  gcrt_lock(&central->lock);
  span = take_listed(central);
  if (!span) span = span_small(slot);
  gcrt_unlock(&central->lock);
  return span;
}

/* Under the slot's lock, with a span nobody owns. */
static void list_if_free(struct gcrt_central *central, struct gcrt_span *span, size_t used) {
  size_t cells = gcrt_heap.chunks[gcrt_span_index(span)].cells;
  if (gcrt_load_byte(&span->listed) || used == cells) return;
  span->next = central->partial;
  if (!span->next) central->last = span;
  central->partial = span;
  gcrt_store_byte(&span->listed, true);
}

void gcrt_central_append(struct gcrt_central *central, struct gcrt_span *span) {
  span->next = NULL;
  if (central->partial) {
    central->last->next = span;
  } else {
    central->partial = span;
  }
  central->last = span;
  gcrt_store_byte(&span->listed, true);
}

static void unlist(struct gcrt_central *central, struct gcrt_span *span) {
  struct gcrt_span *before = NULL;
  for (struct gcrt_span *s = central->partial; s != span; s = s->next) before = s;
  if (before) {
    before->next = span->next;
  } else {
    central->partial = span->next;
  }
  if (central->last == span) central->last = before;
  gcrt_store_byte(&span->listed, false);
}

void gcrt_central_give(struct gcrt_span *span) {
  struct gcrt_central *central = &gcrt_heap.central[gcrt_load(&span->slot)];
  gcrt_lock(&central->lock);
  gcrt_store_byte(&span->owned, false);
  /* While marking, what is free in it may not be handed out, and it may not end: the sweep will see to it. */
  if (!gcrt_load(&gcrt_heap.marking)) {
    /* The other side of gcrt_object_free: a cell that is not yet counted as free here is freed by a thread that will
     * see that the span is not listed. */
    size_t used = gcrt_add_full(&span->used, 0);
    if (used != 0) list_if_free(central, span, used);
    if (used == 0) gcrt_span_destroy(span);
  }
  gcrt_unlock(&central->lock);
}

/* Under the slot's lock: the span is still one of that slot, and the sweep is through with it. */
static bool is_swept(const struct gcrt_span *span, size_t slot) {
  return gcrt_load_acquire(&span->chunks) != 0 && gcrt_load(&span->slot) == slot && !gcrt_span_unswept(span);
}

void gcrt_span_large_freed(struct gcrt_span *span, size_t slot) {
  struct gcrt_central *central = &gcrt_heap.central[slot];
  gcrt_lock(&central->lock);
  if (is_swept(span, slot) && gcrt_load_acquire(&span->used) == 0) gcrt_span_destroy(span);
  gcrt_unlock(&central->lock);
}

/* The span may have been taken apart, and even made anew, since the caller freed a cell of it: all is looked at again
 * under the lock of the slot it had. One that is to be swept is listed or taken apart by the sweep. */
void gcrt_central_freed(struct gcrt_span *span) {
  if (gcrt_load(&gcrt_heap.marking)) return;
  size_t slot = gcrt_load(&span->slot);
  struct gcrt_central *central = &gcrt_heap.central[slot];
  gcrt_lock(&central->lock);
  if (is_swept(span, slot) && !gcrt_load_byte(&span->owned)) {
    size_t used = gcrt_load_acquire(&span->used);
    if (used == 0) {
      if (gcrt_load_byte(&span->listed)) unlist(central, span);
      gcrt_span_destroy(span);
    } else {
      list_if_free(central, span, used);
    }
  }
  gcrt_unlock(&central->lock);
}
