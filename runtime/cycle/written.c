/* The heap's pages and their tracker: arming them, and scanning those that were written.
 *
 * Pages of chunks with scannable cells alone: noscan memory is never armed. A page that is not armed counts as written,
 * so what the tracker refuses to arm, or chunks that came since, are scanned.
 *
 * Beside the program the pages are fetched by one thread, under the cycle's lock and while nobody marks; then all
 * markers scan them, and mutators that help. (A marker stores black and reads the object without a fence in between.
 * One that did so while another fetched the page could have read the old words, and its byte would still look white:
 * both would pass over what was written.) In the last stop nothing is written, and all markers fetch, each for a part
 * of the chunks: with much memory that takes longer than scanning. */
#include "cycle/phases.h"

#include "heap/heap.h"
#include "mark/mark.h"
#include "mark/pace.h"
#include "sys/cards.h"
#include "sys/clock.h"
#include "sys/memory.h"

/* Bytes that are armed or disarmed in one call: in some tenths of a millisecond. */
enum { SLICE = 8 << 20 };

_Static_assert(GCRT_CHUNK / GCRT_CARD_BYTES == 8 * sizeof *gcrt_heap.written, "a bit for each card of a chunk");

/* Of pages that were fetched in this round, and that were scanned in the last stop. */
static size_t fetched_bytes;
static gcrt_word stopped_bytes;

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
  for (; low < high; low += SLICE) {
    (void)(*(tracker_call **)call)(low, gcrt_min(high, low + SLICE));
    if (gcrt_pace_is_due()) gcrt_pace_rest();
  }
}

void gcrt_written_arm(void) {
  tracker_call *call = gcrt_concurrent_tracker->arm;
  visit_scannable(0, all_chunks(), in_slices, &call);
}

void gcrt_written_disarm(void) {
  tracker_call *call = gcrt_concurrent_tracker->disarm;
  visit_scannable(0, all_chunks(), in_slices, &call);
}

/* The cards from `first` to before `end`, of 16. */
static unsigned cards(unsigned first, unsigned end) { return (1U << end) - (1U << first); }

static void note_pages(void *unused, uintptr_t low, uintptr_t high) {
  (void)unused;
  fetched_bytes += high - low;
  while (low < high) {
    size_t chunk = gcrt_chunk_index(low);
    uintptr_t start = gcrt_chunk_address(chunk), end = gcrt_min(high, start + GCRT_CHUNK);
    gcrt_heap.written[chunk] |= (uint16_t)cards((unsigned)((low - start) / GCRT_CARD_BYTES),
                                                (unsigned)((end - start + GCRT_CARD_BYTES - 1) / GCRT_CARD_BYTES));
    low = end;
  }
}

static void fetch(void *unused, uintptr_t low, uintptr_t high) {
  for (; low < high; low += SLICE) {
    uintptr_t end = gcrt_min(high, low + SLICE);
    if (!gcrt_concurrent_tracker->written(low, end, true, note_pages, unused)) note_pages(unused, low, end);
    if (gcrt_pace_is_due()) gcrt_pace_rest();
  }
}

static void scan_noted(struct gcrt_marker *marker, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    unsigned bits = gcrt_heap.written[i];
    gcrt_heap.written[i] = 0;
    while (bits) {
      unsigned low = gcrt_ctz(bits), high = low + gcrt_ctz(~(bits >> low));
      gcrt_mark_written(marker, gcrt_chunk_address(i) + low * GCRT_CARD_BYTES,
                        gcrt_chunk_address(i) + high * GCRT_CARD_BYTES);
      bits &= ~cards(low, high);
    }
  }
}

size_t gcrt_written_scan(struct gcrt_cycle_report *report, unsigned members, bool shared) {
  fetched_bytes = 0;
  uint64_t begin = gcrt_clock_thread_cpu();
  visit_scannable(0, all_chunks(), fetch, NULL);
  size_t pages = fetched_bytes / gcrt_page_size() + gcrt_tracked_scan_dirty(true);
  report->scan_cpu_ns += gcrt_clock_thread_cpu() - begin;
  gcrt_mark_pages_beside(members, scan_noted, shared);
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
