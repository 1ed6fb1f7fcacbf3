/* All pools: the table by which they are turned when a collection begins, and the numbers of threads.
 *
 * The table is memory of its own that no collection searches, so it keeps no pool alive. A pool that is dead is taken
 * out by the sweep, before its memory can be anything else (gcrt_heap_on_end): a turn, which comes between two sweeps,
 * finds pools only. To look through the table in the stop, while it is known what is marked, would make the stop grow
 * with the number of pools.
 *
 * Turning is done beside the program, one pool at a time under the table's lock, which is behind a slot's central lock
 * and has nothing behind it. Mutators take it inside critical sections. To turn by a single counter for all pools would
 * not do: the victims of a pool that nobody uses have to go as well.
 *
 * Numbers are bits of a table. Nothing here is async-signal-safe. */
#include "objects/pool.h"

#include "base/report.h"
#include "cycle/cycle.h"
#include "heap/heap.h"
#include "sys/memory.h"

#include <gcrt/collect.h>
#include <string.h>

enum { NUMBERS = 1 << 16, LEAST_BYTES = 1 << 14 };

/* An entry is a pool, or the next free index, times 2, plus 1. */
static struct {
  struct gcrt_lock lock;
  uintptr_t *pools;
  size_t count, capacity;
  size_t free;  /* an index, or NONE */
  size_t flips; /* flips that there had been when pools were turned last */
  gcrt_word bytes;
} table;

#define NONE (SIZE_MAX >> 1)
#define NEVER SIZE_MAX

gcrt_word gcrt_pools_ends = 1;

static gcrt_word numbers[NUMBERS / 64];

/* Under the lock. */
static bool make_room(void) {
  if (table.free != NONE || table.count < table.capacity) return true;
  size_t old = table.capacity * sizeof(uintptr_t);
  size_t bytes = gcrt_align_up(old ? 2 * old : LEAST_BYTES, gcrt_page_size());
  uintptr_t *pools = gcrt_memory_map(bytes);
  if (!pools) return false;
  if (old) {
    memcpy(pools, table.pools, old);
    gcrt_memory_unmap(table.pools, gcrt_align_up(old, gcrt_page_size()));
  }
  table.pools = pools;
  table.capacity = bytes / sizeof(uintptr_t);
  gcrt_store(&table.bytes, bytes);
  return true;
}

size_t gcrt_pools_memory(void) { return gcrt_load(&table.bytes); }

static size_t take_index(void) {
  size_t index = table.free;
  if (index == NONE) return table.count++;
  table.free = table.pools[index] >> 1;
  return index;
}

bool gcrt_pools_add(struct gc_pool *pool) {
  struct gcrt_place place;
  GCRT_CHECK(gcrt_find((uintptr_t)pool, &place));
  gcrt_gate_enter(gcrt_self);
  gcrt_lock(&table.lock);
  bool room = make_room();
  if (room) {
    pool->index = take_index();
    table.pools[pool->index] = (uintptr_t)pool;
    gcrt_heap_watch(&place);
    gcrt_store(&pool->check, (uintptr_t)pool ^ GCRT_POOL_CHECK);
  }
  gcrt_unlock(&table.lock);
  gcrt_gate_exit(gcrt_self);
  return room;
}

/* Of any object that ends beside a pool: what it holds is anything. */
static void on_end(uintptr_t start) {
  struct gc_pool *pool = (struct gc_pool *)start;
  if (start % GCRT_CACHE_LINE != 0 || gcrt_load(&pool->check) != (start ^ GCRT_POOL_CHECK)) return;
  gcrt_lock(&table.lock);
  size_t index = pool->index;
  if (index < table.count && table.pools[index] == start) {
    table.pools[index] = table.free << 1 | 1;
    table.free = index;
    gcrt_store(&pool->check, 0);
    gcrt_add(&gcrt_pools_ends, 1);
  }
  gcrt_unlock(&table.lock);
}

static struct gcrt_pool_parts *parts_of(const struct gc_pool *pool) {
  return (struct gcrt_pool_parts *)gcrt_load_acquire(&pool->parts);
}

bool gcrt_pools_add_part(struct gc_pool *pool, size_t number, struct gcrt_pool_part *part,
                         struct gcrt_pool_parts *parts) {
  gcrt_gate_enter(gcrt_self);
  gcrt_lock(&table.lock);
  struct gcrt_pool_parts *now = parts_of(pool);
  if (now->count <= number && parts && parts->count > number) {
    memcpy((void *)parts->parts, (const void *)now->parts, now->count * sizeof *now->parts);
    gcrt_store_release(&pool->parts, (size_t)parts);
    gc_write_barrier(parts);
    gc_write_barrier(pool);
    now = parts;
  }
  bool room = number < now->count;
  if (room && part) {
    gcrt_store_release(&now->parts[number], (size_t)part);
    gc_write_barrier((void *)&now->parts[number]);
  }
  gcrt_unlock(&table.lock);
  gcrt_gate_exit(gcrt_self);
  return room;
}

static void drop(struct gc_pool *pool, struct gcrt_pooled item) {
  gcrt_add(&pool->counts[GCRT_POOL_DROPPED], 1);
  gcrt_pool_leave(pool, item);
}

static void drop_all(struct gc_pool *pool, struct gcrt_pool_part *part, unsigned set) {
  struct gcrt_slot *private = &part->private[set];
  struct gcrt_pooled item = {gcrt_load(&private->item), gcrt_load(&private->bytes)};
  if (item.item && gcrt_cas_full(&private->item, item.item, 0)) drop(pool, item);
  while ((item = gcrt_rings_steal(&part->shared[set])).item) drop(pool, item);
}

/* Nobody has anything to do with the set, which is empty but for slots that a thread left half done when it vanished in
 * a fork. */
static void clear(struct gc_pool *pool, struct gcrt_pool_part *part, unsigned set) {
  drop_all(pool, part, set);
  gcrt_rings_clear(&part->shared[set]);
}

/* Under the lock. */
static void turn(struct gc_pool *pool) {
  const struct gcrt_pool_parts *parts = parts_of(pool);
  size_t now = gcrt_load(&pool->turn);
  unsigned vacant = (gcrt_pool_primary(now) + 1) % GCRT_POOL_SETS;
  for (size_t i = 0; i < parts->count; i++) {
    struct gcrt_pool_part *part = (struct gcrt_pool_part *)gcrt_load(&parts->parts[i]);
    if (part) clear(pool, part, vacant);
  }
  gcrt_store_full(&pool->turn, ((now >> 2) + 1) << 2 | vacant);
  unsigned victims = gcrt_pool_victims(now);
  for (size_t i = 0; i < parts->count; i++) {
    struct gcrt_pool_part *part = (struct gcrt_pool_part *)gcrt_load(&parts->parts[i]);
    if (part) drop_all(pool, part, victims);
  }
}

/* A collection begins. One that was given up turned the pools already, and there was no stop. */
static GCRT_NOINLINE void turn_all(void) {
  size_t flips = gcrt_load(&gcrt_heap.epoch);
  if (table.flips == flips) return;
  table.flips = flips;
  bool more = true;
  for (size_t i = 0; more; i++) {
    gcrt_lock(&table.lock);
    more = i < table.count;
    if (more && (table.pools[i] & 1) == 0) turn((struct gc_pool *)table.pools[i]);
    gcrt_unlock(&table.lock);
  }
}

size_t gcrt_pools_number(struct gcrt_thread *thread) {
  if (thread->number) return thread->number;
  for (size_t word = 0; word < GCRT_COUNT(numbers); word++) {
    size_t taken;
    while (~(taken = gcrt_load(&numbers[word])) != 0) {
      size_t bit = ~taken & (taken + 1);
      if (!gcrt_cas_full(&numbers[word], taken, taken | bit)) continue;
      return thread->number = word * 64 + gcrt_ctz(bit);
    }
  }
  return 0;
}

bool gcrt_pools_claim(size_t number) {
  gcrt_word *word = &numbers[number / 64];
  size_t bit = (size_t)1 << (number % 64);
  for (;;) {
    size_t taken = gcrt_load(word);
    if (taken & bit) return false;
    if (gcrt_cas_full(word, taken, taken | bit)) return true;
  }
}

void gcrt_pools_unclaim(size_t number) { gcrt_clear_bits_release(&numbers[number / 64], (size_t)1 << (number % 64)); }

void gcrt_pools_end_thread(struct gcrt_thread *thread) {
  if (!thread->number) return;
  thread->memo_life = 0;
  gcrt_pools_unclaim(thread->number);
  thread->number = 0;
}

void gcrt_pools_init(void) {
  table.free = NONE;
  table.flips = NEVER;
  gcrt_store(&numbers[0], 1); /* 0 is nobody's */
  gcrt_heap_on_end = on_end;
  gcrt_cycle_hooks.begin = turn_all;
}

void gcrt_pools_fork_prepare(void) { gcrt_lock(&table.lock); }

void gcrt_pools_fork_parent(void) { gcrt_unlock(&table.lock); }

/* Also of thieves that had claimed one. The other threads' records are still there, and give theirs up later. */
void gcrt_pools_fork_child(void) {
  gcrt_lock_reset(&table.lock);
  table.flips = NEVER;
  for (size_t i = 0; i < GCRT_COUNT(numbers); i++) gcrt_store(&numbers[i], 0);
  gcrt_store(&numbers[0], 1);
  size_t number = gcrt_self ? gcrt_self->number : 0;
  gcrt_set_bits(&numbers[number / 64], (size_t)1 << (number % 64));
}
