/* Blocks of grey objects and the deques that hold them: see blocks.h.
 *
 * The pool is a list under a lock: markers come here once in some hundred objects. Indices of a deque only grow, so no
 * wrap-around needs care. Markers alone call this, during marking. */
#include "mark/blocks.h"

#include "sys/lock.h"
#include "sys/memory.h"

enum { BATCH = 32 }; /* blocks that are mapped at once */

static struct {
  struct gcrt_lock lock;
  struct gcrt_block *free;
  size_t free_count;
  gcrt_word mapped; /* blocks that exist */
  size_t bound;
} pool;

/* Under the lock: maps some blocks at once, as each mapping is a system call in a stop. One is returned, the others go
 * to the list. */
static struct gcrt_block *map_blocks(void) {
  size_t mapped = gcrt_load(&pool.mapped);
  if (mapped >= pool.bound) return NULL;
  size_t count = gcrt_min(BATCH, pool.bound - mapped);
  struct gcrt_block *blocks = gcrt_memory_map(count * sizeof *blocks);
  if (!blocks) return NULL;
  gcrt_store(&pool.mapped, mapped + count);
  for (size_t i = 1; i < count; i++) {
    blocks[i].next = pool.free;
    pool.free = &blocks[i];
  }
  pool.free_count += count - 1;
  return blocks;
}

struct gcrt_block *gcrt_block_take(void) {
  gcrt_lock(&pool.lock);
  struct gcrt_block *block = pool.free;
  if (block) {
    pool.free = block->next;
    pool.free_count--;
  } else {
    block = map_blocks();
  }
  gcrt_unlock(&pool.lock);
  if (block) block->count = 0;
  return block;
}

void gcrt_block_give(struct gcrt_block *block) {
  gcrt_lock(&pool.lock);
  block->next = pool.free;
  pool.free = block;
  pool.free_count++;
  gcrt_unlock(&pool.lock);
}

void gcrt_block_bound(size_t blocks) { pool.bound = blocks; }

size_t gcrt_block_memory(void) { return gcrt_load(&pool.mapped) * sizeof(struct gcrt_block); }

void gcrt_block_trim(size_t keep) {
  gcrt_lock(&pool.lock);
  while (pool.free_count > keep) {
    struct gcrt_block *block = pool.free;
    pool.free = block->next;
    pool.free_count--;
    gcrt_memory_unmap(block, sizeof *block);
    gcrt_store(&pool.mapped, gcrt_load(&pool.mapped) - 1);
  }
  gcrt_unlock(&pool.lock);
}

void gcrt_block_reset_lock(void) { gcrt_lock_reset(&pool.lock); }

void gcrt_block_forget(void) {
  pool.free = NULL;
  pool.free_count = 0;
  gcrt_store(&pool.mapped, 0);
}

bool gcrt_deque_push(struct gcrt_deque *deque, struct gcrt_block *block) {
  size_t bottom = gcrt_load(&deque->bottom);
  size_t top = gcrt_load_acquire(&deque->top);
  if (bottom - top >= GCRT_DEQUE_BLOCKS) return false;
  gcrt_store(&deque->ring[bottom % GCRT_DEQUE_BLOCKS], (size_t)block);
  gcrt_store_release(&deque->bottom, bottom + 1);
  return true;
}

struct gcrt_block *gcrt_deque_pop(struct gcrt_deque *deque) {
  size_t bottom = gcrt_load(&deque->bottom);
  if (bottom <= gcrt_load(&deque->top)) return NULL;
  bottom--;
  gcrt_store_full(&deque->bottom, bottom);
  size_t top = gcrt_load(&deque->top);
  struct gcrt_block *block = (struct gcrt_block *)gcrt_load(&deque->ring[bottom % GCRT_DEQUE_BLOCKS]);
  if (top < bottom) return block;
  /* The last one: a thief may be at it. */
  if (top > bottom || !gcrt_cas_full(&deque->top, top, top + 1)) block = NULL;
  gcrt_store(&deque->bottom, bottom + 1);
  return block;
}

struct gcrt_block *gcrt_deque_steal(struct gcrt_deque *deque) {
  size_t top = gcrt_load_acquire(&deque->top);
  gcrt_fence();
  size_t bottom = gcrt_load_acquire(&deque->bottom);
  if (top >= bottom) return NULL;
  struct gcrt_block *block = (struct gcrt_block *)gcrt_load_acquire(&deque->ring[top % GCRT_DEQUE_BLOCKS]);
  return gcrt_cas_full(&deque->top, top, top + 1) ? block : NULL;
}
