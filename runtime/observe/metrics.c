/* runtime_metrics_read: every number of one moment, without stopping anybody.
 *
 * Only independent counts are kept: cells handed out and cells taken back by class, large objects, chunks. All else is
 * computed from them, so what must balance does. Frees are read before allocations, so the one never passes the other.
 * Counts of the windows are read under gcrt_world.lock, which keeps the threads' caches from going away; what a
 * collection tells is under a lock of its own, taken behind it.
 *
 * Thread-safe; waits for a stop that is under way; not async-signal-safe. */
#include <gcrt/runtime_metrics.h>

#include "base/options.h"
#include "cycle/limit.h"
#include "cycle/scavenger.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "mark/mark.h"
#include "objects/pool.h"
#include "observe/observe.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/proc.h"

#include <errno.h>
#include <string.h>

_Static_assert(RUNTIME_METRICS_SIZE_CLASSES == GCRT_CLASSES, "the public header repeats the number of classes");

static struct {
  struct gcrt_lock lock;
  uint64_t start; /* monotonic ns */
  uint64_t pause_ns[RUNTIME_METRICS_PAUSES], pause_end[RUNTIME_METRICS_PAUSES];
  uint64_t pause_total, pause_max, visit_max, assisting, stopping, arming, sweeping, gc_cpu, last_gc, stack_scan,
      globals_scan;
  uint64_t rounds, pages, pages_stopped;
  uint32_t cycles, forced, concurrent;
  unsigned cpus;
} observed;

static double cpu_fraction(void) {
  uint64_t available = (gcrt_clock_monotonic() - observed.start) * observed.cpus;
  return available ? (double)observed.gc_cpu / (double)available : 0;
}

static void count_cycle(const struct gcrt_cycle_report *report) {
  gcrt_lock(&observed.lock);
  uint64_t pause = report->pause_ns;
  observed.pause_ns[observed.cycles % RUNTIME_METRICS_PAUSES] = pause;
  observed.pause_end[observed.cycles % RUNTIME_METRICS_PAUSES] = report->end_realtime;
  observed.cycles++;
  observed.forced += gcrt_cycle_forced(report->reason);
  observed.concurrent += report->concurrent;
  observed.pause_total += pause;
  observed.pause_max = gcrt_max(observed.pause_max, pause);
  observed.visit_max = gcrt_max(observed.visit_max, report->visit_ns);
  observed.assisting += report->assist_ns;
  observed.stopping += report->stopping_ns;
  observed.arming += report->arm_ns;
  observed.sweeping += report->sweep_ns;
  observed.rounds += report->rounds;
  observed.pages += report->pages;
  observed.pages_stopped += report->last_pages;
  /* A stopped program can use none of the other processors, but it did not use them up either: only what ran counts. */
  observed.gc_cpu += report->mark_cpu_ns + report->scan_cpu_ns;
  observed.gc_cpu += report->sweep_cpu_ns + report->stopping_ns + report->arm_ns;
  observed.last_gc = report->end_realtime;
  observed.stack_scan = report->stack_bytes;
  observed.globals_scan = report->global_bytes;
  gcrt_unlock(&observed.lock);
}

static void tell_cycle(const struct gcrt_cycle_report *report) {
  if (gcrt_options.debug.gctrace) gcrt_gctrace_line(report, cpu_fraction(), report->begin - observed.start);
  if (gcrt_options.debug.gcpacertrace) gcrt_pacertrace_end(report, gcrt_pacer_account());
}

static void tell_heap(void) { gcrt_heaptrace_line(gcrt_clock_monotonic() - observed.start); }

static void tell_phase(enum gcrt_cycle_phase phase, uint64_t number) {
  bool turning = phase == GCRT_CYCLE_ARM || phase == GCRT_CYCLE_STOP || phase == GCRT_CYCLE_IDLE;
  if (gcrt_options.debug.heaptrace && turning) tell_heap();
  if (gcrt_options.debug.phasetrace) gcrt_phasetrace_line(phase, number, gcrt_clock_monotonic() - observed.start);
  /* What is to be scanned is planned in the phase before. */
  if (gcrt_options.debug.gcpacertrace && phase == GCRT_CYCLE_MARK) gcrt_pacertrace_begin(number, gcrt_pacer_account());
}

static void tell_released(const struct gcrt_release_report *report) {
  if (gcrt_options.debug.heaptrace) tell_heap();
  if (gcrt_options.debug.scavtrace) gcrt_scavtrace_line(report, gcrt_clock_monotonic() - observed.start);
}

void gcrt_observe_init(void) {
  observed.start = gcrt_clock_monotonic();
  observed.cpus = gcrt_cpu_count();
  const struct gcrt_options *options = &gcrt_options;
  gcrt_cycle_listener = (struct gcrt_cycle_listener){
      .count = count_cycle,
      .tell = options->debug.gctrace || options->debug.gcpacertrace ? tell_cycle : NULL,
      .phase = options->debug.phasetrace || options->debug.gcpacertrace || options->debug.heaptrace ? tell_phase : NULL,
      .released = options->debug.scavtrace || options->debug.heaptrace ? tell_released : NULL,
  };
}

void gcrt_metrics_after_fork(void) { gcrt_lock_reset(&observed.lock); }

static void read_cycles(struct runtime_metrics *m) {
  gcrt_lock(&observed.lock);
  memcpy(m->pause_ns, observed.pause_ns, sizeof m->pause_ns);
  memcpy(m->pause_end, observed.pause_end, sizeof m->pause_end);
  m->pause_total_ns = observed.pause_total;
  m->pause_max_ns = observed.pause_max;
  m->visit_max_ns = observed.visit_max;
  m->assist_total_ns = observed.assisting;
  m->stopping_total_ns = observed.stopping;
  m->arm_total_ns = observed.arming;
  m->sweep_total_ns = observed.sweeping;
  m->dirty_rounds = observed.rounds;
  m->dirty_pages = observed.pages;
  m->dirty_pages_stopped = observed.pages_stopped;
  m->num_gc = observed.cycles;
  m->num_forced_gc = observed.forced;
  m->num_concurrent_gc = observed.concurrent;
  m->last_gc = observed.last_gc;
  m->gc_cpu_ns = observed.gc_cpu;
  m->stack_scan = observed.stack_scan;
  m->globals_scan = observed.globals_scan;
  m->gc_cpu_fraction = cpu_fraction();
  gcrt_unlock(&observed.lock);
}

/* Under gcrt_world.lock. */
static void read_objects(struct runtime_metrics *m) {
  uint64_t mallocs[GCRT_CLASSES] = {0};
  uint64_t frees[GCRT_CLASSES];
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) frees[class] = gcrt_load(&gcrt_heap_stats.frees[class]);
  uint64_t large_freed = gcrt_load(&gcrt_heap_stats.large_freed_bytes);
  gcrt_fence();
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) mallocs[class] = gcrt_load(&gcrt_heap_stats.retired[class]);
  for (const struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    if (t->cache) gcrt_cache_count(t->cache, mallocs);
  }
  mallocs[0] = gcrt_load(&gcrt_heap.large_mallocs);
  uint64_t freed_bytes = large_freed;
  m->total_alloc = gcrt_load(&gcrt_heap.large_bytes);
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) {
    m->mallocs += mallocs[class];
    m->frees += frees[class];
    m->total_alloc += mallocs[class] * gcrt_class_size[class];
    freed_bytes += frees[class] * gcrt_class_size[class];
    if (class == 0) continue;
    m->by_size[class].size = gcrt_class_size[class];
    m->by_size[class].mallocs = mallocs[class];
    m->by_size[class].frees = frees[class];
  }
  m->heap_objects = m->mallocs - m->frees;
  m->heap_alloc = m->total_alloc - freed_bytes;
  m->alloc = m->heap_alloc;
}

/* After the heap's usage. */
static void read_scavenger(struct runtime_metrics *m) {
  struct gcrt_scavenger_stats stats;
  gcrt_scavenger_get_stats(&stats);
  m->release_goal = stats.goal;
  m->scavenge_cpu_ns = stats.cpu_ns;
  m->scavenge_assist_ns = stats.assist_ns;
  m->release_refused = gcrt_load(&gcrt_heap.refused);
  uint64_t kept = m->heap_idle - m->heap_released, retained = m->heap_inuse + kept;
  m->heap_unreleased = retained > stats.goal ? gcrt_min(kept, retained - stats.goal) : 0;
}

/* When all is summed up. */
static void read_limit(struct runtime_metrics *m) {
  struct gcrt_cpu_time_stats stats;
  gcrt_cpu_time_get_stats(&stats);
  m->memory_limit = gcrt_limit_bytes();
  m->memory_limit_percent = gcrt_limit_percent_of_group();
  m->memory_mapped = m->sys - m->heap_released;
  m->limiter_total_ns = stats.limited_ns;
  m->limiter_pressed_ns = stats.pressed_ns;
  m->limiter_last_cycle = stats.last_cycle;
}

static void read_memory(struct runtime_metrics *m) {
  struct gcrt_heap_usage usage;
  gcrt_heap_usage(&usage);
  m->heap_sys = usage.heap_sys;
  m->heap_inuse = usage.heap_inuse;
  m->heap_idle = m->heap_sys - m->heap_inuse;
  m->heap_released = usage.heap_released;
  m->released_total = usage.released_total;
  m->reacquired_total = usage.reacquired_total;
  read_scavenger(m);
  m->mspan_inuse = usage.span_inuse;
  m->mspan_sys = usage.span_sys;
  size_t caches;
  size_t cache_bytes = gcrt_cache_bytes(&caches);
  m->mcache_inuse = caches * sizeof(struct gcrt_cache);
  m->mcache_sys = caches * cache_bytes;
  m->gc_sys = usage.tables_sys + gcrt_mark_memory();
  m->other_sys = gcrt_world.count * gcrt_page_size() + gcrt_pools_memory();
  m->sys = m->heap_sys + m->mspan_sys + m->mcache_sys + m->buckhash_sys + m->gc_sys + m->other_sys;
  read_limit(m);
}

GCRT_EXPORT int runtime_metrics_read(struct runtime_metrics *m) {
  if (!m) {
    errno = EINVAL;
    return -1;
  }
  struct gcrt_mark_stats marking;
  memset(m, 0, sizeof *m);
  gcrt_lock(&gcrt_world.lock);
  read_objects(m);
  read_memory(m);
  m->threads = (uint32_t)gcrt_world.count;
  read_cycles(m);
  gcrt_mark_get_stats(&marking);
  m->mark_overflows = marking.overflows;
  m->markers = gcrt_mark_members();
  m->next_gc = gcrt_pacer_goal();
  m->heap_live = gcrt_pacer_live();
  gcrt_unlock(&gcrt_world.lock);
  return 0;
}

GCRT_EXPORT const char *runtime_metrics_tracker(const char **reason) {
  const char *why;
  const char *name = gcrt_cycle_tracker(&why);
  if (reason) *reason = why;
  return name;
}
