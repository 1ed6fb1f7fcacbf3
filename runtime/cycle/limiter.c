/* The limiter: see limiter.h.
 *
 *   fill := fill + collector - program, between 0 and most(capacity); it limits while fill >= capacity
 *
 * Half of the time is what a collector gets at most in the long run, as what it has over the program's is in the
 * bucket. Go's bucket ends at its capacity. Then what comes in while it is full is forgotten, which is much of it if a
 * collector is limited to a part that is not 0: one that takes everything, and a quarter while it is limited, gets 62 %
 * of the time, however short the steps (tests/unit/cycle_limiter.c has that simulation; here it is 50 %). So a tenth
 * more goes in before anything is forgotten. More would keep a program for long from what one long collection owes.
 *
 * Invariants: fill <= most(capacity); limits = (limits_since != 0) = (fill >= capacity); limits implies full_since !=
 * 0. No lock: the caller has one. */
#include "cycle/limiter.h"

#define CAPACITY_NS UINT64_C(1000000000) /* for each processor */

static uint64_t most(uint64_t capacity) { return capacity + capacity / 10; }

/* A moment that is not 0. */
static uint64_t moment(uint64_t now) { return now ? now : 1; }

static uint64_t passed(uint64_t since, uint64_t now) { return since && now > since ? now - since : 0; }

static void begin(struct gcrt_limiter *limiter, uint64_t cycle) {
  if (gcrt_limiter_limits(limiter)) return;
  limiter->limits_since = moment(limiter->last.now);
  if (!limiter->full_since) limiter->full_since = limiter->limits_since;
  limiter->last_cycle = cycle;
  gcrt_store(&limiter->limits, true);
}

static void end(struct gcrt_limiter *limiter) {
  if (!gcrt_limiter_limits(limiter)) return;
  limiter->ended_ns += passed(limiter->limits_since, limiter->last.now);
  limiter->limits_since = 0;
  gcrt_store(&limiter->limits, false);
}

/* Does what follows from fill. */
static void decide(struct gcrt_limiter *limiter, uint64_t cycle) {
  if (limiter->fill >= limiter->capacity) {
    begin(limiter, cycle);
    return;
  }
  end(limiter);
  if (limiter->fill < limiter->capacity / 2) limiter->full_since = 0;
}

static void fill(struct gcrt_limiter *limiter, uint64_t ns) {
  uint64_t taken = gcrt_min(ns, most(limiter->capacity) - limiter->fill);
  limiter->fill += taken;
  limiter->overflow += ns - taken;
}

/* By how much a time grew; it never goes back. */
static uint64_t advance(uint64_t *last, uint64_t now) {
  uint64_t grown = now > *last ? now - *last : 0;
  *last += grown;
  return grown;
}

static void set_capacity(struct gcrt_limiter *limiter, uint64_t processors) {
  limiter->capacity = gcrt_max(1, processors) * CAPACITY_NS;
}

void gcrt_limiter_init(struct gcrt_limiter *limiter, uint64_t processors, const struct gcrt_limiter_times *times) {
  *limiter = (struct gcrt_limiter){.last = *times};
  set_capacity(limiter, processors);
}

void gcrt_limiter_update(struct gcrt_limiter *limiter, const struct gcrt_limiter_times *times, uint64_t cycle) {
  (void)advance(&limiter->last.now, times->now);
  uint64_t program = advance(&limiter->last.program, times->program);
  uint64_t collector = advance(&limiter->last.collector, times->collector);
  if (collector > program) {
    fill(limiter, collector - program);
  } else {
    limiter->fill -= gcrt_min(limiter->fill, program - collector);
  }
  decide(limiter, cycle);
}

void gcrt_limiter_set_processors(struct gcrt_limiter *limiter, uint64_t processors,
                                 const struct gcrt_limiter_times *times, uint64_t cycle) {
  gcrt_limiter_update(limiter, times, cycle);
  set_capacity(limiter, processors);
  limiter->fill = gcrt_min(limiter->fill, most(limiter->capacity));
  decide(limiter, cycle);
}

uint64_t gcrt_limiter_total_ns(const struct gcrt_limiter *limiter, uint64_t now) {
  return limiter->ended_ns + passed(limiter->limits_since, now);
}

uint64_t gcrt_limiter_pressed_ns(const struct gcrt_limiter *limiter, uint64_t now) {
  return passed(limiter->full_since, now);
}
