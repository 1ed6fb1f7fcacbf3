/* Pools: objects that are expensive to make, kept for the next one who needs one.
 *
 *   struct gc_pool *buffers = gc_pool_new(make_buffer, NULL);
 *   struct buffer *b = gc_pool_get(buffers);
 *   ...
 *   gc_pool_put(buffers, b);
 *
 * What is put in is got again in no promised order, by any thread, or never: a collection may drop it. The first
 * collection that begins after an item was put in makes it a victim, which can still be got; the second drops it, and
 * frees it unless something else leads to it. So a pool shrinks to what is used, and an item that nobody takes
 * is never kept for longer.
 *
 * Items are objects of the collector's, which the pool keeps alive, or any other pointer, which it keeps as it is and
 * forgets when it is dropped: memory of malloc leaks then. Whoever puts an item in has no business with it any more.
 *
 * A pool is an object of the collector's: it goes, with its items, when nothing points to it. gc_free gives it back at
 * once; no thread may be using it then or later, and its items are dropped.
 *
 * Any thread may call any of these, also on the same pool, but no signal handler. After fork the child has all items of
 * the parent's pools but those that a thread was just putting in or taking out. A pointer that is not a pool's is a bug
 * of the program: one line on standard error names the call and the value, then abort(). */
#ifndef GCRT_POOL_H
#define GCRT_POOL_H

#include <gcrt/declare.h>
#include <stddef.h>
#include <stdint.h>

GC_BEGIN_DECLARATIONS

struct gc_pool;

/* What a pool may be told. All may be 0 or NULL. Callbacks run on the thread that calls gc_pool_get or gc_pool_put,
 * under no lock; they may allocate, collect and use pools, this one too. */
struct gc_pool_options {
  void *(*make)(void *arg);              /* makes an item for a gc_pool_get that finds none */
  void *arg;                             /* for all three; the pool keeps alive what it points to */
  int (*reset)(void *item, void *arg);   /* of each item that is put in, before; 0 refuses it (oversized, broken) */
  size_t (*size)(void *item, void *arg); /* bytes for max_bytes; NULL: of the collector's object, 0 for others */
  size_t max_items;                      /* so many at most are in the pool, victims included; 0: no limit */
  size_t max_bytes;                      /* the same in bytes. What would pass a limit is refused */
};

/* A new pool, which calls make(arg) when there is nothing to be got; make may be NULL. The pool keeps what arg points
 * to alive. NULL with errno ENOMEM. */
GC_API struct gc_pool *gc_pool_new(void *(*make)(void *arg), void *arg);

/* The same with more to say; the options are copied. Limits cost each get and put an atomic operation on a counter that
 * all threads share. */
GC_API struct gc_pool *gc_pool_new_with(const struct gc_pool_options *options);

/* An item, which is the caller's from now on: one that was put in, as far as there is one, or what make returns. NULL
 * if the pool is empty and has no make, or if make returned NULL. */
GC_API void *gc_pool_get(struct gc_pool *pool);

/* Puts an item in. NULL is passed over. It never fails: an item that there is no room for is dropped, and counted. */
GC_API void gc_pool_put(struct gc_pool *pool, void *item);

/* What happened to a pool since it was made. They balance, at any time: gets == hits + misses, hits is the sum of the
 * four kinds, and puts == hits + refused + dropped + held. */
struct gc_pool_metrics {
  uint64_t gets;         /* calls of gc_pool_get */
  uint64_t hits;         /* that found an item */
  uint64_t hits_private; /* the one that the thread itself put in last into an empty place of its own */
  uint64_t hits_shared;  /* another one of the thread's */
  uint64_t hits_stolen;  /* another thread's */
  uint64_t hits_victim;  /* one that the next collection would have dropped */
  uint64_t misses;       /* calls of gc_pool_get that found none */
  uint64_t puts;         /* calls of gc_pool_put with an item */
  uint64_t refused;      /* items that reset refused, or that would have passed a limit */
  uint64_t dropped;      /* items that a collection dropped, or that there was no memory for */
  uint64_t held;         /* items in the pool */
  uint64_t held_bytes;   /* their bytes; without max_bytes those of the collector's objects, counted in this call */
};

/* Reads a pool's metrics; stops nobody. Without max_bytes it takes time for each item. */
GC_API void gc_pool_stats(struct gc_pool *pool, struct gc_pool_metrics *metrics);

GC_END_DECLARATIONS
#endif
