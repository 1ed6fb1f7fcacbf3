/* Collections: who asks for one, who runs it, one at a time, and fork.
 *
 * A collection that fits into one short stop runs on the thread that asked for it. It takes the loader's lock
 * (sys/loader.h) first, so no library comes or goes, and only tries for the cycle's: a thread that collects from a
 * callback of dl_iterate_phdr holds the loader's lock already and must not wait for a collection that needs it. A
 * longer one runs on the background thread, beside the program (concurrent.c). Either holds the cycle's lock from its
 * beginning to the end of its sweep; threads are stopped by its holder only.
 *
 * fork: a child inherits the loader's lock as it is, so no thread may hold it, or wait for it, while another forks.
 * `inside` counts those that may; while `forking` is set, new ones wait. */
#include "cycle/cycle.h"

#include "base/options.h"
#include "base/report.h"
#include "cycle/limit.h"
#include "cycle/phases.h"
#include "cycle/scavenger.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "mark/pace.h"
#include "sys/clock.h"
#include "sys/loader.h"
#include "sys/signal.h"
#include "world/park.h"
#include "world/roots.h"

struct gcrt_cycle_listener gcrt_cycle_listener;
struct gcrt_cycle_hooks gcrt_cycle_hooks;

enum { FORK_PATIENCE_NS = 1000000000 };

/* What other threads get between two collections that gc_collect asks for: a few times what stopping them takes. */
enum { RUN_BETWEEN_FORCED_NS = 100000 };

/* How long a thread that outran a concurrent collection waits at a time: it may hold what the collection needs. */
enum { OUTRUN_WAIT_NS = 1000000 };

/* With so much alive there is a collection every two minutes at least. */
enum { WATCHED_BYTES = 4 << 20 };

/* How often a thread helps for one window. */
enum { ASSIST_TURNS = 2 };

/* How long a thread waits for a collection that cannot get the loader's lock, which the thread itself may hold. */
enum { LOADER_PATIENCE_NS = 2000000000 };

static struct {
  struct gcrt_lock lock;
  gcrt_word inside, forking;
  gcrt_word begun;          /* collections */
  gcrt_word ended;          /* the number of the last one */
  gcrt_word scanned_before; /* bytes that all collections before the last one to begin have scanned */
  gcrt_word loader_calls;   /* odd while the one in the background waits for the loader's lock, or holds it */
  gcrt_word loader_held;    /* by a collection */
} cycle;

struct request {
  enum gcrt_cycle_reason reason;
  size_t begun; /* collections that had begun when it was made */
  bool busy;    /* another collection is under way */
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

struct loader_call {
  void (*call)(void *);
  void *argument;
};

static void call_inside(void *argument) {
  const struct loader_call *call = argument;
  gcrt_store(&cycle.loader_held, 1);
  call->call(call->argument);
  gcrt_store(&cycle.loader_held, 0);
}

static void call_in_loader(void (*call)(void *), void *argument) {
  struct loader_call loader_call = {call, argument};
  enter();
  gcrt_loader_call(call_inside, &loader_call);
  leave();
}

void gcrt_cycle_in_loader(void (*call)(void *), void *argument) {
  gcrt_add(&cycle.loader_calls, 1);
  call_in_loader(call, argument);
  gcrt_add(&cycle.loader_calls, 1);
}

/* Whether it still has to be: one that another thread began after the request was made serves both. */
static bool wanted(enum gcrt_cycle_reason reason, size_t begun) {
  switch (reason) {
  case GCRT_CYCLE_GOAL:
    return gcrt_cycle_due();
  case GCRT_CYCLE_FORCED:
  case GCRT_CYCLE_STRESS:
  case GCRT_CYCLE_LIMIT:
  case GCRT_CYCLE_EMERGENCY:
    return gcrt_load(&cycle.begun) == begun;
  case GCRT_CYCLE_PERIODIC:
    return gcrt_background_overdue();
  }
  return true;
}

/* In a forked child: another thread of the parent was sweeping. */
static void finish_sweep(void) {
  if (!gcrt_pacer_sweeping()) return;
  gcrt_heap_sweep_rest();
  gcrt_pacer_swept(gcrt_load(&gcrt_heap.live));
}

static void begin(struct gcrt_cycle_report *report, enum gcrt_cycle_reason reason) {
  report->number = gcrt_add(&cycle.begun, 1) + 1;
  report->reason = reason;
  report->begin = gcrt_clock_monotonic();
  struct gcrt_mark_stats stats;
  gcrt_mark_get_stats(&stats);
  gcrt_store(&cycle.scanned_before, stats.scanned);
  gcrt_cpu_time_begin(report->number);
  if (gcrt_cycle_hooks.begin) gcrt_cycle_hooks.begin();
}

/* The rest of a collection, beside the program. Gives the cycle's lock up; then the scavenger may have to be
 * woken. */
static void complete(struct gcrt_cycle_report *report) {
  if (gcrt_pacer_sweeping()) gcrt_cycle_sweep(report, report->concurrent);
  gcrt_cpu_time_end(report);
  gcrt_scavenger_cycle_end(report);
  gcrt_mark_end();
  if (gcrt_cycle_listener.count) {
    gcrt_lock(&gcrt_world.lock);
    gcrt_cycle_listener.count(report);
    gcrt_unlock(&gcrt_world.lock);
  }
  if (gcrt_cycle_listener.tell) gcrt_cycle_listener.tell(report);
  gcrt_cycle_phase(GCRT_CYCLE_IDLE, report);
  gcrt_store_release(&cycle.ended, report->number);
  gcrt_unlock(&cycle.lock);
  gcrt_futex_wake(&cycle.ended, INT32_MAX);
}

/* Under the loader's lock. Keeps the cycle's if it collected, and then every signal blocked until the sweep is done: a
 * handler of the program could move a pointer past the marker, or leave by a jump with the lock held. */
static void collect_as_requested(void *argument) {
  struct request *request = argument;
  gcrt_signal_block_all(&request->signals);
  request->busy = !gcrt_lock_try(&cycle.lock);
  if (!request->busy) {
    finish_sweep();
    if (wanted(request->reason, request->begun)) {
      begin(&request->report, request->reason);
      gcrt_cycle_phase(GCRT_CYCLE_STOP, &request->report);
      request->collected = gcrt_cycle_stopped(gcrt_cycle_mark_stopped, &request->report);
      if (request->collected) return;
      gcrt_cycle_phase(GCRT_CYCLE_IDLE, &request->report);
    }
    gcrt_unlock(&cycle.lock);
  }
  gcrt_signal_restore(&request->signals);
}

void gcrt_cycle_run_in_background(enum gcrt_cycle_reason reason) {
  gcrt_lock(&cycle.lock);
  finish_sweep();
  struct gcrt_cycle_report report = {0};
  if (wanted(reason, gcrt_load(&cycle.begun))) {
    begin(&report, reason);
    if (gcrt_concurrent_mark(&report)) {
      complete(&report);
      gcrt_pace_end();
      gcrt_cpu_time_update();
      gcrt_scavenger_wake();
      return;
    }
    gcrt_cycle_phase(GCRT_CYCLE_IDLE, &report);
    /* Those who wait for it find that it did not help. */
    gcrt_store_release(&cycle.ended, report.number);
  }
  gcrt_unlock(&cycle.lock);
  gcrt_futex_wake(&cycle.ended, INT32_MAX);
}

/* Until a collection has ended, at most so long. */
static void wait_for_end(size_t ended, int64_t ns) {
  GCRT_PARK_SCOPE(park);
  gcrt_pace_hurry();
  gcrt_futex_wait(&cycle.ended, (uint32_t)ended, ns);
  gcrt_pace_relax();
}

/* Until a collection that began after the request has ended. False: it cannot, as this thread holds the loader's lock.
 */
static bool wait_for_background(const struct request *request) {
  size_t call = 0;
  uint64_t since = 0;
  for (;;) {
    size_t ended = gcrt_load_acquire(&cycle.ended);
    if (ended > request->begun) return true;
    wait_for_end(ended, LOADER_PATIENCE_NS / 10);
    uint64_t now = gcrt_clock_monotonic();
    size_t calls = gcrt_load(&cycle.loader_calls);
    if (calls != call || gcrt_load(&cycle.loader_held)) since = now;
    call = calls;
    if (calls % 2 != 0 && now - since > LOADER_PATIENCE_NS) return false;
  }
}

/* Bytes that the collection that runs, or the last one, has scanned. */
static uint64_t scanned(void) {
  struct gcrt_mark_stats stats;
  gcrt_mark_get_stats(&stats);
  return stats.scanned - gcrt_load(&cycle.scanned_before);
}

/* Then it does not matter whether marking keeps to a plan. */
static bool past_the_limit(void) { return gcrt_pacer_limited() && gcrt_load(&gcrt_heap.live) >= gcrt_pacer_limit(); }

/* Takes part in what the collection that runs is doing, as far as it is behind. A thread that has reached the limit and
 * finds nothing to take part in has outrun the collection, and waits: whoever runs it may not even be scheduled. */
static void assist(size_t ended) {
  gcrt_cpu_time_update();
  if (gcrt_cpu_time_limits()) return;
  bool helped = true;
  for (unsigned turn = 0; turn < ASSIST_TURNS && helped; turn++) {
    bool marking = gcrt_load(&gcrt_heap.marking) != 0;
    bool behind = marking ? gcrt_pacer_behind(scanned()) : !gcrt_pacer_sweeping() || gcrt_pacer_sweep_behind();
    if (!behind && !past_the_limit()) return;
    gcrt_gate_enter(gcrt_self);
    helped = gcrt_load(&gcrt_heap.marking) ? gcrt_mark_assist() : gcrt_heap_sweep_some();
    gcrt_gate_exit(gcrt_self);
    if (!marking) break;
  }
  bool outrun = gcrt_load(&gcrt_heap.live) >= gcrt_pacer_limit() || gcrt_pacer_sweep_outrun();
  if (!helped && outrun) wait_for_end(ended, OUTRUN_WAIT_NS);
}

/* A thread that reached the trigger goes on. */
static bool collect_in_background(const struct request *request) {
  size_t ended = gcrt_load_acquire(&cycle.ended);
  bool running = gcrt_load(&gcrt_heap.marking) != 0;
  if (!running || request->reason != GCRT_CYCLE_GOAL) gcrt_background_request(request->reason);
  if (request->reason != GCRT_CYCLE_GOAL) return wait_for_background(request);
  assist(ended);
  return false;
}

/* The background thread is the clock. A heap that leaves less behind is not worth a thread. */
static void watch_the_time(const struct gcrt_cycle_report *report) {
  bool watches = gcrt_pacer_percent() >= 0 || gcrt_limit_percent_of_group() != 0;
  if (report->heap_after >= WATCHED_BYTES && watches) (void)gcrt_background_start();
}

/* By somebody: in a forked child, whose parent was sweeping, it is nobody, and a collection has to complete it. */
static bool sweep_is_under_way(void) {
  return gcrt_pacer_sweeping() && gcrt_load(&cycle.begun) != gcrt_load(&cycle.ended);
}

/* A thread that waits for the end of the collection, and is the only one: one stop is shorter for it, and stops nobody
 * else. */
static bool alone(enum gcrt_cycle_reason reason) {
  bool waits = reason == GCRT_CYCLE_FORCED || reason == GCRT_CYCLE_EMERGENCY;
  return waits && gcrt_options.tracker == GCRT_CHOOSE_auto && gcrt_load(&gcrt_world.records) == 1;
}

GCRT_NOINLINE bool gcrt_cycle_collect(enum gcrt_cycle_reason reason) {
  GCRT_CHECK(gcrt_self && gcrt_load(&gcrt_self->busy) == 0);
  if (reason == GCRT_CYCLE_GOAL && (gcrt_load(&gcrt_heap.marking) || sweep_is_under_way())) {
    assist(gcrt_load_acquire(&cycle.ended));
    return false;
  }
  if (reason == GCRT_CYCLE_GOAL && gcrt_limit_postpones()) return false;
  struct request request = {.reason = reason, .begun = gcrt_load(&cycle.begun)};
  if (reason == GCRT_CYCLE_FORCED) gcrt_world_let_run(RUN_BETWEEN_FORCED_NS);
  if (reason == GCRT_CYCLE_STRESS) gcrt_world_let_run(0);
  for (;;) {
    bool marking = gcrt_load(&gcrt_heap.marking) != 0;
    bool beside = marking || (!alone(reason) && gcrt_concurrent_suits());
    if (beside && (marking || gcrt_background_start())) return collect_in_background(&request);
    gcrt_mark_start_helpers(gcrt_cycle_members(gcrt_load(&gcrt_heap.live)));
    size_t ended = gcrt_load(&cycle.ended);
    call_in_loader(collect_as_requested, &request);
    if (request.collected) {
      gcrt_cycle_phase(GCRT_CYCLE_SWEEP, &request.report);
      complete(&request.report);
      gcrt_signal_restore(&request.signals);
      gcrt_cpu_time_update();
      watch_the_time(&request.report);
      gcrt_scavenger_wake();
    }
    if (!request.busy) return request.collected;
    if (reason == GCRT_CYCLE_GOAL) {
      assist(ended);
      return false;
    }
    wait_for_end(ended, OUTRUN_WAIT_NS);
  }
}

void gcrt_cycle_stop_helpers(bool wait) {
  if (wait) {
    gcrt_lock(&cycle.lock);
  } else if (!gcrt_lock_try(&cycle.lock)) {
    return;
  }
  gcrt_mark_stop_helpers();
  gcrt_unlock(&cycle.lock);
}

void gcrt_cycle_fork_prepare(void) {
  /* Two threads that fork at once take turns. */
  while (!gcrt_cas_full(&cycle.forking, 0, 1)) gcrt_futex_wait(&cycle.forking, 1, -1);
  /* A thread that forks from a callback of dl_iterate_phdr holds the loader's lock itself, and those inside wait for
   * it: when none of them holds it, a second is more than enough for them to come out otherwise. */
  size_t inside;
  while ((inside = gcrt_load_acquire(&cycle.inside)) != 0) {
    bool woken = gcrt_futex_wait(&cycle.inside, (uint32_t)inside, FORK_PATIENCE_NS);
    if (!woken && !gcrt_load(&cycle.loader_held)) break;
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
  gcrt_mark_after_fork();
  gcrt_pace_after_fork();
  gcrt_heap_abandon_marking();
  gcrt_pacer_after_fork();
  gcrt_concurrent_after_fork();
  gcrt_background_after_fork();
  gcrt_scavenger_after_fork();
  gcrt_limit_after_fork();
  gcrt_cpu_time_after_fork();
  gcrt_limit_handler_after_fork();
  gcrt_store(&cycle.ended, gcrt_load(&cycle.begun));
  gcrt_store(&cycle.loader_calls, 0);
  gcrt_store(&cycle.loader_held, 0);
  gcrt_store(&cycle.inside, 0);
  gcrt_store(&cycle.forking, 0);
  /* The counts of the spans must be right before the caches of the other threads are taken apart, those of the classes
   * can only be after that. */
  bool others = gcrt_world.count > 1;
  if (others) gcrt_heap_recount_spans();
  gcrt_world_after_fork();
  if (others) gcrt_heap_recount_classes(gcrt_self ? gcrt_self->cache : NULL);
}
