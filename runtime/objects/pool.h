/* Pools inside: what a pool is made of, and who may touch what.
 *
 * A pool has a part for each thread that has used it, found by the thread's number, so nothing outside of the pool
 * refers to it or to its items: all of it is objects of the collector's, and goes as such. A part has three sets of
 * places, of which the pool's turn says what they are: one is primary, where items are put in; one holds the victims;
 * one is vacant. When a collection begins the pool is turned (pools.c): the vacant set is primary from then on, the
 * primary one holds the victims, and the victims are dropped, which makes their set the next vacant one.
 *
 * Invariants:
 *  - A thread reads the turn once in a critical section and acts by it to the end of that. Between two turns of a pool
 *    there is a stop, in which no thread is inside: so a thread is late by one turn at most. A late one takes the
 *    victims for the primary set, whose owner it is all the same, and what is being dropped for victims, of which each
 *    item is taken by compare-and-swap. Nobody is in the vacant set when it becomes primary.
 *  - `private` of a primary set is read and written by the part's owner alone, so without atomic operations; also by
 *    one that is late. Of other sets it is taken by compare-and-swap, by the owner or by whoever drops victims.
 *  - A part's owner is the thread with its number. A number without a thread is taken by compare-and-swap, by a new
 *    thread for its life or by a thief for a moment: he is the owner meanwhile. So what an ended thread left behind
 *    is to be had, and nothing has to be done when it ends.
 *  - A thread remembers its parts of the last few pools that it used, if these are plain (neither limits nor reset), by
 *    the pool's address: one comparison says that it is a pool and where to go. What is remembered holds until any
 *    pool ends (gcrt_pools_ends). It is not searched for pointers, so it keeps nothing alive.
 *  - counts of a part are its owner's; those of the pool are added to atomically. What goes into a pool is counted
 *    before it can be had, what leaves it after that: read in the opposite order they never show less than 0 items. */
#ifndef GCRT_OBJECTS_POOL_H
#define GCRT_OBJECTS_POOL_H

#include <gcrt/pool.h>

#include "objects/rings.h"
#include "world/thread.h"

enum { GCRT_POOL_SETS = 3 };

enum gcrt_pool_count {
  GCRT_POOL_PUTS,
  GCRT_POOL_REFUSED,
  GCRT_POOL_DROPPED,
  GCRT_POOL_PRIVATE,
  GCRT_POOL_SHARED,
  GCRT_POOL_STOLEN,
  GCRT_POOL_VICTIM,
  GCRT_POOL_MISSES,
  GCRT_POOL_COUNTS,
};

/* A cache line for the owner's own, one for the counts, one for what thieves write. */
struct gcrt_pool_part {
  struct gcrt_slot private[GCRT_POOL_SETS];
  size_t unused[2];
  gcrt_word counts[GCRT_POOL_COUNTS];
  struct gcrt_rings shared[GCRT_POOL_SETS];
};

/* Parts by number; those that are missing are NULL. Replaced by a larger one as a whole. */
struct gcrt_pool_parts {
  size_t count;
  gcrt_word parts[]; /* struct gcrt_pool_part * */
};

struct gc_pool {
  gcrt_word check; /* by the pool's own address, which tells a pool from anything else and from a copy */
  gcrt_word turn;  /* how often it was turned, times 4, and the number of the primary set */
  gcrt_word parts; /* struct gcrt_pool_parts *; written under the lock of the table */
  bool limited;    /* has max_items or max_bytes */
  struct gc_pool_options options;
  gcrt_word no_victims; /* the turn in which all victims were found to be gone */
  size_t index;         /* in the table */
  gcrt_word counts[GCRT_POOL_COUNTS];
  gcrt_word items, bytes; /* if it is limited: in the pool, or about to be */
};

#define GCRT_POOL_CHECK ((size_t)0x9f3a6c5d1b7e2480)

GCRT_INLINE unsigned gcrt_pool_primary(size_t turn) { return turn & 3; }
GCRT_INLINE unsigned gcrt_pool_victims(size_t turn) { return ((turn & 3) + 2) % GCRT_POOL_SETS; }

/* pools.c: all pools, and the numbers of threads. */
/* Pools that have ended, and 1. */
extern gcrt_word gcrt_pools_ends;
void gcrt_pools_init(void);
/* Lists a new pool. False: no memory. Outside critical sections; so is the next. */
bool gcrt_pools_add(struct gc_pool *pool);
/* Bytes of the table. */
size_t gcrt_pools_memory(void);
/* Makes `part` that of this number, as far as `parts` has room for it if the pool's own has not; false: neither has.
 * Both may be NULL. */
bool gcrt_pools_add_part(struct gc_pool *pool, size_t number, struct gcrt_pool_part *part,
                         struct gcrt_pool_parts *parts);
/* A number for the calling thread, if it has none; inside a critical section. 0: there are no more. */
size_t gcrt_pools_number(struct gcrt_thread *thread);
/* Takes a number that no thread has, to be given back in the same critical section. */
bool gcrt_pools_claim(size_t number);
void gcrt_pools_unclaim(size_t number);
/* The thread ends: its number is free. */
void gcrt_pools_end_thread(struct gcrt_thread *thread);
void gcrt_pools_fork_prepare(void);
void gcrt_pools_fork_parent(void);
void gcrt_pools_fork_child(void);

/* pool.c: an item has left a pool that is limited. */
void gcrt_pool_leave(struct gc_pool *pool, struct gcrt_pooled item);

#endif
