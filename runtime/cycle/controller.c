/* When to collect and how much to help, as formulas; pacer.c holds the state that threads share.
 *
 *   goal    = marked + (marked + stacks + globals) * percent / 100, or less where the limit says so
 *   trigger = goal - runway, between 0.7 and 0.95 of the way from marked to the goal
 *   runway  = cons/mark * (1 - share) / share * (what is to be scanned)
 *
 * While `share` of the processors scan W bytes, the rest of them allocates as much as the runway says: with it nobody
 * has to assist, and marking is done at the goal. cons/mark is measured after each cycle; the greatest of the last few
 * counts, as a trigger that comes too late costs assists, one that comes too early a little memory that is not used.
 *
 * Invariants: marked <= goal unless the percentage's minimum is below it; trigger <= goal; a plan's goal is never below
 * the one that it was made for, and its ratio is finite and over 0.
 *
 * Any thread, on a controller that nobody else changes; async-signal-safe.
 *
 * Not a feedback loop on the trigger itself: one that answers to its own last error swings when the heap grows, and
 * cannot tell a heap that has grown from a program that has become faster. */
#include "cycle/controller.h"

#include "base/bits.h"

#define MIB (UINT64_C(1) << 20)
#define HEAP_MINIMUM (4 * MIB) /* at 100 % */
#define HEADROOM_LEAST MIB
enum { HEADROOM_PERCENT = 3 };

/* A cycle may take at least this much, wherever it began. */
#define RUNWAY_LEAST (UINT64_C(64) << 10)

/* As percent of the way from what was marked to the goal. */
enum { TRIGGER_LOWEST = 70, TRIGGER_HIGHEST = 95 };
/* The upper bound of a large heap's trigger: so much is enough for a few threads that assist. */
#define TRIGGER_DISTANCE (4 * MIB)

#define BACKGROUND_SHARE 0.25
/* Rounding to whole processors may miss the share by this much of it. */
#define ROUNDING_ERROR 0.3

enum { WORK_LEFT_LEAST = 1000 };
/* By which a heap is let past its goal when it has reached it while objects are marked. */
#define OVERSHOOT 1.1
/* GCRT_GOGC=off: a forced cycle is in no hurry. */
enum { PERCENT_OF_OFF = 100000 };

/* Nobody marks with all processors, as somebody has allocated. */
#define UTILISATION_MOST 0.99

static uint64_t plus(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static uint64_t part(uint64_t bytes, uint64_t percent) {
  unsigned __int128 product = (unsigned __int128)bytes * percent / 100;
  return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}

static uint64_t bytes_of(double bytes) {
  if (bytes >= 0x1p64) return UINT64_MAX;
  return bytes > 0 ? (uint64_t)bytes : 0;
}

static uint64_t total(const struct gcrt_scan_work *scan) { return plus(plus(scan->heap, scan->stacks), scan->globals); }

void gcrt_controller_init(struct gcrt_controller *controller) {
  *controller =
      (struct gcrt_controller){.percent = 100, .limit = UINT64_MAX, .share = BACKGROUND_SHARE, .triggered = UINT64_MAX};
}

uint64_t gcrt_controller_percent_goal(const struct gcrt_controller *controller) {
  if (controller->percent < 0) return UINT64_MAX;
  uint64_t percent = (uint64_t)controller->percent, marked = controller->marked;
  uint64_t roots = plus(controller->scan.stacks, controller->scan.globals);
  uint64_t goal = plus(marked, part(plus(marked, roots), percent));
  return gcrt_max(goal, controller->minimum ? controller->minimum : part(HEAP_MINIMUM, percent));
}

uint64_t gcrt_controller_limit_goal(const struct gcrt_controller *controller,
                                    const struct gcrt_controller_memory *memory) {
  uint64_t limit = controller->limit;
  if (limit == UINT64_MAX) return UINT64_MAX;
  uint64_t other = minus(memory->mapped, plus(memory->heap_free, memory->heap_alloc));
  uint64_t taken = plus(other, minus(memory->mapped, limit));
  if (taken >= limit) return controller->marked;
  uint64_t goal = limit - taken;
  uint64_t headroom = gcrt_max(part(goal, HEADROOM_PERCENT), HEADROOM_LEAST);
  goal = gcrt_max(minus(goal, headroom), headroom);
  return gcrt_max(goal, controller->marked);
}

bool gcrt_controller_limited(const struct gcrt_controller *controller, const struct gcrt_controller_memory *memory) {
  return controller->limit != UINT64_MAX &&
         gcrt_controller_limit_goal(controller, memory) < gcrt_controller_percent_goal(controller);
}

uint64_t gcrt_controller_goal(const struct gcrt_controller *controller, const struct gcrt_controller_memory *memory) {
  if (gcrt_controller_limited(controller, memory)) return gcrt_controller_limit_goal(controller, memory);
  uint64_t goal = gcrt_controller_percent_goal(controller);
  if (controller->triggered == UINT64_MAX) return goal;
  return gcrt_max(goal, plus(controller->triggered, RUNWAY_LEAST));
}

uint64_t gcrt_controller_runway(const struct gcrt_controller *controller) {
  double others = (1 - controller->share) / controller->share;
  return bytes_of(controller->cons_mark * others * (double)total(&controller->scan));
}

uint64_t gcrt_controller_trigger(const struct gcrt_controller *controller, uint64_t goal) {
  uint64_t marked = controller->marked;
  if (goal == UINT64_MAX || marked >= goal) return goal;
  uint64_t lowest = marked + part(goal - marked, TRIGGER_LOWEST);
  uint64_t highest = marked + part(goal - marked, TRIGGER_HIGHEST);
  highest = gcrt_max(highest, minus(goal, TRIGGER_DISTANCE));
  uint64_t trigger = minus(goal, gcrt_controller_runway(controller));
  return gcrt_min(gcrt_max(trigger, lowest), highest);
}

void gcrt_controller_start(struct gcrt_controller *controller, uint64_t live) {
  /* The largest number means that none is under way. */
  controller->triggered = gcrt_min(live, UINT64_MAX - 1);
}

/* More was found than was expected: so the heap has grown, and the runway grows with what may be left of it. The heap
 * is not let further than to what its goal would be if all of the goal were alive. */
static uint64_t extrapolated(const struct gcrt_controller *controller, uint64_t goal, uint64_t expected,
                             uint64_t most) {
  uint64_t percent = controller->percent < 0 ? PERCENT_OF_OFF : (uint64_t)controller->percent;
  double runway = (double)minus(goal, controller->triggered) / (double)gcrt_max(expected, 1) * (double)most;
  uint64_t extended = plus(controller->triggered, bytes_of(runway));
  return gcrt_max(goal, gcrt_min(extended, plus(goal, part(goal, percent))));
}

struct gcrt_controller_plan gcrt_controller_revise(const struct gcrt_controller *controller, uint64_t goal,
                                                   const struct gcrt_controller_progress *progress) {
  uint64_t most = gcrt_max(progress->most, progress->scanned);
  struct gcrt_controller_plan plan = {.goal = goal, .work = total(&controller->scan)};
  if (progress->scanned > plan.work) {
    plan.goal = extrapolated(controller, goal, plan.work, most);
    plan.work = most;
  }
  if (progress->live > plan.goal) {
    plan.goal = bytes_of((double)plan.goal * OVERSHOOT);
    plan.work = gcrt_max(plan.work, most);
  }
  double left = (double)gcrt_max(minus(plan.work, progress->scanned), WORK_LEFT_LEAST);
  plan.ratio = left / (double)gcrt_max(minus(plan.goal, progress->live), 1);
  return plan;
}

bool gcrt_controller_measure(struct gcrt_controller *controller, uint64_t live, uint64_t scanned, double utilisation,
                             double idle) {
  if (live <= controller->triggered || scanned == 0 || !(utilisation > 0) || !(idle >= 0)) return false;
  if (utilisation > UTILISATION_MOST) utilisation = UTILISATION_MOST;
  double allocated = (double)(live - controller->triggered);
  double measured = allocated * (utilisation + idle) / ((double)scanned * (1 - utilisation));
  double greatest = measured;
  for (unsigned i = 0; i < GCRT_CONTROLLER_PAST; i++) {
    if (controller->past[i] > greatest) greatest = controller->past[i];
  }
  for (unsigned i = 1; i < GCRT_CONTROLLER_PAST; i++) controller->past[i - 1] = controller->past[i];
  controller->past[GCRT_CONTROLLER_PAST - 1] = measured;
  controller->cons_mark = greatest;
  return true;
}

void gcrt_controller_commit(struct gcrt_controller *controller, uint64_t marked, const struct gcrt_scan_work *scan) {
  controller->marked = marked;
  controller->scan = *scan;
  controller->triggered = UINT64_MAX;
}

struct gcrt_controller_workers gcrt_controller_workers(unsigned processors) {
  if (processors == 0) processors = 1;
  double wanted = processors * BACKGROUND_SHARE;
  struct gcrt_controller_workers workers = {.dedicated = (unsigned)(wanted + 0.5)};
  double error = workers.dedicated / wanted - 1;
  if (error >= -ROUNDING_ERROR && error <= ROUNDING_ERROR) return workers;
  if (workers.dedicated > wanted) workers.dedicated--;
  workers.fraction = (wanted - workers.dedicated) / processors;
  return workers;
}

bool gcrt_controller_overdue(const struct gcrt_controller *controller, uint64_t now, uint64_t last, uint64_t period) {
  return controller->percent >= 0 && last != 0 && minus(now, last) > period;
}
