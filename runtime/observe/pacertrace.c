/* GCRT_DEBUG=gcpacertrace=1: how collections are paced, in the spirit of Go's gcpacertrace.
 *
 *   pacer: gc N assist ratio=RATIO (scan WORK MB in BEGIN->GOAL MB) workers=COUNT share=PERCENT%
 *   pacer: gc N USED% CPU (EXPECTED exp.) for HEAP+STACKS+GLOBALS B work (WORK B exp.) in BEGIN B -> END B
 *          (∆goal OVER, cons/mark RATE)
 *
 * The first line when marking beside the program has begun, the second, which is one line, at the end. EXPECTED is the
 * share of all processors that marking is expected to get before threads assist, USED what it got with them, idle
 * processors left out. Of a collection in one stop there is the second alone, without the percentages, as nothing is
 * allocated meanwhile.
 *
 * Called under the cycle's lock, while the program runs. One write(2) a line, no allocation; numbers are formatted by
 * hand, as the formatter knows no fractions. */
#include "observe/observe.h"

#include "base/report.h"

enum { NUMBER = 32, LINE = 256 };

/* With three decimals. */
static void decimal(char *text, double value) {
  bool fits = value >= 0 && value < 1e12;
  unsigned long thousandths = fits ? (unsigned long)(value * 1000 + 0.5) : 0;
  gcrt_format(text, NUMBER, fits ? "%lu.%c%c%c" : "-", thousandths / 1000, (char)('0' + thousandths / 100 % 10),
              (char)('0' + thousandths / 10 % 10), (char)('0' + thousandths % 10));
}

static unsigned long megabytes(uint64_t bytes) { return (unsigned long)((bytes + (1 << 19)) >> 20); }
static int percent(double share) { return (int)(share * 100 + 0.5); }

void gcrt_pacertrace_begin(uint64_t number, const struct gcrt_pacer_account *account) {
  char ratio[NUMBER], goal[NUMBER], line[LINE];
  bool off = account->goal == UINT64_MAX;
  decimal(ratio, account->ratio);
  gcrt_format(goal, sizeof goal, off ? "off" : "%lu", megabytes(off ? 0 : account->goal));
  size_t length = gcrt_format(line, sizeof line,
                              "pacer: gc %lu assist ratio=%s (scan %lu MB in %lu->%s MB) workers=%u share=%d%%\n",
                              (unsigned long)number, ratio, megabytes(account->expected), megabytes(account->begin),
                              goal, account->workers, percent(account->share));
  gcrt_write_error(line, length);
}

/* How far the heap was from its goal at the end. */
static void over_goal(char *text, uint64_t end, uint64_t goal) {
  bool over = end >= goal;
  gcrt_format(text, NUMBER,
              goal == UINT64_MAX ? "off"
              : over             ? "+%lu"
                                 : "-%lu",
              (unsigned long)(over ? end - goal : goal - end));
}

void gcrt_pacertrace_end(const struct gcrt_cycle_report *report, const struct gcrt_pacer_account *account) {
  char cpu[NUMBER], expected[NUMBER], over[NUMBER], rate[NUMBER], line[LINE];
  gcrt_format(cpu, sizeof cpu, report->concurrent ? "%d%% CPU (%d exp.)" : "one stop", percent(account->utilisation),
              percent(account->share));
  expected[0] = '\0';
  if (report->concurrent) gcrt_format(expected, sizeof expected, " (%lu B exp.)", (unsigned long)account->expected);
  over_goal(over, report->heap_flip, account->goal);
  decimal(rate, account->cons_mark);
  size_t length = gcrt_format(line, sizeof line,
                              "pacer: gc %lu %s for %lu+%lu+%lu B work%s in %lu B -> %lu B (∆goal %s, cons/mark %s)\n",
                              (unsigned long)report->number, cpu, (unsigned long)account->heap,
                              (unsigned long)account->stacks, (unsigned long)account->globals, expected,
                              (unsigned long)report->heap_before, (unsigned long)report->heap_flip, over, rate);
  gcrt_write_error(line, length);
}
