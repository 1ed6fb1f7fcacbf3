/* The thread on which concurrent collections run. It sleeps until one is asked for; requests that come meanwhile are
 * served by the next one, if they are not served by then. While it sleeps it is the clock as well: two minutes after
 * the last collection there is another one, of whatever kind suits, so that a program which allocates no more gets back
 * what it has dropped. An idle program is woken once in that time.
 *
 * Started by the first mutator that wants it, parked, as making a thread may wait for one that loads a library. It
 * blocks every signal and is no mutator. Thread-safe, not async-signal-safe. */
#include "base/bits.h"
#include "cycle/controller.h"
#include "cycle/limit.h"
#include "cycle/phases.h"
#include "sys/clock.h"
#include "sys/lock.h"
#include "sys/proc.h"
#include "world/park.h"

/* Starting a thread takes less than a millisecond, unless it waits for what the waiting thread holds. */
enum { START_PATIENCE_NS = 50000000 };

static struct {
  struct gcrt_lock starting; /* nobody waits for it long: who starts the thread may wait for who wants it */
  gcrt_word started;
  gcrt_word reasons;    /* a bit for each enum gcrt_cycle_reason that is asked for */
  gcrt_word generation; /* of the thread that serves; another one ends */
} background;

gcrt_word gcrt_background_period = GCRT_CONTROLLER_PERIOD_NS;

bool gcrt_background_overdue(void) {
  uint64_t left;
  return gcrt_pacer_overdue(gcrt_load(&gcrt_background_period), &left);
}

static void wait_for_requests(void) {
  uint64_t left;
  if (gcrt_background_overdue()) gcrt_cycle_run_in_background(GCRT_CYCLE_PERIODIC);
  /* One that had no memory to begin with is overdue still, and has to wait as long. */
  (void)gcrt_pacer_overdue(gcrt_load(&gcrt_background_period), &left);
  int64_t refresh = gcrt_limit_refresh();
  gcrt_futex_wait(&background.reasons, 0, gcrt_min((int64_t)left, refresh));
}

static void serve(void *argument) {
  size_t generation = (size_t)argument;
  while (gcrt_load_acquire(&background.generation) == generation) {
    size_t reasons = gcrt_load_acquire(&background.reasons);
    if (reasons == 0) {
      wait_for_requests();
      continue;
    }
    size_t bit = reasons & -reasons;
    gcrt_clear_bits(&background.reasons, bit);
    gcrt_cycle_run_in_background((enum gcrt_cycle_reason)gcrt_ctz(bit));
  }
  /* The program's last thread could not, if a collection was under way. */
  gcrt_cycle_stop_helpers(true);
}

/* Another thread is starting it. */
static bool wait_for_start(void) {
  GCRT_PARK_SCOPE(park);
  uint64_t begin = gcrt_clock_monotonic();
  while (!gcrt_load_acquire(&background.started) && gcrt_clock_monotonic() - begin < START_PATIENCE_NS) {
    gcrt_futex_wait(&background.started, 0, START_PATIENCE_NS / 50);
  }
  return gcrt_load_acquire(&background.started) != 0;
}

bool gcrt_background_start(void) {
  if (gcrt_load_acquire(&background.started)) return true;
  if (!gcrt_lock_try(&background.starting)) return wait_for_start();
  bool started = gcrt_load(&background.started) != 0;
  if (!started) {
    GCRT_PARK_SCOPE(park);
    started = gcrt_thread_start(serve, (void *)gcrt_load(&background.generation), "gcrt-cycle");
    gcrt_store_release(&background.started, started);
    gcrt_futex_wake(&background.started, INT32_MAX);
  }
  gcrt_unlock(&background.starting);
  return started;
}

void gcrt_background_request(enum gcrt_cycle_reason reason) {
  if (gcrt_set_bits(&background.reasons, (size_t)1 << reason)) gcrt_futex_wake(&background.reasons, 1);
}

void gcrt_background_quit(void) {
  gcrt_add_full(&background.generation, 1);
  gcrt_store(&background.started, 0);
  /* A request that finds nothing due; without it the thread would not look. */
  gcrt_set_bits(&background.reasons, (size_t)1 << GCRT_CYCLE_GOAL);
  gcrt_futex_wake(&background.reasons, INT32_MAX);
}

void gcrt_background_after_fork(void) {
  gcrt_lock_reset(&background.starting);
  gcrt_store(&background.started, 0);
  gcrt_store(&background.reasons, 0);
}
