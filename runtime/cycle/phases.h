/* What the kinds of collection share, for the files of this folder. */
#ifndef GCRT_CYCLE_PHASES_H
#define GCRT_CYCLE_PHASES_H

#include "cycle/cycle.h"
#include "sys/tracker.h"
#include "world/roots.h"

GCRT_INLINE void gcrt_cycle_phase(enum gcrt_cycle_phase phase, const struct gcrt_cycle_report *report) {
  if (gcrt_cycle_listener.phase) gcrt_cycle_listener.phase(phase, report->number);
}

/* stopped.c */
/* Stops the world, calls body(report), resumes, and adds what that took to the report. Inside the loader's lock; the
 * caller holds the cycle's lock. False: there is no memory to note the roots in; nothing was stopped. */
bool gcrt_cycle_stopped(void (*body)(struct gcrt_cycle_report *), struct gcrt_cycle_report *report);
/* In a stop: all roots, counted in the report. */
struct gcrt_root *gcrt_cycle_roots(struct gcrt_cycle_report *report, size_t *count);
/* In a stop, when nothing is grey: compares (checkmark), keeps the windows' unused cells, and flips. */
void gcrt_cycle_flip(struct gcrt_cycle_report *report, const struct gcrt_root *roots, size_t count);
/* A body: all of a collection that needs the stop, in one. */
void gcrt_cycle_mark_stopped(struct gcrt_cycle_report *report);
/* After the last stop, if it was not done there: frees what is white and sets the new goal. `beside`: on the thread
 * that paces itself by mark/pace.h. */
void gcrt_cycle_sweep(struct gcrt_cycle_report *report, bool beside);
/* Markers that are worth waking for so many bytes, the caller included. */
unsigned gcrt_cycle_members(uint64_t bytes);

/* concurrent.c: a collection whose marking runs beside the program. */
extern const struct gcrt_tracker *gcrt_concurrent_tracker;
/* Whether this collection is one. Opens the tracker when it is first wanted. */
bool gcrt_concurrent_suits(void);
/* From arming to the flip, on a thread of the library's, under the cycle's lock. False: no memory for it. */
bool gcrt_concurrent_mark(struct gcrt_cycle_report *report);
void gcrt_concurrent_after_fork(void);

/* written.c: the heap's pages and their tracker. */
void gcrt_written_arm(void);
void gcrt_written_disarm(void);
/* Beside the program: arms dirty pages anew and scans their marked objects again, also in the ranges of
 * tracked_roots.c, until nothing is grey; `shared` with mutators. Returns how many pages there were. */
size_t gcrt_written_scan(struct gcrt_cycle_report *report, unsigned members, bool shared);
/* In the last stop: marks all from dirty pages, from these roots, of which the order changes, and from uncollectable
 * objects. Returns how many pages were dirty. */
size_t gcrt_written_finish(struct gcrt_root *roots, size_t count, unsigned members);

/* tracked_roots.c: large ranges of global variables, of which the stop scans what was written. */
/* At the beginning, inside the loader's lock: forgets all. Then, for each root: whether it is to be tracked. */
void gcrt_tracked_begin(void);
bool gcrt_tracked_take(const struct gcrt_root *root);
/* Whether it is a root of that kind. */
bool gcrt_tracked_would(const struct gcrt_root *root);
/* Beside the program: arms them and scans them, slice by slice. */
void gcrt_tracked_scan(unsigned members);
/* Dirty pages of them, scanned again. Beside the program with rearm, in the last stop without. */
size_t gcrt_tracked_scan_dirty(bool rearm);
/* In the last stop, before that: those that are left out of these roots need not be tracked any longer. Returns how
 * many roots are not tracked, at the front. */
size_t gcrt_tracked_sort(struct gcrt_root *roots, size_t count);
void gcrt_tracked_disarm(void);

/* visits.c: roots, read while the program runs. */
/* Makes grey what they point to; `first`, marking begins. Chooses the ranges to be tracked. False: no memory; nothing
 * was done. */
bool gcrt_visit_roots(struct gcrt_cycle_report *report, bool first);

/* cycle.c: calls call(argument) inside the loader's lock, and never while another thread forks. */
void gcrt_cycle_in_loader(void (*call)(void *), void *argument);

/* background.c: the thread on which concurrent collections run. */
/* Starts it if it does not run. False: the system refuses. */
bool gcrt_background_start(void);
/* Whether that was so the last time. */
bool gcrt_background_refused(void);
/* Whether there was no collection for so long that it is time for one. */
bool gcrt_background_overdue(void);
/* Asks it for a collection, without waiting. */
void gcrt_background_request(enum gcrt_cycle_reason reason);

/* cycle.c, for it */
void gcrt_cycle_run_in_background(enum gcrt_cycle_reason reason);

#endif
