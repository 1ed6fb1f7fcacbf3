/* The chunk allocator: runs of 64 KiB chunks, first fit by bitmap.
 *
 * First fit from the lowest address keeps the heap dense, so that what is free gathers at the top. A free chunk is
 * dirty (its memory is still there), clean (it was given back or never touched, and reads as zero) or lazy (given back,
 * but it may hold what it held until the system needs it). New chunks are committed a few MiB at a time, as each step
 * is a system call. release.c gives chunks back, and takes those out of circulation meanwhile (gcrt_heap.flight).
 *
 * All under gcrt_heap.pages_lock; bit maps have one bit a chunk. Thread-safe, not async-signal-safe. A tree of free
 * runs was not chosen: 64 chunks a word make the search short, and there is nothing to allocate. */
#include "base/report.h"
#include "heap/chunk_maps.h"
#include "heap/heap.h"
#include "sys/memory.h"
#include "sys/protection.h"

enum {
  COMMIT_CHUNKS = 64,
  UNTRACKED_FROM = 64, /* 4 MiB: each such run may be a mapping of its own, of which a process has some 65000 */
};

/* A large heap asks for huge pages, for itself and for its mark bytes: marking jumps, and most of what a jump costs is
 * the translation of its address (docs/design/heap.md). A small one does without: they would make it larger. So does
 * one whose writes are tracked by pages, but for its mark bytes. */
static void advise(size_t first, size_t end) {
  if (end <= GCRT_HUGE_FROM) return;
  first = gcrt_max(first, GCRT_HUGE_FROM);
  if (!gcrt_heap.small_pages) {
    gcrt_memory_huge((void *)gcrt_chunk_address(first), (end - first) * GCRT_CHUNK, true);
  }
  uintptr_t low = (uintptr_t)gcrt_heap.marks[0] + (first << GCRT_MARKS_SHIFT);
  uintptr_t high = (uintptr_t)gcrt_heap.marks[0] + (end << GCRT_MARKS_SHIFT);
  /* Whole huge pages, ahead of use: a page is made huge when it is first touched, if all of it may be. */
  low = gcrt_align_down(low, GCRT_HUGE_PAGE);
  gcrt_memory_huge((void *)low, gcrt_align_up(high, GCRT_HUGE_PAGE) - low, true);
}

void gcrt_pages_small(void) {
  gcrt_lock(&gcrt_heap.pages_lock);
  if (!gcrt_heap.small_pages) gcrt_memory_huge((void *)gcrt_heap.base, gcrt_heap.reserved, false);
  gcrt_heap.small_pages = true;
  gcrt_unlock(&gcrt_heap.pages_lock);
}

/* The huge pages inside a run, if there are enough for the system call. */
static void advise_run(size_t first, size_t n, bool wanted) {
  uintptr_t low = gcrt_align_up(gcrt_chunk_address(first), GCRT_HUGE_PAGE);
  uintptr_t high = gcrt_align_down(gcrt_chunk_address(first + n), GCRT_HUGE_PAGE);
  if (n < UNTRACKED_FROM || low >= high) return;
  gcrt_lock(&gcrt_heap.pages_lock);
  if (gcrt_heap.small_pages) gcrt_memory_huge((void *)low, high - low, wanted);
  gcrt_unlock(&gcrt_heap.pages_lock);
}

void gcrt_pages_untracked(size_t first, size_t n) { advise_run(first, n, true); }
void gcrt_pages_tracked(size_t first, size_t n) { advise_run(first, n, false); }

/* The first chunk of a free run of n among all chunks of the reservation; SIZE_MAX if there is none. */
static size_t find_run(size_t n, size_t alignment) {
  size_t total = gcrt_heap.reserved / GCRT_CHUNK;
  size_t skew = (gcrt_heap.base >> GCRT_CHUNK_SHIFT) & (alignment - 1);
  size_t at = gcrt_heap.first_free;
  for (;;) {
    at = gcrt_map_next(gcrt_heap.busy_map, at, total, false);
    at = gcrt_align_up(at + skew, alignment) - skew;
    if (at >= total || n > total - at) return SIZE_MAX;
    size_t end = gcrt_map_next(gcrt_heap.busy_map, at, at + n, true);
    if (end == at + n) return at;
    at = end;
  }
}

/* The tables first: a chunk without its entries is of no use. */
static bool commit_up_to(size_t end) {
  char *start = (char *)gcrt_chunk_address(gcrt_heap.committed);
  return gcrt_heap_commit_tables(end) && gcrt_memory_commit(start, (end - gcrt_heap.committed) * GCRT_CHUNK);
}

/* Commits up to `end` chunks at least. */
static bool commit(size_t end) {
  if (end <= gcrt_heap.committed) return true;
  size_t total = gcrt_heap.reserved / GCRT_CHUNK;
  size_t wanted = gcrt_min(total, gcrt_align_up(end, COMMIT_CHUNKS));
  if (!commit_up_to(wanted)) {
    wanted = end;
    if (!commit_up_to(wanted)) return false;
  }
  advise(gcrt_heap.committed, wanted);
  gcrt_heap.committed = wanted;
  return true;
}

/* A run that was found is taken. Returns whether all of it reads as zero. */
static bool take_found(size_t first, size_t n) {
  size_t dirty = gcrt_map_count(gcrt_heap.dirty_map, first, n);
  size_t lazy = gcrt_map_count(gcrt_heap.lazy_map, first, n);
  gcrt_map_set(gcrt_heap.busy_map, first, n, true);
  if (lazy) gcrt_map_set(gcrt_heap.lazy_map, first, n, false);
  gcrt_store(&gcrt_heap.busy, gcrt_load(&gcrt_heap.busy) + n);
  gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) - (dirty - lazy));
  if (first == gcrt_heap.first_free) gcrt_heap.first_free = first + n;
  /* Of noscan memory no system call may fail, and this may have been armed as other memory. */
  gcrt_protection_lift(gcrt_chunk_address(first), gcrt_chunk_address(first + n));
  size_t used = (first + n) * GCRT_CHUNK;
  if (used > gcrt_load(&gcrt_heap.used)) gcrt_store_release(&gcrt_heap.used, used);
  return dirty == 0;
}

/* Under the lock. */
static size_t try_take(size_t n, size_t alignment, bool *zeroed) {
  size_t first = find_run(n, alignment);
  if (first == SIZE_MAX || !commit(first + n)) return SIZE_MAX;
  *zeroed = take_found(first, n);
  return first;
}

/* What is being given back is free as well, in a moment. */
static size_t take_after_release(size_t n, size_t alignment, bool *zeroed) {
  gcrt_lock(&gcrt_heap.release_lock);
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t first = try_take(n, alignment, zeroed);
  gcrt_unlock(&gcrt_heap.pages_lock);
  gcrt_unlock(&gcrt_heap.release_lock);
  return first;
}

size_t gcrt_pages_take(size_t n, size_t alignment, bool *zeroed) {
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t first = try_take(n, alignment, zeroed);
  bool missed = first == SIZE_MAX && gcrt_heap.flight != 0;
  gcrt_unlock(&gcrt_heap.pages_lock);
  return missed ? take_after_release(n, alignment, zeroed) : first;
}

/* The first run of an empty heap. What is refused now would be refused then, as what is committed stays so; the program
 * may give memory of its own back, but no collection does. */
bool gcrt_pages_possible(size_t n, size_t alignment) {
  size_t total = gcrt_heap.reserved / GCRT_CHUNK;
  size_t skew = (gcrt_heap.base >> GCRT_CHUNK_SHIFT) & (alignment - 1);
  size_t first = gcrt_align_up(skew, alignment) - skew;
  if (first >= total || n > total - first) return false;
  gcrt_lock(&gcrt_heap.pages_lock);
  bool possible = first + n <= gcrt_heap.committed;
  if (!possible) {
    char *start = (char *)gcrt_chunk_address(gcrt_heap.committed);
    size_t bytes = (first + n - gcrt_heap.committed) * GCRT_CHUNK;
    possible = gcrt_memory_commit(start, bytes);
    if (possible) gcrt_memory_uncommit(start, bytes);
  }
  gcrt_unlock(&gcrt_heap.pages_lock);
  return possible;
}

void gcrt_pages_give(size_t first, size_t n, bool zeroed) {
  gcrt_lock(&gcrt_heap.pages_lock);
  GCRT_CHECK(gcrt_map_count(gcrt_heap.busy_map, first, n) == n);
  gcrt_map_set(gcrt_heap.busy_map, first, n, false);
  gcrt_map_set(gcrt_heap.dirty_map, first, n, !zeroed);
  gcrt_store(&gcrt_heap.busy, gcrt_load(&gcrt_heap.busy) - n);
  if (zeroed) {
    gcrt_heap.returned += n;
  } else {
    gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) + n);
    gcrt_heap.release_top = gcrt_max(gcrt_heap.release_top, first + n);
  }
  if (first < gcrt_heap.first_free) gcrt_heap.first_free = first;
  gcrt_unlock(&gcrt_heap.pages_lock);
}
