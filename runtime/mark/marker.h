/* One marker: its mark stack and the loop that empties it. */
#ifndef GCRT_MARK_MARKER_H
#define GCRT_MARK_MARKER_H

#include "heap/layout.h"
#include "mark/blocks.h"
#include "world/roots.h"

enum {
  GCRT_CANDIDATES = 32,    /* addresses whose memory is on its way into the cache; a power of two */
  GCRT_SLICE = 128 * 1024, /* bytes of a large object, or of a root, that are scanned in one go */
};

/* Written by its own thread; others touch the deque only. */
struct gcrt_marker {
  struct gcrt_block *block; /* the top of the mark stack; NULL before the first push */
  bool alone;               /* no other marker runs */
  size_t seen;              /* the last job its thread has looked at */
  struct gcrt_deque deque;  /* the rest of the stack: full blocks */
};

/* marker.c. Each of these marks all that it reaches: it returns when the stack and the deque are empty. */
/* Words of a root; with one_past_end also the objects that end where a word points. */
void gcrt_marker_root(struct gcrt_marker *marker, struct gcrt_range range, bool one_past_end);
/* Words of a part of a marked object. */
void gcrt_marker_slice(struct gcrt_marker *marker, struct gcrt_range range);
/* Makes the objects of one bitmap word grey if they are white; `start` is the first cell's address. */
void gcrt_marker_visit(struct gcrt_marker *marker, uintptr_t start, size_t cell, uint64_t cells);
/* Scans marked objects of one bitmap word again, after an overflow. */
void gcrt_marker_rescan(struct gcrt_marker *marker, uintptr_t start, size_t cell, uint64_t cells);
/* The next leave what they make grey on the stack: follow with gcrt_marker_rest. */
/* As gcrt_marker_root. */
void gcrt_marker_grey_root(struct gcrt_marker *marker, struct gcrt_range range, bool one_past_end);
/* Words of a part of the heap, as far as they are in marked objects. */
void gcrt_marker_written(struct gcrt_marker *marker, struct gcrt_range range);
/* The same for the last time, when copies of pages are only read: by several markers at once, for different pages. */
void gcrt_marker_written_last(struct gcrt_marker *marker, struct gcrt_range range);
/* Words of global variables, whose page may have a copy. */
void gcrt_marker_written_root(struct gcrt_marker *marker, struct gcrt_range range);
/* All that is left on the stack. */
void gcrt_marker_rest(struct gcrt_marker *marker);
/* What is in a stolen block. */
void gcrt_marker_block(struct gcrt_marker *marker, struct gcrt_block *block);
/* Some of what is in a stolen block, and what that leads to. What is left is in the deque, for others. */
void gcrt_marker_assist(struct gcrt_marker *marker, struct gcrt_block *block, size_t steps);
/* Puts what is grey on its stack where others steal it. */
void gcrt_marker_leave(struct gcrt_marker *marker);
/* Gives the empty stack's block back. */
void gcrt_marker_finish(struct gcrt_marker *marker);

/* notes.c, for team.c */
void gcrt_mark_grey_notes(struct gcrt_marker *marker);
void gcrt_notes_after_fork(void);

/* team.c, for marker.c */
/* The crew, whose low 16 bits say how many markers have nothing to do; whether somebody else wants work, who is not
 * there yet or went without. */
extern gcrt_word gcrt_team_crew, gcrt_team_hungry;
/* Whether this marker is to share now; calls helpers if it is time. */
bool gcrt_team_may_share(const struct gcrt_marker *marker);
/* Whether this marker is to leave its processor to the program for a while (mark/pace.h). */
bool gcrt_team_is_to_rest(const struct gcrt_marker *marker);
void gcrt_team_overflowed(void);
/* The marker has scanned so many bytes of objects more. */
void gcrt_team_scanned(const struct gcrt_marker *marker, size_t bytes);

/* work.c, for marker.c */
/* Shares what is left of a large object. False: there is no room, scan it yourself. */
bool gcrt_work_share(struct gcrt_range range);

#endif
