/* The thread that gives free memory back, and the ways to have it done at once.
 *
 * After each cycle there is a goal for what the heap keeps (release_pace.h). While it has more the thread works for a
 * millisecond and sleeps for fifty to a hundred, until the goal is met, nothing is free or the system refuses; then it
 * sleeps without a time-out until a cycle or a new limit wakes it. So a program that goes idle gets smaller by itself,
 * and an idle one that is small has no wake-ups.
 *
 * `wakes` is the futex it sleeps on: whoever changes a goal counts it up. A wake-up in the pause between two batches
 * does not cut it short. The thread blocks every signal, is no mutator and goes on in a stop; it takes release_lock and
 * pages_lock alone, so nothing waits for it longer than one system call. Started by whoever completed a cycle, after
 * the cycle's lock was given up, as starting a thread may wait for the loader. Thread-safe, not async-signal-safe. */
#include "cycle/scavenger.h"

#include "cycle/limit.h"
#include "cycle/release_pace.h"
#include "heap/heap.h"
#include "heap/stats.h"
#include "sys/clock.h"
#include "sys/proc.h"
#include "sys/signal.h"
#include "world/park.h"

enum { TELL_NS = 1000000000 };

/* Bytes above a goal that are worth a thread and its wake-ups. */
enum { WORTH = 1 << 20 };

static struct {
  struct gcrt_lock starting; /* tried, never waited for */
  gcrt_word started;
  gcrt_word generation; /* of the thread that serves; another one ends */
  gcrt_word wakes;
  gcrt_word goal, limit_goal;
  gcrt_word cpu_ns, assist_ns;
  gcrt_word background, eager; /* bytes that the listener has not heard of */
} scavenger = {.goal = SIZE_MAX, .limit_goal = SIZE_MAX};

static uint64_t above(uint64_t bytes, uint64_t goal) { return bytes > goal ? bytes - goal : 0; }

/* Bytes to be given back. */
static uint64_t excess(void) {
  if (gcrt_load(&gcrt_heap.dirty) == 0) return 0;
  uint64_t bytes = above(gcrt_heap_retained(), gcrt_load(&scavenger.goal));
  uint64_t limit_goal = gcrt_load(&scavenger.limit_goal);
  return limit_goal == UINT64_MAX ? bytes : gcrt_max(bytes, above(gcrt_limit_mapped(), limit_goal));
}

static uint64_t take(gcrt_word *bytes) {
  size_t taken;
  do taken = gcrt_load(bytes);
  while (!gcrt_cas_full(bytes, taken, 0));
  return taken;
}

void gcrt_scavenger_tell(void) {
  if (!gcrt_cycle_listener.released) return;
  struct gcrt_heap_usage usage;
  /* It takes a lock, with which no mutator may be stopped. */
  if (gcrt_self) gcrt_gate_enter(gcrt_self);
  gcrt_heap_usage(&usage);
  if (gcrt_self) gcrt_gate_exit(gcrt_self);
  struct gcrt_release_report report = {
      .background = take(&scavenger.background),
      .eager = take(&scavenger.eager),
      .inuse = usage.heap_inuse,
      .retained = usage.heap_sys - usage.heap_released,
      .total = usage.released_total,
  };
  if (report.background + report.eager > 0) gcrt_cycle_listener.released(&report);
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static bool serves(size_t generation) { return gcrt_load_acquire(&scavenger.generation) == generation; }

/* A millisecond of work; *cpu is the thread's time when the last one ended. False: nothing could be given back. */
static bool work(uint64_t *cpu, struct gcrt_release_pace *pace) {
  uint64_t bytes, released = 0, now = *cpu;
  while ((bytes = excess()) != 0 && now - *cpu < GCRT_RELEASE_BATCH_NS) {
    size_t step = gcrt_release_some(bytes, GCRT_RELEASE_GENTLY);
    now = gcrt_clock_thread_cpu();
    if (step == 0) break;
    released += step;
  }
  gcrt_add(&scavenger.background, released);
  gcrt_add(&scavenger.cpu_ns, now - *cpu);
  gcrt_release_pace_worked(pace, now - *cpu);
  *cpu = now;
  return released != 0;
}

static void rest(struct gcrt_release_pace *pace, size_t generation) {
  uint64_t ns;
  while ((ns = gcrt_release_pace_sleep(pace)) != 0 && serves(generation)) {
    uint64_t begin = gcrt_clock_monotonic();
    size_t wakes = gcrt_load_acquire(&scavenger.wakes);
    if (serves(generation)) gcrt_futex_wait(&scavenger.wakes, (uint32_t)wakes, (int64_t)ns);
    gcrt_release_pace_slept(pace, gcrt_clock_monotonic() - begin);
  }
}

static void serve(void *argument) {
  size_t generation = (size_t)argument;
  struct gcrt_release_pace pace = gcrt_release_pace_begin(gcrt_cpu_count());
  uint64_t cpu = gcrt_clock_thread_cpu(), told = gcrt_clock_monotonic();
  while (serves(generation)) {
    size_t wakes = gcrt_load_acquire(&scavenger.wakes);
    if (!work(&cpu, &pace)) {
      gcrt_scavenger_tell();
      if (serves(generation)) gcrt_futex_wait(&scavenger.wakes, (uint32_t)wakes, -1);
      continue;
    }
    uint64_t now = gcrt_clock_monotonic();
    if (now - told >= TELL_NS) {
      told = now;
      gcrt_scavenger_tell();
    }
    rest(&pace, generation);
  }
}

/* Only a thread of the library's has to look. */
static bool has_mutators(void) {
  if (gcrt_self) return true;
  gcrt_lock(&gcrt_world.lock);
  bool has = gcrt_world.count > 0;
  gcrt_unlock(&gcrt_world.lock);
  return has;
}

/* The program's last thread may end in this moment, while a cycle comes to its end: then the new thread must not keep
 * the process. The count of threads falls before the generation changes, so one of both is seen. */
static bool start_one(void) {
  size_t generation = gcrt_load_acquire(&scavenger.generation);
  if (!has_mutators()) return false;
  GCRT_PARK_SCOPE(park);
  if (!gcrt_thread_start(serve, (void *)generation, "gcrt-scavenger")) return false;
  gcrt_store_full(&scavenger.started, 1);
  if (!serves(generation)) gcrt_store(&scavenger.started, 0);
  return true;
}

/* A handler that leaves by a jump must not take the lock with it. */
static bool start(void) {
  if (gcrt_load_acquire(&scavenger.started)) return true;
  sigset_t signals;
  gcrt_signal_block_all(&signals);
  bool started = true;
  if (gcrt_lock_try(&scavenger.starting)) {
    started = gcrt_load(&scavenger.started) != 0 || start_one();
    gcrt_unlock(&scavenger.starting);
  }
  gcrt_signal_restore(&signals);
  return started;
}

/* --- who wakes it ------------------------------------------------------------------------------------------------ */

void gcrt_scavenger_wake(void) {
  if (excess() < WORTH || !start()) return;
  gcrt_add_full(&scavenger.wakes, 1);
  gcrt_futex_wake(&scavenger.wakes, INT32_MAX);
}

void gcrt_scavenger_cycle_end(const struct gcrt_cycle_report *report) {
  uint64_t heap = gcrt_min(report->goal, report->heap_flip);
  gcrt_store(&scavenger.goal, gcrt_release_goal(report->heap_inuse, heap, report->next_goal));
}

void gcrt_scavenger_set_limit(uint64_t limit) {
  gcrt_store(&scavenger.limit_goal, gcrt_release_limit_goal(limit));
  gcrt_scavenger_wake();
}

uint64_t gcrt_scavenger_release(uint64_t bytes) {
  uint64_t begin = gcrt_clock_monotonic(), released = 0;
  size_t step = 1;
  /* Others may free chunks all the time. */
  bytes = gcrt_min(bytes, gcrt_load(&gcrt_heap.dirty) * GCRT_CHUNK);
  while (released < bytes && step != 0) {
    gcrt_gate_enter(gcrt_self);
    step = gcrt_release_some(bytes - released, GCRT_RELEASE_ALL);
    gcrt_gate_exit(gcrt_self);
    released += step;
  }
  gcrt_add(&scavenger.eager, released);
  gcrt_add(&scavenger.assist_ns, gcrt_clock_monotonic() - begin);
  return released;
}

void gcrt_scavenger_get_stats(struct gcrt_scavenger_stats *stats) {
  *stats = (struct gcrt_scavenger_stats){
      .goal = gcrt_load(&scavenger.goal),
      .cpu_ns = gcrt_load(&scavenger.cpu_ns),
      .assist_ns = gcrt_load(&scavenger.assist_ns),
  };
}

void gcrt_scavenger_quit(void) {
  gcrt_add_full(&scavenger.generation, 1);
  gcrt_store(&scavenger.started, 0);
  gcrt_add_full(&scavenger.wakes, 1);
  gcrt_futex_wake(&scavenger.wakes, INT32_MAX);
}

void gcrt_scavenger_after_fork(void) {
  gcrt_lock_reset(&scavenger.starting);
  gcrt_store(&scavenger.started, 0);
}
