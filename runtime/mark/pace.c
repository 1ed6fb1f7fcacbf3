/* How much of a processor marking beside the program takes.
 *
 * While the program has use for every processor, the thread that marks rests after each piece of work, so long that it
 * takes its share and no more. The pieces are short: who wants the processor meanwhile waits for the end of one, not
 * for that of a time slice, which lasts some milliseconds. While a processor is idle there is no rest.
 *
 * Whether one is idle shows between two collections, when only the program runs, and during one while the marker
 * rests: then what the process uses in all is less than there is. A marker that does not rest and loses its processor
 * to another thread has been in somebody's way: it rests from then on. A low priority was not chosen: it makes the
 * marker wait for the program, but not the program's threads go first when the marker has its slice.
 *
 * Used by one thread at a time, under the cycle's lock; `waiting` by any. Async-signal-safe. */
#include "mark/pace.h"

#include "base/bits.h"
#include "sys/clock.h"
#include "sys/lock.h"
#include "sys/proc.h"

#include <stdbool.h>

/* A piece of work, and for how long is looked whether a processor is idle. */
enum { PIECE_NS = 50000, LOOK_NS = 60000000, LOOK_MOST_NS = 1000000000 };

/* A thread that waited so long, and this part of the time, was in the way of others. */
enum { WAITED_NS = 2000000, WAITED_PART = 8 };

/* Of the processors' time, in percent of one: so much counts as one that is idle, before and during a collection. */
enum { IDLE_BEFORE = 75, IDLE_MEANWHILE = 25 };

struct moment {
  uint64_t wall, process; /* ns */
};

static struct {
  unsigned percent;
  bool rests;
  uint64_t piece;   /* thread time at the end of the last rest */
  uint64_t used;    /* since then, when it was last asked */
  long preemptions; /* of this thread */
  uint64_t waited;  /* for its processor, when it last ceased to rest; ns */
  struct moment since;
  uint64_t look_ns;  /* doubled each time that it turns out that none was idle */
  gcrt_word waiting; /* mutators */
} pace = {.percent = 100};

static struct moment now(void) { return (struct moment){gcrt_clock_monotonic(), gcrt_clock_process_cpu()}; }

/* Processors' time that the process has not used since then, in percent of one. */
static uint64_t idle_since(const struct moment *then, const struct moment *now) {
  uint64_t passed = now->wall - then->wall;
  if (passed == 0) return 0;
  uint64_t used = (now->process - gcrt_min(now->process, then->process)) / (passed / 100 + 1);
  uint64_t all = 100 * (uint64_t)gcrt_cpu_count();
  return all - gcrt_min(all, used);
}

static void look_from(const struct moment *moment, bool rests) {
  pace.since = *moment;
  pace.rests = rests;
  pace.preemptions = gcrt_thread_preemptions();
  pace.waited = gcrt_thread_waited();
}

unsigned gcrt_pace_begin(unsigned percent) {
  struct moment moment = now();
  unsigned idle = (unsigned)((idle_since(&pace.since, &moment) + 100 - IDLE_BEFORE) / 100);
  pace.percent = percent;
  pace.look_ns = LOOK_NS;
  look_from(&moment, percent < 100 && idle == 0);
  pace.piece = gcrt_clock_thread_cpu();
  return idle;
}

void gcrt_pace_end(void) { pace.since = now(); }

/* Whether this thread has had to wait for its processor, for a good part of the time since it ceased to rest: a moment
 * now and then is the kernel's, or lasts until a thread has moved to another processor. */
static bool in_the_way(const struct moment *moment) {
  long preemptions = gcrt_thread_preemptions();
  if (preemptions == pace.preemptions) return false;
  pace.preemptions = preemptions;
  uint64_t waited = gcrt_thread_waited() - pace.waited;
  return waited > WAITED_NS && waited > (moment->wall - pace.since.wall) / WAITED_PART;
}

/* Whether one was idle while the thread rested, or none while it did not. */
static void look_around(void) {
  struct moment moment = now();
  if (!pace.rests && in_the_way(&moment)) {
    look_from(&moment, true);
    pace.look_ns = gcrt_min(2 * pace.look_ns, LOOK_MOST_NS);
  } else if (pace.rests && moment.wall - pace.since.wall > pace.look_ns) {
    look_from(&moment, idle_since(&pace.since, &moment) < IDLE_MEANWHILE);
  }
}

bool gcrt_pace_is_due(void) {
  if (pace.percent >= 100) return false;
  pace.used = gcrt_clock_thread_cpu() - pace.piece;
  if (pace.used < PIECE_NS) return false;
  look_around();
  if (pace.rests && gcrt_load(&pace.waiting) == 0) return true;
  pace.piece = gcrt_clock_thread_cpu();
  return false;
}

bool gcrt_pace_rests(void) { return pace.rests; }

void gcrt_pace_rest(void) {
  gcrt_futex_wait(&pace.waiting, 0, (int64_t)(pace.used * (100 - pace.percent) / pace.percent));
  pace.piece = gcrt_clock_thread_cpu();
}

void gcrt_pace_hurry(void) {
  if (gcrt_add(&pace.waiting, 1) == 0) gcrt_futex_wake(&pace.waiting, 1);
}

void gcrt_pace_relax(void) { gcrt_sub(&pace.waiting, 1); }

void gcrt_pace_after_fork(void) { gcrt_store(&pace.waiting, 0); }
