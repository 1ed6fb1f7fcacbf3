/* The flip and the sweep: what is white goes, and white and black change places.
 *
 * The flip is done with all threads stopped and costs the same for every heap: the colours change their meaning, the
 * central lists are forgotten and every span counts as not swept. From then on the program runs. A span is swept as a
 * whole under the central lock of its slot, once, by the thread that collects or by one that needs a span of that slot;
 * until then nobody allocates from it, so what the sweep reads there changes by gc_free alone.
 *
 * A cell's mark byte is cleared before its alloc bit: once the bit is clear the byte belongs to whoever takes the cell.
 * Nothing is written into heap memory unless `clobber` asks for it. Spans are taken from the lowest address up and
 * appended to their lists: allocation takes the lowest first, so that what is free gathers at the top.
 *
 * The flip runs in a stop; the rest from any thread that cannot be stopped meanwhile. Not async-signal-safe. */
#include "base/report.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "sys/proc.h"

#include <string.h>

enum { CHUNKS_A_BATCH = 8 };

static void clobber_cells(uintptr_t base, size_t cell, uint64_t mask) {
  for (; mask; mask &= mask - 1) memset((void *)(base + gcrt_ctz(mask) * cell), 0xdb, cell);
}

static void tell_of_end(uintptr_t base, size_t cell, uint64_t mask) {
  for (; mask; mask &= mask - 1) gcrt_heap_on_end(base + gcrt_ctz(mask) * cell);
}

/* Cells freed in the span. */
static size_t free_dead(size_t first, const struct gcrt_chunk *chunk, size_t bytes) {
  bool watched = gcrt_span_watched(&gcrt_heap.spans[first]);
  gcrt_word *allocs = &gcrt_heap.allocs[first * GCRT_WORDS];
  gcrt_mark *marks = gcrt_span_marks(chunk);
  size_t freed = 0;
  for (size_t i = 0; i * 64 < chunk->cells; i++) {
    uint64_t alloc = gcrt_load(&allocs[i]);
    if (GCRT_UNLIKELY(gcrt_heap.freed_while_marking)) {
      gcrt_marks_store(marks + 64 * i, gcrt_marks_any(marks + 64 * i) & ~alloc, 0);
    }
    if (alloc == 0) continue;
    uint64_t dead = gcrt_marks_with(marks + 64 * i, gcrt_black()) & alloc;
    if (dead == 0) continue;
    if (GCRT_UNLIKELY(watched)) tell_of_end(gcrt_chunk_address(first) + i * 64 * bytes, bytes, dead);
    if (gcrt_heap.clobber) clobber_cells(gcrt_chunk_address(first) + i * 64 * bytes, bytes, dead);
    gcrt_marks_store(marks + 64 * i, dead, 0);
    gcrt_clear_bits_release(&allocs[i], dead);
    freed += gcrt_popcount(dead);
  }
  return freed;
}

/* Under the slot's lock. Returns the bytes freed. */
static size_t sweep_span(struct gcrt_central *central, struct gcrt_span *span) {
  size_t first = gcrt_span_index(span);
  const struct gcrt_chunk *chunk = &gcrt_heap.chunks[first];
  size_t bytes = chunk->cell ? chunk->cell : span->size;
  bool large = (chunk->flags & GCRT_FLAG_LARGE) != 0;
  size_t freed = free_dead(first, chunk, bytes);
  gcrt_store(&span->windows, span->kept_windows);
  span->kept_windows = 0;
  gcrt_store_byte(&span->swept, (uint8_t)gcrt_load(&gcrt_heap.epoch));
  /* In a forked child it may still be called that of a thread that had taken it and not yet noted so. */
  if (!large) gcrt_store_byte(&span->owned, false);
  if (freed) gcrt_add(&gcrt_heap_stats.frees[chunk->class], freed);
  if (large && freed) gcrt_add(&gcrt_heap_stats.large_freed_bytes, bytes);
  /* Under the lock: a fork, which holds all of them, leaves this thread behind. */
  if (freed) gcrt_sub(&gcrt_heap.live, freed * bytes);
  size_t left = gcrt_sub_full(&span->used, freed) - freed;
  if (left == 0) {
    gcrt_span_destroy(span);
  } else if (left < chunk->cells) {
    gcrt_central_append(central, span);
  }
  return freed * bytes;
}

/* The span whose first chunk this is, if it has not been swept. */
static size_t sweep_at(size_t index) {
  struct gcrt_span *span = &gcrt_heap.spans[index];
  if (gcrt_load_acquire(&span->chunks) == 0 || !gcrt_span_unswept(span)) return 0;
  /* A span that is not swept neither ends nor changes, so its slot is what it was; one that is may have done both. */
  size_t slot = gcrt_load(&span->slot);
  struct gcrt_central *central = &gcrt_heap.central[slot];
  size_t freed = 0;
  gcrt_lock(&central->lock);
  if (gcrt_load(&span->chunks) != 0 && gcrt_load(&span->slot) == slot && gcrt_span_unswept(span)) {
    freed = sweep_span(central, span);
  }
  gcrt_unlock(&central->lock);
  return freed;
}

void gcrt_heap_flip(bool clobber) {
  GCRT_CHECK(!gcrt_heap_sweeping());
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_heap.central[slot].partial = NULL;
  gcrt_heap.white = gcrt_black();
  gcrt_heap.clobber = clobber;
  gcrt_heap.freed_while_marking = gcrt_load(&gcrt_heap.marking) != 0;
  gcrt_store(&gcrt_heap.marking, 0);
  gcrt_store(&gcrt_heap.epoch, gcrt_load(&gcrt_heap.epoch) + 1);
  gcrt_store(&gcrt_heap.sweep_freed, 0);
  gcrt_store(&gcrt_heap.sweep_end, gcrt_load(&gcrt_heap.used) / GCRT_CHUNK);
  gcrt_store(&gcrt_heap.sweep_next, 0);
}

bool gcrt_heap_sweep_some(void) {
  if (gcrt_load(&gcrt_heap.sweep_next) >= gcrt_load(&gcrt_heap.sweep_end)) return false;
  gcrt_add_full(&gcrt_heap.sweepers, 1);
  size_t first = gcrt_add(&gcrt_heap.sweep_next, CHUNKS_A_BATCH);
  size_t end = gcrt_min(first + CHUNKS_A_BATCH, gcrt_load(&gcrt_heap.sweep_end));
  size_t freed = 0;
  for (size_t i = first; i < end; i++) freed += sweep_at(i);
  if (freed) gcrt_add(&gcrt_heap.sweep_freed, freed);
  gcrt_add_full(&gcrt_heap.sweepers, (size_t)-1);
  return true;
}

size_t gcrt_heap_sweep_rest(void) {
  while (gcrt_heap_sweep_some()) {
  }
  /* Those that took the last batches are in short sections that nothing stops but the scheduler. */
  while (gcrt_load_acquire(&gcrt_heap.sweepers) != 0) gcrt_thread_yield();
  return gcrt_load(&gcrt_heap.sweep_freed);
}

void gcrt_heap_sweep_again(void) {
  if (gcrt_heap_sweeping()) gcrt_store(&gcrt_heap.sweep_next, 0);
  gcrt_store(&gcrt_heap.sweepers, 0);
}

/* All that is allocated is white, all that is free has no mark. */
static void whiten(size_t first, const struct gcrt_chunk *chunk) {
  gcrt_mark *marks = gcrt_span_marks(chunk);
  for (size_t i = 0; i * 64 < chunk->cells; i++) {
    uint64_t alloc = gcrt_load(&gcrt_heap.allocs[first * GCRT_WORDS + i]);
    gcrt_marks_store(marks + 64 * i, alloc, gcrt_heap.white);
    gcrt_marks_store(marks + 64 * i, gcrt_marks_any(marks + 64 * i) & ~alloc, 0);
  }
}

void gcrt_heap_begin_marking(void) {
  if (!gcrt_heap.half_marked) return;
  gcrt_heap.half_marked = false;
  size_t end = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  for (size_t i = 0; i < end; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells != 0 && chunk->first == i) whiten(i, chunk);
  }
}

void gcrt_heap_abandon_marking(void) {
  if (gcrt_load(&gcrt_heap.marking)) gcrt_heap.half_marked = true;
  gcrt_store(&gcrt_heap.marking, 0);
}
