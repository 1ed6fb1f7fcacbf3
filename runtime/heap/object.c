/* Objects by address: what gc_free, gc_realloc, gc_base and gc_usable_size stand on.
 *
 * Freeing clears the alloc bit; the compare-and-swap on it decides between two threads that free the same object. A
 * cell that lies unused in a thread's window has its alloc bit set, too: the caller asks the windows first
 * (api/alloc.c), which only spans with the word's bit in span->windows need.
 *
 * Freeing is called inside a critical section (world/thread.h), so no sweep runs beside it; lookups may be called
 * outside, for an object that the caller holds. Thread-safe. */
#include "base/report.h"
#include "heap/heap.h"
#include "heap/stats.h"

#include <string.h>

void (*gcrt_heap_on_end)(uintptr_t start);

enum gcrt_object_state gcrt_object_at(const void *p, struct gcrt_place *place) {
  uintptr_t address = (uintptr_t)p;
  if (!gcrt_find_cell(address, place)) return gcrt_in_heap(address) ? GCRT_OBJECT_FREE : GCRT_OBJECT_FOREIGN;
  if ((gcrt_load(place->alloc) & place->bit) == 0) return GCRT_OBJECT_FREE;
  return gcrt_place_start(place) == address ? GCRT_OBJECT_OK : GCRT_OBJECT_INTERIOR;
}

size_t gcrt_object_usable(const struct gcrt_place *place) {
  if (place->chunk->flags & GCRT_FLAG_LARGE) {
    /* The chunk's tail behind the last page is the spare byte that a pointer one past the end needs. */
    return gcrt_heap.spans[place->chunk->first].size;
  }
  return place->chunk->cell - ((place->chunk->flags & GCRT_FLAG_TIGHT) == 0);
}

enum gcrt_kind gcrt_object_kind(const struct gcrt_place *place) {
  return gcrt_slot_kind((unsigned)gcrt_load(&gcrt_heap.spans[place->chunk->first].slot));
}

static bool take_alloc_bit(gcrt_word *alloc, size_t bit) {
  for (;;) {
    size_t old = gcrt_load(alloc);
    if ((old & bit) == 0) return false;
    if (gcrt_cas_full(alloc, old, old & ~bit)) return true;
  }
}

bool gcrt_object_free(const struct gcrt_place *place, bool clobber) {
  struct gcrt_span *span = &gcrt_heap.spans[place->chunk->first];
  size_t size = gcrt_place_size(place);
  unsigned class = place->chunk->class;
  bool large = (place->chunk->flags & GCRT_FLAG_LARGE) != 0;
  size_t slot = gcrt_load(&span->slot);
  uintptr_t start = gcrt_place_start(place);
  if (GCRT_UNLIKELY(gcrt_span_watched(span))) gcrt_heap_on_end(start);
  /* Clobbered while the cell is still taken: once the bit is clear, another thread may be handed it. */
  if (clobber) memset((void *)start, 0xdb, size);
  bool marking = gcrt_load(&gcrt_heap.marking) != 0;
  /* Before the bit, too: after it the byte belongs to whoever takes the cell. Twice freed, it is stored again. */
  gcrt_store_byte(place->mark, marking ? GCRT_MARK_FREED : 0);
  if (!take_alloc_bit(place->alloc, place->bit)) return false;
  gcrt_add(&gcrt_heap_stats.frees[class], 1);
  if (large) gcrt_add(&gcrt_heap_stats.large_freed_bytes, size);
  gcrt_sub(&gcrt_heap.live, size);
  /* Full: what was done to the cell and read of its span is over before the count says so, for whoever takes the span
   * apart; and `listed` is read after it, so that either it is seen that nobody lists the span, or who was about to
   * list it (gcrt_central_give) has seen this cell free. */
  size_t left = gcrt_sub_full(&span->used, 1) - 1;
  if (marking) return true; /* the sweep takes spans apart and lists them */
  if (large) {
    gcrt_span_large_freed(span, slot);
  } else if (!gcrt_load_byte(&span->listed) || left == 0) {
    gcrt_central_freed(span);
  }
  return true;
}
