/* Blocks of grey objects, the unit in which markers keep and share work.
 *
 * Memory is bounded: when no block is to be had, the object stays marked and unscanned, and `overflowed` says that all
 * marked objects must be scanned again. So no heap, however deep, needs more. */
#ifndef GCRT_MARK_BLOCKS_H
#define GCRT_MARK_BLOCKS_H

#include "base/atomics.h"
#include "base/bits.h"

enum { GCRT_BLOCK_ENTRIES = 510, GCRT_DEQUE_BLOCKS = 4096 };

struct gcrt_block {
  size_t count;
  struct gcrt_block *next; /* in the free list */
  uintptr_t entries[GCRT_BLOCK_ENTRIES];
};
_Static_assert(sizeof(struct gcrt_block) == 4096, "a page each");

/* A work-stealing deque of blocks (Chase and Lev; the fences follow Lê, Pop, Cohen and Zappa Nardelli, PPoPP 2013). Its
 * owner pushes and pops at the bottom, others steal from the top. The ring does not grow: a full one refuses. */
struct gcrt_deque {
  gcrt_word top;
  char apart[GCRT_CACHE_LINE - sizeof(gcrt_word)];
  gcrt_word bottom;
  gcrt_word ring[GCRT_DEQUE_BLOCKS];
};

bool gcrt_deque_push(struct gcrt_deque *deque, struct gcrt_block *block);
struct gcrt_block *gcrt_deque_pop(struct gcrt_deque *deque);
struct gcrt_block *gcrt_deque_steal(struct gcrt_deque *deque);

static inline bool gcrt_deque_empty(const struct gcrt_deque *deque) {
  return gcrt_load_acquire(&deque->bottom) <= gcrt_load_acquire(&deque->top);
}

/* The pool of blocks. Thread-safe. */
struct gcrt_block *gcrt_block_take(void); /* NULL: the bound is reached or there is no memory */
void gcrt_block_give(struct gcrt_block *block);
/* How many may be mapped from now on; those that are stay. */
void gcrt_block_bound(size_t blocks);
size_t gcrt_block_memory(void);
/* Unmaps free blocks over `keep`: not in a stop. */
void gcrt_block_trim(size_t keep);
void gcrt_block_reset_lock(void);
/* In a forked child: the pool as it was at the start. */
void gcrt_block_forget(void);

#endif
