/* Interposed calls that sleep.
 *
 * signal(7): nanosleep, clock_nanosleep, usleep and pause fail with EINTR after any handler, SA_RESTART or not, and
 * sleep returns early. A sleeping thread is parked, so that a collection needs no handler to run in it. What the
 * functions return stays theirs.
 *
 * Any thread may call them; no locks. Compiled with -fexceptions: all of them are cancellation points. */
#include "world/interpose_call.h"

#include <errno.h>
#include <threads.h>
#include <unistd.h>

GCRT_EXPORT int nanosleep(const struct timespec *request, struct timespec *remaining) {
  GCRT_KEEP(remaining);
  GCRT_PARKED_CALL(int, gcrt_real(nanosleep)(request, remaining));
}
GCRT_ALSO_CALLED(__nanosleep, nanosleep);

GCRT_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request,
                                struct timespec *remaining) {
  GCRT_KEEP(remaining);
  GCRT_PARKED_CALL(int, gcrt_real(clock_nanosleep)(clock, flags, request, remaining));
}

GCRT_EXPORT int usleep(useconds_t microseconds) { GCRT_PARKED_CALL(int, gcrt_real(usleep)(microseconds)); }

GCRT_EXPORT unsigned sleep(unsigned seconds) {
  if (seconds == 0) return gcrt_real(sleep)(0);
  GCRT_PARKED_CALL(unsigned, gcrt_real(sleep)(seconds));
}

GCRT_EXPORT int thrd_sleep(const struct timespec *request, struct timespec *remaining) {
  if (!gcrt_real(thrd_sleep)) return -2; /* the C library has no C11 threads; -1 would mean a signal */
  GCRT_KEEP(remaining);
  GCRT_PARKED_CALL(int, gcrt_real(thrd_sleep)(request, remaining));
}

GCRT_EXPORT int pause(void) { GCRT_PARKED_CALL(int, gcrt_real(pause)()); }
