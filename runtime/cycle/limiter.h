/* The limiter of the collector's processor time: when it has to hold back so that the program gets half of what both
 * use. It decides, others act: while it limits, threads that allocate do not help, and memory may pass its limit.
 *
 * A bucket is filled by the collector's time and drained by the program's. It holds one second for each processor, so
 * a collector that now and then takes everything is never limited, and one that takes more than half for long is. No
 * clock, no heap and no lock inside: times come from the caller, whose lock all of it is under. gcrt_limiter_limits may
 * be asked by any thread without. */
#ifndef GCRT_CYCLE_LIMITER_H
#define GCRT_CYCLE_LIMITER_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

/* What was used up to a moment; ns, all of them counted from fixed beginnings, by all threads together. Time on
 * processors that would have been idle belongs to neither. */
struct gcrt_limiter_times {
  uint64_t now;       /* monotonic */
  uint64_t program;   /* processor time of the program itself */
  uint64_t collector; /* and of the collector, help by threads that allocate included */
};

struct gcrt_limiter {
  uint64_t fill, capacity; /* ns; a tenth over the capacity may be in it */
  uint64_t overflow;       /* ns of the collector's in all that did not fit */
  struct gcrt_limiter_times last;
  uint64_t last_cycle; /* the number of the collection in which it began to limit last; 0: never */
  gcrt_word limits;
  /* Moments of the monotonic clock, 0: it is not so. */
  uint64_t limits_since; /* without a break, however short */
  uint64_t full_since;   /* it began to limit, and the bucket has never been less than half full after that */
  uint64_t ended_ns;     /* that it limited in all, up to limits_since */
};

/* Of a process with so many processors (0 counts as 1), up to now. */
void gcrt_limiter_init(struct gcrt_limiter *limiter, uint64_t processors, const struct gcrt_limiter_times *times);

/* Takes in what was used since the last call. A time that is less than before counts as the same; what passes until it
 * has caught up is not counted twice. `cycle` is the number of the collection that runs or comes next. */
void gcrt_limiter_update(struct gcrt_limiter *limiter, const struct gcrt_limiter_times *times, uint64_t cycle);

/* The same, then goes on with another number of processors: a bucket that is full for the new capacity limits. */
void gcrt_limiter_set_processors(struct gcrt_limiter *limiter, uint64_t processors,
                                 const struct gcrt_limiter_times *times, uint64_t cycle);

GCRT_INLINE bool gcrt_limiter_limits(const struct gcrt_limiter *limiter) { return gcrt_load(&limiter->limits) != 0; }

/* For how long it has limited in all, up to the moment `now`; ns. */
uint64_t gcrt_limiter_total_ns(const struct gcrt_limiter *limiter, uint64_t now);

/* For how long the program has been under pressure without relief, 0 if it is not; ns. Limiting itself ends with the
 * first microsecond that the program is ahead, and begins again soon after: a collector that wants everything and gets
 * half makes it go on and off all the time. So this goes on until the bucket is half empty. */
uint64_t gcrt_limiter_pressed_ns(const struct gcrt_limiter *limiter, uint64_t now);

#endif
