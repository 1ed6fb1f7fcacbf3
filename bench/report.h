/* Clocks, arguments and the output of the benchmarks.
 *
 * A program prints one `key=value` a line on standard output and nothing else there. Common keys: allocator, version,
 * wall_ns, cpu_ns (all threads, the collector's too), max_rss_bytes, collections, checksum. The checksum depends on the
 * arguments alone: programs of all allocators must agree on it, so none can be fast by doing less or by losing an
 * object.
 *
 * For programs of one file each: everything is static inline. Included after allocator.h. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "allocator.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The largest resident set of this process. VmHWM comes first: ru_maxrss survives exec, so it is never less than what
 * the process that started this one had. */
static inline uint64_t max_rss_bytes(void) {
  FILE *status = fopen("/proc/self/status", "r");
  if (status != NULL) {
    char line[256];
    unsigned long kib = 0;
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmHWM: %lu", &kib) != 1) continue;
    fclose(status);
    if (kib != 0) return (uint64_t)kib * 1024;
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (uint64_t)usage.ru_maxrss * 1024;
}

/* What of this process is resident now. */
static inline uint64_t rss_bytes(void) {
  unsigned long total = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &total, &resident) != 2) {
    fprintf(stderr, "bench: no resident memory in /proc/self/statm\n");
    exit(1);
  }
  fclose(file);
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Argument `index` as a number in [low, high], `fallback` if it was not given. Anything else ends the program. */
static inline uint64_t argument(int argc, char **argv, int index, const char *name, uint64_t fallback, uint64_t low,
                                uint64_t high) {
  if (index >= argc) return fallback;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(argv[index], &end, 10);
  if (errno != 0 || end == argv[index] || *end != '\0' || argv[index][0] == '-' || value < low || value > high) {
    fprintf(stderr, "%s: %s=%s: expected a number from %" PRIu64 " to %" PRIu64 "\n", argv[0], name, argv[index], low,
            high);
    exit(2);
  }
  return value;
}

static inline void report_number(const char *key, uint64_t value) { printf("%s=%" PRIu64 "\n", key, value); }

/* The common keys. `wall_ns` is the time of what the benchmark measures; it is over when this is called. */
static inline void report_run(uint64_t wall_ns, uint64_t checksum) {
  printf("allocator=%s\n", ALLOCATOR_NAME);
  report_version();
  report_number("wall_ns", wall_ns);
  report_number("cpu_ns", clock_ns(CLOCK_PROCESS_CPUTIME_ID));
  report_number("max_rss_bytes", max_rss_bytes());
  report_number("collections", collections());
  report_number("checksum", checksum);
}

/* A small random number generator (xorshift, full period for any seed but 0): reproducible on every machine. */
static inline uint64_t next_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

/* A number in [0, bound), of the upper half of the next random number. */
static inline uint64_t random_below(uint64_t *state, uint32_t bound) {
  return ((next_random(state) >> 32) * bound) >> 32;
}

#endif
