/* GCRT_DEBUG=gctrace=1: one line a collection, in the form of Go's gctrace.
 *
 *   gc N @TIMEs SHARE%: STOPPING+MARK+SWEEP ms clock, … ms cpu, BEFORE->BEFORE->AFTER MB, GOAL MB goal, …
 *
 * As nothing is allocated while the world is stopped, the heap at the start and at the end of marking are the same.
 * Go's three clock fields are its two short stops around concurrent marking; here they are the way into the stop,
 * marking and sweeping. One write(2) a line, no allocation; numbers are formatted by hand, as the formatter knows no
 * fractions. */
#include "observe/observe.h"

#include "base/report.h"

/* Milliseconds with about three digits. */
static void milliseconds(char *text, size_t size, uint64_t ns) {
  uint64_t us = (ns + 500) / 1000;
  if (us >= 100000) {
    gcrt_format(text, size, "%lu", (unsigned long)(us / 1000));
  } else if (us >= 10000) {
    gcrt_format(text, size, "%lu.%lu", (unsigned long)(us / 1000), (unsigned long)(us / 100 % 10));
  } else {
    gcrt_format(text, size, "%lu.%c%c%c", (unsigned long)(us / 1000), (char)('0' + us / 100 % 10),
                (char)('0' + us / 10 % 10), (char)('0' + us % 10));
  }
}

static unsigned long megabytes(uint64_t bytes) { return (unsigned long)((bytes + (1 << 19)) >> 20); }

void gcrt_gctrace_line(const struct gcrt_cycle_report *report, double cpu_fraction, uint64_t since_start_ns) {
  char stopping[24], mark[24], sweep[24], cpu[24], line[320];
  uint64_t ms = since_start_ns / 1000000;
  milliseconds(stopping, sizeof stopping, report->stopping_ns);
  milliseconds(mark, sizeof mark, report->mark_ns);
  milliseconds(sweep, sizeof sweep, report->sweep_ns);
  milliseconds(cpu, sizeof cpu, report->mark_cpu_ns);
  bool off = report->next_goal == UINT64_MAX;
  char goal[24];
  gcrt_format(goal, sizeof goal, off ? "off" : "%lu", megabytes(report->goal == UINT64_MAX ? 0 : report->goal));
  size_t length = gcrt_format(
      line, sizeof line,
      "gc %lu @%lu.%c%c%cs %d%%: %s+%s+%s ms clock, %s+%s+%s ms cpu, %lu->%lu->%lu MB, %s MB goal, %lu MB stacks, "
      "%lu MB globals, %u P%s\n",
      (unsigned long)report->number, (unsigned long)(ms / 1000), (char)('0' + ms / 100 % 10),
      (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), (int)(cpu_fraction * 100), stopping, mark, sweep, stopping,
      cpu, sweep, megabytes(report->heap_before), megabytes(report->heap_before), megabytes(report->heap_after), goal,
      megabytes(report->stack_bytes), megabytes(report->global_bytes), report->members,
      gcrt_cycle_forced(report->reason) ? " (forced)" : "");
  gcrt_write_error(line, length);
}
