/* The program's handler for a limit that cannot be kept (gc_set_limit_handler).
 *
 * Whoever feeds the limiter looks whether it is time, and starts a thread: the handler may take long, wait for threads
 * that allocate, and collect, so it can run neither in the middle of an allocation nor on a thread that collections
 * need. The thread is a mutator from its beginning to its end. One that waits for its next call was not chosen: as a
 * mutator it would keep a process whose last thread has ended.
 *
 * Invariant: `runs` is set from the decision to the thread's end, and nobody else decides meanwhile. `lock` guards the
 * setting; a mutator holds it in a critical section. The argument is a root as every variable of a loaded object is.
 * Not async-signal-safe. */
#include "base/bits.h"
#include "base/report.h"
#include "cycle/limit.h"
#include "cycle/scavenger.h"
#include "sys/clock.h"
#include "sys/proc.h"
#include "sys/signal.h"
#include "world/park.h"

static struct {
  struct gcrt_lock lock;
  gc_limit_handler fn;
  void *argument;
  uint64_t after, next; /* ns under pressure; the moment before which it is not called again */
  bool runs;
  gcrt_word set; /* fn is not NULL */
} handler;

static void lock(void) {
  if (gcrt_self) gcrt_gate_enter(gcrt_self);
  gcrt_lock(&handler.lock);
}

static void unlock(void) {
  gcrt_unlock(&handler.lock);
  if (gcrt_self) gcrt_gate_exit(gcrt_self);
}

void gcrt_limit_handler_set(gc_limit_handler fn, void *argument, uint64_t after_ns) {
  lock();
  handler.fn = fn;
  handler.argument = argument;
  handler.after = after_ns;
  handler.next = 0;
  gcrt_store(&handler.set, fn != NULL);
  unlock();
}

static void done(void) {
  lock();
  uint64_t now = gcrt_clock_monotonic();
  handler.next = now > UINT64_MAX - handler.after ? UINT64_MAX : now + handler.after;
  handler.runs = false;
  unlock();
}

static void drop_caches(void) {
  gcrt_cycle_collect(GCRT_CYCLE_FORCED);
  gcrt_scavenger_release(UINT64_MAX);
  gcrt_scavenger_tell();
}

_Noreturn static void give_up(const struct gc_limit_report *report) {
  gcrt_fatal("the memory limit of %lu bytes cannot be kept: %lu bytes are mapped, %lu are reachable; for %lu ms the "
             "collector has wanted more than half of the processors' time, and it was held back for %lu ms in all",
             (unsigned long)report->limit, (unsigned long)report->mapped, (unsigned long)report->live,
             (unsigned long)(report->pressed_ns / 1000000), (unsigned long)(report->limited_ns / 1000000));
}

static void call(gc_limit_handler fn, void *argument) {
  struct gcrt_cpu_time_stats stats;
  gcrt_cpu_time_get_stats(&stats);
  const struct gc_limit_report report = {.limit = gcrt_limit_bytes(),
                                         .mapped = gcrt_limit_mapped(),
                                         .live = gcrt_pacer_live(),
                                         .pressed_ns = stats.pressed_ns,
                                         .limited_ns = stats.limited_ns};
  enum gc_limit_action action = fn(&report, argument);
  switch (action) {
  case GC_LIMIT_CARRY_ON:
    return;
  case GC_LIMIT_DROP_CACHES:
    drop_caches();
    return;
  case GC_LIMIT_ABORT:
    give_up(&report);
  }
  gcrt_fatal("gc_set_limit_handler: the handler returned %d, which is no action", (int)action);
}

static void run(void *unused) {
  (void)unused;
  gcrt_signal_unblock(gcrt_stop_signal);
  if (gcrt_thread_attach()) {
    lock();
    gc_limit_handler fn = handler.fn;
    void *argument = handler.argument;
    unlock();
    if (fn) call(fn, argument);
  }
  done();
  gcrt_thread_detach_self();
}

static bool start(void) {
  GCRT_PARK_SCOPE(park);
  return gcrt_thread_start_for_program(run, NULL, "gcrt-limit");
}

void gcrt_limit_handler_look(uint64_t pressed_ns) {
  if (!gcrt_load(&handler.set) || pressed_ns == 0) return;
  lock();
  bool due = handler.fn && !handler.runs && pressed_ns >= handler.after && gcrt_clock_monotonic() >= handler.next;
  if (due) handler.runs = true;
  unlock();
  if (due && !start()) done();
}

void gcrt_limit_handler_after_fork(void) {
  gcrt_lock_reset(&handler.lock);
  handler.runs = false;
}
