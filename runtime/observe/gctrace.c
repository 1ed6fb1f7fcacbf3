/* GCRT_DEBUG=gctrace=1: one line a collection, in the form of Go's gctrace.
 *
 *   gc N @TIMEs SHARE%: FIRST+BESIDE+LAST ms clock, … ms cpu, START->END->LIVE MB, GOAL MB goal, …
 *
 * The three phases are Go's: before marking, beside the program, the last stop. What Go does in a first stop is done
 * here to one thread after the other: FIRST is how long one of them was kept at most. A collection in one stop is all
 * last stop, 0+0+LAST, and the two sizes before LIVE are the same. What the sweep and arming take is beside the program
 * and in none of the three.
 *
 * Called under the cycle's lock. One write(2) a line, no allocation; numbers are formatted by hand, as the formatter
 * knows no fractions. */
#include "observe/observe.h"

#include "base/report.h"

enum { NUMBER = 24, TRACKER = 160 };

/* Milliseconds with about three digits. */
static void milliseconds(char *text, uint64_t ns) {
  uint64_t us = (ns + 500) / 1000;
  if (ns == 0) {
    gcrt_format(text, NUMBER, "0");
  } else if (us >= 100000) {
    gcrt_format(text, NUMBER, "%lu", (unsigned long)(us / 1000));
  } else if (us >= 10000) {
    gcrt_format(text, NUMBER, "%lu.%lu", (unsigned long)(us / 1000), (unsigned long)(us / 100 % 10));
  } else {
    gcrt_format(text, NUMBER, "%lu.%c%c%c", (unsigned long)(us / 1000), (char)('0' + us / 100 % 10),
                (char)('0' + us / 10 % 10), (char)('0' + us % 10));
  }
}

static unsigned long megabytes(uint64_t bytes) { return (unsigned long)((bytes + (1 << 19)) >> 20); }

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* FIRST+BESIDE+LAST, by the clock and of processors. */
static void phases(char clock[3][NUMBER], char cpu[3][NUMBER], const struct gcrt_cycle_report *report) {
  uint64_t first = report->concurrent ? report->visit_ns : 0;
  uint64_t beside = report->concurrent ? minus(report->mark_ns, report->arm_ns + report->pause_ns) : 0;
  milliseconds(clock[0], first);
  milliseconds(clock[1], beside);
  milliseconds(clock[2], report->pause_ns);
  milliseconds(cpu[0], first);
  milliseconds(cpu[1], minus(report->mark_cpu_ns + report->scan_cpu_ns, report->stop_cpu_ns));
  milliseconds(cpu[2], report->stop_cpu_ns);
}

/* What the tracker did; in one line of a process, why there is none. */
static void tracker(char *text, const struct gcrt_cycle_report *report) {
  static bool told;
  const char *reason;
  const char *name = gcrt_cycle_tracker(&reason);
  text[0] = '\0';
  if (report->concurrent) {
    char arming[NUMBER];
    milliseconds(arming, report->arm_ns);
    gcrt_format(text, TRACKER, ", %s: %u rounds, %lu pages, %lu in the stop, %s ms arming", name, report->rounds,
                (unsigned long)report->pages, (unsigned long)report->last_pages, arming);
  } else if (reason[0] != '\0' && !told) {
    told = true;
    gcrt_format(text, TRACKER, ", %s: %s", name, reason);
  }
}

void gcrt_gctrace_line(const struct gcrt_cycle_report *report, double cpu_fraction, uint64_t since_start_ns) {
  char clock[3][NUMBER], cpu[3][NUMBER], goal[NUMBER], noted[TRACKER], line[512];
  uint64_t ms = since_start_ns / 1000000;
  phases(clock, cpu, report);
  tracker(noted, report);
  bool off = report->next_goal == UINT64_MAX;
  gcrt_format(goal, sizeof goal, off ? "off" : "%lu", megabytes(report->goal == UINT64_MAX ? 0 : report->goal));
  size_t length = gcrt_format(
      line, sizeof line,
      "gc %lu @%lu.%c%c%cs %d%%: %s+%s+%s ms clock, %s+%s+%s ms cpu, %lu->%lu->%lu MB, %s MB goal, %lu MB stacks, "
      "%lu MB globals, %u P%s%s\n",
      (unsigned long)report->number, (unsigned long)(ms / 1000), (char)('0' + ms / 100 % 10),
      (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), (int)(cpu_fraction * 100), clock[0], clock[1], clock[2],
      cpu[0], cpu[1], cpu[2], megabytes(report->heap_before), megabytes(report->heap_flip),
      megabytes(report->heap_after), goal, megabytes(report->stack_bytes), megabytes(report->global_bytes),
      report->members, noted, gcrt_cycle_forced(report->reason) ? " (forced)" : "");
  gcrt_write_error(line, length);
}
