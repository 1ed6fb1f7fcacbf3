/* The chunk allocator: runs of 64 KiB chunks, first fit by bitmap.
 *
 * First fit from the lowest address keeps the heap dense, so that what is free gathers at the top. A free chunk is
 * dirty (its memory is still there) or clean (it was given back or never touched, and reads as zero). New chunks are
 * committed a few MiB at a time, as each step is a system call.
 *
 * All under gcrt_heap.pages_lock; bit maps have one bit a chunk. Thread-safe, not async-signal-safe. A tree of free
 * runs was not chosen: 64 chunks a word make the search short, and there is nothing to allocate. */
#include "base/report.h"
#include "heap/heap.h"
#include "sys/memory.h"
#include "sys/protection.h"

enum {
  COMMIT_CHUNKS = 64,
  HUGE_FROM = 1024,    /* chunks: 64 MiB */
  UNTRACKED_FROM = 64, /* 4 MiB: each such run may be a mapping of its own, of which a process has some 65000 */
};

/* A large heap asks for huge pages, for itself and for its mark bytes: marking jumps, and most of what a jump costs is
 * the translation of its address (docs/design/heap.md). A small one does without: they would make it larger. So does
 * one whose writes are tracked by pages, but for its mark bytes. */
static void advise(size_t first, size_t end) {
  if (end <= HUGE_FROM) return;
  first = gcrt_max(first, HUGE_FROM);
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

static bool bit_at(const uint64_t *map, size_t i) { return (map[i / 64] >> (i % 64)) & 1; }

static void set_range(uint64_t *map, size_t first, size_t n, bool value) {
  for (size_t i = first; i < first + n;) {
    unsigned offset = (unsigned)(i % 64);
    unsigned length = (unsigned)gcrt_min(64 - offset, first + n - i);
    uint64_t bits = gcrt_low_bits(length) << offset;
    if (value) {
      map[i / 64] |= bits;
    } else {
      map[i / 64] &= ~bits;
    }
    i += length;
  }
}

static size_t count_range(const uint64_t *map, size_t first, size_t n) {
  size_t count = 0;
  for (size_t i = first; i < first + n;) {
    unsigned offset = (unsigned)(i % 64);
    unsigned length = (unsigned)gcrt_min(64 - offset, first + n - i);
    count += gcrt_popcount(map[i / 64] >> offset & gcrt_low_bits(length));
    i += length;
  }
  return count;
}

/* The first index from `from` on, below `end`, whose bit equals value; end if there is none. */
static size_t next_bit(const uint64_t *map, size_t from, size_t end, bool value) {
  while (from < end) {
    uint64_t word = value ? map[from / 64] : ~map[from / 64];
    word &= ~gcrt_low_bits(from % 64);
    if (word) return gcrt_min(end, from / 64 * 64 + gcrt_ctz(word));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

/* The first chunk of a free run of n among all chunks of the reservation; SIZE_MAX if there is none. */
static size_t find_run(size_t n, size_t alignment) {
  size_t total = gcrt_heap.reserved / GCRT_CHUNK;
  size_t skew = (gcrt_heap.base >> GCRT_CHUNK_SHIFT) & (alignment - 1);
  size_t at = gcrt_heap.first_free;
  for (;;) {
    at = next_bit(gcrt_heap.busy_map, at, total, false);
    at = gcrt_align_up(at + skew, alignment) - skew;
    if (at >= total || n > total - at) return SIZE_MAX;
    size_t end = next_bit(gcrt_heap.busy_map, at, at + n, true);
    if (end == at + n) return at;
    at = end;
  }
}

/* Commits up to `end` chunks at least. */
static bool commit(size_t end) {
  if (end <= gcrt_heap.committed) return true;
  size_t total = gcrt_heap.reserved / GCRT_CHUNK;
  size_t wanted = gcrt_min(total, gcrt_align_up(end, COMMIT_CHUNKS));
  char *start = (char *)gcrt_chunk_address(gcrt_heap.committed);
  if (!gcrt_memory_commit(start, (wanted - gcrt_heap.committed) * GCRT_CHUNK)) {
    wanted = end;
    if (!gcrt_memory_commit(start, (wanted - gcrt_heap.committed) * GCRT_CHUNK)) return false;
  }
  advise(gcrt_heap.committed, wanted);
  gcrt_heap.committed = wanted;
  return true;
}

size_t gcrt_pages_take(size_t n, size_t alignment, bool *zeroed) {
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t first = find_run(n, alignment);
  if (first != SIZE_MAX && !commit(first + n)) first = SIZE_MAX;
  if (first != SIZE_MAX) {
    size_t dirty = count_range(gcrt_heap.dirty_map, first, n);
    *zeroed = dirty == 0;
    set_range(gcrt_heap.busy_map, first, n, true);
    gcrt_store(&gcrt_heap.busy, gcrt_load(&gcrt_heap.busy) + n);
    gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) - dirty);
    if (first == gcrt_heap.first_free) gcrt_heap.first_free = first + n;
    /* Of noscan memory no system call may fail, and this may have been armed as other memory. */
    gcrt_protection_lift(gcrt_chunk_address(first), gcrt_chunk_address(first + n));
    size_t used = (first + n) * GCRT_CHUNK;
    if (used > gcrt_load(&gcrt_heap.used)) gcrt_store_release(&gcrt_heap.used, used);
  }
  gcrt_unlock(&gcrt_heap.pages_lock);
  return first;
}

void gcrt_pages_give(size_t first, size_t n, bool zeroed) {
  gcrt_lock(&gcrt_heap.pages_lock);
  GCRT_CHECK(count_range(gcrt_heap.busy_map, first, n) == n);
  set_range(gcrt_heap.busy_map, first, n, false);
  set_range(gcrt_heap.dirty_map, first, n, !zeroed);
  gcrt_store(&gcrt_heap.busy, gcrt_load(&gcrt_heap.busy) - n);
  if (!zeroed) gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) + n);
  if (first < gcrt_heap.first_free) gcrt_heap.first_free = first;
  gcrt_unlock(&gcrt_heap.pages_lock);
}

size_t gcrt_pages_release(void) {
  size_t released = 0;
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t end = gcrt_heap.committed;
  for (size_t at = 0; at < end;) {
    size_t start = next_bit(gcrt_heap.dirty_map, at, end, true);
    at = start;
    while (at < end && bit_at(gcrt_heap.dirty_map, at) && !bit_at(gcrt_heap.busy_map, at)) at++;
    if (at == start) {
      at++;
      continue;
    }
    gcrt_memory_release((char *)gcrt_chunk_address(start), (at - start) * GCRT_CHUNK);
    set_range(gcrt_heap.dirty_map, start, at - start, false);
    gcrt_store(&gcrt_heap.dirty, gcrt_load(&gcrt_heap.dirty) - (at - start));
    released += (at - start) * GCRT_CHUNK;
  }
  gcrt_unlock(&gcrt_heap.pages_lock);
  return released;
}
