/* What the torture tests share: workers that run for a bounded time, and checks of the metrics. */
#ifndef GCRT_TESTS_TORTURE_H
#define GCRT_TESTS_TORTURE_H

#include "support.h"

#include <gcrt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define TORTURE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TORTURE_TSAN 1
#endif
#endif
#ifndef TORTURE_TSAN
#define TORTURE_TSAN 0
#endif

/* The limit of one Check case; the work itself is bounded by GCRT_TORTURE_SECONDS, far below it. */
#define TORTURE_TIMEOUT 300

/* One thread of a torture run. */
struct torture_worker {
  unsigned index;            /* 0 to threads - 1 */
  unsigned threads;          /* workers of this run */
  struct test_random random; /* of this worker alone */
  double deadline;           /* of test_now */
  void *shared;              /* what torture_run was given */
};

/* Runs fn in `threads` threads, the calling one among them as worker 0, for about `share` of GCRT_TORTURE_SECONDS. */
void torture_run(unsigned threads, double share, void (*fn)(struct torture_worker *w), void *shared);

/* Whether the worker has time left. */
bool torture_continues(const struct torture_worker *w);

/* Metrics of one moment; aborts if they do not balance. Any thread may call it at any time. */
struct runtime_metrics *torture_read_metrics(struct runtime_metrics *m);
void torture_check_metrics(void);

/* The heap before the work, and the check after it: when all was dropped, a collection leaves about what was there.
 * `slack` objects may remain, for a conservative collector may hold on to some. */
struct torture_heap {
  uint64_t objects;
  uint64_t bytes;
  uint64_t mallocs;
  uint32_t cycles;
};
struct torture_heap torture_heap_now(void);
void torture_heap_check(const struct torture_heap *base, uint64_t slack_objects, uint64_t slack_bytes);

/* A size of an object: mostly small, sometimes over a page, now and then large. At least `least`. */
size_t torture_size(struct test_random *r, size_t least);

/* Waits until at least one further collection has been done, by asking for it. */
void torture_collect(void);

#endif
