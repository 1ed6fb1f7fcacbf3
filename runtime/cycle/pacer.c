/* When to collect: the goal of GCRT_GOGC.
 *
 *   goal = max(live * (1 + percent / 100), 4 MiB * percent / 100)
 *
 * where live is what the last collection left, as in Go's pacer for a collector that stops the world: it collects when
 * the goal is reached, as there is no concurrent marking to start earlier for. Before the first collection live is 0.
 * While a sweep is under way nothing is due: what it frees is not known.
 *
 * Thread-safe without a lock: goal and trigger are computed from what they depend on by whoever changed some of it, and
 * once more if it changed meanwhile; of two that race, the later reads what both have written. */
#include "cycle/cycle.h"

#define MINIMUM_HEAP (UINT64_C(4) << 20) /* bytes, at 100 % */

static struct {
  gcrt_word live;
  gcrt_word goal;
  gcrt_word percent; /* (size_t)-1: off */
  gcrt_word sweeping;
  gcrt_word changes;
} pacer = {.percent = 100, .goal = SIZE_MAX};

static uint64_t goal_of(uint64_t live, int64_t percent) {
  if (percent < 0) return UINT64_MAX;
  unsigned __int128 grown = (unsigned __int128)live * (100 + (uint64_t)percent) / 100;
  uint64_t minimum = MINIMUM_HEAP * (uint64_t)percent / 100;
  uint64_t goal = grown > UINT64_MAX ? UINT64_MAX : (uint64_t)grown;
  return goal > minimum ? goal : minimum;
}

/* After a change. */
static uint64_t publish(void) {
  uint64_t goal;
  size_t changes = gcrt_add_full(&pacer.changes, 1) + 1;
  for (;;) {
    goal = goal_of(gcrt_load(&pacer.live), (int)gcrt_load(&pacer.percent));
    gcrt_store(&pacer.goal, goal);
    gcrt_store_full(&gcrt_heap.trigger, gcrt_load(&pacer.sweeping) ? SIZE_MAX : goal);
    size_t now = gcrt_load(&pacer.changes);
    if (now == changes) return goal;
    changes = now;
  }
}

void gcrt_pacer_sweep_begins(void) {
  gcrt_store(&pacer.sweeping, 1);
  publish();
}

bool gcrt_pacer_sweeping(void) { return gcrt_load(&pacer.sweeping) != 0; }

void gcrt_pacer_after_fork(void) {
  if (gcrt_pacer_sweeping()) gcrt_store(&gcrt_heap.trigger, 0);
}

int gcrt_pacer_percent(void) { return (int)gcrt_load(&pacer.percent); }

int gcrt_pacer_set_percent(int percent) {
  size_t wanted = percent < 0 ? (size_t)-1 : (size_t)percent;
  size_t old;
  do old = gcrt_load(&pacer.percent);
  while (!gcrt_cas_full(&pacer.percent, old, wanted));
  publish();
  return (int)old;
}

uint64_t gcrt_pacer_cycle_end(uint64_t live) {
  gcrt_store(&pacer.live, live);
  gcrt_store(&pacer.sweeping, 0);
  return publish();
}

uint64_t gcrt_pacer_goal(void) { return gcrt_load(&pacer.goal); }
uint64_t gcrt_pacer_live(void) { return gcrt_load(&pacer.live); }
