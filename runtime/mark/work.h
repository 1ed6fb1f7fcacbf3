/* The sources of a job: all that is to be marked and is in no member's stack or deque. */
#ifndef GCRT_MARK_WORK_H
#define GCRT_MARK_WORK_H

#include "mark/mark.h"
#include "mark/marker.h"

enum { GCRT_WORK_CHUNKS = 64 }; /* whose written pages are looked for in one go while mutators may help */

struct gcrt_work {
  enum { GCRT_WORK_ROOT, GCRT_WORK_SLICE, GCRT_WORK_PAGES, GCRT_WORK_SPANS } kind;
  struct gcrt_range range;
  bool one_past_end;
  size_t first, end; /* chunks */
};

/* Member 0, before a job: these roots, spans of uncollectable objects if wanted, written pages if there is a function
 * for them. */
void gcrt_work_begin(const struct gcrt_root *roots, size_t count, bool spans, gcrt_mark_pages *pages);
/* The same after an overflow: all marked objects, instead of the roots and pages. */
void gcrt_work_begin_again(void);
/* Whether mutators may take written pages, too. Before gcrt_work_begin. */
void gcrt_work_share_pages(bool shared);

/* Any member or guest. */
bool gcrt_work_is_left(void);
/* False: all is taken. */
bool gcrt_work_take(struct gcrt_work *work);
/* Marks all that it reaches. */
void gcrt_work_do(struct gcrt_marker *marker, const struct gcrt_work *work);
/* Scans the written pages of some chunks, and leaves what they lead to for others. False: there are none to take. */
bool gcrt_work_scan_pages(struct gcrt_marker *marker, size_t chunks);

void gcrt_work_init(void);
/* In a forked child. */
void gcrt_work_forget(void);

#endif
