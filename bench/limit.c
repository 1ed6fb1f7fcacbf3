/* limit LIMIT_MIB THREADS WORK SECONDS: memory and processor time under a memory limit. For this library only.
 *
 * The live heap (slots.h) is 20, 40, 60, 80 and then 100 percent of the limit, for SECONDS each, in which THREADS
 * threads replace random objects all the time, each after WORK steps of computing. The environment has the same limit:
 * GCRT_MEMLIMIT=<LIMIT_MIB>MiB. For each step the program prints, by readings of once in two milliseconds,
 *
 *   mapped_STEP_bytes   the most that the library had from the system, less what it had given back
 *   rss_STEP_bytes      the most of the process that was resident
 *   gc_STEP_permille    what collections took of the processors' time, in thousandths; of the second half of the step,
 *                       as a collector may take a second of each processor before it is held back
 *   limited_STEP_ns     for how long the collector was held back: memory may pass the limit then
 *   replaced_STEP       objects
 *
 * and mapped_bytes and rss_bytes, the most of all steps up to 80 percent. */
#include "threads.h"

#include "slots.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { SAMPLE_NS = 2000000, STEPS = 5, FULL_STEP = STEPS - 1 };

static const unsigned percents[STEPS] = {20, 40, 60, 80, 100};

static uint64_t slots_of_thread; /* at 100 percent */
static uint64_t step_ns, work;
static atomic_bool over;
static atomic_uint step;
static struct { uint64_t mapped, rss, permille, limited_ns; } found[STEPS];
static atomic_uint_fast64_t replaced[STEPS];

static const struct runtime_metrics *read_metrics(void) {
  static _Thread_local struct runtime_metrics metrics;
  if (runtime_metrics_read(&metrics) == 0) return &metrics;
  fprintf(stderr, "limit: runtime_metrics_read failed\n");
  exit(1);
}

static void *sample(void *arg) {
  (void)arg;
  while (!atomic_load(&over)) {
    const struct runtime_metrics *m = read_metrics();
    uint64_t mapped = m->sys - m->heap_released, rss = rss_bytes();
    unsigned now = atomic_load(&step);
    if (mapped > found[now].mapped) found[now].mapped = mapped;
    if (rss > found[now].rss) found[now].rss = rss;
    nanosleep(&(struct timespec){.tv_nsec = SAMPLE_NS}, NULL);
  }
  return NULL;
}

/* Objects replaced until the moment. */
static uint64_t churn(uint64_t first, uint64_t count, uint64_t *state, uint64_t until) {
  uint64_t i = 0;
  for (; i % 64 != 0 || now_ns() < until; i++) {
    slot_fill(first + random_below(state, (uint32_t)count));
    slot_work(state, work);
  }
  return i;
}

static void *replace(void *arg) {
  struct work *w = arg;
  uint64_t first = w->thread * slots_of_thread, state = 88172645463325252u + w->thread, count = 0;
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  for (unsigned s = 0; s < STEPS; s++) {
    pthread_barrier_wait(w->start);
    if (w->thread == 0) atomic_store(&step, s);
    pthread_barrier_wait(w->start);
    uint64_t began = now_ns(), limited = read_metrics()->limiter_total_ns;
    for (; count < slots_of_thread * percents[s] / 100; count++) slot_fill(first + count);
    uint64_t done = churn(first, count, &state, began + step_ns / 2);
    uint64_t half = now_ns(), gc = read_metrics()->gc_cpu_ns;
    done += churn(first, count, &state, began + step_ns);
    atomic_fetch_add(&replaced[s], done);
    if (w->thread == 0) {
      double available = (double)(now_ns() - half) * CPU_COUNT(&set);
      found[s].permille = (uint64_t)((double)(read_metrics()->gc_cpu_ns - gc) * 1000 / available);
      found[s].limited_ns = read_metrics()->limiter_total_ns - limited;
    }
  }
  return NULL;
}

static void report_step(const char *name, unsigned s, const char *unit, uint64_t value) {
  char key[64];
  snprintf(key, sizeof key, "%s_%u%s", name, percents[s], unit);
  report_number(key, value);
}

int main(int argc, char **argv) {
  uint64_t mib = argument(argc, argv, 1, "MiB", 256, 32, 65536);
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", 2, 1, MOST_THREADS);
  work = argument(argc, argv, 3, "work", 4000, 0, 1000000000);
  step_ns = argument(argc, argv, 4, "seconds", 4, 1, 3600) * 1000000000;
  allocator_start();
  uint64_t start = now_ns();
  slots_of_thread = (mib << 20) / SLOT_BYTES / threads;
  slots = allocate(slots_of_thread * threads * sizeof *slots);
  pthread_t sampler;
  if (pthread_create(&sampler, NULL, sample, NULL) != 0) exit(1);
  run_threads(threads, 0, 0, replace);
  atomic_store(&over, true);
  pthread_join(sampler, NULL);
  uint64_t mapped = 0, rss = 0;
  for (unsigned s = 0; s < STEPS; s++) {
    report_step("mapped", s, "_bytes", found[s].mapped);
    report_step("rss", s, "_bytes", found[s].rss);
    report_step("gc", s, "_permille", found[s].permille);
    report_step("limited", s, "_ns", found[s].limited_ns);
    report_step("replaced", s, "", atomic_load(&replaced[s]));
    if (s == FULL_STEP) continue;
    if (found[s].mapped > mapped) mapped = found[s].mapped;
    if (found[s].rss > rss) rss = found[s].rss;
  }
  report_number("mapped_bytes", mapped);
  report_number("rss_bytes", rss);
  report_run(now_ns() - start, slots_sum(0, slots_of_thread * threads));
  return 0;
}
