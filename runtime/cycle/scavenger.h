/* Memory that goes back to the operating system: beside the program, and at once where somebody asks for it. */
#ifndef GCRT_CYCLE_SCAVENGER_H
#define GCRT_CYCLE_SCAVENGER_H

#include "cycle/cycle.h"

/* What the scavenger is to leave. The first is set by each cycle (release_pace.h), the second by the program; a limit
 * of UINT64_MAX is none. A mutator outside critical sections: the thread may have to be started. */
void gcrt_scavenger_set_limit(uint64_t limit);

/* After a cycle, under its lock: the new goal. */
void gcrt_scavenger_cycle_end(const struct gcrt_cycle_report *report);
/* There may be something to give back. Outside critical sections, without a lock of the library's: starts the thread if
 * it is wanted and does not run. */
void gcrt_scavenger_wake(void);

/* Gives at least so many bytes back now, if there are so many, whatever the goals are. Returns how many. Any mutator,
 * holding none of the heap's locks but a slot's; a stop waits for one system call at most. */
uint64_t gcrt_scavenger_release(uint64_t bytes);

struct gcrt_scavenger_stats {
  uint64_t goal;      /* bytes of heap to keep; UINT64_MAX: none is set */
  uint64_t cpu_ns;    /* of the thread */
  uint64_t assist_ns; /* of threads that released for themselves */
};
void gcrt_scavenger_get_stats(struct gcrt_scavenger_stats *stats);

/* Tells the listener of what was given back since it heard the last time. */
void gcrt_scavenger_tell(void);

/* Ends the thread; it comes back when it is wanted. */
void gcrt_scavenger_quit(void);
void gcrt_scavenger_after_fork(void);

#endif
