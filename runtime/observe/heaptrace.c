/* GCRT_DEBUG=heaptrace=1: the heap over time, for tools/plot-heap.
 *
 *   heap @TIMEs ALLOC KiB alloc, LIVE KiB live, GOAL KiB goal, TOTAL KiB total, RSS KiB RSS, LIMIT KiB limit
 *
 * ALLOC is what the goal is compared with: bytes handed out and not yet swept. LIVE is what the last collection found.
 * TOTAL is what counts against a memory limit: all that the library has from the system, without what it gave back or
 * never touched. RSS is what is resident of the whole process, 0 if the system does not tell. GOAL and LIMIT are
 * "off KiB" without one.
 *
 * A line is written when a collection begins, before its last stop, and at its end, as between these the figures run
 * about straight; and when memory was given back.
 *
 * Called under the cycle's lock, or by the scavenger and gc_free_os_memory under none, while the program runs: the
 * figures of one line are not of the same instant. No lock is taken: a thread of the program could be stopped with it.
 * One write(2) a line, no allocation. */
#include "observe/observe.h"

#include "base/report.h"
#include "cycle/limit.h"
#include "heap/heap.h"
#include "sys/proc.h"

enum { NUMBER = 24 };

static unsigned long kibibytes(uint64_t bytes) { return (unsigned long)(bytes >> 10); }

static void bound(char *text, uint64_t bytes) {
  gcrt_format(text, NUMBER, bytes == UINT64_MAX ? "off" : "%lu", kibibytes(bytes));
}

void gcrt_heaptrace_line(uint64_t since_start_ns) {
  char goal[NUMBER], limit[NUMBER], line[320];
  bound(goal, gcrt_pacer_goal());
  bound(limit, gcrt_limit_bytes());
  uint64_t ms = since_start_ns / 1000000;
  size_t length = gcrt_format(
      line, sizeof line,
      "heap @%lu.%c%c%cs %lu KiB alloc, %lu KiB live, %s KiB goal, %lu KiB total, %lu KiB RSS, %s KiB limit\n",
      (unsigned long)(ms / 1000), (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10),
      kibibytes(gcrt_load(&gcrt_heap.live)), kibibytes(gcrt_pacer_live()), goal, kibibytes(gcrt_limit_mapped()),
      kibibytes(gcrt_process_resident()), limit);
  gcrt_write_error(line, length);
}
