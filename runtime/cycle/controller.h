/* The arithmetic of pacing: what is known of the heap in, goal, trigger and assist ratio out. Go's pacer, whose terms
 * are kept: cons/mark is how fast the program allocates compared with how fast a processor marks.
 *
 * Pure: no clock, no heap, no lock, no variable of its own; the same input gives the same output. Whoever shares a
 * controller between threads locks it. Sizes are bytes; sums and products that exceed 64 bits stay at UINT64_MAX. */
#ifndef GCRT_CYCLE_CONTROLLER_H
#define GCRT_CYCLE_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

enum { GCRT_CONTROLLER_PAST = 4 };

/* A program that allocates nothing is collected once in so long. */
#define GCRT_CONTROLLER_PERIOD_NS UINT64_C(120000000000)

/* What a cycle has to look into. */
struct gcrt_scan_work {
  uint64_t heap, stacks, globals;
};

struct gcrt_controller {
  /* As asked for. */
  int percent;      /* below 0: off */
  uint64_t limit;   /* of all memory; UINT64_MAX: none */
  uint64_t minimum; /* of the percentage's goal; 0: 4 MiB at 100 % */
  double share;     /* of all processors, marking beside the program before anybody assists: over 0, below 1 */
  /* As the last cycle left it. */
  uint64_t marked;
  struct gcrt_scan_work scan; /* what the next one is expected to scan */
  double cons_mark;           /* the greatest of those below and of the last cycle */
  double past[GCRT_CONTROLLER_PAST];
  /* Of the cycle that marks. */
  uint64_t triggered; /* the heap when it began; UINT64_MAX between two */
};

/* For the limit. All but the heap's cells is taken for what the next cycle cannot change. */
struct gcrt_controller_memory {
  uint64_t mapped;     /* and not given back to the system */
  uint64_t heap_free;  /* of it, that can be allocated */
  uint64_t heap_alloc; /* of it, cells */
};

/* The state of marking. */
struct gcrt_controller_progress {
  uint64_t live;    /* the heap by now */
  uint64_t scanned; /* since the cycle began */
  uint64_t most;    /* that may have to be scanned in all, at worst */
};

/* Marking is to be done at `goal`; `work` is what it then will have scanned. */
struct gcrt_controller_plan {
  uint64_t goal, work;
  double ratio; /* bytes to be scanned for each byte that is allocated from now on */
};

struct gcrt_controller_workers {
  unsigned dedicated; /* whole processors */
  double fraction;    /* of each processor, besides */
};

/* Percent 100, no limit, nothing known of the program. */
void gcrt_controller_init(struct gcrt_controller *controller);

/* The goal of the percentage alone, and that of the limit alone. */
uint64_t gcrt_controller_percent_goal(const struct gcrt_controller *controller);
uint64_t gcrt_controller_limit_goal(const struct gcrt_controller *controller,
                                    const struct gcrt_controller_memory *memory);
/* The smaller of both; without a limit `memory` is not read. UINT64_MAX: the heap may grow for ever. */
uint64_t gcrt_controller_goal(const struct gcrt_controller *controller, const struct gcrt_controller_memory *memory);
/* Whether it is the limit's. */
bool gcrt_controller_limited(const struct gcrt_controller *controller, const struct gcrt_controller_memory *memory);

/* What is expected to be allocated while objects are marked. */
uint64_t gcrt_controller_runway(const struct gcrt_controller *controller);
/* The heap at which marking beside the program begins, to be done at the goal. */
uint64_t gcrt_controller_trigger(const struct gcrt_controller *controller, uint64_t goal);

/* A cycle begins, with a heap of so many bytes. */
void gcrt_controller_start(struct gcrt_controller *controller, uint64_t live);
/* How it has to go on from here. */
struct gcrt_controller_plan gcrt_controller_revise(const struct gcrt_controller *controller, uint64_t goal,
                                                   const struct gcrt_controller_progress *progress);
/* It has marked all: the heap by then, and what was scanned. Shares of all processors that marked meanwhile:
 * `utilisation`, assists included, as `share` foretells it; `idle`, what came on top as nobody wanted it. False:
 * nothing was learnt, as nothing was allocated or scanned. */
bool gcrt_controller_measure(struct gcrt_controller *controller, uint64_t live, uint64_t scanned, double utilisation,
                             double idle);
/* It is over, and the next one is planned. */
void gcrt_controller_commit(struct gcrt_controller *controller, uint64_t marked, const struct gcrt_scan_work *scan);

/* Who marks beside the program on so many processors: a quarter of them. */
struct gcrt_controller_workers gcrt_controller_workers(unsigned processors);

/* Whether a cycle is due by time alone: at `now`, after the last one ended at `last` (0: there was none). */
bool gcrt_controller_overdue(const struct gcrt_controller *controller, uint64_t now, uint64_t last, uint64_t period);

#endif
