/* When to collect and how much to help: what threads share of the controller (controller.h).
 *
 * A collection in one stop starts when the goal is reached, one that marks beside the program at the controller's
 * trigger. Threads that allocate meanwhile help if marking does not keep pace: of what is to be scanned, as great a
 * part must have been scanned as is used up of the way from the beginning to the goal. The end of that way is left out,
 * as far as the last collections needed it for the rounds after marking, which nobody can help with. A program that is
 * a quarter above the goal all the same is slowed down. While a sweep is under way nothing is due, as what it frees is
 * not known; at the limit threads take part in it.
 *
 * What the controller is to know is kept in words, of which each call makes a controller of its own. Who runs a
 * collection, under the cycle's lock, writes most of them; the percentage comes from any thread. Goal and trigger are
 * computed by whoever changed something, and once more if something changed meanwhile; of two that race, the later
 * reads what both have written. A lock would not do: a thread may be stopped while it holds one, and the last stop
 * writes here. */
#include "base/bits.h"
#include "cycle/controller.h"
#include "cycle/limit.h"
#include "cycle/phases.h"
#include "sys/clock.h"
#include "sys/proc.h"

#include <string.h>

/* Until it was measured: the program allocates so fast, compared with how fast a processor marks. */
#define CONS_MARK_GUESS 0.25
/* The part of the way that the rounds take, until it was measured, and at most. */
#define ROUNDS_GUESS 0.25
#define ROUNDS_MOST 0.5
/* Where there are few processors, marking is expected to get no more than this of them, and it always gets some. */
#define SHARE_MOST 0.5
#define SHARE_LEAST 0.02
/* How far a heap may be above a goal that the memory limit sets before the program is slowed down: a part of the goal,
 * half of what the controller leaves to the limit. */
enum { LIMITED_PART = 64, LIMITED_LEAST = 1 << 19 };
/* Marking may be behind by this part of its work before anybody helps: it comes in batches. */
enum { SLACK = 16 };

static struct {
  /* For the controller. */
  gcrt_word percent; /* (size_t)-1: off */
  gcrt_word minimum; /* of its goal; 0: as the percentage says */
  gcrt_word marked, heap_scan, stacks, globals;
  gcrt_word triggered;        /* SIZE_MAX: nothing is marked */
  gcrt_word cons_mark, share; /* the bits of doubles; no share: not known */
  /* What follows. */
  gcrt_word goal;
  gcrt_word percent_goal; /* without a memory limit */
  gcrt_word limited;      /* the goal is the memory limit's */
  gcrt_word most;         /* the heap at which a program that outruns its collection is slowed down */
  gcrt_word phase;        /* enum gcrt_pace */
  gcrt_word early;        /* the next collection marks beside the program */
  gcrt_word changes;
  gcrt_word ended;     /* the time of the last collection */
  gcrt_word mark_ns;   /* of the last collection, if all markers share it well */
  gcrt_word collected; /* there was one */
  /* Of marking beside the program that is under way. */
  gcrt_word ratio; /* the bits of a double: objects' bytes to be scanned for each that was allocated since it began */
  gcrt_word slack; /* bytes that may be owed */
  gcrt_word expected, plan_goal; /* with more scanned, or a larger heap, the plan is void */
  gcrt_word rounds;              /* the bits of a double: the part of the way that is left for them */
} pacer = {.percent = 100, .goal = SIZE_MAX, .percent_goal = SIZE_MAX, .most = SIZE_MAX, .triggered = SIZE_MAX};

/* Under the cycle's lock. */
static double past[GCRT_CONTROLLER_PAST];
static struct gcrt_pacer_account account;

static double load_double(const gcrt_word *word) {
  size_t bits = gcrt_load(word);
  double value;
  _Static_assert(sizeof bits == sizeof value, "a word holds a double");
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void store_double(gcrt_word *word, double value) {
  size_t bits;
  memcpy(&bits, &value, sizeof bits);
  gcrt_store(word, bits);
}

/* Zero words are what nobody has measured. */
static double known(const gcrt_word *word, double guess) {
  double value = load_double(word);
  return value > 0 ? value : guess;
}

static struct gcrt_controller controller(void) {
  struct gcrt_controller c;
  gcrt_controller_init(&c);
  c.percent = (int)gcrt_load(&pacer.percent);
  c.minimum = gcrt_load(&pacer.minimum);
  c.limit = gcrt_limit_bytes();
  c.marked = gcrt_load(&pacer.marked);
  c.scan = (struct gcrt_scan_work){gcrt_load(&pacer.heap_scan), gcrt_load(&pacer.stacks), gcrt_load(&pacer.globals)};
  c.triggered = gcrt_load(&pacer.triggered);
  c.cons_mark = known(&pacer.cons_mark, CONS_MARK_GUESS);
  c.share = known(&pacer.share, c.share);
  return c;
}

/* Under a memory limit there is hardly more room than the goal has. */
static uint64_t most_of(uint64_t goal, bool limited) {
  uint64_t more = limited ? gcrt_max(goal / LIMITED_PART, LIMITED_LEAST) : goal / 4;
  return goal > UINT64_MAX - more ? UINT64_MAX : goal + more;
}

static uint64_t trigger_of(const struct gcrt_controller *c, uint64_t goal, uint64_t most) {
  /* Every refill asks whether marking has to be helped. */
  if (gcrt_load(&pacer.phase) == GCRT_PACE_MARK && goal != UINT64_MAX) return 0;
  if (gcrt_load(&pacer.phase) == GCRT_PACE_SWEEP) return most;
  return gcrt_load(&pacer.early) ? gcrt_controller_trigger(c, goal) : goal;
}

/* After a change. */
static uint64_t publish(void) {
  uint64_t goal;
  size_t changes = gcrt_add_full(&pacer.changes, 1) + 1;
  for (;;) {
    struct gcrt_controller c = controller();
    struct gcrt_controller_memory memory;
    gcrt_limit_memory(&memory);
    goal = gcrt_controller_goal(&c, &memory);
    bool limited = gcrt_controller_limited(&c, &memory);
    uint64_t most = most_of(goal, limited);
    gcrt_store(&pacer.goal, goal);
    gcrt_store(&pacer.percent_goal, gcrt_controller_percent_goal(&c));
    gcrt_store(&pacer.limited, limited);
    gcrt_store(&pacer.most, most);
    gcrt_store_full(&gcrt_heap.trigger, trigger_of(&c, goal, most));
    gcrt_limit_seen(&memory);
    size_t now = gcrt_load(&pacer.changes);
    if (now == changes) return goal;
    changes = now;
  }
}

void gcrt_pacer_phase(enum gcrt_pace phase) {
  gcrt_store(&pacer.phase, phase);
  if (phase == GCRT_PACE_IDLE) gcrt_store(&pacer.triggered, SIZE_MAX);
  publish();
}

/* Of a heap of so many bytes, what has to be scanned if all of it is alive, and as much of it as in the last one. */
static uint64_t scannable(const struct gcrt_controller *c, uint64_t live) {
  if (c->scan.heap >= c->marked) return live;
  return (uint64_t)((unsigned __int128)live * c->scan.heap / c->marked);
}

/* How marking, which has scanned so much of objects, is to go on. Racing threads compute about the same. */
static struct gcrt_controller_plan make_plan(uint64_t live, uint64_t scanned) {
  struct gcrt_controller c = controller();
  if (!gcrt_load(&pacer.collected)) c.scan.heap = c.triggered / 2;
  uint64_t roots = c.scan.stacks + c.scan.globals;
  const struct gcrt_controller_progress progress = {
      .live = live, .scanned = scanned + roots, .most = scannable(&c, live) + roots};
  struct gcrt_controller_memory memory;
  gcrt_limit_memory(&memory);
  struct gcrt_controller_plan plan = gcrt_controller_revise(&c, gcrt_controller_goal(&c, &memory), &progress);
  uint64_t objects = plan.work - gcrt_min(plan.work, roots);
  double way = (double)(plan.goal - gcrt_min(plan.goal, c.triggered)) * (1 - known(&pacer.rounds, ROUNDS_GUESS));
  store_double(&pacer.ratio, (double)objects / (way >= 1 ? way : 1));
  gcrt_store(&pacer.slack, objects / SLACK);
  gcrt_store(&pacer.expected, objects);
  gcrt_store(&pacer.plan_goal, plan.goal);
  return plan;
}

void gcrt_pacer_mark(uint64_t live, unsigned workers) {
  gcrt_store(&pacer.triggered, live);
  if (load_double(&pacer.share) <= 0) {
    double share = (double)workers / gcrt_cpu_count();
    store_double(&pacer.share, share < SHARE_MOST ? share : SHARE_MOST);
  }
  struct gcrt_controller_plan plan = make_plan(live, 0);
  account = (struct gcrt_pacer_account){.ratio = load_double(&pacer.ratio),
                                        .expected = plan.work,
                                        .begin = live,
                                        .goal = plan.goal,
                                        .workers = workers,
                                        .share = load_double(&pacer.share)};
  gcrt_pacer_phase(GCRT_PACE_MARK);
}

bool gcrt_pacer_behind(uint64_t scanned) {
  uint64_t begin = gcrt_load(&pacer.triggered);
  uint64_t live = gcrt_load(&gcrt_heap.live);
  if (scanned > gcrt_load(&pacer.expected) || live > gcrt_load(&pacer.plan_goal)) (void)make_plan(live, scanned);
  double owed = load_double(&pacer.ratio) * (double)(live - gcrt_min(live, begin));
  return (double)(scanned + gcrt_load(&pacer.slack)) < owed;
}

bool gcrt_pacer_sweeping(void) { return gcrt_load(&pacer.phase) == GCRT_PACE_SWEEP; }

void gcrt_pacer_after_fork(void) {
  size_t phase = gcrt_load(&pacer.phase);
  if (phase == GCRT_PACE_MARK) gcrt_pacer_phase(GCRT_PACE_IDLE);
  if (phase == GCRT_PACE_SWEEP) gcrt_store(&gcrt_heap.trigger, 0);
}

/* After a setting has changed. */
static void renew(void) {
  publish();
  if (gcrt_load(&pacer.phase) == GCRT_PACE_MARK) (void)make_plan(gcrt_load(&pacer.triggered), 0);
}

int gcrt_pacer_percent(void) { return (int)gcrt_load(&pacer.percent); }

int gcrt_pacer_set_percent(int percent) {
  size_t wanted = percent < 0 ? (size_t)-1 : (size_t)percent;
  size_t old;
  do old = gcrt_load(&pacer.percent);
  while (!gcrt_cas_full(&pacer.percent, old, wanted));
  renew();
  return (int)old;
}

size_t gcrt_pacer_set_minimum(size_t bytes) {
  size_t old;
  do old = gcrt_load(&pacer.minimum);
  while (!gcrt_cas_full(&pacer.minimum, old, bytes));
  renew();
  return old;
}

void gcrt_pacer_update(void) { publish(); }
uint64_t gcrt_pacer_limit(void) { return gcrt_load(&pacer.most); }
bool gcrt_pacer_limited(void) { return gcrt_load(&pacer.limited) != 0; }
uint64_t gcrt_pacer_percent_goal(void) { return gcrt_load(&pacer.percent_goal); }

static double part(uint64_t of, double all) { return all > 0 ? (double)of / all : 0; }
static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* The mean of what was and what is now, between two bounds. */
static void smooth(gcrt_word *word, double measured, double least, double most) {
  double value = (known(word, measured) + measured) / 2;
  store_double(word, value < least ? least : value > most ? most : value);
}

/* Processors' shares of the time in which the program ran. Marking gets less than the markers there are if the program
 * wants all processors, or others do; what it got tells what it will get. What it got beyond them was idle. */
static void measure(const struct gcrt_cycle_report *report, struct gcrt_controller *c) {
  unsigned cpus = gcrt_cpu_count();
  double time = (double)minus(report->mark_ns, report->pause_ns) * cpus;
  double background =
      part(minus(report->mark_cpu_ns + report->scan_cpu_ns, report->assist_ns + report->stop_cpu_ns), time);
  double firm = (double)account.workers / cpus;
  double idle = background > firm ? background - firm : 0;
  account.utilisation = background - idle + part(report->assist_ns, time);
  gcrt_controller_start(c, report->heap_before);
  memcpy(c->past, past, sizeof past);
  uint64_t scanned = account.heap + account.stacks + account.globals;
  if (!gcrt_controller_measure(c, report->heap_flip, scanned, account.utilisation, idle)) return;
  memcpy(past, c->past, sizeof past);
  store_double(&pacer.cons_mark, c->cons_mark);
  smooth(&pacer.share, background - idle, SHARE_LEAST, SHARE_MOST);
  uint64_t allocated = minus(report->heap_flip, report->heap_before);
  double rounds = part(minus(report->heap_flip, gcrt_max(report->heap_grey, report->heap_before)), (double)allocated);
  smooth(&pacer.rounds, rounds, 0.01, ROUNDS_MOST);
}

uint64_t gcrt_pacer_cycle_end(const struct gcrt_cycle_report *report) {
  struct gcrt_controller c = controller();
  uint64_t roots = report->stack_bytes + report->global_bytes;
  if (!report->concurrent) account = (struct gcrt_pacer_account){.goal = report->goal};
  /* The stop scans roots, once more if this was concurrent, and hardly anything else then. */
  account.heap = minus(report->scanned, report->concurrent ? report->stop_scanned : roots);
  account.stacks = report->stack_bytes;
  account.globals = report->global_bytes;
  if (report->concurrent) measure(report, &c);
  account.cons_mark = known(&pacer.cons_mark, 0);
  gcrt_store(&pacer.mark_ns, report->mark_cpu_ns / (report->members ? report->members : 1));
  gcrt_store(&pacer.ended, report->end);
  gcrt_store(&pacer.collected, 1);
  gcrt_store(&pacer.marked, report->heap_after);
  gcrt_store(&pacer.heap_scan, account.heap);
  gcrt_store(&pacer.stacks, account.stacks);
  gcrt_store(&pacer.globals, account.globals);
  gcrt_store(&pacer.triggered, SIZE_MAX);
  gcrt_store(&pacer.early, gcrt_concurrent_suits());
  gcrt_store(&pacer.phase, GCRT_PACE_IDLE);
  gcrt_limit_cycle_end();
  return publish();
}

void gcrt_pacer_swept(uint64_t live) {
  gcrt_store(&pacer.marked, live);
  gcrt_pacer_phase(GCRT_PACE_IDLE);
}

/* As long as the last one, or twice as long if the heap has grown past what it would be with half of it alive. A heap
 * of garbage has little alive whatever its size. Before the first one nothing is known but the size. */
uint64_t gcrt_pacer_stop_estimate(void) {
  uint64_t marked = gcrt_load(&pacer.marked);
  uint64_t half = gcrt_load(&gcrt_heap.live) / 2;
  uint64_t ns = gcrt_load(&pacer.mark_ns);
  if (ns == 0) return half / 8;
  if (half <= marked) return ns;
  return marked == 0 || half / marked >= 2 ? 2 * ns : ns + ns * (half - marked) / marked;
}

bool gcrt_pacer_overdue(uint64_t period, uint64_t *left) {
  struct gcrt_controller c = controller();
  uint64_t now = gcrt_clock_monotonic(), ended = gcrt_load(&pacer.ended);
  bool overdue = gcrt_controller_overdue(&c, now, ended, period);
  *left = ended != 0 && now - ended <= period ? period - (now - ended) + 1 : period;
  return overdue;
}

const struct gcrt_pacer_account *gcrt_pacer_account(void) { return &account; }
uint64_t gcrt_pacer_goal(void) { return gcrt_load(&pacer.goal); }
uint64_t gcrt_pacer_live(void) { return gcrt_load(&pacer.marked); }
