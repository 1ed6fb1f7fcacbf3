/* The controller drives programs that exist as numbers alone: how fast they allocate and are marked, how their heap
 * grows, what of it is scanned. The scenarios are those of Go's pacer; each has to come to rest with the collector at
 * its share of the processors while it marks, and the heap at its goal.
 *
 * A simulated cycle: the heap grows to the trigger; from there the program allocates on the processors that marking
 * leaves it, and marks itself as much as the ratio asks of it and the background does not do. */
#include "cycle/controller.h"

#include "base/bits.h"
#include "support/support.h"

#include <inttypes.h>
#include <math.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

enum { CYCLES = 60, SETTLED = 40, STEPS = 200, PROCESSORS = 8, GROWING = 8, RUNS = 10 };

/* A processor scans so many bytes in a unit of time; rates of allocation are parts of it. */
#define SCAN_RATE ((double)MIB)

struct program {
  double allocation; /* of a processor, in parts of the rate at which it marks */
  double growth;     /* of what is alive, from the first cycle to the next; the growth ends in the course of eight */
  double scannable;  /* part of the heap */
  uint64_t stacks, globals;
};

struct scenario {
  const char *name;
  int percent;
  uint64_t start;        /* alive at first */
  uint64_t limit, other; /* other memory than the heap's */
  struct program program;
  /* What is different about cycle i, if anything is. */
  void (*change)(struct program *program, unsigned i, struct test_random *random);
  /* From cycle SETTLED on. */
  struct bounds {
    double low, high;
  } utilisation, peak; /* the peak in parts of the goal */
};

struct cycle {
  uint64_t marked, trigger, goal, peak, runway;
  double utilisation;
};

/* From -1 to 1. */
static double noise(struct test_random *random) { return (double)test_random_below(random, 2001) / 1000 - 1; }

static void step(struct program *p, unsigned i, struct test_random *random) {
  (void)random;
  if (i >= CYCLES / 3) p->allocation *= 2;
}

static void heavy_step(struct program *p, unsigned i, struct test_random *random) {
  (void)random;
  if (i >= CYCLES / 3) p->allocation *= 10;
}

static void oscillate(struct program *p, unsigned i, struct test_random *random) {
  (void)random;
  p->allocation *= 1 + 0.4 * sin(i * 2 * M_PI / 8);
}

static void jitter(struct program *p, unsigned i, struct test_random *random) {
  (void)i;
  p->allocation *= 1 + 0.1 * noise(random);
  if (i > 12) p->growth = 1 + 0.01 * noise(random);
}

static void heavy_jitter(struct program *p, unsigned i, struct test_random *random) {
  (void)i;
  p->allocation *= 1 + 0.4 * noise(random);
  if (i > 12) p->growth = 1 + 0.1 * noise(random);
}

static void change_of_heap(struct program *p, unsigned i, struct test_random *random) {
  p->allocation *= 1 + 0.05 * noise(random);
  if (i > 12) p->growth = i % 2 ? 1.05 : 1 / 1.05;
}

/* clang-format off */
#define QUARTER {0.245, 0.255}
static const struct scenario scenarios[] = {
    {"Steady", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 30, 2, 1, 64 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1.05}},
    {"SteadyBigStacks", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 20, 2, 1, 2 * GIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1.05}},
    {"SteadyBigGlobals", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 20, 2, 1, 8 * KIB, 2 * GIB}, NULL,
     QUARTER, {0.95, 1.05}},
    {"StepAlloc", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 30, 2, 1, 8 * KIB, 32 * KIB}, step,
     QUARTER, {0.95, 1.05}},
    {"HeavyStepAlloc", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 120, 2, 1, 8 * KIB, 32 * KIB}, heavy_step,
     QUARTER, {0.95, 1.05}},
    {"HighGOGC", 1500, 4 * MIB, UINT64_MAX, 0, {0.5, 2, 1, 8 * KIB, 32 * KIB}, change_of_heap,
     {0.245, 0.275}, {0.95, 1.05}},
    {"OscAlloc", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 30, 2, 1, 8 * KIB, 32 * KIB}, oscillate,
     {0.245, 0.3}, {0.9, 1.05}},
    {"JitterAlloc", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 30, 2, 1, 8 * KIB, 32 * KIB}, jitter,
     {0.245, 0.3}, {0.95, 1.05}},
    {"HeavyJitterAlloc", 100, 4 * MIB, UINT64_MAX, 0, {1.0 / 30, 2, 1, 8 * KIB, 32 * KIB}, heavy_jitter,
     {0.245, 0.45}, {0.85, 1.1}},
    {"SmallHeapSlowAlloc", 100, 1 * MIB, UINT64_MAX, 0, {1.0 / 1000, 1, 0.01, 8 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1}},
    {"MediumHeapSlowAlloc", 100, 10 * MIB, UINT64_MAX, 0, {1.0 / 1000, 1.5, 0.01, 8 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1}},
    {"LargeHeapSlowAlloc", 100, 2 * GIB, UINT64_MAX, 0, {1.0 / 1000, 1.2, 0.01, 8 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.99, 1}},
    {"SteadyMemoryLimit", 100, 160 * MIB, 256 * MIB, 8 * MIB, {1.0 / 40, 1, 1, 8 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1.05}},
    {"SteadyMemoryLimitNoGCPercent", -1, 120 * MIB, 256 * MIB, 8 * MIB, {1.0 / 40, 1, 1, 8 * KIB, 32 * KIB}, NULL,
     QUARTER, {0.95, 1.05}},
    {"ExceedMemoryLimit", 100, 300 * MIB, 256 * MIB, 8 * MIB, {1.0 / 40, 1, 1, 8 * KIB, 32 * KIB}, NULL,
     {0.25, 1}, {1, 1.11}},
};
/* clang-format on */

static struct gcrt_controller_memory memory_of(const struct scenario *scenario, uint64_t live) {
  return (struct gcrt_controller_memory){.mapped = live + scenario->other, .heap_alloc = live};
}

/* Marks until `work` bytes are scanned. Returns the mean utilisation; *live grows. */
static double mark(const struct gcrt_controller *c, const struct scenario *scenario, const struct program *program,
                   double work, double *live) {
  double time = 0, used = 0, scanned = 0, granularity = work / STEPS;
  double most = *live * program->scannable + (double)(program->stacks + program->globals);
  while (scanned < work) {
    struct gcrt_controller_memory memory = memory_of(scenario, (uint64_t)*live);
    const struct gcrt_controller_progress progress = {(uint64_t)*live, (uint64_t)scanned, (uint64_t)most};
    double ratio = gcrt_controller_revise(c, gcrt_controller_goal(c, &memory), &progress).ratio;
    /* The program's processors allocate at `allocation` and scan `ratio` as much. */
    double wanted = ratio * program->allocation;
    double utilisation = fmax(wanted / (wanted + 1), c->share);
    double step_work = fmin(granularity, work - scanned + 1);
    double step_time = step_work / (utilisation * PROCESSORS * SCAN_RATE);
    *live += step_time * (1 - utilisation) * PROCESSORS * program->allocation * SCAN_RATE;
    scanned += step_work;
    time += step_time;
    used += step_time * utilisation;
  }
  return used / time;
}

/* One cycle; the next one is planned with what it leaves alive. */
static struct cycle run_cycle(struct gcrt_controller *c, const struct scenario *scenario,
                              const struct program *program) {
  struct gcrt_controller_memory memory = memory_of(scenario, c->marked);
  struct cycle cycle = {.marked = c->marked, .runway = gcrt_controller_runway(c)};
  cycle.goal = gcrt_controller_goal(c, &memory);
  cycle.trigger = gcrt_controller_trigger(c, cycle.goal);
  double live = (double)gcrt_max(cycle.trigger, c->marked);
  uint64_t next = (uint64_t)gcrt_min((size_t)((double)c->marked * program->growth), (size_t)live);
  const struct gcrt_scan_work scan = {(uint64_t)((double)next * program->scannable), program->stacks, program->globals};
  double work = (double)scan.heap + (double)scan.stacks + (double)scan.globals;
  gcrt_controller_start(c, (uint64_t)live);
  cycle.utilisation = mark(c, scenario, program, work, &live);
  cycle.peak = (uint64_t)live;
  gcrt_controller_measure(c, cycle.peak, (uint64_t)work, cycle.utilisation, 0);
  gcrt_controller_commit(c, next, &scan);
  return cycle;
}

static void run_scenario(const struct scenario *scenario, struct test_random random, struct cycle *cycles) {
  struct gcrt_controller c;
  gcrt_controller_init(&c);
  c.percent = scenario->percent;
  c.limit = scenario->limit;
  /* The heap has just come to be: what is scanned of it is not known. */
  const struct gcrt_scan_work roots = {0, scenario->program.stacks, scenario->program.globals};
  gcrt_controller_commit(&c, scenario->start, &roots);
  for (unsigned i = 0; i < CYCLES; i++) {
    struct program program = scenario->program;
    double rest = i < GROWING ? 1 - (double)i / GROWING : 0;
    program.growth = 1 + (program.growth - 1) * rest;
    if (scenario->change) scenario->change(&program, i, &random);
    cycles[i] = run_cycle(&c, scenario, &program);
  }
}

/* In every cycle: between 0.7 and 0.95 of the way, or 4 MiB before the goal; there, so long before it as the runway. */
static void check_trigger(const struct scenario *scenario, unsigned i, const struct cycle *cycle) {
  double way = (double)cycle->goal - (double)cycle->marked;
  double at = (double)cycle->trigger - (double)cycle->marked;
  bool near = cycle->goal - cycle->trigger <= 4 * MIB;
  TEST_REQUIRE(cycle->trigger <= cycle->goal, "%s, cycle %u", scenario->name, i);
  TEST_REQUIRE(at >= 0.7 * way - 1 && (at <= 0.95 * way + 1 || cycle->goal - cycle->trigger == 4 * MIB || way == 0),
               "%s, cycle %u: at %g of the way", scenario->name, i, at / way);
  if (at < 0.7 * way + 2 || (near && at > 0.95 * way - 2)) return;
  TEST_REQUIRE(cycle->trigger + cycle->runway == cycle->goal || cycle->goal - cycle->trigger == 4 * MIB,
               "%s, cycle %u: runway %" PRIu64, scenario->name, i, cycle->runway);
}

static void check_bounds(const struct scenario *scenario, unsigned i, const struct cycle *cycle) {
  double peak = (double)cycle->peak / (double)cycle->goal;
  TEST_REQUIRE(cycle->utilisation >= scenario->utilisation.low && cycle->utilisation <= scenario->utilisation.high,
               "%s, cycle %u: utilisation %g", scenario->name, i, cycle->utilisation);
  TEST_REQUIRE(peak >= scenario->peak.low && peak <= scenario->peak.high, "%s, cycle %u: peak %g of the goal",
               scenario->name, i, peak);
  if (scenario->limit == UINT64_MAX) return;
  bool exceeded = cycle->marked + scenario->other > scenario->limit;
  TEST_REQUIRE(exceeded ? cycle->goal == cycle->marked : cycle->peak + scenario->other <= scenario->limit,
               "%s, cycle %u: goal %" PRIu64 ", peak %" PRIu64, scenario->name, i, cycle->goal, cycle->peak);
}

START_TEST(scenario_comes_to_rest) {
  const struct scenario *scenario = &scenarios[_i];
  struct cycle cycles[CYCLES];
  for (unsigned run = 0; run < RUNS; run++) {
    run_scenario(scenario, test_random_stream(run), cycles);
    for (unsigned i = 0; i < CYCLES; i++) check_trigger(scenario, i, &cycles[i]);
    for (unsigned i = SETTLED; i < CYCLES; i++) check_bounds(scenario, i, &cycles[i]);
  }
}
END_TEST

/* In one cycle the program has to assist; the next one begins early enough. */
START_TEST(a_step_costs_one_cycle) {
  struct cycle cycles[CYCLES];
  for (unsigned i = 0; i < GCRT_COUNT(scenarios); i++) {
    if (scenarios[i].change != step && scenarios[i].change != heavy_step) continue;
    run_scenario(&scenarios[i], test_random_stream(0), cycles);
    ck_assert_double_le(cycles[CYCLES / 3 - 1].utilisation, 0.255);
    ck_assert_double_ge(cycles[CYCLES / 3].utilisation, 0.35);
    ck_assert_double_le(cycles[CYCLES / 3].utilisation, 0.75);
    ck_assert_double_le(cycles[CYCLES / 3 + 1].utilisation, 0.255);
    /* Whoever had to assist kept the heap at its goal. */
    ck_assert_uint_le(cycles[CYCLES / 3].peak, cycles[CYCLES / 3].goal / 20 * 21);
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("controller-scenarios");
  TCase *tests = test_case(suite, "scenarios", 20);
  tcase_add_loop_test(tests, scenario_comes_to_rest, 0, GCRT_COUNT(scenarios));
  tcase_add_test(tests, a_step_costs_one_cycle);
  return suite;
}

TEST_MAIN(make_suite)
