/* How much memory the scavenger leaves, and how long it sleeps: numbers alone, without clock, heap or lock. */
#ifndef GCRT_CYCLE_RELEASE_PACE_H
#define GCRT_CYCLE_RELEASE_PACE_H

#include <stdint.h>

enum { GCRT_RELEASE_BATCH_NS = 1000000 /* of work between two sleeps: a wake-up is a twentieth of it at most */ };

/* Bytes of heap to keep after a cycle, and a tenth more: as many for each byte of the next goal as spans had at the
 * cycle's peak (`inuse`, when marking ended) for each byte of `heap`, which is the cycle's goal, or what the heap had
 * reached by then if that was less. A next goal of UINT64_MAX is none: all that was in use is kept. */
uint64_t gcrt_release_goal(uint64_t inuse, uint64_t heap, uint64_t next_goal);

/* Bytes of mapped memory to keep under a limit of so many: 95 %. UINT64_MAX is no limit. */
uint64_t gcrt_release_limit_goal(uint64_t limit);

/* The sleep that the work done so far has to be followed by. */
struct gcrt_release_pace {
  unsigned percent; /* of one processor's time */
  int64_t owed;     /* ns */
};
/* 1 % of the time of all processors, as in Go, but 2 % of one at most. */
struct gcrt_release_pace gcrt_release_pace_begin(unsigned processors);
void gcrt_release_pace_worked(struct gcrt_release_pace *pace, uint64_t cpu_ns);
void gcrt_release_pace_slept(struct gcrt_release_pace *pace, uint64_t ns);
/* How long to sleep now; 0: go on. */
uint64_t gcrt_release_pace_sleep(const struct gcrt_release_pace *pace);

#endif
