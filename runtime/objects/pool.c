/* Pools: putting in and getting. objects/pool.h has the structure and its invariants, objects/pools.c the collection's
 * part.
 *
 * The fast path is that of the private place: a critical section, which is a count in the thread's own record, and
 * loads and stores of the thread's own memory. Everything else is in functions of its own. Where an item is looked for:
 * the private place, the thread's own ring from its new end, the others' from their old ends, the victims in the
 * same order, and then it is made.
 *
 * Memory comes from the public functions, as a program's would, outside of critical sections: a thread may be stopped
 * there, and the pool be turned. Callbacks run there as well. No locks but that of pools.c, when a thread uses a pool
 * for the first time. Not async-signal-safe.
 *
 * A lock and a list for all threads would be much simpler, and cost an atomic operation and the line it is in for each
 * call. */
#include "objects/pool.h"

#include "base/report.h"
#include "heap/heap.h"

#include <gcrt/alloc.h>
#include <gcrt/collect.h>
#include <errno.h>
#include <string.h>

enum { PARTS_AT_FIRST = 6 };

static const struct gcrt_pooled nothing = {0, 0};

GCRT_COLD _Noreturn static void complain(const char *call, const struct gc_pool *pool) {
  gcrt_misuse(call, pool, pool ? "it is no pool, or one that was freed" : "there is no pool");
}

/* NULL and what is not in the heap is not read. */
static void require_pool(const char *call, const struct gc_pool *pool) {
  uintptr_t address = (uintptr_t)pool;
  if (!gcrt_in_heap(address) || address % GCRT_CACHE_LINE != 0) complain(call, pool);
  if (gcrt_load(&pool->check) != (address ^ GCRT_POOL_CHECK)) complain(call, pool);
}

GCRT_INLINE struct gcrt_memo *memo_of(struct gcrt_thread *thread, const struct gc_pool *pool) {
  return &thread->memos[(uintptr_t)pool / GCRT_CACHE_LINE % GCRT_MEMOS];
}

/* Whether the thread remembers its part, which it does of plain pools only. */
GCRT_INLINE bool knows_part(struct gcrt_thread *thread, const struct gc_pool *pool) {
  return memo_of(thread, pool)->key == pool && thread->memo_life == gcrt_load(&gcrt_pools_ends);
}

static void remember(struct gcrt_thread *thread, const struct gc_pool *pool, struct gcrt_pool_part *part) {
  if (pool->limited || pool->options.reset) return;
  size_t life = gcrt_load(&gcrt_pools_ends);
  for (size_t i = 0; i < GCRT_MEMOS && thread->memo_life != life; i++) {
    thread->memos[i].key = &thread->memos; /* no pool, nor NULL */
  }
  thread->memo_life = life;
  *memo_of(thread, pool) = (struct gcrt_memo){pool, part};
}

GCRT_INLINE struct gcrt_pool_parts *parts_of(const struct gc_pool *pool) {
  return (struct gcrt_pool_parts *)gcrt_load_acquire(&pool->parts);
}

/* NULL if the number has none; there is never one of 0. */
GCRT_INLINE struct gcrt_pool_part *part_of(const struct gc_pool *pool, size_t number) {
  const struct gcrt_pool_parts *parts = parts_of(pool);
  if (GCRT_UNLIKELY(number >= parts->count)) return NULL;
  return (struct gcrt_pool_part *)gcrt_load_acquire(&parts->parts[number]);
}

/* A pointer was stored there. Inside the same critical section. */
GCRT_INLINE void tell_tracker(void *where) {
  if (GCRT_UNLIKELY(gcrt_load(&gcrt_heap.marking))) gc_write_barrier(where);
}

GCRT_INLINE void count_own(struct gcrt_pool_part *part, enum gcrt_pool_count what) {
  gcrt_store_release(&part->counts[what], gcrt_load(&part->counts[what]) + 1);
}

static void count(struct gc_pool *pool, struct gcrt_pool_part *part, enum gcrt_pool_count what) {
  if (part) {
    count_own(part, what);
  } else {
    gcrt_add_full(&pool->counts[what], 1);
  }
}

void gcrt_pool_leave(struct gc_pool *pool, struct gcrt_pooled item) {
  if (!pool->limited) return;
  gcrt_sub(&pool->items, 1);
  gcrt_sub(&pool->bytes, item.bytes);
}

/* Enters the items of a limited pool. */
static bool enter(struct gc_pool *pool, size_t bytes) {
  const struct gc_pool_options *options = &pool->options;
  size_t items = gcrt_add(&pool->items, 1);
  size_t before = gcrt_add(&pool->bytes, bytes);
  bool fits = !options->max_items || items < options->max_items;
  if (options->max_bytes && (bytes > options->max_bytes || before > options->max_bytes - bytes)) fits = false;
  if (!fits) gcrt_pool_leave(pool, (struct gcrt_pooled){0, bytes});
  return fits;
}

/* Bytes of the collector's object, 0 for anything else. */
static size_t object_bytes(uintptr_t item) {
  struct gcrt_place place;
  return gcrt_find(item, &place) ? gcrt_place_size(&place) : 0;
}

static void *zeroed_lines(size_t size) { return gc_alloc_aligned(GCRT_CACHE_LINE, size); }

static struct gcrt_pool_parts *new_parts(size_t count) {
  struct gcrt_pool_parts *parts = gc_alloc(sizeof *parts + count * sizeof *parts->parts);
  if (parts) parts->count = count;
  return parts;
}

/* The calling thread's number, 0 if it gets none. */
static size_t own_number(void) {
  if (!gcrt_thread_attach()) return 0;
  gcrt_gate_enter(gcrt_self);
  size_t number = gcrt_pools_number(gcrt_self);
  gcrt_gate_exit(gcrt_self);
  return number;
}

/* The calling thread's part: that of an ended thread with its number, or a new one. NULL: there is no memory, or no
 * number, or the thread cannot be made known. Outside critical sections. */
GCRT_COLD static struct gcrt_pool_part *make_part(struct gc_pool *pool) {
  size_t number = own_number();
  struct gcrt_pool_part *part = number ? part_of(pool, number) : NULL;
  if (part || !number) return part;
  part = zeroed_lines(sizeof *part);
  struct gcrt_pool_parts *parts = NULL;
  while (part && !gcrt_pools_add_part(pool, number, part, parts)) {
    parts = new_parts(gcrt_max(2 * parts_of(pool)->count, number + 1));
    if (!parts) return NULL;
  }
  return part;
}

static struct gcrt_pool_part *own_part(struct gc_pool *pool) {
  struct gcrt_pool_part *part = gcrt_self && gcrt_self->number ? part_of(pool, gcrt_self->number) : NULL;
  if (!part) part = make_part(pool);
  if (part) remember(gcrt_self, pool, part);
  return part;
}

/* By the owner, from a set that is not primary. */
static struct gcrt_pooled take_private_victim(struct gcrt_slot *private) {
  struct gcrt_pooled item = {gcrt_load(&private->item), gcrt_load(&private->bytes)};
  return item.item && gcrt_cas_full(&private->item, item.item, 0) ? item : nothing;
}

static struct gcrt_pooled take_private(struct gcrt_slot *private) {
  struct gcrt_pooled item = {gcrt_load(&private->item), gcrt_load(&private->bytes)};
  if (item.item) gcrt_store(&private->item, 0);
  return item;
}

/* From a part that may be anyone's. Sets *left if its private place is another thread's, and full. */
static struct gcrt_pooled steal(struct gcrt_pool_part *part, size_t number, unsigned set, bool primary, bool *left) {
  struct gcrt_pooled item = gcrt_rings_steal(&part->shared[set]);
  if (item.item || !gcrt_load(&part->private[set].item)) return item;
  if (!gcrt_pools_claim(number)) {
    *left = true;
    return nothing;
  }
  item = primary ? take_private(&part->private[set]) : take_private_victim(&part->private[set]);
  gcrt_pools_unclaim(number);
  return item;
}

/* From all parts, from the one behind the thread's own on. */
static struct gcrt_pooled steal_anywhere(struct gc_pool *pool, size_t number, unsigned set, bool primary, bool *left) {
  const struct gcrt_pool_parts *parts = parts_of(pool);
  for (size_t i = 1; i <= parts->count; i++) {
    size_t at = (number + i) % parts->count;
    struct gcrt_pool_part *part = (struct gcrt_pool_part *)gcrt_load_acquire(&parts->parts[at]);
    if (!part) continue;
    struct gcrt_pooled item = steal(part, at, set, primary, left);
    if (item.item) return item;
  }
  return nothing;
}

static struct gcrt_pooled take_victim(struct gc_pool *pool, struct gcrt_pool_part *part, size_t number, size_t turn) {
  unsigned set = gcrt_pool_victims(turn);
  if (gcrt_load(&pool->no_victims) == turn) return nothing;
  struct gcrt_pooled item = part ? take_private_victim(&part->private[set]) : nothing;
  if (item.item) return item;
  bool left = false;
  item = steal_anywhere(pool, number, set, false, &left);
  if (!item.item && !left) gcrt_store(&pool->no_victims, turn);
  return item;
}

/* Inside a critical section. *how: where it was. */
static struct gcrt_pooled take(struct gc_pool *pool, struct gcrt_pool_part *part, enum gcrt_pool_count *how) {
  size_t turn = gcrt_load_acquire(&pool->turn);
  unsigned set = gcrt_pool_primary(turn);
  size_t number = part ? gcrt_self->number : 0;
  struct gcrt_pooled item;
  if (part) {
    *how = GCRT_POOL_PRIVATE;
    if ((item = take_private(&part->private[set])).item) return item;
    *how = GCRT_POOL_SHARED;
    if ((item = gcrt_rings_pop(&part->shared[set])).item) return item;
  }
  bool left = false;
  *how = GCRT_POOL_STOLEN;
  if ((item = steal_anywhere(pool, number, set, true, &left)).item) return item;
  *how = GCRT_POOL_VICTIM;
  if ((item = take_victim(pool, part, number, turn)).item) return item;
  *how = GCRT_POOL_MISSES;
  return nothing;
}

GCRT_NOINLINE static void *get_slow(struct gc_pool *pool) {
  require_pool("gc_pool_get", pool);
  struct gcrt_pool_part *part = own_part(pool);
  struct gcrt_pooled item = nothing;
  enum gcrt_pool_count how = GCRT_POOL_MISSES;
  if (gcrt_self) {
    gcrt_gate_enter(gcrt_self);
    item = take(pool, part, &how);
    count(pool, part, how);
    gcrt_gate_exit(gcrt_self);
    __asm__ volatile("" : "+r"(item.item) : : "memory");
  } else {
    count(pool, NULL, how);
  }
  if (item.item) {
    gcrt_pool_leave(pool, item);
    return (void *)item.item;
  }
  return pool->options.make ? pool->options.make(pool->options.arg) : NULL;
}

GCRT_INLINE struct gcrt_slot *private_place(const struct gc_pool *pool, struct gcrt_pool_part *part) {
  return &part->private[gcrt_pool_primary(gcrt_load_acquire(&pool->turn))];
}

/* The end of the critical section of a call that has done its work, if a stop waits for it. */
GCRT_COLD static void *stop_with(struct gcrt_thread *thread, void *item) {
  gcrt_stop_deferred(thread);
  return item;
}

GCRT_EXPORT void *gc_pool_get(struct gc_pool *pool) {
  struct gcrt_thread *thread = gcrt_self;
  if (GCRT_UNLIKELY(!thread || !knows_part(thread, pool))) return get_slow(pool);
  gcrt_gate_enter_first(thread);
  struct gcrt_pool_part *part = memo_of(thread, pool)->value;
  struct gcrt_slot *place = private_place(pool, part);
  void *item = (void *)gcrt_load(&place->item);
  if (GCRT_LIKELY(item != NULL)) {
    gcrt_store(&place->item, 0);
    count_own(part, GCRT_POOL_PRIVATE);
  }
  bool stops = gcrt_gate_leave_last(thread);
  /* In a register at whatever point of the exit a stop came. */
  __asm__ volatile("" : "+r"(item) : : "memory");
  if (GCRT_UNLIKELY(stops)) item = stop_with(thread, item);
  return GCRT_LIKELY(item != NULL) ? item : get_slow(pool);
}

/* Inside a critical section. False: the ring is full. */
static bool put_in(struct gcrt_pool_part *part, unsigned set, struct gcrt_pooled item) {
  struct gcrt_slot *slot = &part->private[set];
  if (gcrt_load(&slot->item) == 0) {
    gcrt_store(&slot->bytes, item.bytes);
    gcrt_store_release(&slot->item, item.item);
  } else if (!(slot = gcrt_rings_push(&part->shared[set], item))) {
    return false;
  }
  tell_tracker(slot);
  return true;
}

/* Inside a critical section. */
static void grow(struct gcrt_pool_part *part, unsigned set, struct gcrt_ring *ring, size_t slots) {
  struct gcrt_rings *rings = &part->shared[set];
  void *last = (void *)gcrt_load(&rings->head);
  gcrt_rings_grow(rings, ring, slots);
  if (last) tell_tracker(last);
  tell_tracker(part);
  tell_tracker(ring);
}

/* Puts the item in, using `ring` if there is no room otherwise; NULL: there is none. Returns 0, or how many slots such
 * a ring should have. */
static size_t try_to_put(struct gc_pool *pool, struct gcrt_pool_part *part, struct gcrt_pooled item,
                         struct gcrt_ring *ring, size_t slots) {
  gcrt_gate_enter(gcrt_self);
  unsigned set = gcrt_pool_primary(gcrt_load_acquire(&pool->turn));
  bool done = put_in(part, set, item);
  if (!done && ring) {
    grow(part, set, ring, slots);
    done = put_in(part, set, item);
  }
  size_t missing = done ? 0 : gcrt_rings_next_slots(&part->shared[set]);
  gcrt_gate_exit(gcrt_self);
  return missing;
}

/* False: there is no memory. */
static bool put_with_memory(struct gc_pool *pool, struct gcrt_pool_part *part, struct gcrt_pooled item) {
  size_t slots = 0, missing;
  struct gcrt_ring *ring = NULL;
  while ((missing = try_to_put(pool, part, item, ring, slots)) != 0) {
    slots = missing;
    int error = errno;
    ring = gc_alloc(gcrt_ring_size(slots));
    errno = error;
    if (!ring) return false;
  }
  return true;
}

GCRT_NOINLINE static void put_slow(struct gc_pool *pool, void *p) {
  require_pool("gc_pool_put", pool);
  if (!p) return;
  const struct gc_pool_options *options = &pool->options;
  struct gcrt_pooled item = {(size_t)p, 0};
  bool wanted = !options->reset || options->reset(p, options->arg);
  if (wanted && pool->limited) {
    if (options->max_bytes) item.bytes = options->size ? options->size(p, options->arg) : object_bytes(item.item);
    wanted = enter(pool, item.bytes);
  }
  int error = errno;
  struct gcrt_pool_part *part = own_part(pool);
  errno = error;
  count(pool, part, GCRT_POOL_PUTS);
  if (!wanted) {
    count(pool, part, GCRT_POOL_REFUSED);
  } else if (!part || !put_with_memory(pool, part, item)) {
    count(pool, part, GCRT_POOL_DROPPED);
    gcrt_pool_leave(pool, item);
  }
  gc_keep_alive(p);
}

/* The same for a call that may have stored an item, while objects are marked or a stop waits. */
GCRT_COLD static void end_put(struct gcrt_thread *thread, struct gcrt_slot *place) {
  tell_tracker(place);
  gcrt_gate_exit_last(thread);
}

GCRT_EXPORT void gc_pool_put(struct gc_pool *pool, void *item) {
  struct gcrt_thread *thread = gcrt_self;
  if (GCRT_UNLIKELY(!thread || !item || !knows_part(thread, pool))) {
    put_slow(pool, item);
    return;
  }
  gcrt_gate_enter_first(thread);
  struct gcrt_pool_part *part = memo_of(thread, pool)->value;
  struct gcrt_slot *place = private_place(pool, part);
  if (GCRT_UNLIKELY(gcrt_load(&place->item) != 0)) {
    gcrt_gate_exit_last(thread);
    put_slow(pool, item);
    return;
  }
  count_own(part, GCRT_POOL_PUTS);
  gcrt_store_release(&place->item, (size_t)item);
  if (GCRT_UNLIKELY(gcrt_load(&gcrt_heap.marking))) {
    end_put(thread, place);
  } else if (GCRT_UNLIKELY(gcrt_gate_leave_last(thread))) {
    gcrt_stop_deferred(thread);
  }
}

GCRT_EXPORT struct gc_pool *gc_pool_new_with(const struct gc_pool_options *options) {
  struct gc_pool *pool = zeroed_lines(sizeof *pool);
  struct gcrt_pool_parts *parts = pool ? new_parts(PARTS_AT_FIRST) : NULL;
  if (!parts) return NULL;
  if (options) pool->options = *options;
  pool->limited = pool->options.max_items || pool->options.max_bytes;
  gcrt_store(&pool->no_victims, SIZE_MAX);
  gcrt_store(&pool->parts, (size_t)parts);
  gc_write_barrier(pool);
  if (!gcrt_pools_add(pool)) {
    errno = ENOMEM;
    return NULL;
  }
  gc_keep_alive(parts);
  return pool;
}

GCRT_EXPORT struct gc_pool *gc_pool_new(void *(*make)(void *arg), void *arg) {
  struct gc_pool_options options = {.make = make, .arg = arg};
  return gc_pool_new_with(&options);
}

static uint64_t total(const struct gc_pool *pool, enum gcrt_pool_count what) {
  const struct gcrt_pool_parts *parts = parts_of(pool);
  uint64_t sum = gcrt_load_acquire(&pool->counts[what]);
  for (size_t i = 0; i < parts->count; i++) {
    const struct gcrt_pool_part *part = (const struct gcrt_pool_part *)gcrt_load_acquire(&parts->parts[i]);
    if (part) sum += gcrt_load_acquire(&part->counts[what]);
  }
  return sum;
}

static void add_bytes(struct gcrt_pooled item, void *sum) { *(uint64_t *)sum += object_bytes(item.item); }

/* Of the collector's objects. */
static uint64_t bytes_inside(const struct gc_pool *pool) {
  const struct gcrt_pool_parts *parts = parts_of(pool);
  uint64_t sum = 0;
  for (size_t i = 0; i < parts->count * GCRT_POOL_SETS; i++) {
    const struct gcrt_pool_part *part =
        (const struct gcrt_pool_part *)gcrt_load_acquire(&parts->parts[i / GCRT_POOL_SETS]);
    if (!part) continue;
    sum += object_bytes(gcrt_load(&part->private[i % GCRT_POOL_SETS].item));
    gcrt_rings_visit(&part->shared[i % GCRT_POOL_SETS], add_bytes, &sum);
  }
  return sum;
}

GCRT_EXPORT void gc_pool_stats(struct gc_pool *pool, struct gc_pool_metrics *metrics) {
  require_pool("gc_pool_stats", pool);
  struct gc_pool_metrics m = {
      .hits_private = total(pool, GCRT_POOL_PRIVATE),
      .hits_shared = total(pool, GCRT_POOL_SHARED),
      .hits_stolen = total(pool, GCRT_POOL_STOLEN),
      .hits_victim = total(pool, GCRT_POOL_VICTIM),
      .misses = total(pool, GCRT_POOL_MISSES),
      .refused = total(pool, GCRT_POOL_REFUSED),
      .dropped = total(pool, GCRT_POOL_DROPPED),
  };
  /* Last: what left the pool, or was refused, was counted there before. */
  m.puts = total(pool, GCRT_POOL_PUTS);
  m.hits = m.hits_private + m.hits_shared + m.hits_stolen + m.hits_victim;
  m.gets = m.hits + m.misses;
  m.held = m.puts - m.hits - m.refused - m.dropped;
  m.held_bytes = pool->options.max_bytes ? gcrt_load(&pool->bytes) : bytes_inside(pool);
  *metrics = m;
}
