/* The heap's pages and their tracker: arming them, and scanning those that were written.
 *
 * Pages of chunks with scannable cells alone: noscan memory is never armed. A page that is not armed counts as written,
 * so what the tracker refuses to arm, or chunks that came since, are scanned.
 *
 * Beside the program one thread does this, under the cycle's lock. In the last stop all markers do, each for a part of
 * the chunks: with much memory, asking for the pages takes longer than scanning them. */
#include "cycle/phases.h"

#include "heap/heap.h"
#include "mark/mark.h"
#include "sys/clock.h"
#include "sys/memory.h"

/* Bytes that are armed or disarmed in one call: in some tenths of a millisecond. */
enum { SLICE = 8 << 20 };

static gcrt_word stopped_bytes; /* of pages that were scanned in the last stop */

/* Visits every run of chunks that hold scannable objects, from `first` to before `end`. */
static void visit_scannable(size_t first, size_t end, void (*visit)(void *argument, uintptr_t low, uintptr_t high),
                            void *argument) {
  size_t run = SIZE_MAX;
  for (size_t i = first; i <= end; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    bool scannable = i < end && gcrt_chunk_cells(chunk) != 0 && !(chunk->flags & GCRT_FLAG_NOSCAN);
    if (scannable && run == SIZE_MAX) run = i;
    if (scannable || run == SIZE_MAX) continue;
    visit(argument, gcrt_chunk_address(run), gcrt_chunk_address(i));
    run = SIZE_MAX;
  }
}

static size_t all_chunks(void) { return gcrt_load(&gcrt_heap.used) / GCRT_CHUNK; }

typedef bool tracker_call(uintptr_t low, uintptr_t high);

/* A refusal leaves pages unarmed, and these count as dirty. The kernel keeps the list of mappings locked through a
 * call: a thread that maps memory meanwhile waits for its end, and behind it all those that touch a new page. */
static void in_slices(void *call, uintptr_t low, uintptr_t high) {
  for (; low < high; low += SLICE) (void)(*(tracker_call **)call)(low, gcrt_min(high, low + SLICE));
}

void gcrt_written_arm(void) {
  tracker_call *call = gcrt_concurrent_tracker->arm;
  visit_scannable(0, all_chunks(), in_slices, &call);
}

void gcrt_written_disarm(void) {
  tracker_call *call = gcrt_concurrent_tracker->disarm;
  visit_scannable(0, all_chunks(), in_slices, &call);
}

static void scan_pages(void *argument, uintptr_t low, uintptr_t high) {
  size_t *bytes = argument;
  *bytes += high - low;
  gcrt_mark_written(low, high);
}

static void scan_and_rearm(void *argument, uintptr_t low, uintptr_t high) {
  if (!gcrt_concurrent_tracker->written(low, high, true, scan_pages, argument)) scan_pages(argument, low, high);
}

size_t gcrt_written_scan(struct gcrt_cycle_report *report) {
  size_t bytes = 0;
  uint64_t begin = gcrt_clock_thread_cpu();
  visit_scannable(0, all_chunks(), scan_and_rearm, &bytes);
  size_t pages = bytes / gcrt_page_size() + gcrt_tracked_scan_dirty(true);
  report->scan_cpu_ns += gcrt_clock_thread_cpu() - begin;
  return pages;
}

static void scan_last(void *marker, uintptr_t low, uintptr_t high) {
  gcrt_add(&stopped_bytes, high - low);
  gcrt_mark_written_last(marker, low, high);
}

static void find_last(void *marker, uintptr_t low, uintptr_t high) {
  if (!gcrt_concurrent_tracker->written(low, high, false, scan_last, marker)) scan_last(marker, low, high);
}

static void scan_written(struct gcrt_marker *marker, size_t first, size_t end) {
  visit_scannable(first, end, find_last, marker);
}

static void scan_everything(struct gcrt_marker *marker, size_t first, size_t end) {
  visit_scannable(first, end, scan_last, marker);
}

size_t gcrt_written_finish(struct gcrt_root *roots, size_t count, unsigned members) {
  gcrt_store(&stopped_bytes, 0);
  size_t untracked = gcrt_tracked_sort(roots, count);
  size_t pages = gcrt_tracked_scan_dirty(false);
  gcrt_mark_all(roots, untracked, members, scan_written);
  /* If somebody closed the tracker's descriptors, what it said means nothing. */
  if (!gcrt_concurrent_tracker->intact()) gcrt_mark_all(roots, count, members, scan_everything);
  return pages + gcrt_load(&stopped_bytes) / gcrt_page_size();
}
