/* A histogram of durations in fixed memory, with buckets that grow with the value: 128 in each power of two.
 *
 * A percentile is the upper edge of its bucket and thus at most 1/128 too large; the largest value and the sum are
 * exact. The memory is a mapping of its own, already touched: it is no root of a collector, and no page fault of ours
 * falls into what is measured. One thread writes; it is read, or added to another, when that thread is done. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
  HISTOGRAM_BITS = 7,
  HISTOGRAM_STEPS = 1 << HISTOGRAM_BITS,
  HISTOGRAM_LARGEST_BITS = 40, /* 18 minutes in ns; what is longer counts as that long */
  HISTOGRAM_BUCKETS = (HISTOGRAM_LARGEST_BITS - HISTOGRAM_BITS + 1) * HISTOGRAM_STEPS
};

struct histogram {
  uint64_t count, sum, largest;
  uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline struct histogram *histogram_new(void) {
  void *p =
      mmap(NULL, sizeof(struct histogram), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "bench: no memory for a histogram\n");
    exit(1);
  }
  return p;
}

/* Values below HISTOGRAM_STEPS have a bucket each; above, the highest HISTOGRAM_BITS bits after the leading one say
 * which of the power's buckets it is. */
static inline size_t histogram_bucket(uint64_t value) {
  if (value < HISTOGRAM_STEPS) return (size_t)value;
  if (value >> HISTOGRAM_LARGEST_BITS != 0) return HISTOGRAM_BUCKETS - 1;
  unsigned shift = 63 - HISTOGRAM_BITS - (unsigned)__builtin_clzll(value);
  return (size_t)(shift * HISTOGRAM_STEPS + (value >> shift));
}

/* The largest value that falls into the bucket. */
static inline uint64_t histogram_upper_edge(size_t bucket) {
  if (bucket < HISTOGRAM_STEPS) return bucket;
  unsigned shift = (unsigned)(bucket / HISTOGRAM_STEPS) - 1;
  return (((uint64_t)(bucket % HISTOGRAM_STEPS) + HISTOGRAM_STEPS + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t value) {
  h->count++;
  h->sum += value;
  if (value > h->largest) h->largest = value;
  h->buckets[histogram_bucket(value)]++;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from) {
  into->count += from->count;
  into->sum += from->sum;
  if (from->largest > into->largest) into->largest = from->largest;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) into->buckets[i] += from->buckets[i];
}

/* The value that the share `parts` / `of` of all values does not exceed; 0 of an empty histogram. */
static inline uint64_t histogram_percentile(const struct histogram *h, uint64_t parts, uint64_t of) {
  uint64_t wanted = (h->count * parts + of - 1) / of, seen = 0;
  if (h->count == 0) return 0;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += h->buckets[i];
    if (seen < wanted) continue;
    uint64_t edge = histogram_upper_edge(i);
    return edge < h->largest ? edge : h->largest;
  }
  return h->largest;
}

/* Prints what a benchmark tells of it: NAMEs=, NAME_p50_ns= and so on. */
static inline void report_histogram(const char *name, const struct histogram *h) {
  static const struct {
    const char *name;
    uint64_t parts, of;
  } shares[] = {{"p50", 50, 100}, {"p90", 90, 100}, {"p99", 99, 100}, {"p999", 999, 1000}, {"p9999", 9999, 10000}};
  printf("%ss=%" PRIu64 "\n", name, h->count);
  for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
    printf("%s_%s_ns=%" PRIu64 "\n", name, shares[i].name, histogram_percentile(h, shares[i].parts, shares[i].of));
  printf("%s_max_ns=%" PRIu64 "\n%s_total_ns=%" PRIu64 "\n", name, h->largest, name, h->sum);
}

#endif
