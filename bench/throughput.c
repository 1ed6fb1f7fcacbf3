/* throughput THREADS COUNT: how allocation scales with threads.
 *
 * Objects of 16 to 128 bytes in random order replace random ones of 1024 live objects a thread. Threads share nothing
 * but the allocator. Every thread does COUNT / THREADS, so perfect scaling halves the time of two threads; the figure
 * is mops, million allocations a second of all threads together. */
#include "threads.h"

#include "report.h"

enum { LIVE = 1024, SMALLEST = 16, LARGEST = 128 };

static void *mutate(void *arg) {
  struct work *w = arg;
  uint64_t **live = allocate(LIVE * sizeof *live);
  memset(live, 0, LIVE * sizeof *live);
  uint64_t state = 88172645463325252u + w->thread, checksum = 0;
  pthread_barrier_wait(w->start);
  for (uint64_t i = 0; i < w->count; i++) {
    uint64_t random = next_random(&state);
    uint64_t **slot = &live[random % LIVE];
    if (*slot != NULL) {
      checksum += **slot * 31;
      release(*slot);
    }
    *slot = allocate(SMALLEST + (((random >> 32) * (LARGEST - SMALLEST + 1)) >> 32));
    **slot = i;
  }
  for (size_t i = 0; i < LIVE; i++)
    if (live[i] != NULL) {
      checksum += *live[i];
      release(live[i]);
    }
  release(live);
  w->checksum = checksum;
  return NULL;
}

int main(int argc, char **argv) {
  unsigned threads = (unsigned)argument(argc, argv, 1, "threads", 1, 1, MOST_THREADS);
  uint64_t count = argument(argc, argv, 2, "count", 24000000, threads, (uint64_t)1 << 40);
  allocator_start();
  uint64_t start = now_ns();
  uint64_t checksum = run_threads(threads, 0, count, mutate);
  uint64_t wall = now_ns() - start;
  printf("mops=%.3f\n", (double)count * 1000.0 / (double)wall);
  report_run(wall, checksum);
  return 0;
}
