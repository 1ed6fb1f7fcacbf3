/* The cycle: one collection from its start to its end, and when the next one is due.
 *
 * Lock order, for the whole library: the loader's lock, gcrt_cycle's lock, gcrt_world.lock, (the stop), the root set's
 * lock, a slot's central lock, the chunk allocator's lock, a marker's locks. A mutator takes those behind the stop only
 * inside a critical section, so after a stop they are free. */
#ifndef GCRT_CYCLE_CYCLE_H
#define GCRT_CYCLE_CYCLE_H

#include "base/atomics.h"
#include "world/thread.h"

#include <stdint.h>

enum gcrt_cycle_reason {
  GCRT_CYCLE_GOAL,      /* the heap reached its goal; nothing happens if another thread was first */
  GCRT_CYCLE_FORCED,    /* gc_collect; nothing happens if another thread began one since */
  GCRT_CYCLE_STRESS,    /* GCRT_STRESS */
  GCRT_CYCLE_EMERGENCY, /* memory ran out */
};

/* Not for the heap's sake: as num_forced_gc counts. */
GCRT_INLINE bool gcrt_cycle_forced(enum gcrt_cycle_reason reason) {
  return reason == GCRT_CYCLE_FORCED || reason == GCRT_CYCLE_STRESS;
}

/* What is known of a collection when it has ended. Times in ns, sizes in bytes. */
struct gcrt_cycle_report {
  uint64_t number;
  uint64_t begin, end; /* monotonic: of the stop */
  uint64_t end_realtime;
  uint64_t stopping_ns; /* until all threads had stopped */
  uint64_t mark_ns;
  uint64_t sweep_ns;    /* beside the program */
  uint64_t mark_cpu_ns; /* of all markers */
  uint64_t heap_before;
  uint64_t heap_flip;  /* when marking ended */
  uint64_t heap_after; /* of which the sweep left */
  uint64_t goal, next_goal;
  uint64_t stack_bytes, global_bytes;
  unsigned members;
  enum gcrt_cycle_reason reason;
};

/* Who hears of every collection when it has ended, its sweep included. May not allocate. */
struct gcrt_cycle_listener {
  void (*count)(const struct gcrt_cycle_report *report); /* under gcrt_world.lock, with which metrics are read; short */
  void (*tell)(const struct gcrt_cycle_report *report);  /* then, under the cycle's lock; may write to a file */
};
extern struct gcrt_cycle_listener gcrt_cycle_listener;

/* cycle.c */
/* Collects. The calling thread must be known, outside critical sections, and may hold no lock of the library's. Returns
 * whether a collection ran. */
bool gcrt_cycle_collect(enum gcrt_cycle_reason reason);
/* Whether the heap has reached its goal. */
GCRT_INLINE bool gcrt_cycle_due(void);
/* Around fork, in this order: no collection runs from the first to one of the others. */
void gcrt_cycle_fork_prepare(void);
void gcrt_cycle_fork_parent(void);
void gcrt_cycle_fork_child(void);

/* pacer.c */
/* GCRT_GOGC; returns the old value. Takes effect at once. */
int gcrt_pacer_set_percent(int percent);
int gcrt_pacer_percent(void);
/* The flip is done: no collection is due until the sweep is, too. */
void gcrt_pacer_sweep_begins(void);
bool gcrt_pacer_sweeping(void);
/* In a forked child: if a sweep was under way, a collection is due, which completes it first. */
void gcrt_pacer_after_fork(void);
/* After a sweep that left `live` bytes of what there was at the flip. Returns the goal that was set. */
uint64_t gcrt_pacer_cycle_end(uint64_t live);
/* The heap size that starts the next collection, UINT64_MAX: never. */
uint64_t gcrt_pacer_goal(void);
uint64_t gcrt_pacer_live(void);

#include "heap/layout.h"

GCRT_INLINE bool gcrt_cycle_due(void) { return gcrt_load(&gcrt_heap.live) >= gcrt_load(&gcrt_heap.trigger); }

#endif
