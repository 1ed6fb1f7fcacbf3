/* How long a collector stopped the program, as the collector itself reports it. Included after allocator.h.
 *
 * A stop lasts from before the first thread is asked to stop until the last may go on.
 *
 * stops_begin    forgets all stops so far. No other thread may allocate meanwhile
 * stops_read     notes those since the last call. To be called by one thread, more than once in 256 collections: gcrt
 *                keeps no more. bdwgc reports each as it happens
 * stops_found    the histogram; of malloc an empty one
 * stops_reached  the first part of each, until the last thread had stopped. Of gcrt it has only those of which
 *                stops_read found one alone: what is known of several is their sum */
#ifndef BENCH_STOPS_H
#define BENCH_STOPS_H

#include "allocator.h"

#include "histogram.h"
#include "report.h"

static struct histogram *stops_found, *stops_reached;

static inline void stops_forget(void) {
  stops_found = histogram_new();
  stops_reached = histogram_new();
}

#if defined(BENCH_GCRT)

static uint32_t stops_seen; /* collections whose stop was noted */
static uint64_t stops_reaching;

static inline const struct runtime_metrics *stops_metrics(void) {
  static struct runtime_metrics metrics;
  if (runtime_metrics_read(&metrics) != 0) {
    fprintf(stderr, "bench: runtime_metrics_read failed\n");
    exit(1);
  }
  return &metrics;
}

static inline void stops_begin(void) {
  stops_forget();
  stops_seen = stops_metrics()->num_gc;
  stops_reaching = stops_metrics()->stopping_total_ns;
}

static inline void stops_read(void) {
  const struct runtime_metrics *metrics = stops_metrics();
  if (metrics->num_gc - stops_seen > RUNTIME_METRICS_PAUSES) {
    fprintf(stderr, "bench: more collections than the metrics keep stops of: read them more often\n");
    exit(1);
  }
  if (metrics->num_gc - stops_seen == 1) histogram_add(stops_reached, metrics->stopping_total_ns - stops_reaching);
  stops_reaching = metrics->stopping_total_ns;
  for (; stops_seen != metrics->num_gc; stops_seen++)
    histogram_add(stops_found, metrics->pause_ns[stops_seen % RUNTIME_METRICS_PAUSES]);
}

#elif defined(BENCH_BDWGC)

/* Called with bdwgc's lock held, so never twice at once. */
static void GC_CALLBACK stops_event(GC_EventType event) {
  static uint64_t began;
  if (event == GC_EVENT_PRE_STOP_WORLD) began = now_ns();
  if (event == GC_EVENT_POST_STOP_WORLD) histogram_add(stops_reached, now_ns() - began);
  if (event == GC_EVENT_POST_START_WORLD) histogram_add(stops_found, now_ns() - began);
}

static inline void stops_begin(void) {
  stops_forget();
  GC_set_on_collection_event(stops_event);
}

static inline void stops_read(void) {}

#else

static inline void stops_begin(void) { stops_forget(); }

static inline void stops_read(void) {}

#endif

#endif
