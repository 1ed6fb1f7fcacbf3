/* Counting the heap anew from its bitmaps, for a forked child.
 *
 * Another thread may have been exchanging a window when the program forked: cells whose alloc bits it had set are then
 * in no window and in no count. The child takes the bitmaps for the truth and computes the counts from them; the cells
 * are free after its first sweep. And fork copies page by page while the other threads run. So a span may say that its
 * cells were never used and hold what was written a moment later: in the child no cell counts as fresh. And alloc bits
 * and mark bytes may be of different moments: a mark byte without its bit would be swept, and counted off, for another.
 *
 * With one thread and no lock held by anyone. */
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/stats.h"

static size_t count_cells(size_t first, const struct gcrt_chunk *chunk) {
  size_t used = 0;
  for (size_t word = 0; word * 64 < chunk->cells; word++) {
    used += gcrt_popcount(gcrt_load(&gcrt_heap.allocs[first * GCRT_WORDS + word]));
  }
  return used;
}

/* Makes the mark bytes agree with the alloc bits. Writes only where they do not: every page written is a copy. */
static void mend_marks(size_t first, const struct gcrt_chunk *chunk) {
  gcrt_mark *marks = gcrt_span_marks(chunk);
  for (size_t word = 0; word * 64 < chunk->cells; word++) {
    uint64_t alloc = gcrt_load(&gcrt_heap.allocs[first * GCRT_WORDS + word]);
    uint64_t white = gcrt_marks_with(marks + 64 * word, gcrt_heap.white);
    gcrt_marks_store(marks + 64 * word, alloc & ~white, gcrt_heap.white);
    gcrt_marks_store(marks + 64 * word, white & ~alloc, 0);
  }
}

void gcrt_heap_recount_spans(void) {
  size_t live = 0;
  size_t end = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  for (size_t i = 0; i < end; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells == 0 || chunk->first != i) continue;
    struct gcrt_span *span = &gcrt_heap.spans[i];
    size_t used = count_cells(i, chunk);
    mend_marks(i, chunk);
    gcrt_store(&span->used, used);
    span->fresh = chunk->cells;
    live += used * (chunk->cell ? chunk->cell : span->size);
  }
  gcrt_store(&gcrt_heap.live, live);
}

void gcrt_heap_recount_classes(const struct gcrt_cache *cache) {
  uint64_t cells[GCRT_CLASSES] = {0};
  size_t end = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  for (size_t i = 0; i < end; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells != 0 && chunk->first == i) cells[chunk->class] += count_cells(i, chunk);
  }
  uint64_t counted[GCRT_CLASSES] = {0};
  if (cache) gcrt_cache_count(cache, counted);
  for (size_t i = 0; cache && i < gcrt_load(&cache->slots); i++) {
    unsigned slot = cache->used[i];
    cells[gcrt_slot_class(slot)] -= gcrt_popcount(cache->windows[slot].mask);
  }
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) {
    size_t frees = gcrt_load(&gcrt_heap_stats.frees[class]);
    gcrt_store(&gcrt_heap_stats.retired[class], cells[class] + frees - counted[class]);
  }
}
