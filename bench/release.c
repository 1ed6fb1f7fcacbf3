/* release FULL_MIB LEFT_MIB: what becomes of memory that a program no longer needs.
 *
 * Builds sessions of 1 MiB, FULL_MIB of them: lists of nodes of 64 bytes to 4 KiB. Then all but LEFT_MIB sessions,
 * chosen at random, are dropped, and the program sleeps for six seconds: collectors get one collection, after which
 * nothing runs but the allocator's own threads. Prints the resident memory every quarter of a second, and what
 * processor time the process used from the drop to five seconds after it and within the six seconds. The sessions that
 * are left are read at the end. */
#include "allocator.h"
#include "report.h"

#include <unistd.h>

enum { SESSION = 1 << 20, SAMPLES = 24, SAMPLE_NS = 250000000 };

struct node {
  struct node *next;
  uint64_t size, value;
};

/* A global variable, and from the allocator: where every collector looks. */
static struct node **sessions;

static struct node *session_new(uint64_t number) {
  static const uint32_t sizes[] = {64, 64, 64, 64, 96, 128, 256, 512, 1024, 4096};
  uint64_t state = number * 2654435761u + 88172645463325252u;
  struct node *list = NULL;
  for (uint64_t bytes = 0; bytes < SESSION;) {
    uint64_t size = sizes[random_below(&state, sizeof sizes / sizeof *sizes)];
    struct node *n = allocate(size);
    *n = (struct node){list, size, number + bytes};
    memset(n + 1, 1, size - sizeof *n); /* resident with every allocator */
    list = n;
    bytes += size;
  }
  return list;
}

static void session_drop(uint64_t number) {
  struct node *n = sessions[number];
  sessions[number] = NULL;
  while (ALLOCATOR_FREES && n != NULL) {
    struct node *next = n->next;
    release(n);
    n = next;
  }
}

static uint64_t session_sum(uint64_t number) {
  uint64_t sum = 0;
  for (const struct node *n = sessions[number]; n != NULL; n = n->next) sum = sum * 31 + n->value + n->size;
  return sum;
}

/* Chosen by number, so the same with every allocator. */
static void drop(uint64_t full, uint64_t left) {
  uint64_t state = 2463534242u;
  for (uint64_t live = full; live > left;) {
    uint64_t number = random_below(&state, (uint32_t)full);
    if (sessions[number] == NULL) continue;
    session_drop(number);
    live--;
  }
}

static void wait_until(uint64_t moment) {
  struct timespec until = {(time_t)(moment / 1000000000u), (long)(moment % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) continue;
}

/* The figures of the heap as the library knows them, next to which the resident memory stands. */
static void report_goal(void) {
#if defined(BENCH_GCRT)
  static struct runtime_metrics m;
  if (runtime_metrics_read(&m) != 0) return;
  report_number("goal_bytes", m.release_goal);
  report_number("heap_inuse_bytes", m.heap_inuse);
  report_number("released_bytes", m.released_total);
  report_number("scavenge_cpu_ns", m.scavenge_cpu_ns);
#endif
}

int main(int argc, char **argv) {
  uint64_t full = argument(argc, argv, 1, "MiB when full", 1024, 2, 65536);
  uint64_t left = argument(argc, argv, 2, "MiB left", 50, 1, full - 1);
  allocator_start();
  uint64_t start = now_ns();
  sessions = allocate(full * sizeof *sessions);
  for (uint64_t i = 0; i < full; i++) sessions[i] = session_new(i);
  report_number("full_rss_bytes", rss_bytes());

  drop(full, left);
#if !ALLOCATOR_FREES
  collect();
#endif
  uint64_t rss[SAMPLES], cpu_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID), dropped = now_ns(), cpu_of_5 = 0;
  for (int i = 0; i < SAMPLES; i++) {
    wait_until(dropped + (uint64_t)(i + 1) * SAMPLE_NS);
    rss[i] = rss_bytes();
    if ((i + 1) * (uint64_t)SAMPLE_NS == 5000000000u) cpu_of_5 = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
  }
  uint64_t cpu_of_6 = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
  for (int i = 0; i < SAMPLES; i++) {
    char key[32];
    snprintf(key, sizeof key, "rss_%d.%02d_s", (i + 1) / 4, (i + 1) % 4 * 25);
    report_number(key, rss[i]);
  }
  report_number("rss_bytes", rss[5 * 4 - 1]);
  report_number("release_cpu_ns", cpu_of_5);
  report_number("release_6s_cpu_ns", cpu_of_6);
  report_goal();
  uint64_t checksum = 0;
  for (uint64_t i = 0; i < full; i++) checksum = checksum * 31 + session_sum(i);
  report_run(now_ns() - start, checksum);
  return 0;
}
