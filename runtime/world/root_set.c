/* The ranges and stacks that the program registered.
 *
 * Two growing arrays under one lock; removal searches from the end, as what was added last mostly goes first. The
 * collector holds the lock during a stop, so a mutator takes it only inside a critical section (the callers in
 * api/roots.c see to that). Not async-signal-safe. */
#include "base/bits.h"
#include "sys/lock.h"
#include "sys/memory.h"
#include "world/roots.h"

#include <errno.h>
#include <string.h>

struct table {
  struct gcrt_range *ranges;
  size_t count, capacity;
};

static struct gcrt_lock lock;
static struct table roots, stacks;

static bool push(struct table *table, struct gcrt_range range) {
  if (table->count == table->capacity) {
    size_t old = table->capacity * sizeof(struct gcrt_range);
    size_t bytes = old ? 2 * old : gcrt_page_size();
    struct gcrt_range *ranges = gcrt_memory_map(bytes);
    if (!ranges) return false;
    if (old) {
      memcpy(ranges, table->ranges, old);
      gcrt_memory_unmap(table->ranges, old);
    }
    table->ranges = ranges;
    table->capacity = bytes / sizeof(struct gcrt_range);
  }
  table->ranges[table->count++] = range;
  return true;
}

static struct gcrt_range *find(struct table *table, uintptr_t start, uintptr_t end, bool any_end) {
  for (size_t i = table->count; i-- > 0;) {
    struct gcrt_range *range = &table->ranges[i];
    if (range->start == start && (any_end || range->end == end)) return range;
  }
  return NULL;
}

static int take(struct table *table, uintptr_t start, uintptr_t end, bool any_end) {
  gcrt_lock(&lock);
  struct gcrt_range *range = find(table, start, end, any_end);
  if (range) *range = table->ranges[--table->count];
  gcrt_unlock(&lock);
  return range ? 0 : ENOENT;
}

int gcrt_root_add(uintptr_t start, uintptr_t end) {
  gcrt_lock(&lock);
  bool added = push(&roots, (struct gcrt_range){start, end});
  gcrt_unlock(&lock);
  return added ? 0 : ENOMEM;
}

int gcrt_root_remove(uintptr_t start, uintptr_t end) { return take(&roots, start, end, false); }

int gcrt_stack_add(uintptr_t low, uintptr_t high) {
  gcrt_lock(&lock);
  bool known = find(&stacks, low, 0, true) != NULL;
  bool added = !known && push(&stacks, (struct gcrt_range){low, high});
  gcrt_unlock(&lock);
  if (known) return EEXIST;
  return added ? 0 : ENOMEM;
}

int gcrt_stack_remove(uintptr_t low) { return take(&stacks, low, 0, true); }

const struct gcrt_range *gcrt_root_ranges(size_t *count) {
  *count = roots.count;
  return roots.ranges;
}

const struct gcrt_range *gcrt_root_stacks(size_t *count) {
  *count = stacks.count;
  return stacks.ranges;
}

void gcrt_root_set_lock(void) { gcrt_lock(&lock); }
void gcrt_root_set_unlock(void) { gcrt_unlock(&lock); }
void gcrt_root_set_reset_lock(void) { gcrt_lock_reset(&lock); }
