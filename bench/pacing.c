/* pacing MIB THREADS WORK ROUNDS: how near to its goal a heap in a steady state comes. For this library only.
 *
 * MIB of objects stay alive (slots.h). THREADS threads replace random ones, each after WORK steps of computing: so many
 * bytes are made in so much processor time, from the beginning to the end. ROUNDS times the live heap is made in all.
 * GCRT_GOGC says how much is to be made between two collections.
 *
 * One more thread reads the metrics once a millisecond: `peak` is the most that heap_alloc was from one collection's
 * end to the next one's, in thousandths of the goal, as percentiles over the collections. heap_alloc has what is dead
 * but not swept. The line "pacing: steady" on standard error separates what GCRT_DEBUG=gcpacertrace=1 says of the
 * steady state from what it says before. */
#include "threads.h"

#include "histogram.h"
#include "slots.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { SAMPLE_NS = 1000000, SETTLING = 5 /* collections that are not looked at */ };

static uint64_t slots_of_thread, work;
static atomic_bool over;
static atomic_uint_fast64_t began;
static struct histogram *peaks;

static const struct runtime_metrics *read_metrics(struct runtime_metrics *metrics) {
  if (runtime_metrics_read(metrics) == 0) return metrics;
  fprintf(stderr, "pacing: runtime_metrics_read failed\n");
  exit(1);
}

static void *sample(void *arg) {
  (void)arg;
  static struct runtime_metrics m;
  uint32_t cycle = read_metrics(&m)->num_gc, settled = cycle + SETTLING;
  uint64_t peak = 0, goal = m.next_gc;
  while (!atomic_load(&over)) {
    nanosleep(&(struct timespec){.tv_nsec = SAMPLE_NS}, NULL);
    read_metrics(&m);
    if (m.num_gc != cycle) {
      if (cycle > settled) histogram_add(peaks, peak * 1000 / goal);
      cycle = m.num_gc;
      goal = m.next_gc;
      peak = 0;
    }
    if (m.heap_alloc > peak) peak = m.heap_alloc;
  }
  return NULL;
}

static void *replace(void *arg) {
  struct work *w = arg;
  uint64_t first = w->thread * slots_of_thread, state = 88172645463325252u + w->thread;
  for (uint64_t i = 0; i < slots_of_thread; i++) slot_fill(first + i);
  pthread_barrier_wait(w->start);
  static pthread_t sampler;
  if (w->thread == 0) {
    collect();
    peaks = histogram_new();
    if (pthread_create(&sampler, NULL, sample, NULL) != 0) exit(1);
    fprintf(stderr, "pacing: steady\n");
    atomic_store(&began, now_ns());
  }
  pthread_barrier_wait(w->start);
  for (uint64_t i = 0; i < w->count; i++) {
    slot_fill(first + random_below(&state, (uint32_t)slots_of_thread));
    w->checksum += slot_work(&state, work);
  }
  pthread_barrier_wait(w->start);
  if (w->thread == 0) {
    atomic_store(&over, true);
    pthread_join(sampler, NULL);
  }
  return NULL;
}

int main(int argc, char **argv) {
  uint64_t mib = argument(argc, argv, 1, "MiB", 64, 1, 65536);
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", 1, 1, MOST_THREADS);
  work = argument(argc, argv, 3, "work", 1000, 0, 1000000000);
  uint64_t rounds = argument(argc, argv, 4, "rounds", 20, 1, 1000000);
  allocator_start();
  slots_of_thread = (mib << 20) / SLOT_BYTES / threads;
  slots = allocate(slots_of_thread * threads * sizeof *slots);
  uint64_t checksum = run_threads(threads, 0, rounds * slots_of_thread * threads, replace);
  uint64_t wall = now_ns() - atomic_load(&began);
  if (peaks->count == 0) {
    fprintf(stderr, "pacing: no collection to look at: it needs more rounds\n");
    return 1;
  }
  static struct runtime_metrics m;
  read_metrics(&m);
  report_number("mib_per_second", rounds * mib * 1000000000 / wall);
  report_number("assist_total_ns", m.assist_total_ns);
  report_number("gc_cpu_ns", m.gc_cpu_ns);
  report_number("peaks", peaks->count);
  report_number("peak_p50_permille", histogram_percentile(peaks, 50, 100));
  report_number("peak_p90_permille", histogram_percentile(peaks, 90, 100));
  report_number("peak_max_permille", peaks->largest);
  report_run(wall, checksum + slots_sum(0, slots_of_thread * threads));
  return 0;
}
