/* GCRT_DEBUG=scavtrace=1: one line when memory was given back, in the form of Go's scavtrace.
 *
 *   scav N @TIMEs WORK KiB work (bg), WORK KiB work (eager), KEPT KiB now, ALL KiB total, SHARE% util
 *
 * WORK is what was given back since the line before, by the scavenger and by threads that asked for it. KEPT is what
 * the heap has in use or idle and did not give back, SHARE the part of it in use. ALL is what was given back since the
 * start.
 *
 * Called by the scavenger and by gc_free_os_memory, under no lock. One write(2) a line, no allocation. */
#include "observe/observe.h"

#include "base/report.h"

static unsigned long kibibytes(uint64_t bytes) { return (unsigned long)(bytes >> 10); }

void gcrt_scavtrace_line(const struct gcrt_release_report *report, uint64_t since_start_ns) {
  static gcrt_word lines;
  uint64_t ms = since_start_ns / 1000000;
  uint64_t used = report->retained ? report->inuse * 100 / report->retained : 0;
  char line[256];
  size_t length =
      gcrt_format(line, sizeof line,
                  "scav %lu @%lu.%c%c%cs %lu KiB work (bg), %lu KiB work (eager), %lu KiB now, "
                  "%lu KiB total, %lu%% util\n",
                  (unsigned long)gcrt_add(&lines, 1) + 1, (unsigned long)(ms / 1000), (char)('0' + ms / 100 % 10),
                  (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), kibibytes(report->background),
                  kibibytes(report->eager), kibibytes(report->retained), kibibytes(report->total), (unsigned long)used);
  gcrt_write_error(line, length);
}
