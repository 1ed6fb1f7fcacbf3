/* Free chunks go back to the operating system.
 *
 * Highest addresses first: allocation fills the lowest first (pages.c), so what lies at the top is needed last. A run
 * is taken out of circulation (set in busy_map), given back without pages_lock, as the system call takes up to a
 * millisecond, and then free and clean. Until then it counts as dirty, so usage balances at any moment, and an
 * allocation that finds nothing else waits for it (gcrt_pages_take). One run at a time, under gcrt_heap.release_lock:
 * fork and the verifier take that lock and find none in flight.
 *
 * Nobody reads or writes a chunk in flight, as it is in no span. While objects are marked no span ends, so what goes
 * back then was free before; its pages lose their arming and count as written when they are used again
 * (sys/tracker.h). Copies of pages (mark/copies.h) exist only of pages in spans.
 *
 * A huge page goes back whole: a cut through a free one is moved down to its beginning. One with 31 of its 32 chunks in
 * use is not split for the last (gently): Go's bound, 96.9 %. Where the heap has small pages chunks are the unit.
 *
 * With a long run go the allocation bits and mark bytes of its chunks: 2.5 % of what was in use, or more, would
 * otherwise be left of a heap that was large once.
 *
 * Any thread of the library's, a mutator inside a critical section; not async-signal-safe. Giving back from within
 * gcrt_pages_give was not chosen: the next moment may need the memory, and the system call is 500 times dearer. */
#include "base/bits.h"
#include "base/options.h"
#include "heap/chunk_maps.h"
#include "heap/heap.h"
#include "sys/memory.h"

enum {
  PIECE = 64, /* chunks of one system call: 4 MiB, 0.15 ms */
  BLOCK = GCRT_HUGE_PAGE / GCRT_CHUNK,
  DENSE = BLOCK - 1, /* chunks in use */
  /* Chunks whose entries in the tables are worth system calls of their own: 1.5 to 5.5 KiB each. */
  TABLES_FROM = 16,
};

struct run {
  size_t first, end; /* chunks */
};

static uint64_t releasable(size_t word) {
  return gcrt_heap.dirty_map[word] & ~gcrt_heap.busy_map[word] & ~gcrt_heap.lazy_map[word];
}

static bool is_releasable(size_t i) { return (releasable(i / 64) >> (i % 64)) & 1; }

/* One past the highest releasable chunk below `top`; 0: none. */
static size_t highest_end(size_t top) {
  for (size_t word = gcrt_align_up(top, 64) / 64; word-- > 0;) {
    uint64_t bits = releasable(word);
    if (top < (word + 1) * 64) bits &= gcrt_low_bits(top % 64);
    if (bits) return word * 64 + gcrt_log2(bits) + 1;
  }
  return 0;
}

static bool has_huge_pages(size_t chunk) { return chunk >= GCRT_HUGE_FROM && !gcrt_heap.small_pages; }

/* Whether the chunk is in a huge page that is better left whole. */
static bool in_dense_page(size_t chunk) {
  size_t block = gcrt_align_down(chunk, BLOCK);
  return has_huge_pages(chunk) && gcrt_map_count(gcrt_heap.busy_map, block, BLOCK) >= DENSE;
}

/* The part of the run that ends at `end` to be given back now. */
static struct run cut(size_t end, size_t chunks, enum gcrt_release how) {
  size_t wanted = gcrt_min(end, chunks), first = end - 1;
  while (first > end - wanted && is_releasable(first - 1)) first--;
  size_t block = gcrt_align_down(first, BLOCK), low = first;
  if (has_huge_pages(first) || wanted >= BLOCK) {
    while (low > block && is_releasable(low - 1)) low--;
    if (low == block) first = block;
  }
  if (how == GCRT_RELEASE_GENTLY && in_dense_page(first)) first = gcrt_min(block + BLOCK, end - 1);
  return (struct run){first, end};
}

/* Takes the next run out of circulation. False: there is none. */
static bool take_off(size_t chunks, enum gcrt_release how, struct run *run) {
  size_t top = how == GCRT_RELEASE_ALL ? gcrt_heap.committed : gcrt_heap.release_top;
  size_t end = highest_end(top);
  while (how == GCRT_RELEASE_GENTLY && end && in_dense_page(end - 1)) end = highest_end(end - 1);
  if (end == 0) {
    gcrt_heap.release_top = 0;
    return false;
  }
  *run = cut(end, chunks, how);
  gcrt_map_set(gcrt_heap.busy_map, run->first, run->end - run->first, true);
  gcrt_heap.flight = run->end - run->first;
  if (how == GCRT_RELEASE_GENTLY) gcrt_heap.release_top = run->first;
  return true;
}

static bool give_back(const struct run *run, enum gcrt_release how) {
  void *start = (void *)gcrt_chunk_address(run->first);
  size_t size = (run->end - run->first) * GCRT_CHUNK;
  if (gcrt_options.debug.madvfree) return gcrt_memory_release_lazily(start, size);
  return gcrt_memory_try_release(start, size, how == GCRT_RELEASE_ALL);
}

/* Whole pages of a table that belong to the run alone. Those of free chunks hold zeros, and nobody writes to them. */
static bool release_entries(void *table, size_t each, const struct run *run) {
  uintptr_t low = gcrt_align_up((uintptr_t)table + run->first * each, gcrt_page_size());
  uintptr_t high = gcrt_align_down((uintptr_t)table + run->end * each, gcrt_page_size());
  return low < high && gcrt_memory_try_release((void *)low, high - low, false);
}

/* Those of small cells were touched by few chunks, and are counted. A page has the mark bytes of one chunk or more. */
static void release_fine_marks(const struct run *run) {
  size_t page = gcrt_page_size(), touched = 0;
  size_t first = gcrt_align_up(run->first << GCRT_MARKS_SHIFT_FINE, page) / page;
  size_t end = (run->end << GCRT_MARKS_SHIFT_FINE) / page;
  for (size_t i = first; i < end; i++) touched += gcrt_load(&gcrt_heap.fine_map[i / 64]) >> (i % 64) & 1;
  if (touched == 0 || !release_entries((void *)gcrt_heap.marks[1], (size_t)1 << GCRT_MARKS_SHIFT_FINE, run)) return;
  for (size_t i = first; i < end; i++) gcrt_clear_bits(&gcrt_heap.fine_map[i / 64], (size_t)1 << (i % 64));
  gcrt_sub(&gcrt_heap.fine_pages, touched);
}

static void release_tables(const struct run *run) {
  if (run->end - run->first < TABLES_FROM) return;
  (void)release_entries((void *)gcrt_heap.allocs, GCRT_WORDS * sizeof(gcrt_word), run);
  (void)release_entries((void *)gcrt_heap.marks[0], (size_t)1 << GCRT_MARKS_SHIFT, run);
  release_fine_marks(run);
}

/* Back into circulation. */
static void put_back(const struct run *run, bool released) {
  size_t n = run->end - run->first;
  gcrt_map_set(gcrt_heap.busy_map, run->first, n, false);
  gcrt_heap.flight = 0;
  if (!released) {
    gcrt_heap.release_top = gcrt_max(gcrt_heap.release_top, run->end);
    gcrt_add(&gcrt_heap.refused, 1);
    return;
  }
  gcrt_map_set(gcrt_options.debug.madvfree ? gcrt_heap.lazy_map : gcrt_heap.dirty_map, run->first, n,
               gcrt_options.debug.madvfree);
  gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) - n);
  gcrt_heap.returned += n;
}

size_t gcrt_release_some(size_t bytes, enum gcrt_release how) {
  struct run run;
  size_t chunks = gcrt_max(1, gcrt_min(bytes / GCRT_CHUNK, PIECE));
  gcrt_lock(&gcrt_heap.release_lock);
  gcrt_lock(&gcrt_heap.pages_lock);
  bool found = take_off(chunks, how, &run);
  gcrt_unlock(&gcrt_heap.pages_lock);
  bool released = found && give_back(&run, how);
  if (released) release_tables(&run);
  if (found) {
    gcrt_lock(&gcrt_heap.pages_lock);
    put_back(&run, released);
    gcrt_unlock(&gcrt_heap.pages_lock);
  }
  gcrt_unlock(&gcrt_heap.release_lock);
  return released ? (run.end - run.first) * GCRT_CHUNK : 0;
}

/* Others may free chunks all the time: no more than there is at the beginning. */
size_t gcrt_release(size_t bytes, enum gcrt_release how) {
  size_t released = 0, step;
  bytes = gcrt_min(bytes, gcrt_load(&gcrt_heap.dirty) * GCRT_CHUNK);
  while (released < bytes && (step = gcrt_release_some(bytes - released, how)) != 0) released += step;
  return released;
}
