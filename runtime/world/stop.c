/* Stopping and resuming the world, and visiting its threads one by one; the states and invariants stand in thread.h.
 *
 * A running thread gets the stop signal. Its handler publishes the interrupted registers and sleeps on the thread's
 * state until the stopper resets it. Parked threads are held where they are. Nothing here allocates or calls the
 * loader: a stopped thread may hold any lock of the C library's.
 *
 * The handler is async-signal-safe and runs with every signal blocked. A barrier or a semaphore for all threads was not
 * chosen: a word a thread lets the stopper name the one that does not answer. */
#include "base/report.h"
#include "sys/clock.h"
#include "sys/proc.h"
#include "sys/real.h"
#include "sys/signal.h"
#include "world/signals.h"
#include "world/thread.h"

#include <errno.h>

int gcrt_stop_signal;
int gcrt_fault_signal;
static int64_t stop_timeout_ns;

/* How long a forced collection waits for the threads of the one before to be scheduled. */
enum { RESUME_PATIENCE_NS = 10000000 };

void gcrt_thread_resumed(size_t times) {
  if (gcrt_add_full(&gcrt_world.resuming, 0 - times) == times) gcrt_futex_wake(&gcrt_world.resuming, INT32_MAX);
}

/* Says that this thread has stopped, and sleeps until it is resumed. */
static void stay(struct gcrt_thread *thread) {
  gcrt_store_release(&thread->state, GCRT_STOPPED);
  bool last = gcrt_add_full(&gcrt_world.pending, (size_t)-1) == 1;
  if (last || gcrt_load(&gcrt_world.visiting)) gcrt_futex_wake(&gcrt_world.pending, 1);
  while (gcrt_load_acquire(&thread->state) == GCRT_STOPPED) {
    gcrt_futex_wait(&thread->state, GCRT_STOPPED, -1);
  }
  gcrt_thread_resumed(1);
}

static void on_stop_signal(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  int error = errno;
  struct gcrt_thread *thread = gcrt_self;
  if (thread && gcrt_load(&thread->state) == GCRT_SIGNALLED) {
    if (gcrt_load(&thread->busy)) {
      gcrt_store(&thread->state, GCRT_DEFERRED);
    } else {
      gcrt_registers_of_context(&thread->registers, context);
      gcrt_frame_of_context(&thread->frame.low, &thread->frame.high, context);
      thread->alternate = gcrt_thread_alternate(thread, thread->registers.sp);
      thread->stops++;
      stay(thread);
    }
  }
  errno = error;
}

GCRT_NOINLINE void gcrt_stop_deferred(struct gcrt_thread *thread) {
  int error = errno;
  /* As in the handler: a handler of the program that ran meanwhile could move a pointer past the marker. */
  sigset_t old;
  gcrt_signal_block_all(&old);
  if (gcrt_load(&thread->state) == GCRT_DEFERRED) {
    gcrt_registers_save(&thread->registers);
    thread->frame = (struct gcrt_bounds){0, 0};
    thread->alternate = gcrt_thread_alternate(thread, thread->registers.sp);
    thread->stops++;
    stay(thread);
  }
  gcrt_signal_restore(&old);
  errno = error;
}

/* A library that was initialised before may have taken the signal. */
static void require_unused(int signal) {
  struct sigaction old;
  if (gcrt_real(sigaction)(signal, NULL, &old) != 0) return;
  bool taken = (old.sa_flags & SA_SIGINFO) != 0 || (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN);
  if (taken) {
    gcrt_warn("GCRT_SIGNAL=%d: a handler for this signal was installed before; it is replaced. Choose another signal "
              "for the library if the program needs it",
              signal);
  }
}

void gcrt_stop_init(int signal, int64_t timeout_ms) {
  require_unused(signal);
  stop_timeout_ns = timeout_ms * 1000000;
  if (!gcrt_signal_install(signal, on_stop_signal)) {
    gcrt_fatal("GCRT_SIGNAL=%d: the signal cannot be handled: choose another one", signal);
  }
  gcrt_stop_signal = signal;
  /* Whoever started this process may have had every signal blocked. */
  gcrt_signal_unblock(signal);
}

/* Sends the signal. RLIMIT_SIGPENDING may leave no room for it: then it is tried again. False: the thread is gone. */
static bool send(struct gcrt_thread *thread) {
  uint64_t begin = 0;
  bool told = false;
  while (!gcrt_thread_signal(thread->tid, gcrt_stop_signal)) {
    if (!gcrt_thread_exists(thread->tid)) return false;
    uint64_t now = gcrt_clock_monotonic();
    if (begin == 0) begin = now;
    if (!told && now - begin > (uint64_t)stop_timeout_ns) {
      gcrt_warn("thread %d cannot be sent the stop signal, as RLIMIT_SIGPENDING is used up; a collection waits for it",
                thread->tid);
      told = true;
    }
    gcrt_thread_yield();
  }
  return true;
}

/* Moves one thread towards the stop. */
static void halt(struct gcrt_thread *thread) {
  for (;;) {
    size_t state = gcrt_load(&thread->state);
    if (state == GCRT_ENDED) return;
    if (state == GCRT_PARKED && gcrt_cas_full(&thread->state, GCRT_PARKED, GCRT_HELD)) return;
    if (state == GCRT_RUNNING && gcrt_cas_full(&thread->state, GCRT_RUNNING, GCRT_SIGNALLED)) {
      gcrt_add_full(&gcrt_world.pending, 1);
      if (!send(thread)) {
        gcrt_add_full(&gcrt_world.pending, (size_t)-1);
        gcrt_store(&thread->state, GCRT_ENDED);
        gcrt_world.count--;
        gcrt_warn("thread %d ended without gc_thread_unregister: it is forgotten", thread->tid);
      }
      return;
    }
  }
}

/* Names the threads that have not stopped. */
static void name_missing(uint64_t waited_ns) {
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    size_t state = gcrt_load(&t->state);
    if (t == gcrt_self || (state != GCRT_SIGNALLED && state != GCRT_DEFERRED)) continue;
    char text[64];
    gcrt_thread_describe(t->tid, text, sizeof text);
    gcrt_warn("thread %d (%s) has not stopped for %lu ms: %s; a collection waits for it", t->tid, text,
              (unsigned long)(waited_ns / 1000000),
              state == GCRT_SIGNALLED ? "it does not take the stop signal" : "it is inside the library");
  }
}

/* How long threads have been waited for, and when those that are missing are named next. */
struct patience {
  uint64_t begin, next;
};

static struct patience patience_new(void) {
  return (struct patience){gcrt_clock_monotonic(), (uint64_t)stop_timeout_ns};
}

/* While so many are pending. */
static void wait_for_some(struct patience *patience, size_t pending) {
  uint64_t waited = gcrt_clock_monotonic() - patience->begin;
  if (waited >= patience->next) {
    name_missing(waited);
    patience->next *= 2;
    return;
  }
  gcrt_futex_wait(&gcrt_world.pending, (uint32_t)pending, (int64_t)(patience->next - waited));
}

static void wait_for_all(void) {
  struct patience patience = patience_new();
  size_t left;
  while ((left = gcrt_load_acquire(&gcrt_world.pending)) != 0) wait_for_some(&patience, left);
}

uint64_t gcrt_world_stop(void) {
  uint64_t begin = gcrt_clock_monotonic();
  GCRT_CHECK(!gcrt_world.stopped && gcrt_load(&gcrt_world.pending) == 0);
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    if (t != gcrt_self) halt(t);
  }
  wait_for_all();
  gcrt_world.stopped = true;
  return gcrt_clock_monotonic() - begin;
}

/* True: the thread was waiting for this. */
static bool release(struct gcrt_thread *thread) {
  size_t state = gcrt_load(&thread->state);
  if (state == GCRT_HELD && gcrt_cas_full(&thread->state, GCRT_HELD, GCRT_PARKED)) return false;
  state = gcrt_load(&thread->state);
  if (state != GCRT_STOPPED && state != GCRT_AWAITED) return false;
  gcrt_add_full(&gcrt_world.resuming, 1);
  gcrt_store_release(&thread->state, state == GCRT_STOPPED ? GCRT_RUNNING : GCRT_PARKED);
  gcrt_futex_wake(&thread->state, 1);
  return true;
}

void gcrt_world_resume(void) {
  gcrt_world.stopped = false;
  bool any = false;
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    if (t != gcrt_self) any |= release(t);
  }
  gcrt_store(&gcrt_world.resumed, any ? gcrt_clock_monotonic() : 0);
}

static bool come(const struct gcrt_thread *thread) {
  size_t state = gcrt_load_acquire(&thread->state);
  return state != GCRT_SIGNALLED && state != GCRT_DEFERRED;
}

uint64_t gcrt_world_visit(void (*visit)(struct gcrt_thread *thread, void *argument), void *argument) {
  GCRT_CHECK(!gcrt_world.stopped && gcrt_load(&gcrt_world.pending) == 0);
  gcrt_store_full(&gcrt_world.visiting, 1);
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    t->to_visit = t != gcrt_self;
    if (t->to_visit) halt(t);
  }
  struct patience patience = patience_new();
  uint64_t longest = 0;
  for (bool more = true; more;) {
    size_t pending = gcrt_load_acquire(&gcrt_world.pending);
    more = false;
    for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
      if (!t->to_visit) continue;
      if (!come(t)) {
        more = true;
        continue;
      }
      uint64_t begin = gcrt_clock_monotonic();
      visit(t, argument);
      (void)release(t);
      t->to_visit = false;
      longest = gcrt_max(longest, gcrt_clock_monotonic() - begin);
    }
    if (more) wait_for_some(&patience, pending);
  }
  gcrt_store(&gcrt_world.visiting, 0);
  return longest;
}

void gcrt_world_let_run(uint64_t ns) {
  uint64_t running_since = gcrt_load(&gcrt_world.resumed);
  uint64_t begin = gcrt_clock_monotonic();
  uint64_t now = begin;
  size_t left;
  while ((left = gcrt_load_acquire(&gcrt_world.resuming)) != 0 && now - begin < RESUME_PATIENCE_NS) {
    gcrt_futex_wait(&gcrt_world.resuming, (uint32_t)left, (int64_t)(RESUME_PATIENCE_NS - (now - begin)));
    running_since = now = gcrt_clock_monotonic();
  }
  /* A thread that is stopped again as it returns from the handler has not run a single instruction. */
  while (now - running_since < ns) {
    gcrt_futex_wait(&gcrt_world.resuming, 0, (int64_t)(ns - (now - running_since)));
    now = gcrt_clock_monotonic();
  }
}
