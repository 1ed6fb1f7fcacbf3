/* The deque of pooled items: rings.h has its invariants.
 *
 * Head and tail of a ring share a word, and whoever takes an item moves one of them by compare-and-swap; the item is
 * then his alone, and he clears the slot after reading it. The owner, who comes round to a slot that is not cleared
 * yet, takes the ring for full. A deque with separate ends needs no atomic operation to push, but cannot clear slots: a
 * stale one would keep an object alive that was taken long ago.
 *
 * A full ring is not copied into a larger one: a thief could still be reading it. It is used up from the tail, and
 * belongs to nobody when it is empty: the collector's memory needs no grace period.
 *
 * Lock-free, no memory of its own, nothing of the heap. Async-signal-safe, but the callers are not. */
#include "objects/rings.h"

enum { HALF = 32 };

static struct gcrt_ring *ring_at(const gcrt_word *word) { return (struct gcrt_ring *)gcrt_load_acquire(word); }
static uint32_t head_of(size_t ends) { return (uint32_t)(ends >> HALF); }
static uint32_t tail_of(size_t ends) { return (uint32_t)ends; }
static size_t ends_of(uint32_t head, uint32_t tail) { return (size_t)head << HALF | tail; }

static struct gcrt_slot *slot_at(struct gcrt_ring *ring, uint32_t index) {
  return &ring->slots[index & gcrt_load(&ring->mask)];
}

/* After it was taken: nobody else reads the slot. */
static struct gcrt_pooled empty_slot(struct gcrt_slot *slot) {
  struct gcrt_pooled item = {gcrt_load(&slot->item), gcrt_load(&slot->bytes)};
  gcrt_store_release(&slot->item, 0);
  return item;
}

/* In a forked child the owner may be one who vanished: its first ring stands at the tail alone. */
static struct gcrt_ring *head_ring(struct gcrt_rings *rings) {
  struct gcrt_ring *ring = ring_at(&rings->head);
  return ring ? ring : ring_at(&rings->tail);
}

struct gcrt_slot *gcrt_rings_push(struct gcrt_rings *rings, struct gcrt_pooled item) {
  struct gcrt_ring *ring = ring_at(&rings->head);
  if (!ring || gcrt_load(&ring->next)) return NULL;
  size_t ends = gcrt_load_acquire(&ring->ends);
  if (head_of(ends) - tail_of(ends) > gcrt_load(&ring->mask)) return NULL;
  struct gcrt_slot *slot = slot_at(ring, head_of(ends));
  if (gcrt_load_acquire(&slot->item)) return NULL;
  gcrt_store(&slot->bytes, item.bytes);
  gcrt_store(&slot->item, item.item);
  gcrt_add_full(&ring->ends, ends_of(1, 0));
  return slot;
}

static struct gcrt_pooled pop_from(struct gcrt_ring *ring) {
  for (;;) {
    size_t ends = gcrt_load_acquire(&ring->ends);
    uint32_t head = head_of(ends);
    if (head == tail_of(ends)) return (struct gcrt_pooled){0, 0};
    if (gcrt_cas_full(&ring->ends, ends, ends_of(head - 1, tail_of(ends)))) return empty_slot(slot_at(ring, head - 1));
  }
}

static struct gcrt_pooled steal_from(struct gcrt_ring *ring) {
  for (;;) {
    size_t ends = gcrt_load_acquire(&ring->ends);
    uint32_t tail = tail_of(ends);
    if (head_of(ends) == tail) return (struct gcrt_pooled){0, 0};
    if (gcrt_cas_full(&ring->ends, ends, ends_of(head_of(ends), tail + 1))) return empty_slot(slot_at(ring, tail));
  }
}

struct gcrt_pooled gcrt_rings_pop(struct gcrt_rings *rings) {
  for (struct gcrt_ring *ring = head_ring(rings); ring; ring = ring_at(&ring->previous)) {
    struct gcrt_pooled item = pop_from(ring);
    if (item.item) return item;
  }
  return (struct gcrt_pooled){0, 0};
}

struct gcrt_pooled gcrt_rings_steal(struct gcrt_rings *rings) {
  struct gcrt_ring *ring = ring_at(&rings->tail);
  while (ring) {
    /* Before it is found empty: with a next one, it stays so. */
    struct gcrt_ring *next = ring_at(&ring->next);
    struct gcrt_pooled item = steal_from(ring);
    if (item.item) return item;
    if (!next) break;
    if (gcrt_cas_full(&rings->tail, (size_t)ring, (size_t)next)) gcrt_store(&next->previous, 0);
    ring = next;
  }
  return (struct gcrt_pooled){0, 0};
}

size_t gcrt_rings_next_slots(const struct gcrt_rings *rings) {
  const struct gcrt_ring *ring = ring_at(&rings->head);
  return ring ? gcrt_min(2 * (gcrt_load(&ring->mask) + 1), GCRT_RING_MOST) : GCRT_RING_LEAST;
}

void gcrt_rings_grow(struct gcrt_rings *rings, struct gcrt_ring *ring, size_t slots) {
  gcrt_store(&ring->mask, slots - 1);
  struct gcrt_ring *last = head_ring(rings);
  /* An owner that vanished may have got as far as the first of the two stores. */
  while (last && gcrt_load(&last->next)) last = ring_at(&last->next);
  gcrt_store(&ring->previous, (size_t)last);
  gcrt_store_release(last ? &last->next : &rings->tail, (size_t)ring);
  gcrt_store_release(&rings->head, (size_t)ring);
}

/* A page that is not written need not be looked at again by a collection. */
static void clear_word(gcrt_word *word, size_t value) {
  if (gcrt_load(word) != value) gcrt_store(word, value);
}

void gcrt_rings_clear(struct gcrt_rings *rings) {
  struct gcrt_ring *last = NULL;
  for (struct gcrt_ring *ring = ring_at(&rings->tail); ring; ring = ring_at(&ring->next)) last = ring;
  if (last && gcrt_load(&last->mask) < GCRT_RING_KEPT) {
    size_t slots = gcrt_load(&last->mask) + 1;
    for (size_t i = 0; i < slots; i++) clear_word(&last->slots[i].item, 0);
    clear_word(&last->ends, 0);
    clear_word(&last->previous, 0);
  } else {
    last = NULL;
  }
  clear_word(&rings->head, (size_t)last);
  clear_word(&rings->tail, (size_t)last);
}

void gcrt_rings_visit(const struct gcrt_rings *rings, void (*visit)(struct gcrt_pooled item, void *argument),
                      void *argument) {
  for (struct gcrt_ring *ring = ring_at(&rings->tail); ring; ring = ring_at(&ring->next)) {
    size_t ends = gcrt_load_acquire(&ring->ends);
    for (uint32_t at = tail_of(ends); at != head_of(ends); at++) {
      const struct gcrt_slot *slot = slot_at(ring, at);
      struct gcrt_pooled item = {gcrt_load_acquire(&slot->item), gcrt_load(&slot->bytes)};
      if (item.item) visit(item, argument);
    }
  }
}
