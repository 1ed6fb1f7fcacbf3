/* One collection: stop, mark, flip, resume, sweep.
 *
 * It runs on the thread that asked for it, up to the resume inside the loader's lock (sys/loader.h): so no library
 * comes or goes, and a thread that collects from the constructor of one, holding that lock already, cannot wait for
 * another that waits for it. Helpers mark beside it. Everything between stop and resume calls neither malloc nor the
 * loader, as a stopped thread may hold their locks. The sweep runs beside the program, with the cycle's lock held and
 * so before the next stop.
 *
 * fork: a child inherits the loader's lock as it is, so no thread may hold it, or wait for it, while another forks.
 * `inside` counts those that may; while `forking` is set, new ones wait. */
#include "cycle/cycle.h"

#include "base/options.h"
#include "base/report.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "sys/clock.h"
#include "sys/loader.h"
#include "sys/signal.h"
#include "world/roots.h"

struct gcrt_cycle_listener gcrt_cycle_listener;

/* Live bytes that are worth one more marker: waking it costs about what marking so much does. */
enum { BYTES_PER_MARKER = 2 << 20, FORK_PATIENCE_NS = 1000000000 };

/* What other threads get between two collections that gc_collect asks for: a few times what stopping them takes. */
enum { RUN_BETWEEN_FORCED_NS = 100000 };

static struct {
  struct gcrt_lock lock;
  gcrt_word inside, forking;
  gcrt_word begun; /* collections */
} cycle;

static uint64_t bytes_of(const struct gcrt_root *roots, size_t count, enum gcrt_root_kind kind) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    if (roots[i].kind == kind) bytes += roots[i].range.end - roots[i].range.start;
  }
  return bytes;
}

static unsigned members_for(uint64_t bytes) {
  return (unsigned)gcrt_min(gcrt_mark_members(), 1 + bytes / BYTES_PER_MARKER);
}

static void mark(struct gcrt_cycle_report *report) {
  size_t count;
  const struct gcrt_root *roots = gcrt_roots_collect(&count);
  report->stack_bytes = bytes_of(roots, count, GCRT_ROOT_STACK);
  report->global_bytes = bytes_of(roots, count, GCRT_ROOT_GLOBAL);
  struct gcrt_mark_stats before, after;
  gcrt_mark_get_stats(&before);
  report->members = members_for(gcrt_pacer_live() + report->global_bytes);
  gcrt_mark_all(roots, count, report->members);
  if (gcrt_options.debug.checkmark) gcrt_mark_check(roots, count);
  gcrt_mark_get_stats(&after);
  report->mark_cpu_ns = after.cpu_ns - before.cpu_ns;
}

/* With all threads stopped. */
static void flip(struct gcrt_cycle_report *report) {
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    if (t->cache) gcrt_cache_keep_unused(t->cache);
  }
  report->heap_flip = gcrt_load(&gcrt_heap.live);
  gcrt_heap_flip(gcrt_options.debug.clobberfree);
  gcrt_pacer_sweep_begins();
}

/* Before the cycle's lock is given up. */
static void sweep(struct gcrt_cycle_report *report) {
  uint64_t begin = gcrt_clock_monotonic();
  report->heap_after = report->heap_flip - gcrt_heap_sweep_rest();
  report->next_goal = gcrt_pacer_cycle_end(report->heap_after);
  report->sweep_ns = gcrt_clock_monotonic() - begin;
}

/* Between stop and resume. */
static void collect_stopped(struct gcrt_cycle_report *report) {
  gcrt_root_set_lock();
  report->heap_before = gcrt_load(&gcrt_heap.live);
  report->goal = gcrt_pacer_goal();
  uint64_t begin = gcrt_clock_monotonic();
  mark(report);
  flip(report);
  report->mark_ns = gcrt_clock_monotonic() - begin;
  gcrt_root_set_unlock();
  if (!gcrt_options.debug.verify) return;
  sweep(report);
  gcrt_heap_verify();
}

/* Without signals until the sweep is done: a handler of the program could move a pointer past the marker, and leave by
 * a jump with the cycle's lock held. */
static void collect(struct gcrt_cycle_report *report) {
  gcrt_lock(&gcrt_world.lock);
  /* Only now: while this thread waited for locks, it may have been stopped by another collection, which leaves the
   * registers of that place behind. */
  gcrt_registers_save(&gcrt_self->registers);
  gcrt_self->frame = (struct gcrt_bounds){0, 0};
  gcrt_self->alternate = gcrt_thread_alternate(gcrt_self, gcrt_self->registers.sp);
  report->begin = gcrt_clock_monotonic();
  report->stopping_ns = gcrt_world_stop();
  collect_stopped(report);
  report->end = gcrt_clock_monotonic();
  gcrt_world_resume();
  report->end_realtime = gcrt_clock_realtime();
  gcrt_unlock(&gcrt_world.lock);
}

struct request {
  enum gcrt_cycle_reason reason;
  size_t begun; /* collections that had begun when it was made */
  bool collected;
  struct gcrt_cycle_report report;
  sigset_t signals;
};

static void leave(void) {
  if (gcrt_add_full(&cycle.inside, (size_t)-1) == 1) gcrt_futex_wake(&cycle.inside, 1);
}

/* Before the loader's lock is asked for. */
static void enter(void) {
  for (;;) {
    while (gcrt_load_acquire(&cycle.forking)) gcrt_futex_wait(&cycle.forking, 1, -1);
    gcrt_add_full(&cycle.inside, 1);
    if (!gcrt_load_acquire(&cycle.forking)) return;
    leave();
  }
}

/* Whether it still has to be: one that another thread began after the request was made serves both. */
static bool wanted(const struct request *request) {
  switch (request->reason) {
  case GCRT_CYCLE_GOAL:
    return gcrt_cycle_due();
  case GCRT_CYCLE_FORCED:
    return gcrt_load(&cycle.begun) == request->begun;
  case GCRT_CYCLE_STRESS:
  case GCRT_CYCLE_EMERGENCY:
    break;
  }
  return true;
}

/* In a forked child: another thread of the parent was sweeping. */
static void finish_sweep(void) {
  if (!gcrt_pacer_sweeping()) return;
  gcrt_heap_sweep_rest();
  gcrt_pacer_cycle_end(gcrt_load(&gcrt_heap.live));
}

/* Under the loader's lock. Leaves the cycle's lock taken if it collected. */
static void collect_as_requested(void *argument) {
  struct request *request = argument;
  gcrt_lock(&cycle.lock);
  finish_sweep();
  request->collected = wanted(request);
  if (request->collected) {
    request->report.number = gcrt_add(&cycle.begun, 1) + 1;
    request->report.reason = request->reason;
    gcrt_signal_block_all(&request->signals);
    collect(&request->report);
  } else {
    gcrt_unlock(&cycle.lock);
  }
}

/* The rest of a collection, beside the program. */
static void complete(struct request *request) {
  struct gcrt_cycle_report *report = &request->report;
  if (gcrt_pacer_sweeping()) sweep(report);
  if (gcrt_cycle_listener.count) {
    gcrt_lock(&gcrt_world.lock);
    gcrt_cycle_listener.count(report);
    gcrt_unlock(&gcrt_world.lock);
  }
  if (gcrt_cycle_listener.tell) gcrt_cycle_listener.tell(report);
  gcrt_unlock(&cycle.lock);
  gcrt_signal_restore(&request->signals);
}

GCRT_NOINLINE bool gcrt_cycle_collect(enum gcrt_cycle_reason reason) {
  struct request request = {.reason = reason, .begun = gcrt_load(&cycle.begun)};
  GCRT_CHECK(gcrt_self && gcrt_load(&gcrt_self->busy) == 0);
  if (reason == GCRT_CYCLE_FORCED) gcrt_world_let_run(RUN_BETWEEN_FORCED_NS);
  if (reason == GCRT_CYCLE_STRESS) gcrt_world_let_run(0);
  gcrt_mark_start_helpers(members_for(gcrt_load(&gcrt_heap.live)));
  enter();
  gcrt_loader_call(collect_as_requested, &request);
  leave();
  if (request.collected) complete(&request);
  return request.collected;
}

void gcrt_cycle_fork_prepare(void) {
  /* Two threads that fork at once take turns. */
  while (!gcrt_cas_full(&cycle.forking, 0, 1)) gcrt_futex_wait(&cycle.forking, 1, -1);
  /* A thread that forks from the constructor of a library holds the loader's lock itself, and those inside wait for it:
   * when nobody collects, a second is more than enough for them to come out otherwise. */
  size_t inside;
  while ((inside = gcrt_load_acquire(&cycle.inside)) != 0) {
    bool woken = gcrt_futex_wait(&cycle.inside, (uint32_t)inside, FORK_PATIENCE_NS);
    if (!woken && gcrt_load(&cycle.lock.state) == 0) break;
  }
  gcrt_lock(&gcrt_world.lock);
  gcrt_root_set_lock();
  gcrt_heap_lock_all();
}

void gcrt_cycle_fork_parent(void) {
  gcrt_heap_unlock_all();
  gcrt_root_set_unlock();
  gcrt_unlock(&gcrt_world.lock);
  gcrt_store_full(&cycle.forking, 0);
  gcrt_futex_wake(&cycle.forking, INT32_MAX);
}

void gcrt_cycle_fork_child(void) {
  gcrt_lock_reset(&cycle.lock);
  gcrt_root_set_reset_lock();
  gcrt_heap_reset_locks();
  gcrt_heap_sweep_again();
  gcrt_pacer_after_fork();
  gcrt_mark_after_fork();
  gcrt_store(&cycle.inside, 0);
  gcrt_store(&cycle.forking, 0);
  /* The counts of the spans must be right before the caches of the other threads are taken apart, those of the classes
   * can only be after that. */
  bool others = gcrt_world.count > 1;
  if (others) gcrt_heap_recount_spans();
  gcrt_world_after_fork();
  if (others) gcrt_heap_recount_classes(gcrt_self ? gcrt_self->cache : NULL);
}
