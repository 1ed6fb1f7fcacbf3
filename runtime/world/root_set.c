/* The ranges and stacks that the program registers.
 *
 * Two hash tables by address (linear probing, at most half full) under one lock: programs register a stack for each of
 * a hundred thousand coroutines, and end them in any order. A range that is registered several times is one entry with
 * a count. Arrays, sorted or not, were not chosen: either the search or the insertion moves over all of them.
 *
 * Whatever is registered has room in the list of all roots before it counts (gcrt_roots_room): the collector does not
 * have to ask for memory during a stop.
 *
 * The collector holds the lock during a stop, so a mutator takes it only inside a critical section (the callers in
 * api/roots.c see to that) or under gcrt_world.lock. Not async-signal-safe. */
#include "base/bits.h"
#include "sys/lock.h"
#include "sys/memory.h"
#include "world/roots.h"

#include <errno.h>

enum { SLOTS_AT_FIRST = 128 };

struct table {
  struct gcrt_registered *slots;
  size_t size;   /* of slots: a power of two, or 0 */
  size_t used;   /* slots that are not empty */
  bool by_start; /* the end of a range is no part of its name */
};

static struct gcrt_lock lock;
static struct table roots, stacks = {.by_start = true};

/* Where the search for a range begins. */
static size_t home(const struct table *table, const struct gcrt_range *range) {
  uint64_t key = range->start;
  if (!table->by_start) key += range->end * UINT64_C(0x2545f4914f6cdd1d);
  return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table->size - 1);
}

static bool same(const struct table *table, const struct gcrt_range *a, const struct gcrt_range *b) {
  return a->start == b->start && (table->by_start || a->end == b->end);
}

/* The slot of the range, or the empty one where it belongs. The table has an empty slot. */
static struct gcrt_registered *find(const struct table *table, const struct gcrt_range *range) {
  size_t at = home(table, range);
  while (table->slots[at].times && !same(table, &table->slots[at].range, range)) at = (at + 1) & (table->size - 1);
  return &table->slots[at];
}

/* Room for one more entry. */
static bool make_room(struct table *table) {
  if (2 * (table->used + 1) <= table->size) return true;
  struct table larger = *table;
  larger.size = table->size ? 2 * table->size : SLOTS_AT_FIRST;
  larger.slots = gcrt_memory_map(larger.size * sizeof *larger.slots);
  if (!larger.slots) return false;
  for (size_t i = 0; i < table->size; i++) {
    if (table->slots[i].times) *find(&larger, &table->slots[i].range) = table->slots[i];
  }
  if (table->size) gcrt_memory_unmap(table->slots, table->size * sizeof *table->slots);
  *table = larger;
  return true;
}

/* Empties a slot, and moves what was probed past it. */
static void erase(struct table *table, struct gcrt_registered *slot) {
  size_t mask = table->size - 1;
  size_t hole = (size_t)(slot - table->slots);
  for (size_t at = (hole + 1) & mask; table->slots[at].times; at = (at + 1) & mask) {
    size_t distance = (at - home(table, &table->slots[at].range)) & mask;
    if (distance < ((at - hole) & mask)) continue;
    table->slots[hole] = table->slots[at];
    hole = at;
  }
  table->slots[hole].times = 0;
  table->used--;
}

static int add(struct table *table, struct gcrt_range range, bool once) {
  gcrt_lock(&lock);
  int error = 0;
  struct gcrt_registered *slot = table->size ? find(table, &range) : NULL;
  if (slot && slot->times) {
    if (once) {
      error = EEXIST;
    } else {
      slot->times++;
    }
  } else if (!make_room(table) || !gcrt_roots_room(roots.used + stacks.used + 1)) {
    error = ENOMEM;
  } else {
    *find(table, &range) = (struct gcrt_registered){range, 1};
    table->used++;
  }
  gcrt_unlock(&lock);
  return error;
}

static int take(struct table *table, struct gcrt_range range) {
  gcrt_lock(&lock);
  struct gcrt_registered *slot = table->size ? find(table, &range) : NULL;
  bool known = slot && slot->times;
  if (known && --slot->times == 0) erase(table, slot);
  gcrt_unlock(&lock);
  return known ? 0 : ENOENT;
}

int gcrt_root_add(uintptr_t start, uintptr_t end) { return add(&roots, (struct gcrt_range){start, end}, false); }
int gcrt_root_remove(uintptr_t start, uintptr_t end) { return take(&roots, (struct gcrt_range){start, end}); }
int gcrt_stack_add(uintptr_t low, uintptr_t high) { return add(&stacks, (struct gcrt_range){low, high}, true); }
int gcrt_stack_remove(uintptr_t low) { return take(&stacks, (struct gcrt_range){low, 0}); }

bool gcrt_root_set_has(struct gcrt_range range) { return roots.size && find(&roots, &range)->times; }

const struct gcrt_registered *gcrt_root_ranges(size_t *slots) {
  *slots = roots.size;
  return roots.slots;
}

const struct gcrt_registered *gcrt_root_stacks(size_t *slots) {
  *slots = stacks.size;
  return stacks.slots;
}

size_t gcrt_root_set_count(void) { return roots.used + stacks.used; }
void gcrt_root_set_lock(void) { gcrt_lock(&lock); }
void gcrt_root_set_unlock(void) { gcrt_unlock(&lock); }
void gcrt_root_set_reset_lock(void) { gcrt_lock_reset(&lock); }
