/* The cycle: one collection from its start to its end, and when the next one is due.
 *
 * Lock order, for the whole library: the cycle's lock (who holds the loader's only tries for it), the loader's lock,
 * gcrt_world.lock, (the stop), the root set's lock, a slot's central lock, the chunk allocator's lock, a marker's
 * locks. A mutator takes those behind the stop only inside a critical section, so after a stop they are free. */
#ifndef GCRT_CYCLE_CYCLE_H
#define GCRT_CYCLE_CYCLE_H

#include "base/atomics.h"
#include "world/thread.h"

#include <stdint.h>

enum gcrt_cycle_reason {
  GCRT_CYCLE_GOAL,      /* the heap reached its goal; nothing happens if another thread was first */
  GCRT_CYCLE_FORCED,    /* gc_collect; nothing happens if another thread began one since */
  GCRT_CYCLE_STRESS,    /* GCRT_STRESS */
  GCRT_CYCLE_EMERGENCY, /* memory ran out; nothing happens if another thread began one since */
  GCRT_CYCLE_LIMIT,     /* an object would pass the memory limit; nothing happens if another thread began one since */
  GCRT_CYCLE_PERIODIC,  /* there was none for two minutes; nothing happens if there was */
};

/* Not for the heap's sake: as num_forced_gc counts. */
GCRT_INLINE bool gcrt_cycle_forced(enum gcrt_cycle_reason reason) {
  return reason == GCRT_CYCLE_FORCED || reason == GCRT_CYCLE_STRESS;
}

/* What a collection does, one after the other; concurrent.c says what each is. One in a single stop has STOP and SWEEP
 * alone. */
#define GCRT_CYCLE_PHASES(PHASE)                                                                                       \
  PHASE(IDLE)                                                                                                          \
  PHASE(ARM)                                                                                                           \
  PHASE(ROOTS)                                                                                                         \
  PHASE(MARK)                                                                                                          \
  PHASE(PRECLEAN)                                                                                                      \
  PHASE(STOP)                                                                                                          \
  PHASE(SWEEP)

enum gcrt_cycle_phase {
#define GCRT_CYCLE_PHASE(name) GCRT_CYCLE_##name,
  GCRT_CYCLE_PHASES(GCRT_CYCLE_PHASE)
#undef GCRT_CYCLE_PHASE
};

/* What is known of a collection when it has ended. Times in ns, sizes in bytes. */
struct gcrt_cycle_report {
  uint64_t number;
  enum gcrt_cycle_reason reason;
  bool concurrent;     /* marked beside the program */
  bool spare;          /* and a processor was idle meanwhile */
  uint64_t begin, end; /* monotonic: of the first thing done, of the last stop */
  uint64_t end_realtime;
  uint64_t stopping_ns;  /* until all threads had stopped, in all stops */
  uint64_t pause_ns;     /* in all stops, stopping included */
  uint64_t visit_ns;     /* that a single thread was kept at most to read its stack, in no stop */
  uint64_t mark_ns;      /* from begin to the last stop's end */
  uint64_t sweep_ns;     /* beside the program */
  uint64_t sweep_cpu_ns; /* of the thread that ran it */
  uint64_t mark_cpu_ns;  /* of all markers */
  uint64_t scan_cpu_ns;  /* of scanning dirty pages, for what marking starts from */
  uint64_t stop_cpu_ns;  /* of both, in the last stop */
  uint64_t scanned;      /* bytes of objects that were marked and looked into, and of roots in the last stop */
  uint64_t stop_scanned; /* of these in the last stop of a concurrent one */
  uint64_t assisted;     /* of these by threads that allocated */
  uint64_t assist_ns;    /* of their time */
  uint64_t arm_ns;
  unsigned rounds;     /* of scanning dirty pages beside the program */
  uint64_t pages;      /* that were dirty in them */
  uint64_t last_pages; /* in the last stop */
  uint64_t heap_before;
  uint64_t heap_grey;  /* when there was nothing more to be found but by looking at written pages */
  uint64_t heap_flip;  /* when marking ended */
  uint64_t heap_after; /* of which the sweep left */
  uint64_t heap_inuse; /* of spans, when marking ended */
  uint64_t goal, next_goal;
  uint64_t stack_bytes, global_bytes;
  unsigned held;       /* threads that ran before the last stop, at most as many as there are processors */
  unsigned members;    /* markers of the last stop, at most */
  unsigned background; /* beside the program, but for those on idle processors */
};

/* What was given back to the system since the listener heard the last time, and what the heap has now; bytes. */
struct gcrt_release_report {
  uint64_t background, eager; /* by the scavenger; by threads that asked for it */
  uint64_t inuse, retained;   /* of spans; and of what is free and was not given back */
  uint64_t total;             /* given back since the start */
};

/* Who hears of every collection. May not allocate. What is NULL is not called. */
struct gcrt_cycle_listener {
  /* When it has ended, its sweep included: under gcrt_world.lock, with which metrics are read; short. */
  void (*count)(const struct gcrt_cycle_report *report);
  /* Then, under the cycle's lock; may write to a file. */
  void (*tell)(const struct gcrt_cycle_report *report);
  /* When a phase of collection `number` begins; the program runs. Under the cycle's lock; may write to a file. */
  void (*phase)(enum gcrt_cycle_phase phase, uint64_t number);
  /* When memory was given back, once a second at most while that goes on. Under no lock; two threads may call it. */
  void (*released)(const struct gcrt_release_report *report);
};
extern struct gcrt_cycle_listener gcrt_cycle_listener;

/* What the layers above do for a collection. Set once at initialisation; NULL is not called. */
struct gcrt_cycle_hooks {
  /* It begins: before anything is marked, under the cycle's lock, while the program runs. By a mutator with every
   * signal blocked, or by a thread of the library's; neither is stopped meanwhile. Allocates nothing. */
  void (*begin)(void);
};
extern struct gcrt_cycle_hooks gcrt_cycle_hooks;

/* cycle.c */
/* Collects. The calling thread must be known, outside critical sections, and may hold no lock of the library's. Returns
 * whether a collection ran. */
bool gcrt_cycle_collect(enum gcrt_cycle_reason reason);
/* Whether the heap has reached its goal. */
GCRT_INLINE bool gcrt_cycle_due(void);
/* What notes writes: the option's value until the first collection that wants it has tried. Why it is none although it
 * was not chosen; "" otherwise. Any thread. */
const char *gcrt_cycle_tracker(const char **reason);
/* Ends the markers' threads, as no marking is under way. Without `wait` nothing happens if a collection runs. */
void gcrt_cycle_stop_helpers(bool wait);
/* Around fork, in this order: no collection runs from the first to one of the others. */
void gcrt_cycle_fork_prepare(void);
void gcrt_cycle_fork_parent(void);
void gcrt_cycle_fork_child(void);

/* concurrent.c: once, when options and heap are there. A tracker that was asked for and does not work ends the program.
 */
void gcrt_concurrent_init(void);

/* background.c */
/* Ends the thread that collects in the background; it comes back when it is wanted. */
void gcrt_background_quit(void);
/* After how many ns without a collection there is one; for tests. */
extern gcrt_word gcrt_background_period;
void gcrt_background_after_fork(void);

/* pacer.c */
/* GCRT_GOGC; returns the old value. Takes effect at once. */
int gcrt_pacer_set_percent(int percent);
int gcrt_pacer_percent(void);
/* The least goal of GCRT_GOGC in bytes, 0: as it says itself. Returns the old value. Takes effect at once. */
size_t gcrt_pacer_set_minimum(size_t bytes);
/* What the memory limit's goal depends on has changed. */
void gcrt_pacer_update(void);
/* Whether the goal is the memory limit's; and what it would be without. */
bool gcrt_pacer_limited(void);
uint64_t gcrt_pacer_percent_goal(void);
/* Where a collection stands, as far as the next one is concerned. */
enum gcrt_pace { GCRT_PACE_IDLE, GCRT_PACE_MARK, GCRT_PACE_SWEEP };
void gcrt_pacer_phase(enum gcrt_pace phase);
/* The same for MARK, of a heap of so many bytes, with so many markers beside the program. */
void gcrt_pacer_mark(uint64_t live, unsigned workers);
bool gcrt_pacer_sweeping(void);
/* Whether the sweep has to be helped. */
bool gcrt_pacer_sweep_behind(void);
/* Whether more was allocated than may be until its end. */
bool gcrt_pacer_sweep_outrun(void);
/* The sweep is over. Returns the goal that was set. */
uint64_t gcrt_pacer_cycle_end(const struct gcrt_cycle_report *report);
/* The same for a sweep whose collection nobody knows: that of a forked child's parent. */
void gcrt_pacer_swept(uint64_t live);
/* In a forked child: if a sweep was under way, a collection is due, which completes it first. */
void gcrt_pacer_after_fork(void);
/* How long a collection in one stop would mark, judged by the last one; ns. */
uint64_t gcrt_pacer_stop_estimate(void);
/* The heap size that starts the next collection, UINT64_MAX: never. */
uint64_t gcrt_pacer_goal(void);
/* The heap size at which a program that outruns its collection is slowed down: a quarter above the goal, or hardly more
 * than it under a memory limit. */
uint64_t gcrt_pacer_limit(void);
/* Whether marking beside the program, which has scanned so many bytes since it began, has to be helped to keep pace
 * with what is allocated meanwhile. */
bool gcrt_pacer_behind(uint64_t scanned);
uint64_t gcrt_pacer_live(void);
/* Whether a collection is due as the last one is longer ago than `period` ns. *left: ns after which to ask again. */
bool gcrt_pacer_overdue(uint64_t period, uint64_t *left);
/* How the collection that runs, or the last one, was paced; under the cycle's lock. Of one in a single stop there are
 * what it scanned, its goal and cons_mark. */
struct gcrt_pacer_account {
  double ratio;                   /* as planned: bytes to be scanned for each that is allocated */
  uint64_t begin, goal;           /* bytes of the heap */
  uint64_t expected;              /* bytes to be scanned */
  unsigned workers;               /* markers beside the program */
  double share, utilisation;      /* of all processors, foretold, and with assists as it came; no idle ones */
  uint64_t heap, stacks, globals; /* bytes that were scanned */
  double cons_mark;               /* 0: was never measured */
};
const struct gcrt_pacer_account *gcrt_pacer_account(void);

#include "heap/layout.h"

GCRT_INLINE bool gcrt_cycle_due(void) { return gcrt_load(&gcrt_heap.live) >= gcrt_load(&gcrt_heap.trigger); }

#endif
