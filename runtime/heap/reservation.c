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

/* A table: where its address is kept, its bytes for each chunk, its chunks for each byte, its bytes in all. */
struct table {
  void **address;
  size_t each, chunks_a_byte, fixed;
};

static const struct table tables[] = {
    {(void **)&gcrt_heap.chunks, .each = sizeof(struct gcrt_chunk)},
    {(void **)&gcrt_heap.allocs, .each = GCRT_WORDS * sizeof(gcrt_word)},
    {(void **)&gcrt_heap.marks[0], .each = 1 << GCRT_MARKS_SHIFT},
    {(void **)&gcrt_heap.marks[1], .each = 1 << GCRT_MARKS_SHIFT_FINE},
    {(void **)&gcrt_heap.spans, .each = sizeof(struct gcrt_span)},
    {(void **)&gcrt_heap.written, .each = sizeof(uint16_t)},
    {(void **)&gcrt_heap.busy_map, .chunks_a_byte = 8},
    {(void **)&gcrt_heap.dirty_map, .chunks_a_byte = 8},
    {(void **)&gcrt_heap.lazy_map, .chunks_a_byte = 8},
    {(void **)&gcrt_heap.fine_map, .chunks_a_byte = 8},
    {(void **)&gcrt_heap.uncollectable_map, .chunks_a_byte = 8},
    {(void **)&gcrt_heap.central, .fixed = GCRT_SLOTS * sizeof(struct gcrt_central)},
};

static size_t table_size(const struct table *table, size_t chunks) {
  size_t bytes = table->fixed + table->each * chunks;
  if (table->chunks_a_byte) bytes += chunks / table->chunks_a_byte;
  return gcrt_align_up(bytes, gcrt_page_size());
}

/* All tables, or none. */
static bool take_tables(size_t chunks) {
  for (size_t i = 0; i < GCRT_COUNT(tables); i++) {
    *tables[i].address = gcrt_memory_map(table_size(&tables[i], chunks));
    if (*tables[i].address) continue;
    while (i-- > 0) gcrt_memory_unmap(*tables[i].address, table_size(&tables[i], chunks));
    return false;
  }
  return true;
}

/* The address space and its tables. RLIMIT_DATA and strict overcommit count the tables, RLIMIT_AS counts both. */
static bool take(size_t bytes) {
  void *base = gcrt_memory_reserve(bytes, GCRT_HUGE_PAGE);
  if (!base) return false;
  if (!take_tables(bytes / GCRT_CHUNK)) {
    gcrt_memory_unmap(base, bytes);
    return false;
  }
  gcrt_heap.base = (uintptr_t)base;
  gcrt_heap.reserved = bytes;
  return true;
}

void gcrt_heap_init(size_t bytes) {
  size_t minimum = (size_t)16 * GCRT_CHUNK;
  size_t left = gcrt_memory_address_space_left();
  if (left != SIZE_MAX && left / 2 < bytes) bytes = left / 2;
  for (;; bytes /= 2) {
    bytes = gcrt_align_down(bytes, (size_t)64 * GCRT_CHUNK);
    if (bytes < minimum) gcrt_fatal("cannot reserve address space for the heap: %zu bytes are left", left);
    if (take(bytes)) break;
  }
  gcrt_heap.white = 1;
  gcrt_store(&gcrt_heap.trigger, SIZE_MAX);
  gcrt_cache_init_table();
}

static size_t used_chunks(void) { return gcrt_load(&gcrt_heap.used) / GCRT_CHUNK; }

static size_t span_table(void) { return gcrt_align_up(used_chunks() * sizeof(struct gcrt_span), gcrt_page_size()); }

static size_t other_tables(void) {
  size_t used = used_chunks(), page = gcrt_page_size();
  return gcrt_align_up(used * sizeof(struct gcrt_chunk), page) +
         gcrt_align_up(used * GCRT_WORDS * sizeof(gcrt_word), page) + gcrt_align_up(used << GCRT_MARKS_SHIFT, page) +
         gcrt_align_up(used * sizeof(uint16_t), page) + gcrt_align_up(GCRT_SLOTS * sizeof(struct gcrt_central), page) +
         5 * gcrt_align_up((used + 7) / 8, page) + gcrt_load(&gcrt_heap.fine_pages) * page;
}

void gcrt_heap_usage(struct gcrt_heap_usage *usage) {
  gcrt_lock(&gcrt_heap.pages_lock);
  size_t busy = gcrt_load(&gcrt_heap.busy);
  usage->heap_sys = gcrt_heap.committed * GCRT_CHUNK;
  usage->heap_inuse = busy * GCRT_CHUNK;
  size_t released = gcrt_heap.committed - busy - gcrt_load(&gcrt_heap.dirty);
  usage->heap_released = released * GCRT_CHUNK;
  usage->released_total = gcrt_heap.returned * GCRT_CHUNK;
  /* All that was ever committed began as released: what is not released now was taken into use. */
  usage->reacquired_total = (gcrt_heap.committed + gcrt_heap.returned - released) * GCRT_CHUNK;
  gcrt_unlock(&gcrt_heap.pages_lock);
  usage->span_inuse = busy * sizeof(struct gcrt_span);
  usage->span_sys = span_table();
  usage->tables_sys = other_tables();
}

size_t gcrt_heap_tables(void) { return span_table() + other_tables(); }

void gcrt_heap_lock_all(void) {
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_lock(&gcrt_heap.central[slot].lock);
  gcrt_lock(&gcrt_heap.release_lock);
  gcrt_lock(&gcrt_heap.pages_lock);
}

void gcrt_heap_unlock_all(void) {
  gcrt_unlock(&gcrt_heap.pages_lock);
  gcrt_unlock(&gcrt_heap.release_lock);
  for (unsigned slot = GCRT_SLOTS; slot-- > 0;) gcrt_unlock(&gcrt_heap.central[slot].lock);
}

void gcrt_heap_reset_locks(void) {
  gcrt_lock_reset(&gcrt_heap.pages_lock);
  gcrt_lock_reset(&gcrt_heap.release_lock);
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) gcrt_lock_reset(&gcrt_heap.central[slot].lock);
}
