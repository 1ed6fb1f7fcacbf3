/* One marker: its queues and the loop that empties them. */
#ifndef GCRT_MARK_MARKER_H
#define GCRT_MARK_MARKER_H

#include "heap/layout.h"
#include "mark/blocks.h"
#include "world/roots.h"

enum {
  GCRT_CANDIDATES = 32, /* addresses whose mark word is on its way into the cache; a power of two */
  GCRT_GREY = 16,       /* objects that are on their way into the cache; a power of two */
  GCRT_SLICE = 128 * 1024, /* bytes of a large object, or of a root, that are scanned in one go */
};

struct gcrt_candidate {
  struct gcrt_pair *pair;
  size_t bit;
  uintptr_t start;
  const struct gcrt_chunk *chunk;
};

/* Written by its own thread; others touch the deque only. */
struct gcrt_marker {
  struct gcrt_candidate candidates[GCRT_CANDIDATES];
  uintptr_t grey[GCRT_GREY];
  uint32_t candidate_head, candidate_count;
  uint32_t grey_head, grey_count;
  struct gcrt_block *block; /* the top of the mark stack, never NULL while marking unless overflowed */
  bool alone;               /* no other marker runs */
  uint64_t cpu_ns;
  struct gcrt_deque deque;
};

/* marker.c */
/* Scans words for pointers; with one_past_end also the object that ends where a pointer points. */
void gcrt_marker_scan_roots(struct gcrt_marker *marker, struct gcrt_range range, bool one_past_end);
/* Scans part of a marked object. */
void gcrt_marker_scan_slice(struct gcrt_marker *marker, struct gcrt_range range);
/* Scans a marked object from the pool of shared work or again, after an overflow. */
void gcrt_marker_scan_object(struct gcrt_marker *marker, uintptr_t start);
/* Makes an object at any address grey if it is white. */
void gcrt_marker_visit(struct gcrt_marker *marker, uintptr_t address);
/* Works until nothing is left in its own queues, stack and deque. */
void gcrt_marker_drain(struct gcrt_marker *marker);
/* Gives the empty stack's block back. */
void gcrt_marker_finish(struct gcrt_marker *marker);

/* team.c, for marker.c */
/* Another marker has nothing to do. */
bool gcrt_team_hungry(void);
void gcrt_team_overflowed(void);
/* Shares what is left of a large object. False: there is no room, scan it yourself. */
bool gcrt_team_share(struct gcrt_range range);

#endif
