/* GCRT_DEBUG=phasetrace=1: one line whenever a collection enters a phase.
 *
 *   gc N @TIMEs PHASE
 *
 * with the names of GCRT_CYCLE_PHASES and the time to the microsecond, so that lines can be subtracted. IDLE is its
 * end. A phase that stops the program is told before it does, as nothing should wait for standard error meanwhile; of
 * STOP the line therefore comes a little early, of SWEEP after verify's, which sweeps in the stop.
 *
 * Called under the cycle's lock, while the program runs. One write(2) a line, no allocation. */
#include "observe/observe.h"

#include "base/report.h"

void gcrt_phasetrace_line(enum gcrt_cycle_phase phase, uint64_t number, uint64_t since_start_ns) {
  static const char *const names[] = {
#define NAME(name) #name,
      GCRT_CYCLE_PHASES(NAME)
#undef NAME
  };
  uint64_t us = since_start_ns / 1000;
  char fraction[7] = "";
  uint64_t rest = us % 1000000;
  for (int i = 5; i >= 0; i--, rest /= 10) fraction[i] = (char)('0' + rest % 10);
  char line[96];
  size_t length = gcrt_format(line, sizeof line, "gc %lu @%lu.%ss %s\n", (unsigned long)number,
                              (unsigned long)(us / 1000000), fraction, names[phase]);
  gcrt_write_error(line, length);
}
