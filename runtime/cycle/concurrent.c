/* A collection whose marking runs beside the program.
 *
 *   ARM      every scannable page is armed: its later writes make it dirty
 *   ROOTS    what the roots point to becomes grey, read from one thread after the other; freeing changes its ways
 *   MARK     grey objects are scanned, the program runs
 *   PRECLEAN dirty pages are armed anew and their marked objects scanned again, as long as there are fewer each time
 *   STOP     the same once more with the world stopped, roots again, until nothing is grey; the flip
 *   SWEEP    beside the program, as after any collection
 *
 * Invariant: when nothing is grey in STOP, no marked object and no root holds the address of a white one. A page is
 * armed before an object on it is scanned, so whatever is written into the object later makes the page dirty; a page
 * that is not armed (new, or refused) counts as dirty; dirty pages are scanned again after their being armed anew, and
 * for the last time when nobody can write. Objects are born white: those that nothing reaches go with this very
 * collection. New chunks beyond what a marker knows as the heap are found through the pages their addresses were
 * written to.
 *
 * Large ranges of global variables are tracked as well (tracked_roots.c); all other roots are read in ROOTS and
 * PRECLEAN (visits.c) and once more in STOP. Noscan memory is never armed. Pages are disarmed before the sweep, as what
 * it frees is about to be written.
 *
 * Runs on the library's background thread, under the cycle's lock. A write barrier would need the compiler; marking a
 * snapshot of a forked child would copy every page that is written. */
#include "base/options.h"
#include "base/report.h"
#include "cycle/controller.h"
#include "cycle/phases.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "mark/pace.h"
#include "sys/clock.h"
#include "sys/proc.h"
#include "sys/tracker.h"
#include "world/faults.h"

/* Rounds end when so few pages are dirty that the stop may have them, or so many rounds in a row were in vain. */
enum { ROUNDS_MOST = 16, ROUNDS_IN_VAIN = 3, PAGES_FEW = 64, PAGES_MANY = 2048 };

/* Bytes of objects that are scanned in no time: few pages are written meanwhile. */
enum { LITTLE = 256 * 1024 };

/* auto: a stop of this length is worth a concurrent collection; of half of it, no longer. */
enum { LONG_STOP_NS = 500000 };

enum { UNKNOWN, TRYING, WORKS, REFUSED };

static struct {
  gcrt_word state;      /* one of these */
  gcrt_word concurrent; /* the last decision */
  char reason[96];      /* of REFUSED, which does not end */
} tracker;

const struct gcrt_tracker *gcrt_concurrent_tracker = &gcrt_uffd_tracker;

/* Whether every collection is to be concurrent. */
static bool asked_for(void) {
  return gcrt_options.tracker == GCRT_CHOOSE_uffd || gcrt_options.tracker == GCRT_CHOOSE_explicit ||
         gcrt_options.tracker == GCRT_CHOOSE_mprotect;
}

static void refuse(void) {
  if (asked_for()) gcrt_fatal("GCRT_TRACKER=%s: %s", gcrt_tracker_names[gcrt_options.tracker], tracker.reason);
  gcrt_store_release(&tracker.state, REFUSED);
}

static bool tracker_works(void) {
  if (gcrt_load(&tracker.state) != UNKNOWN) return gcrt_load(&tracker.state) == WORKS;
  /* Before there are descriptors, so that a child of a fork closes them. */
  gcrt_store(&tracker.state, TRYING);
  uintptr_t end = gcrt_heap.base + gcrt_heap.reserved;
  if (!gcrt_concurrent_tracker->start(tracker.reason, sizeof tracker.reason)) {
    refuse();
  } else if (!gcrt_concurrent_tracker->add(gcrt_heap.base, end)) {
    gcrt_format(tracker.reason, sizeof tracker.reason, "it does not take the heap");
    refuse();
  } else {
    gcrt_store(&tracker.state, WORKS);
  }
  return gcrt_load(&tracker.state) == WORKS;
}

void gcrt_concurrent_init(void) {
  if (GCRT_TSAN_BUILD) {
    gcrt_format(tracker.reason, sizeof tracker.reason, "ThreadSanitizer does not know the library's own threads");
    refuse();
    return;
  }
  if (gcrt_options.tracker == GCRT_CHOOSE_explicit) gcrt_concurrent_tracker = &gcrt_cards_tracker;
  if (gcrt_options.tracker == GCRT_CHOOSE_mprotect) gcrt_concurrent_tracker = &gcrt_mprotect_tracker;
  if (asked_for()) (void)tracker_works();
}

bool gcrt_concurrent_suits(void) {
  if (gcrt_options.tracker == GCRT_CHOOSE_none || gcrt_load_acquire(&tracker.state) == REFUSED) return false;
  if (asked_for()) return true;
  uint64_t stop = gcrt_pacer_stop_estimate();
  bool was = gcrt_load(&tracker.concurrent) != 0;
  bool suits = stop > (was ? LONG_STOP_NS / 2 : LONG_STOP_NS);
  gcrt_store(&tracker.concurrent, suits);
  return suits;
}

const char *gcrt_cycle_tracker(const char **reason) {
  size_t state = gcrt_load_acquire(&tracker.state);
  *reason = state == REFUSED ? tracker.reason : "";
  if (state != REFUSED && gcrt_options.tracker != GCRT_CHOOSE_none && gcrt_background_refused()) {
    *reason = "the background thread cannot be started: the limit on threads is reached, or there is no memory";
    return gcrt_tracker_names[GCRT_CHOOSE_none];
  }
  if (state == UNKNOWN || state == TRYING) return gcrt_tracker_names[gcrt_options.tracker];
  if (state == REFUSED) return gcrt_tracker_names[GCRT_CHOOSE_none];
  return gcrt_tracker_names[asked_for() ? gcrt_options.tracker : GCRT_CHOOSE_uffd];
}

static void whiten(struct gcrt_cycle_report *report) {
  (void)report;
  gcrt_heap_begin_marking();
}

static void finish(struct gcrt_cycle_report *report) {
  size_t count;
  struct gcrt_root *roots = gcrt_cycle_roots(report, &count);
  struct gcrt_mark_stats before, after;
  gcrt_mark_get_stats(&before);
  report->last_pages = gcrt_written_finish(roots, count, report->members);
  gcrt_mark_get_stats(&after);
  report->stop_cpu_ns = after.cpu_ns - before.cpu_ns;
  report->stop_scanned = after.scanned - before.scanned;
  gcrt_cycle_flip(report, roots, count);
}

struct stop {
  void (*body)(struct gcrt_cycle_report *);
  struct gcrt_cycle_report *report;
  bool stopped;
};

static void stop_in_loader(void *argument) {
  struct stop *stop = argument;
  stop->stopped = gcrt_cycle_stopped(stop->body, stop->report);
}

static bool in_stop(void (*body)(struct gcrt_cycle_report *), struct gcrt_cycle_report *report) {
  struct stop stop = {body, report, false};
  gcrt_cycle_in_loader(stop_in_loader, &stop);
  return stop.stopped;
}

/* One round, in which mutators help if there are many pages. With few it does not rest: the program writes as many
 * meanwhile, and the rounds would not come to an end. */
static size_t scan_once(struct gcrt_cycle_report *report, unsigned background, size_t before) {
  bool many = before > PAGES_MANY;
  if (!many) gcrt_pace_hurry();
  size_t pages = gcrt_written_scan(report, background, many && gcrt_pace_rests());
  if (!many) gcrt_pace_relax();
  return pages;
}

/* Rounds as long as they help. A page costs least when it is scanned for the third time, as by then its copy says what
 * has changed: so one round that finds hardly less than the one before says nothing yet. */
static void scan_in_rounds(struct gcrt_cycle_report *report, unsigned background) {
  size_t before = SIZE_MAX;
  unsigned vain = 0;
  for (unsigned round = 0; round < ROUNDS_MOST && vain < ROUNDS_IN_VAIN; round++) {
    size_t pages = scan_once(report, background, before);
    report->rounds++;
    report->pages += pages;
    if (pages <= PAGES_FEW) break;
    vain = pages > before / 4 * 3 ? vain + 1 : 0;
    before = pages;
  }
}

/* The second look at the roots comes late: whatever it finds and the program drops before the stop is kept for nothing.
 * What it found to mark took time, in which pages were written. */
static void preclean(struct gcrt_cycle_report *report, unsigned background) {
  scan_in_rounds(report, background);
  struct gcrt_mark_stats before, after;
  gcrt_mark_get_stats(&before);
  if (!gcrt_visit_roots(report, false)) return;
  gcrt_mark_grey_out(background, false);
  gcrt_mark_get_stats(&after);
  if (after.scanned - before.scanned > LITTLE) scan_in_rounds(report, background);
}

/* Markers beside the program: whole processors, and of another one *percent, which this thread takes; all of one if
 * there is no such part. One more for the thread that waits, if one asked for the collection. */
static unsigned background_members(enum gcrt_cycle_reason reason, unsigned *percent) {
  unsigned processors = gcrt_cpu_count();
  struct gcrt_controller_workers workers = gcrt_controller_workers(processors);
  unsigned part = (unsigned)(workers.fraction * processors * 100 + 0.5);
  bool awaited = reason != GCRT_CYCLE_GOAL && reason != GCRT_CYCLE_PERIODIC;
  *percent = part ? part : 100;
  return (unsigned)gcrt_min(gcrt_mark_members(), workers.dedicated + (part != 0) + awaited);
}

static bool tracker_ready(void) {
  if (!tracker_works()) return false;
  if (gcrt_concurrent_tracker != &gcrt_cards_tracker) gcrt_pages_small();
  if (gcrt_concurrent_tracker->check(tracker.reason, sizeof tracker.reason)) return true;
  refuse();
  return false;
}

bool gcrt_concurrent_mark(struct gcrt_cycle_report *report) {
  report->members = gcrt_cycle_members(gcrt_load(&gcrt_heap.live));
  gcrt_mark_start_helpers(report->members);
  /* Whoever else comes here has asked, but for the thread that finds the limit changed. */
  bool unasked = report->reason == GCRT_CYCLE_PERIODIC || report->reason == GCRT_CYCLE_GOAL;
  bool in_one_stop = unasked && !gcrt_concurrent_suits();
  if (in_one_stop || !tracker_ready()) {
    gcrt_cycle_phase(GCRT_CYCLE_STOP, report);
    if (!in_stop(gcrt_cycle_mark_stopped, report)) return false;
    gcrt_cycle_phase(GCRT_CYCLE_SWEEP, report);
    return true;
  }
  report->concurrent = true;
  report->heap_before = gcrt_load(&gcrt_heap.live);
  report->goal = gcrt_pacer_goal();
  struct gcrt_mark_stats before, after;
  gcrt_mark_get_stats(&before);
  unsigned percent;
  unsigned background = background_members(report->reason, &percent);
  unsigned idle = gcrt_pace_begin(percent);
  report->background = background;
  /* It maps and unmaps: not in the stop. What other processes want is not known: markers on idle processors go when
   * they are in the way. */
  gcrt_mark_begin(idle - gcrt_min(idle, background));
  gcrt_cycle_phase(GCRT_CYCLE_ARM, report);
  uint64_t begin = gcrt_clock_monotonic();
  gcrt_written_arm();
  report->arm_ns = gcrt_clock_monotonic() - begin;
  gcrt_cycle_phase(GCRT_CYCLE_ROOTS, report);
  /* In a forked child, whose parent was marking. */
  if (gcrt_heap.half_marked && !in_stop(whiten, report)) return false;
  if (!gcrt_visit_roots(report, true)) return false;
  gcrt_cycle_phase(GCRT_CYCLE_MARK, report);
  gcrt_mark_grey_out(background, true);
  report->heap_grey = gcrt_load(&gcrt_heap.live);
  gcrt_tracked_scan(background);
  gcrt_cycle_phase(GCRT_CYCLE_PRECLEAN, report);
  preclean(report, background);
  gcrt_cycle_phase(GCRT_CYCLE_STOP, report);
  (void)in_stop(finish, report);
  gcrt_cycle_phase(GCRT_CYCLE_SWEEP, report);
  /* The program waits for what will be free then. */
  gcrt_pace_hurry();
  gcrt_written_disarm();
  gcrt_tracked_disarm();
  gcrt_pace_relax();
  report->mark_ns = report->end - begin;
  report->spare = !gcrt_pace_rests();
  gcrt_mark_get_stats(&after);
  report->mark_cpu_ns = after.cpu_ns - before.cpu_ns;
  report->scanned = after.scanned - before.scanned;
  report->assisted = after.assisted - before.assisted;
  report->assist_ns = after.assist_ns - before.assist_ns;
  return true;
}

void gcrt_concurrent_after_fork(void) {
  size_t state = gcrt_load(&tracker.state);
  if (state == UNKNOWN || state == REFUSED) return;
  gcrt_concurrent_tracker->after_fork();
  gcrt_store(&tracker.state, UNKNOWN);
}
