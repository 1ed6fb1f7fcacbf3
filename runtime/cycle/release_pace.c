/* The scavenger's goals and its pace, as pure functions.
 *
 * The pace is an account: at 1 % each nanosecond of work is paid for by 99 of sleep, and a sleep that was too long is
 * credit. So the share converges to the percentage whatever a batch takes and however late the thread wakes up. Credit
 * is bounded: after a long hold-up there is one batch more, not a burst. A controller with gains, as Go has, was not
 * chosen: it estimates what is known here.
 *
 * A page of 4 KiB that was not touched lately costs 0.24 us to give back (bench/release.c, 1 GiB: 60 ms). At 1 % of one
 * processor a GiB takes 6 s, at 2 % 3 s; no more than that, as a machine with many processors may have many heaps.
 *
 * Go puts the new goal in proportion to the last one alone. After a collection that was asked for far below its goal
 * that would keep less than the next cycle needs, to be taken back page by page; so what the heap had reached counts if
 * it was less.
 *
 * No state but the caller's. Async-signal-safe. */
#include "cycle/release_pace.h"

#include "base/bits.h"

enum { RETAIN_PERCENT = 110, LIMIT_PERCENT = 95, PERCENT_MOST = 2 };
/* A sleep of a day; longer ones would overflow. */
#define OWED_NS ((int64_t)86400 * 1000000000)

static uint64_t percent_of(uint64_t value, unsigned percent) {
  unsigned __int128 result = (unsigned __int128)value * percent / 100;
  return result > UINT64_MAX ? UINT64_MAX : (uint64_t)result;
}

uint64_t gcrt_release_goal(uint64_t inuse, uint64_t heap, uint64_t next_goal) {
  if (next_goal == UINT64_MAX) return percent_of(inuse, RETAIN_PERCENT);
  unsigned __int128 next = (unsigned __int128)inuse * next_goal / (heap ? heap : 1);
  unsigned __int128 most = (unsigned __int128)inuse + next_goal;
  if (next > most) next = most;
  return percent_of(next > UINT64_MAX ? UINT64_MAX : (uint64_t)next, RETAIN_PERCENT);
}

uint64_t gcrt_release_limit_goal(uint64_t limit) {
  return limit == UINT64_MAX ? UINT64_MAX : percent_of(limit, LIMIT_PERCENT);
}

struct gcrt_release_pace gcrt_release_pace_begin(unsigned processors) {
  unsigned percent = processors < PERCENT_MOST ? processors : PERCENT_MOST;
  return (struct gcrt_release_pace){.percent = percent ? percent : 1};
}

/* The sleep that pays for so much work. */
static int64_t price(const struct gcrt_release_pace *pace, uint64_t cpu_ns) {
  return (int64_t)(gcrt_min(cpu_ns, (uint64_t)OWED_NS / 100) * (100 - pace->percent) / pace->percent);
}

void gcrt_release_pace_worked(struct gcrt_release_pace *pace, uint64_t cpu_ns) {
  pace->owed += price(pace, cpu_ns);
  if (pace->owed > OWED_NS) pace->owed = OWED_NS;
}

void gcrt_release_pace_slept(struct gcrt_release_pace *pace, uint64_t ns) {
  int64_t credit = price(pace, GCRT_RELEASE_BATCH_NS);
  pace->owed -= (int64_t)gcrt_min(ns, (uint64_t)OWED_NS);
  if (pace->owed < -credit) pace->owed = -credit;
}

uint64_t gcrt_release_pace_sleep(const struct gcrt_release_pace *pace) {
  return pace->owed > 0 ? (uint64_t)pace->owed : 0;
}
