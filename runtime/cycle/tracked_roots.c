/* Large ranges of global variables. A stop that scanned them all would last as long as there are variables: so they are
 * armed, scanned beside the program, and of what was written since the stops scan no more than that.
 *
 * Beside the program a range may go: a library is unloaded, the program removes and unmaps what it had registered. So a
 * slice is scanned under the loader's lock and that of the root set, after a look whether the range is still there; a
 * list of objects that has changed ends the scanning of all of them. A range that was not scanned to its end, or that
 * does not come again among the roots of the last stop as it was, is not tracked: the stop scans it as any other root.
 * What is mapped anew in an old place is not armed and so counts as written.
 *
 * Ranges that the program registered inside the heap are not tracked: the pages are armed and asked for their objects,
 * too, and either would take the other's answer. Nor are thread-local blocks, which go with their thread.
 *
 * For the thread that runs the collection, under the cycle's lock. */
#include "cycle/phases.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "sys/loader.h"
#include "sys/maps.h"
#include "sys/memory.h"
#include "sys/tracker.h"

enum { RANGES_MOST = 64, BYTES_LEAST = 256 * 1024, SLICE = 256 * 1024 };

struct tracked {
  struct gcrt_root root;
  uintptr_t low, high; /* whole pages inside */
  bool whole;          /* scanned to its end */
  bool found;          /* among the roots of the last stop */
};

static struct {
  struct tracked ranges[RANGES_MOST];
  size_t count;
  uint64_t loader; /* changes of its list, when the ranges were chosen */
} tracked;

static bool in_heap(struct gcrt_range range) {
  uintptr_t end = gcrt_heap.base + gcrt_heap.reserved;
  return range.start < end && range.end > gcrt_heap.base;
}

bool gcrt_tracked_would(const struct gcrt_root *root) {
  /* The program does not say what it writes into its variables; and protected ones would fail its system calls, and the
   * C library's, which nobody expects of memory that is not the heap's. */
  if (gcrt_concurrent_tracker != &gcrt_uffd_tracker) return false;
  if (root->kind != GCRT_ROOT_DATA && root->kind != GCRT_ROOT_ADDED) return false;
  return root->range.end - root->range.start >= BYTES_LEAST && !in_heap(root->range);
}

/* What is mapped a second time is written there without a trace here. */
static bool written_here_alone(const struct gcrt_root *root) {
  return root->kind == GCRT_ROOT_DATA || gcrt_maps_private(root->range.start, root->range.end);
}

void gcrt_tracked_begin(void) {
  tracked.count = 0;
  tracked.loader = gcrt_loader_changes();
}

bool gcrt_tracked_take(const struct gcrt_root *root) {
  if (tracked.count == RANGES_MOST || !gcrt_tracked_would(root) || !written_here_alone(root)) return false;
  size_t page = gcrt_page_size();
  struct gcrt_range range = root->range;
  tracked.ranges[tracked.count++] = (struct tracked){
      .root = *root, .low = gcrt_align_up(range.start, page), .high = gcrt_align_down(range.end, page)};
  return true;
}

static bool same(const struct gcrt_root *a, const struct gcrt_root *b) {
  return a->kind == b->kind && a->range.start == b->range.start && a->range.end == b->range.end;
}

static struct tracked *tracked_of(const struct gcrt_root *root) {
  for (size_t i = 0; i < tracked.count; i++) {
    if (tracked.ranges[i].whole && same(&tracked.ranges[i].root, root)) return &tracked.ranges[i];
  }
  return NULL;
}

static void swap(struct gcrt_root *a, struct gcrt_root *b) {
  struct gcrt_root old = *a;
  *a = *b;
  *b = old;
}

size_t gcrt_tracked_sort(struct gcrt_root *roots, size_t count) {
  for (size_t i = 0; i < tracked.count; i++) tracked.ranges[i].found = false;
  for (size_t i = 0; i < count;) {
    struct tracked *range = gcrt_tracked_would(&roots[i]) ? tracked_of(&roots[i]) : NULL;
    if (range) {
      range->found = true;
      swap(&roots[i], &roots[--count]);
    } else {
      i++;
    }
  }
  return count;
}

/* Under the loader's lock and that of the root set. */
static bool still_there(const struct tracked *range) {
  if (range->root.kind == GCRT_ROOT_ADDED) return gcrt_root_set_has(range->root.range);
  return gcrt_loader_changes() == tracked.loader;
}

struct step {
  struct tracked *range;
  uintptr_t at;
  bool done; /* the step was taken */
  bool rearm;
  size_t bytes;
};

static void with_locks(void (*step)(struct step *), struct step *argument) {
  gcrt_root_set_lock();
  if (still_there(argument->range)) step(argument);
  gcrt_root_set_unlock();
}

static void arm(struct step *step) {
  struct tracked *range = step->range;
  step->done = range->low < range->high && gcrt_concurrent_tracker->add(range->low, range->high) &&
               gcrt_concurrent_tracker->arm(range->low, range->high);
}

static void scan_slice(struct step *step) {
  uintptr_t end = gcrt_min(step->at + SLICE, step->range->root.range.end);
  gcrt_mark_written_root(step->at, end);
  step->at = end;
  step->done = true;
}

static void arm_in_loader(void *argument) { with_locks(arm, argument); }
static void scan_in_loader(void *argument) { with_locks(scan_slice, argument); }

/* Whether it was scanned to its end. */
static bool scan_range(struct tracked *range, unsigned members) {
  struct step step = {.range = range, .at = range->root.range.start, .done = range->whole};
  while (step.done && step.at < range->root.range.end) {
    step.done = false;
    gcrt_cycle_in_loader(scan_in_loader, &step);
    gcrt_mark_grey_out(members, false);
  }
  return step.done;
}

/* All are armed before the first is scanned: where ranges overlap, arming one makes clean what the program has written
 * since the other was scanned. */
void gcrt_tracked_scan(unsigned members) {
  for (size_t i = 0; i < tracked.count; i++) {
    struct step step = {.range = &tracked.ranges[i]};
    gcrt_cycle_in_loader(arm_in_loader, &step);
    tracked.ranges[i].whole = step.done;
  }
  for (size_t i = 0; i < tracked.count; i++) tracked.ranges[i].whole = scan_range(&tracked.ranges[i], members);
}

static void scan_again(void *argument, uintptr_t low, uintptr_t high) {
  struct step *step = argument;
  step->bytes += high - low;
  gcrt_mark_written_root(low, high);
}

static void scan_written(struct step *step) {
  const struct tracked *range = step->range;
  if (!gcrt_concurrent_tracker->written(range->low, range->high, step->rearm, scan_again, step)) {
    scan_again(step, range->low, range->high);
  }
}

static void written_in_loader(void *argument) { with_locks(scan_written, argument); }

/* In the stop, where all locks are held. What is not whole pages is scanned anyway. */
static void scan_stopped(struct step *step) {
  const struct tracked *range = step->range;
  scan_written(step);
  gcrt_mark_written_root(range->root.range.start, range->low);
  gcrt_mark_written_root(range->high, range->root.range.end);
}

size_t gcrt_tracked_scan_dirty(bool rearm) {
  size_t bytes = 0;
  for (size_t i = 0; i < tracked.count; i++) {
    struct tracked *range = &tracked.ranges[i];
    struct step step = {.range = range, .rearm = rearm};
    if (!range->whole) continue;
    if (rearm) {
      gcrt_cycle_in_loader(written_in_loader, &step);
    } else if (range->found) {
      scan_stopped(&step);
    }
    bytes += step.bytes;
  }
  return bytes / gcrt_page_size();
}

static void disarm(struct step *step) { (void)gcrt_concurrent_tracker->disarm(step->range->low, step->range->high); }
static void disarm_in_loader(void *argument) { with_locks(disarm, argument); }

void gcrt_tracked_disarm(void) {
  for (size_t i = 0; i < tracked.count; i++) {
    struct step step = {.range = &tracked.ranges[i]};
    gcrt_cycle_in_loader(disarm_in_loader, &step);
  }
  tracked.count = 0;
}
