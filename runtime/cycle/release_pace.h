/* How much memory the scavenger leaves, and how long it sleeps: numbers alone, without clock, heap or lock. */
#ifndef GCRT_CYCLE_RELEASE_PACE_H
#define GCRT_CYCLE_RELEASE_PACE_H

#include <stdint.h>

enum {
  GCRT_RELEASE_PERCENT = 1,       /* of one processor's time */
  GCRT_RELEASE_BATCH_NS = 1000000 /* of work between two sleeps: a wake-up is a twentieth of it at most */
};

/* Bytes of heap to keep after a cycle: what it had in use at its peak, when marking ended, in the proportion of the new
 * goal to its own, and a tenth more. Goals of UINT64_MAX are none. UINT64_MAX: keep all. */
uint64_t gcrt_release_goal(uint64_t inuse, uint64_t goal, uint64_t last_goal);

/* Bytes of mapped memory to keep under a limit of so many: 95 %. UINT64_MAX is no limit. */
uint64_t gcrt_release_limit_goal(uint64_t limit);

/* The sleep that the work done so far has to be followed by. Zero-initialised is the beginning. */
struct gcrt_release_pace {
  int64_t owed; /* ns */
};
void gcrt_release_pace_worked(struct gcrt_release_pace *pace, uint64_t cpu_ns);
void gcrt_release_pace_slept(struct gcrt_release_pace *pace, uint64_t ns);
/* How long to sleep now; 0: go on. */
uint64_t gcrt_release_pace_sleep(const struct gcrt_release_pace *pace);

#endif
