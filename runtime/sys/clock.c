/* Clocks by clock_gettime, which the kernel serves without a system call where it can and which is async-signal-safe.
 * It cannot fail for these clocks, so errno is never touched. Anyone may call it. */
#include "sys/clock.h"

#include <time.h>

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec now = {0, 0};
  (void)clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t gcrt_clock_monotonic(void) { return nanoseconds(CLOCK_MONOTONIC); }
uint64_t gcrt_clock_realtime(void) { return nanoseconds(CLOCK_REALTIME); }
uint64_t gcrt_clock_thread_cpu(void) { return nanoseconds(CLOCK_THREAD_CPUTIME_ID); }
uint64_t gcrt_clock_process_cpu(void) { return nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }
