/* The heap verifier: walks every invariant of layout.h and stops the program at the first breach.
 *
 * With all threads stopped and no marking under way; after each collection when GCRT_DEBUG=verify=1 asks for it, and
 * from tests. It allocates nothing. */
#include "base/report.h"
#include "heap/heap.h"

static size_t verify_span(size_t first) {
  const struct gcrt_span *span = &gcrt_heap.spans[first];
  const struct gcrt_chunk *chunk = &gcrt_heap.chunks[first];
  const gcrt_word *allocs = &gcrt_heap.allocs[first * GCRT_WORDS];
  const gcrt_mark *marks = gcrt_span_marks(chunk);
  bool large = (chunk->flags & GCRT_FLAG_LARGE) != 0;
  GCRT_CHECK(chunk->first == first && span->chunks > 0);
  GCRT_CHECK(chunk->cells <= 64 * GCRT_WORDS && span->fresh <= chunk->cells);
  GCRT_CHECK(chunk->class == gcrt_slot_class(span->slot) && large == (chunk->class == 0));
  GCRT_CHECK(!(span->owned && span->listed));
  GCRT_CHECK(!gcrt_span_unswept(span));
  bool listed = gcrt_load(&gcrt_heap.uncollectable_map[first / 64]) >> (first % 64) & 1;
  GCRT_CHECK(listed == ((chunk->flags & GCRT_FLAG_UNCOLLECTABLE) != 0));
  if (large) {
    GCRT_CHECK(chunk->cell == 0 && chunk->cells == 1 && span->size <= (size_t)span->chunks * GCRT_CHUNK);
  } else {
    GCRT_CHECK(chunk->cell == gcrt_class_size[chunk->class] && span->chunks == gcrt_class_chunks[chunk->class]);
  }
  for (size_t i = 0; i < span->chunks; i++) {
    const struct gcrt_chunk *other = &gcrt_heap.chunks[first + i];
    GCRT_CHECK(other->first == first && other->cells == chunk->cells && other->magic == chunk->magic);
    GCRT_CHECK(gcrt_heap.busy_map[(first + i) / 64] >> ((first + i) % 64) & 1);
  }
  size_t used = 0;
  for (size_t i = 0; i < GCRT_WORDS; i++) {
    size_t alloc = gcrt_load(&allocs[i]);
    size_t valid = i * 64 < chunk->cells ? gcrt_low_bits((unsigned)gcrt_min(64, chunk->cells - i * 64)) : 0;
    GCRT_CHECK((alloc & ~valid) == 0);
    if (i * 64 >= chunk->cells) continue;
    GCRT_CHECK(gcrt_marks_with(marks + 64 * i, gcrt_heap.white) == alloc);
    GCRT_CHECK(gcrt_marks_with(marks + 64 * i, gcrt_black()) == 0);
    used += gcrt_popcount(alloc);
  }
  GCRT_CHECK(used == gcrt_load(&span->used));
  GCRT_CHECK(used > 0 || span->owned);
  return used * (large ? span->size : chunk->cell);
}

static void verify_lists(void) {
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) {
    size_t steps = 0;
    for (const struct gcrt_span *span = gcrt_heap.central[slot].partial; span; span = span->next) {
      GCRT_CHECK(span->listed && !span->owned && span->slot == slot && span->chunks > 0);
      GCRT_CHECK(++steps <= gcrt_heap.reserved / GCRT_CHUNK);
      GCRT_CHECK(span->next || gcrt_heap.central[slot].last == span);
    }
  }
}

static void verify_maps(void) {
  size_t dirty = 0;
  for (size_t i = 0; i * 64 < gcrt_heap.committed; i++) {
    uint64_t free_dirty = gcrt_heap.dirty_map[i] & ~gcrt_heap.busy_map[i];
    GCRT_CHECK((gcrt_heap.lazy_map[i] & ~free_dirty) == 0);
    dirty += gcrt_popcount(free_dirty & ~gcrt_heap.lazy_map[i]);
  }
  GCRT_CHECK(dirty == gcrt_load(&gcrt_heap.dirty));
}

static void verify_all(void) {
  GCRT_CHECK(!gcrt_heap_sweeping());
  size_t chunks = 0;
  size_t live = 0;
  size_t end = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  for (size_t i = 0; i < end; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    bool busy = gcrt_heap.busy_map[i / 64] >> (i % 64) & 1;
    GCRT_CHECK(busy == (chunk->cells != 0));
    chunks += busy;
    if (busy && chunk->first == i) {
      live += verify_span(i);
    } else if (busy) {
      GCRT_CHECK(gcrt_heap.chunks[chunk->first].first == chunk->first && chunk->first < i);
    }
  }
  GCRT_CHECK(chunks == gcrt_load(&gcrt_heap.busy));
  GCRT_CHECK(live == gcrt_load(&gcrt_heap.live));
  verify_lists();
  verify_maps();
}

void gcrt_heap_verify(void) {
  /* The scavenger goes on in a stop. */
  gcrt_lock(&gcrt_heap.release_lock);
  verify_all();
  gcrt_unlock(&gcrt_heap.release_lock);
}
