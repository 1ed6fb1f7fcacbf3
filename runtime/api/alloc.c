/* Allocation and freeing: the public entry points.
 *
 * The fast path takes a cell from the thread's window: no lock, no atomic operation, no call. The slow path refills the
 * window, and is the only place from which a collection starts by itself; GCRT_STRESS makes windows of one cell, so
 * that the fast path need not ask for it.
 *
 * Callable from any thread, not from signal handlers. Locks are those of the heap, inside a critical section. */
#include "api/api.h"

#include <gcrt/alloc.h>
#include <gcrt/collect.h>

#include "base/options.h"
#include "base/report.h"
#include "cycle/cycle.h"
#include "cycle/limit.h"
#include "heap/heap.h"

#include <errno.h>
#include <string.h>

/* Objects beyond this cannot exist; sums of a size and a rounding do not overflow below it. */
#define SIZE_LIMIT (SIZE_MAX / 4)

GCRT_COLD struct gcrt_thread *gcrt_mutator(void) {
  gcrt_init_once();
  struct gcrt_thread *thread = gcrt_thread_attach();
  if (!thread) return NULL;
  if (!thread->cache) {
    struct gcrt_cache *cache = gcrt_cache_new();
    if (!cache) {
      errno = ENOMEM;
      return NULL;
    }
    gcrt_lock(&gcrt_world.lock);
    thread->cache = cache;
    gcrt_unlock(&gcrt_world.lock);
    thread->stress = (size_t)gcrt_options.stress;
  }
  return thread;
}

/* A collection before this allocation, if one is due. */
static void collect_if_due(struct gcrt_thread *thread) {
  if (GCRT_UNLIKELY(thread->stress) && --thread->stress == 0) {
    thread->stress = (size_t)gcrt_options.stress;
    gcrt_cycle_collect(GCRT_CYCLE_STRESS);
  } else if (gcrt_cycle_due()) {
    gcrt_cycle_collect(GCRT_CYCLE_GOAL);
  }
}

static void *allocate_large(struct gcrt_thread *thread, size_t size, size_t alignment, enum gcrt_kind kind) {
  gcrt_gate_enter(thread);
  struct gcrt_span *span = gcrt_span_large(size, alignment, kind);
  void *object = span ? (void *)gcrt_span_start(span) : NULL;
  gcrt_gate_exit(thread);
  /* In a register or on the stack at whatever point of the exit a stop came. */
  __asm__ volatile("" : "+r"(object) : : "memory");
  return object;
}

static void *allocate_small(struct gcrt_thread *thread, unsigned slot) {
  struct gcrt_cache *cache = thread->cache;
  void *object = NULL;
  gcrt_gate_enter(thread);
  /* A collection before this point may have run another thread's free; the window is only ours. */
  if (cache->windows[slot].mask || gcrt_cache_refill(cache, slot, gcrt_options.stress ? 1 : 64)) {
    object = gcrt_cache_take(cache, slot);
  }
  gcrt_gate_exit(thread);
  return object;
}

static void *out_of_memory(void) {
  errno = ENOMEM;
  return NULL;
}

/* size is at least 1; alignment a power of two. */
GCRT_NOINLINE static void *allocate_slow(size_t size, size_t alignment, enum gcrt_kind kind) {
  struct gcrt_thread *thread = gcrt_mutator();
  if (!thread || size > SIZE_LIMIT) return out_of_memory();
  size_t cell = size;
  if (alignment > GCRT_GRANULE) cell = gcrt_max(size, alignment);
  bool large = cell > GCRT_SMALL_MAX;
  unsigned slot = 0;
  if (!large) {
    unsigned class = gcrt_class_of((unsigned)cell);
    while (gcrt_class_size[class] & (alignment - 1)) class ++;
    slot = gcrt_slot_of(class, kind, gcrt_class_size[class] == size);
  }
  size_t bytes = gcrt_max(size, (size_t)GCRT_CHUNK);
  bool near = gcrt_limit_near(bytes);
  if (near) gcrt_limit_look(bytes);
  collect_if_due(thread);
  if (near) gcrt_limit_make_room(bytes);
  for (unsigned attempt = 0; attempt < 2; attempt++) {
    void *object = large ? allocate_large(thread, size, alignment, kind) : allocate_small(thread, slot);
    if (GCRT_LIKELY(object != NULL)) return object;
    if (attempt == 0) gcrt_cycle_collect(GCRT_CYCLE_EMERGENCY);
  }
  return out_of_memory();
}

GCRT_INLINE void *allocate(size_t size, enum gcrt_kind kind) {
  struct gcrt_thread *thread = gcrt_self;
  if (GCRT_LIKELY(size <= GCRT_SMALL_MAX && thread && thread->cache)) {
    void *object = gcrt_cache_take(thread->cache, gcrt_slot_for(size, kind));
    if (GCRT_LIKELY(object != NULL)) return object;
  }
  return allocate_slow(size ? size : 1, GCRT_GRANULE, kind);
}

GCRT_EXPORT void *gc_alloc(size_t size) { return allocate(size, GCRT_SCAN); }
GCRT_EXPORT void *gc_alloc_noscan(size_t size) { return allocate(size, GCRT_NOSCAN); }
GCRT_EXPORT void *gc_alloc_uncollectable(size_t size) { return allocate(size, GCRT_UNCOLLECTABLE); }

GCRT_EXPORT void *gc_alloc_array(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return out_of_memory();
  return allocate(bytes, GCRT_SCAN);
}

GCRT_EXPORT void *gc_alloc_aligned(size_t alignment, size_t size) {
  if (!gcrt_is_power_of_two(alignment) || alignment > GC_MAX_ALIGNMENT) {
    errno = EINVAL;
    return NULL;
  }
  return allocate_slow(size ? size : 1, alignment, GCRT_SCAN);
}

GCRT_NOINLINE static void *allocate_kind(size_t size, enum gcrt_kind kind) {
  return allocate_slow(size ? size : 1, GCRT_GRANULE, kind);
}

/* Whether the cell lies unused in some thread's window: then the program freed it before, or never had it. */
static bool in_a_window(const struct gcrt_place *place) {
  const struct gcrt_span *span = &gcrt_heap.spans[place->chunk->first];
  unsigned slot = (unsigned)gcrt_load(&span->slot);
  size_t windows = gcrt_load(&span->windows);
  if ((windows >> (place->index / 64) & 1) == 0) return false;
  bool held = false;
  gcrt_lock(&gcrt_world.lock);
  for (const struct gcrt_thread *t = gcrt_world.threads; t && !held; t = t->next) {
    held = t->cache && gcrt_cache_holds(t->cache, slot, place->alloc, place->bit);
  }
  gcrt_unlock(&gcrt_world.lock);
  return held;
}

/* The object that starts at p, or the end of the program with a message that names the call. */
static void require_object(const char *call, const void *p, struct gcrt_place *place) {
  switch (gcrt_object_at(p, place)) {
  case GCRT_OBJECT_OK:
    if (!in_a_window(place)) return;
    gcrt_misuse(call, p, "the object was freed already");
  case GCRT_OBJECT_FREE:
    gcrt_misuse(call, p, "the object was freed already, or never was one");
  case GCRT_OBJECT_INTERIOR:
    gcrt_misuse(call, p, "the pointer is inside an object, not at its start");
  case GCRT_OBJECT_FOREIGN:
    gcrt_misuse(call, p, "the memory is not the collector's");
  }
}

GCRT_EXPORT void gc_free(void *p) {
  if (!p) return;
  struct gcrt_thread *thread = gcrt_mutator();
  if (!thread) gcrt_fatal("gc_free: no memory to make the calling thread known");
  struct gcrt_place place;
  require_object("gc_free", p, &place);
  gcrt_gate_enter(thread);
  bool freed = gcrt_object_free(&place, gcrt_options.debug.clobberfree);
  gcrt_gate_exit(thread);
  if (!freed) gcrt_misuse("gc_free", p, "the object was freed already");
}

/* Whether an object of `size` bytes may stay in this cell: it must keep the spare byte that its span promises, and not
 * waste more than half. */
static bool fits(const struct gcrt_place *place, size_t size, size_t usable) {
  if (size > usable) return false;
  if (place->chunk->flags & GCRT_FLAG_LARGE) return size > usable / 2 && size > GCRT_SMALL_MAX;
  return size > usable / 2 || usable <= 2 * (size_t)GCRT_GRANULE;
}

GCRT_EXPORT void *gc_realloc(void *p, size_t size) {
  if (!p) return gc_alloc(size);
  struct gcrt_place place;
  gcrt_init_once();
  require_object("gc_realloc", p, &place);
  size_t usable = gcrt_object_usable(&place);
  enum gcrt_kind kind = gcrt_object_kind(&place);
  if (fits(&place, size ? size : 1, usable)) {
    /* What is cut off now would come back, not zeroed, when the object grows again. */
    memset((char *)p + size, 0, usable - size);
    return p;
  }
  void *moved = allocate_kind(size, kind);
  if (!moved) return NULL;
  memcpy(moved, p, gcrt_min(size, usable));
  gc_write_barrier(moved);
  gc_free(p);
  return moved;
}

/* The object around p; false if there is none. */
static bool find_object(const void *p, struct gcrt_place *place) {
  return gcrt_find((uintptr_t)p, place) && !in_a_window(place);
}

GCRT_EXPORT size_t gc_usable_size(const void *p) {
  struct gcrt_place place;
  return find_object(p, &place) ? gcrt_object_usable(&place) : 0;
}

GCRT_EXPORT void *gc_base(const void *p) {
  struct gcrt_place place;
  return find_object(p, &place) ? (void *)gcrt_place_start(&place) : NULL;
}
