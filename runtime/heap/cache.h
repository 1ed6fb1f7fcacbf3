/* Thread caches: a window of free cells for every slot, from which a thread allocates without lock or atomic operation.
 *
 * A window is the free cells of one bitmap word, at most 8 KiB of them, zeroed when the window is taken: allocation is
 * a count of trailing zeros. The alloc bits of a window's cells are set when it is taken, so a stop need not touch it:
 * the collector marks the unused cells (gcrt_cache_keep_unused) and the sweep leaves them alone.
 *
 * That holds at any instruction of gcrt_cache_take: the address is in a register before the cell leaves the mask and
 * until after it has, so a thread that is stopped in between holds the cell by one of the two.
 *
 * Written by its thread alone; `refill` and `activity` only while the thread cannot be stopped (world/thread.h). */
#ifndef GCRT_HEAP_CACHE_H
#define GCRT_HEAP_CACHE_H

#include "heap/layout.h"

enum { GCRT_WINDOW_BYTES = 8192, GCRT_TABLE_MAX = 1024 };

/* In one cache line, and so in one page: fork copies by pages, and its child must not find half a window of another
 * thread's. Others read `mask` and `alloc`, for a moment's truth: they are atomic, with relaxed accesses. */
struct gcrt_window {
  _Alignas(64) gcrt_word mask; /* unused cells, counted from base */
  uintptr_t base;
  size_t cell;      /* bytes */
  gcrt_word alloc;  /* address of the alloc word of the window's cells */
  gcrt_mark *marks; /* and their mark bytes */
};
_Static_assert(sizeof(struct gcrt_window) == 64, "a cache line each");

struct gcrt_refill {
  struct gcrt_span *span; /* owned, or NULL */
  uint32_t cursor;        /* alloc words of the span before this one have no free cell */
  uint32_t active;        /* the slot is in the list of slots ever used */
  gcrt_word taken;        /* cells ever moved into the window */
};

struct gcrt_cache {
  struct gcrt_window windows[GCRT_SLOTS];
  struct gcrt_refill refill[GCRT_SLOTS];
  gcrt_word activity; /* odd while a window is exchanged: readers of the counts try again */
  gcrt_word slots;    /* length of used */
  uint16_t used[GCRT_SLOTS];
};

/* The slot of a scannable object of that size, by size; add 2 * kind for others. */
extern uint16_t gcrt_slot_table[GCRT_TABLE_MAX + 1];

void gcrt_cache_init_table(void);

/* The slot for an object of size bytes, at most GCRT_SMALL_MAX. */
GCRT_INLINE unsigned gcrt_slot_for(size_t size, enum gcrt_kind kind) {
  if (GCRT_LIKELY(size <= GCRT_TABLE_MAX)) return gcrt_slot_table[size] + 2 * (unsigned)kind;
  unsigned class = gcrt_class_of((unsigned)size);
  return gcrt_slot_of(class, kind, gcrt_class_size[class] == size);
}

/* A zeroed cell, or NULL if the window is empty. About ten instructions, no call. */
GCRT_INLINE void *gcrt_cache_take(struct gcrt_cache *cache, unsigned slot) {
  struct gcrt_window *window = &cache->windows[slot];
  uint64_t mask = gcrt_load(&window->mask);
  if (GCRT_UNLIKELY(mask == 0)) return NULL;
  char *cell = (char *)window->base + gcrt_ctz(mask) * window->cell;
  __asm__ volatile("" : "+r"(cell) : : "memory");
  gcrt_store(&window->mask, mask & (mask - 1));
  __asm__ volatile("" : "+r"(cell) : : "memory");
  return cell;
}

/* A new cache, zeroed; NULL: no memory. */
struct gcrt_cache *gcrt_cache_new(void);

/* Gives back unused cells and owned spans, adds the counts to the retired ones and frees the cache. Its thread is gone
 * or is the caller. */
void gcrt_cache_retire(struct gcrt_cache *cache);

/* Fills the empty window of a slot with at most `cells` cells. False: no memory. */
bool gcrt_cache_refill(struct gcrt_cache *cache, unsigned slot, unsigned cells);

/* With the thread stopped, before the flip: marks the unused cells of every window and tells their spans, and gives up
 * the owned spans, which the sweep lists again. */
void gcrt_cache_keep_unused(struct gcrt_cache *cache);

/* Whether the cell lies unused in a window of this cache. A reading from another thread is a moment's truth. */
bool gcrt_cache_holds(const struct gcrt_cache *cache, unsigned slot, const gcrt_word *alloc, size_t bit);

/* Adds the cells handed to the program, by class, to counts[GCRT_CLASSES]. From any thread. */
void gcrt_cache_count(const struct gcrt_cache *cache, uint64_t *counts);

/* Caches that exist; bytes of memory each. */
size_t gcrt_cache_bytes(size_t *count);

#endif
