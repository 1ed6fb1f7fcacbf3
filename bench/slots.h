/* A live heap of a known size that is replaced bit by bit, shared by pacing.c and limit.c. Included after allocator.h.
 *
 * Slot i always holds an object of the same size and contents, so the live heap is as large at the end as at the
 * beginning, and what is in it does not depend on how often it was replaced. Each thread works at slots of its own. */
#ifndef BENCH_SLOTS_H
#define BENCH_SLOTS_H

#include "allocator.h"

#include "report.h"

enum {
  SLOT_LEAST = 64, /* bytes of an object */
  SLOT_STEP = 64,
  SLOT_SIZES = 16,                                                            /* 64, 128 .. 1024 */
  SLOT_BYTES = SLOT_LEAST + (SLOT_SIZES - 1) * SLOT_STEP / 2 + sizeof(void *) /* with its pointer, on average */
};

struct slot_object {
  struct slot_object *self; /* something to mark */
  uint64_t slot;            /* and its complement in the last word; between them is what the allocator left there */
};

static struct slot_object **slots;

static inline uint64_t slot_words(uint64_t slot) {
  return (SLOT_LEAST + slot * 7 % SLOT_SIZES * SLOT_STEP) / sizeof(uint64_t);
}

static inline void slot_fill(uint64_t slot) {
  uint64_t words = slot_words(slot);
  struct slot_object *o = allocate(words * sizeof(uint64_t));
  o->self = o;
  o->slot = slot;
  ((uint64_t *)o)[words - 1] = ~slot;
  slots[slot] = o;
}

static inline uint64_t slot_work(uint64_t *state, uint64_t rounds) {
  uint64_t sum = 0;
  while (rounds-- > 0) sum += next_random(state);
  return sum;
}

/* A checksum of these slots; an object that is not what it was ends the program. */
static inline uint64_t slots_sum(uint64_t from, uint64_t to) {
  uint64_t sum = 0;
  for (uint64_t slot = from; slot < to; slot++) {
    const struct slot_object *o = slots[slot];
    if (o->self != o || o->slot != slot || ((const uint64_t *)o)[slot_words(slot) - 1] != ~slot) {
      fprintf(stderr, "bench: the object of slot %" PRIu64 " is damaged\n", slot);
      exit(1);
    }
    sum = sum * 31 + o->slot + slot_words(slot);
  }
  return sum;
}

#endif
