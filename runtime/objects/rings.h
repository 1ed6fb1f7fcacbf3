/* A deque of items that grows: rings of slots in a list, the newest twice as large as the one before.
 *
 * One thread, the owner, pushes and pops at the head; any thread steals at the tail. Nobody waits for anybody. Memory
 * is the caller's.
 *
 * Invariants:
 *  - Items are those between tail and head of each ring; both only grow but for the owner's pop, and stand in one word,
 *    so that owner and thieves decide by one compare-and-swap who has an item.
 *  - A slot outside of that holds 0, or is about to: who took the item out clears it. The owner stores into no slot
 *    that does not hold 0.
 *  - Nothing is pushed into a ring that has a next one. So a thief that finds such a ring empty may go on to the next.
 *  - `tail` is a ring at or before `head`; all items are in the rings from the one to the other.
 *  - A thread may vanish at any point (fork): then at most the item that it was moving is neither in nor out, and its
 *    slot is lost until gcrt_rings_clear. */
#ifndef GCRT_OBJECTS_RINGS_H
#define GCRT_OBJECTS_RINGS_H

#include "base/atomics.h"

/* An item, and how many bytes its pool counts for it. item 0: none. */
struct gcrt_pooled {
  size_t item, bytes;
};

struct gcrt_slot {
  gcrt_word item, bytes;
};

struct gcrt_ring {
  gcrt_word next;     /* the ring that is used after this one, or 0 */
  gcrt_word previous; /* the one before, as long as it may have items */
  gcrt_word ends;     /* head in the upper half, tail in the lower; they run on past the number of slots */
  gcrt_word mask;     /* slots - 1 */
  struct gcrt_slot slots[];
};

/* All 0: empty, and without a ring. */
struct gcrt_rings {
  gcrt_word head; /* struct gcrt_ring *; the owner's */
  gcrt_word tail;
};

/* The first ring; and the largest that gcrt_rings_clear keeps. */
enum { GCRT_RING_LEAST = 16, GCRT_RING_KEPT = 64, GCRT_RING_MOST = 1 << 24 };

GCRT_INLINE size_t gcrt_ring_size(size_t slots) { return sizeof(struct gcrt_ring) + slots * sizeof(struct gcrt_slot); }

/* By the owner. The slot that has the item now; NULL: the head's ring is full. */
struct gcrt_slot *gcrt_rings_push(struct gcrt_rings *rings, struct gcrt_pooled item);
/* By the owner: the newest. */
struct gcrt_pooled gcrt_rings_pop(struct gcrt_rings *rings);
/* By anyone: the oldest. None: there was none at some point of the call, or another one took it. */
struct gcrt_pooled gcrt_rings_steal(struct gcrt_rings *rings);
/* By the owner: how many slots the next ring should have. */
size_t gcrt_rings_next_slots(const struct gcrt_rings *rings);
/* By the owner: `ring`, zeroed memory of gcrt_ring_size(slots), slots a power of two, takes what is pushed from now on.
 */
void gcrt_rings_grow(struct gcrt_rings *rings, struct gcrt_ring *ring, size_t slots);
/* While nobody else has anything to do with it, and it is empty: as new, but for the head's ring if it is small. */
void gcrt_rings_clear(struct gcrt_rings *rings);
/* By anyone: calls visit for each item, of which some may be taken meanwhile. */
void gcrt_rings_visit(const struct gcrt_rings *rings, void (*visit)(struct gcrt_pooled item, void *argument),
                      void *argument);

#endif
