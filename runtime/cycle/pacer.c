/* When to collect: the goal of GCRT_GOGC.
 *
 *   goal = max(live * (1 + percent / 100), 4 MiB * percent / 100)
 *
 * where live is what the last collection left, as in Go's pacer. A collection in one stop starts when the goal is
 * reached. One that marks beside the program starts earlier, by the runway: what the program is expected to allocate
 * meanwhile, as far as the last one tells; a quarter of the goal if there was none. Before the first collection live is
 * 0.
 *
 * Marking is to be done when three quarters of the way from its beginning to the goal are used up; the rest is for the
 * rounds after it, which nobody can help with. Of what the last collection scanned (half the heap, if there was none)
 * as great a part, less an eighth, is to be scanned as of that way is used up: threads that allocate help if it is not.
 * A program that is a quarter above the goal all the same is slowed down. While a sweep is under way nothing is due, as
 * what it frees is not known; at the limit threads take part in it.
 *
 * Thread-safe without a lock: goal and trigger are computed from what they depend on by whoever changed some of it, and
 * once more if it changed meanwhile; of two that race, the later reads what both have written. */
#include "base/bits.h"
#include "cycle/phases.h"

#define MINIMUM_HEAP (UINT64_C(4) << 20) /* bytes, at 100 % */

static struct {
  gcrt_word live;
  gcrt_word goal;
  gcrt_word percent; /* (size_t)-1: off */
  gcrt_word phase;   /* enum gcrt_pace */
  gcrt_word changes;
  gcrt_word runway;  /* bytes; 0: the next collection is one stop */
  gcrt_word mark_ns; /* of the last collection, if all markers share it well */
  gcrt_word marked;  /* bytes that it found alive */
  gcrt_word scanned; /* bytes that it looked into */
  gcrt_word begin;   /* of marking that is under way: bytes of the heap then */
  gcrt_word way;     /* bytes that may be allocated until it is done */
} pacer = {.percent = 100, .goal = SIZE_MAX};

static uint64_t goal_of(uint64_t live, int64_t percent) {
  if (percent < 0) return UINT64_MAX;
  unsigned __int128 grown = (unsigned __int128)live * (100 + (uint64_t)percent) / 100;
  uint64_t minimum = MINIMUM_HEAP * (uint64_t)percent / 100;
  uint64_t goal = grown > UINT64_MAX ? UINT64_MAX : (uint64_t)grown;
  return goal > minimum ? goal : minimum;
}

static uint64_t limit_of(uint64_t goal) { return goal > UINT64_MAX - goal / 4 ? UINT64_MAX : goal + goal / 4; }

static uint64_t trigger_of(uint64_t goal, uint64_t live, enum gcrt_pace phase) {
  if (goal == UINT64_MAX) return UINT64_MAX;
  if (phase == GCRT_PACE_SWEEP) return limit_of(goal);
  /* Every refill asks whether marking has to be helped. */
  if (phase == GCRT_PACE_MARK) return 0;
  uint64_t room = goal > live ? goal - live : 0;
  return goal - gcrt_min(gcrt_load(&pacer.runway), room / 4 * 3);
}

/* After a change. */
static uint64_t publish(void) {
  uint64_t goal;
  size_t changes = gcrt_add_full(&pacer.changes, 1) + 1;
  for (;;) {
    uint64_t live = gcrt_load(&pacer.live);
    goal = goal_of(live, (int)gcrt_load(&pacer.percent));
    gcrt_store(&pacer.goal, goal);
    gcrt_store_full(&gcrt_heap.trigger, trigger_of(goal, live, (enum gcrt_pace)gcrt_load(&pacer.phase)));
    size_t now = gcrt_load(&pacer.changes);
    if (now == changes) return goal;
    changes = now;
  }
}

void gcrt_pacer_phase(enum gcrt_pace phase) {
  gcrt_store(&pacer.phase, phase);
  publish();
}

void gcrt_pacer_mark(uint64_t live) {
  uint64_t goal = gcrt_load(&pacer.goal);
  /* A collection that was asked for may begin anywhere. */
  uint64_t way = gcrt_max(goal - gcrt_min(goal, live), live / 4);
  gcrt_store(&pacer.begin, live);
  gcrt_store(&pacer.way, gcrt_max(way / 4 * 3, 1));
  gcrt_pacer_phase(GCRT_PACE_MARK);
}

bool gcrt_pacer_behind(uint64_t scanned) {
  uint64_t begin = gcrt_load(&pacer.begin);
  uint64_t live = gcrt_load(&gcrt_heap.live);
  uint64_t used = live - gcrt_min(live, begin);
  uint64_t all = gcrt_load(&pacer.scanned);
  if (all == 0) all = begin / 2;
  /* There is more than the last time: then at least not less than the way is used up. */
  all = gcrt_max(all, scanned + scanned / 8);
  return (unsigned __int128)(scanned + all / 8) * gcrt_load(&pacer.way) < (unsigned __int128)all * used;
}

bool gcrt_pacer_sweeping(void) { return gcrt_load(&pacer.phase) == GCRT_PACE_SWEEP; }

void gcrt_pacer_after_fork(void) {
  size_t phase = gcrt_load(&pacer.phase);
  if (phase == GCRT_PACE_MARK) gcrt_pacer_phase(GCRT_PACE_IDLE);
  if (phase == GCRT_PACE_SWEEP) gcrt_store(&gcrt_heap.trigger, 0);
}

int gcrt_pacer_percent(void) { return (int)gcrt_load(&pacer.percent); }

int gcrt_pacer_set_percent(int percent) {
  size_t wanted = percent < 0 ? (size_t)-1 : (size_t)percent;
  size_t old;
  do old = gcrt_load(&pacer.percent);
  while (!gcrt_cas_full(&pacer.percent, old, wanted));
  publish();
  return (int)old;
}

/* What would have been allocated while objects were marked if those who allocate had not helped, and a quarter more:
 * marking would have taken longer, and they would have had more of the time. (As if there were one such thread; with
 * more of them it is too much, and the next collection begins a little early.) */
static uint64_t runway_after(const struct gcrt_cycle_report *report) {
  if (!gcrt_concurrent_suits()) return 0;
  if (!report->concurrent) return goal_of(report->heap_after, (int)gcrt_load(&pacer.percent)) / 4;
  uint64_t allocated = report->heap_flip - gcrt_min(report->heap_flip, report->heap_before);
  double alone = gcrt_max(report->scanned - report->assisted, report->scanned / 8 + 1);
  double free_ns = gcrt_max(report->mark_ns - gcrt_min(report->mark_ns, report->assist_ns), report->mark_ns / 8 + 1);
  double expected =
      (double)allocated * ((double)(report->scanned + 1) / alone) * ((double)(report->mark_ns + 1) / free_ns) * 1.25;
  return expected < 1e18 ? (uint64_t)expected : UINT64_MAX / 2;
}

uint64_t gcrt_pacer_limit(void) { return limit_of(gcrt_load(&pacer.goal)); }

uint64_t gcrt_pacer_cycle_end(const struct gcrt_cycle_report *report) {
  gcrt_store(&pacer.mark_ns, report->mark_cpu_ns / (report->members ? report->members : 1));
  gcrt_store(&pacer.marked, report->heap_after);
  gcrt_store(&pacer.scanned, report->scanned);
  gcrt_store(&pacer.live, report->heap_after);
  gcrt_store(&pacer.runway, runway_after(report));
  gcrt_store(&pacer.phase, GCRT_PACE_IDLE);
  return publish();
}

void gcrt_pacer_swept(uint64_t live) {
  gcrt_store(&pacer.live, live);
  gcrt_store(&pacer.phase, GCRT_PACE_IDLE);
  publish();
}

/* As long as the last one, or twice as long if the heap has grown past what it would be with half of it alive. A heap
 * of garbage has little alive whatever its size. Before the first one nothing is known but the size. */
uint64_t gcrt_pacer_stop_estimate(void) {
  uint64_t marked = gcrt_load(&pacer.marked);
  uint64_t half = gcrt_load(&gcrt_heap.live) / 2;
  uint64_t ns = gcrt_load(&pacer.mark_ns);
  if (ns == 0) return half / 8;
  if (half <= marked) return ns;
  return marked == 0 || half / marked >= 2 ? 2 * ns : ns + ns * (half - marked) / marked;
}

uint64_t gcrt_pacer_goal(void) { return gcrt_load(&pacer.goal); }
uint64_t gcrt_pacer_live(void) { return gcrt_load(&pacer.live); }
