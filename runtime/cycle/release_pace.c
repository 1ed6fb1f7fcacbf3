/* The scavenger's goals and its pace, as pure functions.
 *
 * The pace is an account: each nanosecond of work is paid for by 99 of sleep, and a sleep that was too long is credit.
 * So the share converges to 1 % whatever a batch takes and however late the thread wakes up. Credit is bounded: after a
 * long hold-up there is one batch more, not a burst. A controller with gains, as Go has, was not chosen: it estimates
 * what is known here.
 *
 * No state but the caller's. Async-signal-safe. */
#include "cycle/release_pace.h"

#include "base/bits.h"

enum {
  RETAIN_PERCENT = 110,
  LIMIT_PERCENT = 95,
  SLEEP_FACTOR = (100 - GCRT_RELEASE_PERCENT) / GCRT_RELEASE_PERCENT,
};
#define CREDIT_NS ((int64_t)GCRT_RELEASE_BATCH_NS * SLEEP_FACTOR)
/* A sleep of a day; longer ones would overflow. */
#define OWED_NS ((int64_t)86400 * 1000000000)

static uint64_t percent_of(uint64_t value, unsigned percent) {
  unsigned __int128 result = (unsigned __int128)value * percent / 100;
  return result > UINT64_MAX ? UINT64_MAX : (uint64_t)result;
}

uint64_t gcrt_release_goal(uint64_t inuse, uint64_t goal, uint64_t last_goal) {
  if (goal == UINT64_MAX && last_goal == UINT64_MAX) return percent_of(inuse, RETAIN_PERCENT);
  if (goal == UINT64_MAX || last_goal == 0) return UINT64_MAX;
  /* The heap was no multiple of a goal: it will be about the new one. */
  if (last_goal == UINT64_MAX) return percent_of(goal, RETAIN_PERCENT);
  unsigned __int128 next = (unsigned __int128)inuse * goal / last_goal;
  return percent_of(next > UINT64_MAX ? UINT64_MAX : (uint64_t)next, RETAIN_PERCENT);
}

uint64_t gcrt_release_limit_goal(uint64_t limit) {
  return limit == UINT64_MAX ? UINT64_MAX : percent_of(limit, LIMIT_PERCENT);
}

void gcrt_release_pace_worked(struct gcrt_release_pace *pace, uint64_t cpu_ns) {
  uint64_t owed = gcrt_min(cpu_ns, (uint64_t)OWED_NS / SLEEP_FACTOR) * SLEEP_FACTOR;
  pace->owed += (int64_t)owed;
  if (pace->owed > OWED_NS) pace->owed = OWED_NS;
}

void gcrt_release_pace_slept(struct gcrt_release_pace *pace, uint64_t ns) {
  pace->owed -= (int64_t)gcrt_min(ns, (uint64_t)OWED_NS);
  if (pace->owed < -CREDIT_NS) pace->owed = -CREDIT_NS;
}

uint64_t gcrt_release_pace_sleep(const struct gcrt_release_pace *pace) {
  return pace->owed > 0 ? (uint64_t)pace->owed : 0;
}
