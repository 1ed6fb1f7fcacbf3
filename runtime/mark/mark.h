/* Marking: finding all that is reachable from the roots, with all mutators stopped or beside them (cycle/concurrent.c).
 *
 * Tri-colour: white objects have the white mark byte (heap/marks.h); grey ones have the black one and are in a queue,
 * a stack or a block; black ones were scanned. A marker stores the byte before an object becomes grey. It is scanned
 * once, or by each of two markers that met at it, unless a mark stack overflowed: then every marked object is scanned
 * again until none is found white. At the end no black object holds the address of a white one that is handed out. */
#ifndef GCRT_MARK_MARK_H
#define GCRT_MARK_MARK_H

#include "world/roots.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Since the start. */
struct gcrt_mark_stats {
  uint64_t cpu_ns; /* of all markers */
  uint64_t overflows;
  uint64_t scanned;   /* bytes of objects */
  uint64_t assisted;  /* of these by mutators that helped */
  uint64_t assist_ns; /* what that took of their time */
};

/* team.c: takes the memory for `members` markers. */
void gcrt_mark_init(unsigned members);
unsigned gcrt_mark_members(void);

/* Starts the threads of so many members, if they do not run yet. Before the stop and outside the loader's lock, as
 * starting a thread may wait for a thread that loads a library; the caller counts as parked meanwhile. */
void gcrt_mark_start_helpers(unsigned members);

/* Ends them; a later gcrt_mark_start_helpers starts new ones. No marking is under way. */
void gcrt_mark_stop_helpers(void);

/* Scans written pages of a part of the heap's chunks, by gcrt_mark_written or gcrt_mark_written_last. */
struct gcrt_marker;
typedef void gcrt_mark_pages(struct gcrt_marker *marker, size_t first, size_t end);

/* Marks all from these roots, from uncollectable objects and from what `pages` finds (NULL: nothing), with at most
 * `members` markers, the caller included. `pages` is called for parts of the heap by several of them at once. */
void gcrt_mark_all(const struct gcrt_root *roots, size_t count, unsigned members, gcrt_mark_pages *pages);

/* After the stop: gives memory back that was taken for it. */
void gcrt_mark_end(void);

/* Marking beside the program, in steps, by the thread that runs the collection. */
/* Before all. Besides those that are asked for, so many markers more may take part in what is beside the program: each
 * goes for the rest of a job as soon as something else has wanted its processor. */
void gcrt_mark_begin(unsigned extra);
/* Makes grey what the roots point to. They may be changing. */
void gcrt_mark_grey(const struct gcrt_root *roots, size_t count);
/* notes.c: notes what words point to, before anything may be marked; as of a stack, one past the end counts. */
void gcrt_mark_note(struct gcrt_range range);
/* Makes grey what was noted. */
void gcrt_mark_grey_noted(void);
/* Scans the marked objects between two addresses of the heap again, and makes grey what they point to. By any marker,
 * each page by one. */
void gcrt_mark_written(struct gcrt_marker *marker, uintptr_t low, uintptr_t high);
/* The same in the last stop, by any marker. */
void gcrt_mark_written_last(struct gcrt_marker *marker, uintptr_t low, uintptr_t high);
/* The same for global variables, by the thread that runs the collection: words between two addresses, of which some may
 * have changed. */
void gcrt_mark_written_root(uintptr_t low, uintptr_t high);
/* A mutator, inside a critical section and while objects are marked beside the program, marks some of them. False:
 * there was nothing to be had. */
bool gcrt_mark_assist(void);
/* Until nothing is grey; with `uncollectable` those objects, too. */
void gcrt_mark_grey_out(unsigned members, bool uncollectable);
/* Until `pages` was called for all of the heap, and nothing is grey. `shared`: also by mutators that help, in small
 * parts, which pays when there are many pages. */
void gcrt_mark_pages_beside(unsigned members, gcrt_mark_pages *pages, bool shared);

void gcrt_mark_get_stats(struct gcrt_mark_stats *stats);

/* Bytes of mark stacks. */
size_t gcrt_mark_memory(void);

/* At most so many blocks of mark stack, for tests of the overflow; 0: the default bound. */
void gcrt_mark_limit_blocks(size_t blocks);

/* In a forked child: the markers' threads are gone; new ones start when they are wanted. */
void gcrt_mark_after_fork(void);

/* checkmark.c: marks again, alone and simply, and stops the program if an object is reachable and not marked. */
void gcrt_mark_check(const struct gcrt_root *roots, size_t count);

#endif
