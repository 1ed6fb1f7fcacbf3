/* What needs the world stopped: a whole collection in one stop, and the pieces that a concurrent one shares with it.
 *
 * Everything between stop and resume calls neither malloc nor the loader, as a stopped thread may hold their locks. The
 * stop is taken under gcrt_world.lock by a mutator or by a thread of the library's; either holds the cycle's lock. */
#include "base/options.h"
#include "base/report.h"
#include "cycle/phases.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "mark/pace.h"
#include "sys/clock.h"
#include "sys/proc.h"

/* Live bytes that are worth one more marker: waking it costs about what marking so much does. */
enum { BYTES_PER_MARKER = 2 << 20 };

unsigned gcrt_cycle_members(uint64_t bytes) {
  return (unsigned)gcrt_min(gcrt_mark_members(), 1 + bytes / BYTES_PER_MARKER);
}

struct gcrt_root *gcrt_cycle_roots(struct gcrt_cycle_report *report, size_t *count) {
  struct gcrt_root *roots = gcrt_roots_collect(count);
  report->stack_bytes = report->global_bytes = 0;
  for (size_t i = 0; i < *count; i++) {
    uint64_t *bytes = roots[i].kind == GCRT_ROOT_STACK ? &report->stack_bytes : &report->global_bytes;
    *bytes += roots[i].range.end - roots[i].range.start;
  }
  return roots;
}

/* In a stop: threads that would use a processor now, the caller included if the program knows it. */
static unsigned running_threads(void) {
  unsigned count = gcrt_self != NULL;
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) count += gcrt_load(&t->state) == GCRT_STOPPED;
  return count;
}

bool gcrt_cycle_stopped(void (*body)(struct gcrt_cycle_report *), struct gcrt_cycle_report *report) {
  gcrt_lock(&gcrt_world.lock);
  /* Without memory to note the roots in, a collection does not begin; one that has begun must try. */
  if (!gcrt_roots_reserve() && !gcrt_load(&gcrt_heap.marking)) {
    gcrt_unlock(&gcrt_world.lock);
    return false;
  }
  struct gcrt_thread *self = gcrt_self;
  if (self) {
    /* Only now: while this thread waited for locks, it may have been stopped by another collection, which leaves the
     * registers of that place behind. */
    gcrt_registers_save(&self->registers);
    self->frame = (struct gcrt_bounds){0, 0};
    self->alternate = gcrt_thread_alternate(self, self->registers.sp);
  }
  uint64_t begin = gcrt_clock_monotonic();
  uint64_t stopping = gcrt_world_stop();
  gcrt_root_set_lock();
  body(report);
  gcrt_root_set_unlock();
  report->end = gcrt_clock_monotonic();
  unsigned held = running_threads();
  gcrt_world_resume();
  report->end_realtime = gcrt_clock_realtime();
  gcrt_unlock(&gcrt_world.lock);
  uint64_t pause = report->end - begin;
  report->held_ns += pause * gcrt_min(held, gcrt_cpu_count());
  report->stopping_ns += stopping;
  report->pause_ns += pause;
  return true;
}

void gcrt_cycle_flip(struct gcrt_cycle_report *report, const struct gcrt_root *roots, size_t count) {
  if (gcrt_options.debug.checkmark) gcrt_mark_check(roots, count);
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    if (t->cache) gcrt_cache_keep_unused(t->cache);
  }
  report->heap_flip = gcrt_load(&gcrt_heap.live);
  report->heap_inuse = gcrt_load(&gcrt_heap.busy) * GCRT_CHUNK;
  gcrt_heap_flip(gcrt_options.debug.clobberfree);
  gcrt_pacer_phase(GCRT_PACE_SWEEP);
  if (!gcrt_options.debug.verify) return;
  gcrt_cycle_sweep(report, false);
  gcrt_heap_verify();
}

void gcrt_cycle_mark_stopped(struct gcrt_cycle_report *report) {
  report->heap_before = gcrt_load(&gcrt_heap.live);
  report->goal = gcrt_pacer_goal();
  uint64_t begin = gcrt_clock_monotonic();
  gcrt_heap_begin_marking();
  size_t count;
  const struct gcrt_root *roots = gcrt_cycle_roots(report, &count);
  report->members = gcrt_cycle_members(report->heap_before + report->global_bytes);
  struct gcrt_mark_stats before, after;
  gcrt_mark_get_stats(&before);
  gcrt_mark_all(roots, count, report->members, NULL);
  gcrt_mark_get_stats(&after);
  report->scanned = after.scanned - before.scanned;
  report->mark_cpu_ns = report->stop_cpu_ns = after.cpu_ns - before.cpu_ns;
  gcrt_cycle_flip(report, roots, count);
  report->mark_ns = gcrt_clock_monotonic() - begin;
}

void gcrt_cycle_sweep(struct gcrt_cycle_report *report, bool beside) {
  uint64_t begin = gcrt_clock_monotonic(), cpu = gcrt_clock_thread_cpu();
  while (beside && gcrt_heap_sweep_some()) {
    if (gcrt_pace_is_due()) gcrt_pace_rest();
  }
  report->heap_after = report->heap_flip - gcrt_heap_sweep_rest();
  report->next_goal = gcrt_pacer_cycle_end(report);
  report->sweep_ns = gcrt_clock_monotonic() - begin;
  report->sweep_cpu_ns = gcrt_clock_thread_cpu() - cpu;
}
