/* The memory limit: what is in force, what counts against it, and what is done when it comes near. */
#ifndef GCRT_CYCLE_LIMIT_H
#define GCRT_CYCLE_LIMIT_H

#include <gcrt/collect.h>

#include "cycle/controller.h"
#include "cycle/cycle.h"
#include "cycle/limiter.h"
#include "heap/heap.h"

/* limit.c */
/* Once, when heap and options are there: a limit as options.h has it. */
void gcrt_limit_init(int64_t setting);
/* A number of bytes, GCRT_LIMIT_OFF for none, from now on. Returns the one before, of which a negative number only
 * asks. Takes effect at once. Any thread, outside critical sections. */
int64_t gcrt_limit_set(int64_t bytes);
/* In force; UINT64_MAX: none. */
uint64_t gcrt_limit_bytes(void);
/* Of what the control group allows, if the limit is that; 0: it is a number of bytes. */
unsigned gcrt_limit_percent_of_group(void);
/* Asks the control group again, for memory and processors, unless that was done lately. Returns after how many ns to
 * do so again; INT64_MAX: nobody needs it. A thread of the library's, as it takes 16 KiB of stack. */
int64_t gcrt_limit_refresh(void);
/* Between two questions, for tests; ns. And what goes before every path, as in sys/cgroup.h. */
extern gcrt_word gcrt_limit_period;
extern const char *gcrt_limit_root;

/* All that the library has mapped, less what it gave back; bytes. Any thread, without a lock. */
uint64_t gcrt_limit_mapped(void);
/* The same in parts, for the goal. Without a limit nothing is read. */
void gcrt_limit_memory(struct gcrt_controller_memory *memory);
/* A collection has ended. */
void gcrt_limit_cycle_end(void);
/* The pacer has computed a goal: from which size of the heap on allocation has to look again. */
void gcrt_limit_seen(const struct gcrt_controller_memory *memory);
/* The heap, free memory included, at which that is; SIZE_MAX: never. */
extern gcrt_word gcrt_limit_look_at;

/* Before so many bytes are allocated: whether that may take new memory near the limit. Cheap. */
GCRT_INLINE bool gcrt_limit_near(size_t bytes) {
  size_t at = gcrt_load(&gcrt_limit_look_at), retained = gcrt_heap_retained();
  return GCRT_UNLIKELY(retained > at || bytes > at - retained);
}
/* Then: computes the goal anew, after which a collection may be due; and, after that collection, gives memory back so
 * that the allocation does not pass the limit. A mutator outside critical sections. */
void gcrt_limit_look(size_t bytes);
void gcrt_limit_make_room(size_t bytes);
/* A collection is due: whether it is so only for the limit, and can wait, as there is more room by now or the limiter
 * limits. The same mutator. */
bool gcrt_limit_postpones(void);
void gcrt_limit_after_fork(void);

/* cpu_time.c: the limiter of limiter.h and what it is fed with. */
void gcrt_cpu_time_init(void);
/* A collection begins, of that number, under the cycle's lock; and it has ended. */
void gcrt_cpu_time_begin(uint64_t cycle);
void gcrt_cpu_time_end(const struct gcrt_cycle_report *report);
/* By a thread that allocates while objects are marked, or at the limit: feeds the limiter, unless that was done in the
 * last 10 ms. Outside critical sections and locks, as the handler may be called for. */
void gcrt_cpu_time_update(void);
void gcrt_cpu_time_set_processors(void);
/* Whether the collector has to hold back. */
bool gcrt_cpu_time_limits(void);
struct gcrt_cpu_time_stats {
  uint64_t limited_ns; /* for how long, in all */
  uint64_t pressed_ns; /* since when without relief; 0: it is not so */
  uint64_t last_cycle; /* the number of the collection in which it began last; 0: never */
};
void gcrt_cpu_time_get_stats(struct gcrt_cpu_time_stats *stats);
void gcrt_cpu_time_after_fork(void);

/* limit_handler.c: the program is told when that lasts. */
/* Who is called after so many ns under pressure; NULL: nobody. Any thread, outside critical sections. */
void gcrt_limit_handler_set(gc_limit_handler fn, void *argument, uint64_t after_ns);
/* The program is under pressure since so many ns: calls the handler, on a thread of its own, if it is time. Outside
 * critical sections and locks. */
void gcrt_limit_handler_look(uint64_t pressed_ns);
void gcrt_limit_handler_after_fork(void);

#endif
