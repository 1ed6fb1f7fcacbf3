/* garbage SIZE THREADS COUNT: what one short-lived object costs, its share of the collections (or its free) included.
 *
 * Each thread keeps its last 1024 objects in a ring and drops the oldest for every new one. Objects are written and
 * read in their first word only: how much of it a program touches is the same for all allocators. COUNT is for all
 * threads together, and ns_per_allocation is wall time over COUNT: two threads that do not hinder each other halve it.
 */
#include "threads.h"

#include "report.h"

enum { RING = 1024 };

static void *churn(void *arg) {
  struct work *w = arg;
  uint64_t **ring = allocate(RING * sizeof *ring);
  memset(ring, 0, RING * sizeof *ring);
  uint64_t checksum = 0;
  pthread_barrier_wait(w->start);
  for (uint64_t i = 0; i < w->count; i++) {
    uint64_t **slot = &ring[i % RING];
    if (*slot != NULL) {
      checksum += **slot * (i | 1);
      release(*slot);
    }
    *slot = allocate(w->size);
    **slot = i + w->thread;
  }
  for (size_t i = 0; i < RING; i++)
    if (ring[i] != NULL) {
      checksum += *ring[i];
      release(ring[i]);
    }
  release(ring);
  w->checksum = checksum;
  return NULL;
}

int main(int argc, char **argv) {
  size_t size = argument(argc, argv, 1, "size", 32, sizeof(uint64_t), 1 << 20);
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", 1, 1, MOST_THREADS);
  uint64_t count = argument(argc, argv, 3, "count", 16000000, threads, (uint64_t)1 << 40);
  allocator_start();
  uint64_t start = now_ns();
  uint64_t checksum = run_threads(threads, size, count, churn);
  uint64_t wall = now_ns() - start;
  printf("ns_per_allocation=%.3f\n", (double)wall / (double)count);
  report_run(wall, checksum);
  return 0;
}
