/* What the limiter (limiter.h) is fed with: processor time of the program and of its collector.
 *
 * The collector's is what the markers of the plan used, but not those that took part as processors were idle; help by
 * threads that allocate; arming and sweeping; and in a stop, if fewer threads mark than ran before, as much for each of
 * those, as that is lost to them. It is processor time, as a machine on which others want the processors makes stops
 * long. Of a collection that is under way marking and help are known, the rest when it
 * ends. The program's is what the process used less what the library did. Waits of threads that outran a collection are
 * nobody's: the collector works meanwhile.
 *
 * `lock` is held by whoever feeds, in a critical section if a mutator, and by readers of the metrics. A thread that
 * finds it taken goes on: another one feeds. Not async-signal-safe. */
#include "base/bits.h"
#include "cycle/limit.h"
#include "cycle/scavenger.h"
#include "mark/mark.h"
#include "sys/clock.h"
#include "sys/proc.h"

enum { PERIOD_NS = 10000000 };

static struct {
  struct gcrt_lock lock;
  struct gcrt_limiter limiter;
  gcrt_word fed;               /* when; monotonic ns */
  gcrt_word pressed;           /* as the limiter was left: it is under pressure */
  uint64_t collector, library; /* ns, of the collections that have ended */
  uint64_t cycle;              /* the number of the one that runs, or the last one */
  bool runs;
  uint64_t began;               /* monotonic ns */
  struct gcrt_mark_stats marks; /* when it began */
} cpu_time;

static uint64_t above(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* Processors that mark beside the program, begun ones included. */
static uint64_t markers(void) {
  struct gcrt_controller_workers workers = gcrt_controller_workers(gcrt_cpu_count());
  return gcrt_max(1, workers.dedicated + (workers.fraction > 0));
}

/* Adds the collection that is under way. */
static void add_running(struct gcrt_limiter_times *times, uint64_t *library) {
  struct gcrt_mark_stats now;
  gcrt_mark_get_stats(&now);
  uint64_t cpu = above(now.cpu_ns, cpu_time.marks.cpu_ns);
  uint64_t assists = above(now.assist_ns, cpu_time.marks.assist_ns);
  times->collector += assists + gcrt_min(above(cpu, assists), markers() * above(times->now, cpu_time.began));
  *library += cpu;
}

static struct gcrt_limiter_times times(void) {
  struct gcrt_limiter_times times = {.now = gcrt_clock_monotonic(), .collector = cpu_time.collector};
  struct gcrt_scavenger_stats scavenger;
  gcrt_scavenger_get_stats(&scavenger);
  uint64_t library = cpu_time.library + scavenger.cpu_ns;
  if (cpu_time.runs) add_running(&times, &library);
  times.program = above(gcrt_clock_process_cpu(), library);
  gcrt_store(&cpu_time.fed, times.now);
  return times;
}

static void enter(void) {
  if (gcrt_self) gcrt_gate_enter(gcrt_self);
}

static void leave(void) {
  if (gcrt_self) gcrt_gate_exit(gcrt_self);
}

/* Under the lock. */
static void feed(void) {
  struct gcrt_limiter_times now = times();
  gcrt_limiter_update(&cpu_time.limiter, &now, cpu_time.cycle);
  gcrt_store(&cpu_time.pressed, cpu_time.limiter.full_since != 0);
}

void gcrt_cpu_time_init(void) {
  struct gcrt_limiter_times now = times();
  gcrt_limiter_init(&cpu_time.limiter, gcrt_cpu_count(), &now);
}

void gcrt_cpu_time_begin(uint64_t cycle) {
  enter();
  gcrt_lock(&cpu_time.lock);
  cpu_time.cycle = cycle;
  cpu_time.runs = true;
  cpu_time.began = gcrt_clock_monotonic();
  gcrt_mark_get_stats(&cpu_time.marks);
  feed();
  gcrt_unlock(&cpu_time.lock);
  leave();
}

static uint64_t lost_in_stops(const struct gcrt_cycle_report *report) {
  if (report->held <= report->members || report->members == 0) return report->stop_cpu_ns;
  return report->stop_cpu_ns / report->members * report->held;
}

void gcrt_cpu_time_end(const struct gcrt_cycle_report *report) {
  uint64_t marking = report->mark_cpu_ns + report->scan_cpu_ns;
  uint64_t others = report->arm_ns + report->sweep_cpu_ns;
  uint64_t beside = above(marking, report->assist_ns + report->stop_cpu_ns);
  uint64_t planned = (uint64_t)report->background * above(report->mark_ns, report->pause_ns);
  enter();
  gcrt_lock(&cpu_time.lock);
  cpu_time.runs = false;
  cpu_time.library += marking + others;
  cpu_time.collector += others + report->assist_ns + gcrt_min(beside, planned) + lost_in_stops(report);
  feed();
  gcrt_unlock(&cpu_time.lock);
  leave();
}

void gcrt_cpu_time_update(void) {
  if (above(gcrt_clock_monotonic(), gcrt_load(&cpu_time.fed)) >= PERIOD_NS) {
    enter();
    if (gcrt_lock_try(&cpu_time.lock)) {
      feed();
      gcrt_unlock(&cpu_time.lock);
    }
    leave();
  }
  if (!gcrt_load(&cpu_time.pressed)) return;
  struct gcrt_cpu_time_stats stats;
  gcrt_cpu_time_get_stats(&stats);
  gcrt_limit_handler_look(stats.pressed_ns);
}

void gcrt_cpu_time_set_processors(void) {
  enter();
  gcrt_lock(&cpu_time.lock);
  struct gcrt_limiter_times now = times();
  gcrt_limiter_set_processors(&cpu_time.limiter, gcrt_cpu_count(), &now, cpu_time.cycle);
  gcrt_unlock(&cpu_time.lock);
  leave();
}

bool gcrt_cpu_time_limits(void) { return gcrt_limiter_limits(&cpu_time.limiter); }

void gcrt_cpu_time_get_stats(struct gcrt_cpu_time_stats *stats) {
  enter();
  gcrt_lock(&cpu_time.lock);
  /* Without collections nobody else does, and relief would not show. */
  feed();
  uint64_t now = cpu_time.limiter.last.now;
  *stats = (struct gcrt_cpu_time_stats){
      .limited_ns = gcrt_limiter_total_ns(&cpu_time.limiter, now),
      .pressed_ns = gcrt_limiter_pressed_ns(&cpu_time.limiter, now),
      .last_cycle = cpu_time.limiter.last_cycle,
  };
  gcrt_unlock(&cpu_time.lock);
  leave();
}

/* A child's processor time begins anew, its counts do not. */
void gcrt_cpu_time_after_fork(void) {
  struct gcrt_scavenger_stats scavenger;
  gcrt_scavenger_get_stats(&scavenger);
  gcrt_lock_reset(&cpu_time.lock);
  cpu_time.runs = false;
  cpu_time.collector = 0;
  cpu_time.library = 0 - scavenger.cpu_ns;
  gcrt_store(&cpu_time.pressed, 0);
  gcrt_cpu_time_init();
}
