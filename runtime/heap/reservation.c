/* The reservation: the heap's address space and its tables, taken once at start.
 *
 * The tables are as large as the reservation can ever need and are touched as the heap grows, so they cost address
 * space, not memory. Under RLIMIT_AS both shrink: half of what is left goes to the heap, as the program needs the rest.
 *
 * Called once by initialisation, with no other thread. Growing tables were not chosen: the marker would need another
 * level of indirection for each pointer. */
#include "base/report.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "sys/memory.h"

struct gcrt_heap gcrt_heap;
struct gcrt_heap_stats gcrt_heap_stats;

static void *reserve_table(size_t bytes) {
  void *table = gcrt_memory_map(gcrt_align_up(bytes, gcrt_page_size()));
  if (!table) gcrt_fatal("cannot reserve %zu bytes of address space for the heap's tables", bytes);
  return table;
}

/* Bytes of tables for each chunk of the reservation. */
static size_t table_bytes(void) {
  return sizeof(struct gcrt_chunk) + GCRT_WORDS * sizeof(gcrt_word) + ((size_t)1 << GCRT_MARKS_SHIFT) +
         ((size_t)1 << GCRT_MARKS_SHIFT_FINE) + sizeof(struct gcrt_span) + 1;
}

void gcrt_heap_init(size_t bytes) {
  size_t minimum = (size_t)16 * GCRT_CHUNK;
  size_t left = gcrt_memory_address_space_left();
  if (left != SIZE_MAX && left / 2 < bytes) bytes = left / 2;
  void *base = NULL;
  for (;;) {
    bytes = gcrt_align_down(bytes, (size_t)64 * GCRT_CHUNK);
    if (bytes < minimum) gcrt_fatal("cannot reserve address space for the heap: %zu bytes are left", left);
    base = gcrt_memory_reserve(bytes, GCRT_HUGE_PAGE);
    if (base) break;
    bytes /= 2;
  }
  size_t chunks = bytes / GCRT_CHUNK;
  GCRT_CHECK(table_bytes() < GCRT_CHUNK / 8);
  gcrt_heap.base = (uintptr_t)base;
  gcrt_heap.reserved = bytes;
  gcrt_heap.chunks = reserve_table(chunks * sizeof(struct gcrt_chunk));
  gcrt_heap.allocs = reserve_table(chunks * GCRT_WORDS * sizeof(gcrt_word));
  gcrt_heap.marks[0] = reserve_table(chunks << GCRT_MARKS_SHIFT);
  gcrt_heap.marks[1] = reserve_table(chunks << GCRT_MARKS_SHIFT_FINE);
  gcrt_heap.white = 1;
  gcrt_heap.spans = reserve_table(chunks * sizeof(struct gcrt_span));
  gcrt_heap.central = reserve_table(GCRT_SLOTS * sizeof(struct gcrt_central));
  gcrt_heap.busy_map = reserve_table(chunks / 8);
  gcrt_heap.dirty_map = reserve_table(chunks / 8);
  gcrt_store(&gcrt_heap.trigger, SIZE_MAX);
  gcrt_cache_init_table();
}

void gcrt_heap_usage(struct gcrt_heap_usage *usage) {
  size_t page = gcrt_page_size();
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t busy = gcrt_load(&gcrt_heap.busy);
  usage->heap_sys = gcrt_heap.committed * GCRT_CHUNK;
  usage->heap_inuse = busy * GCRT_CHUNK;
  usage->heap_released = (gcrt_heap.committed - busy - gcrt_load(&gcrt_heap.dirty)) * GCRT_CHUNK;
  gcrt_unlock(&gcrt_heap.pages_lock);
  size_t used = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  usage->span_inuse = busy * sizeof(struct gcrt_span);
  usage->span_sys = gcrt_align_up(used * sizeof(struct gcrt_span), page);
  usage->tables_sys = gcrt_align_up(used * sizeof(struct gcrt_chunk), page) +
                      gcrt_align_up(used * GCRT_WORDS * sizeof(gcrt_word), page) +
                      gcrt_align_up(used << GCRT_MARKS_SHIFT, page) +
                      gcrt_align_up(GCRT_SLOTS * sizeof(struct gcrt_central), page) +
                      2 * gcrt_align_up((used + 7) / 8, page);
}

void gcrt_heap_lock_all(void) {
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_lock(&gcrt_heap.central[slot].lock);
  gcrt_lock(&gcrt_heap.pages_lock);
}

void gcrt_heap_unlock_all(void) {
  gcrt_unlock(&gcrt_heap.pages_lock);
  for (unsigned slot = GCRT_SLOTS; slot-- > 0;) gcrt_unlock(&gcrt_heap.central[slot].lock);
}

void gcrt_heap_reset_locks(void) {
  gcrt_lock_reset(&gcrt_heap.pages_lock);
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_lock_reset(&gcrt_heap.central[slot].lock);
}
