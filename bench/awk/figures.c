/* The figures of an awk that runs a benchmark, linked into it beside its own files.
 *
 * Its standard output is the script's, which tools/bench compares; the figures go to standard error. The time runs from
 * before main to the end of the process, by a constructor and a destructor, since awk itself stays as it is. */
#include "../report.h"

#include <unistd.h>

static uint64_t began;

__attribute__((constructor)) static void begin(void) {
  allocator_start();
  began = now_ns();
}

__attribute__((destructor)) static void end(void) {
  uint64_t wall = now_ns() - began;
  fflush(stdout);
  if (dup2(STDERR_FILENO, STDOUT_FILENO) == -1) return;
  report_run(wall, 0); /* the checksum is that of the output, which is not seen from here */
}
