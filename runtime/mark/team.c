/* The team of markers: who marks what, and when all is done.
 *
 * Work comes from the sources (work.c) and from the deques of blocks of the members.
 *
 * Who takes part stands in one word, the crew: how many are there, how many of them are idle, whether the job is open,
 * and a count of changes. A member gets busy only while the job is open; it calls itself idle when its own queues are
 * empty. Member 0 reads the word, finds all idle and no work in sight, and closes the job by a compare-and-swap of what
 * it read: so nobody was busy since, nobody is, and nobody gets busy until the next job. It never waits for a member
 * that has nothing to do, or that has not even been scheduled: a stop would last as long as that takes.
 *
 * Helpers are called when a job has lasted for some objects: most of what stops leave to be marked is done before a
 * thread wakes up. They sleep on `job`: its upper part counts the jobs, its low byte says how many members this one
 * has. They block every signal and are not mutators.
 *
 * Mutators may help while objects are marked beside the program, as guests: each steals a block, marks some of what
 * that leads to, puts the rest where others steal it, and goes.
 *
 * The caller of gcrt_mark_all is member 0, with the mutators stopped. Not async-signal-safe.
 */
#include "mark/marker.h"
#include "mark/copies.h"
#include "mark/mark.h"
#include "mark/pace.h"
#include "mark/work.h"

#include "base/report.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/loader.h"
#include "sys/proc.h"
#include "sys/registers.h"
#include "world/park.h"

/* Mutators that help at the same time, each for so many objects. */
enum { GUESTS = 4, ASSIST_OBJECTS = 128, ASSIST_CHUNKS = 4 };

/* Markers on idle processors: objects at a time, and how often they look for more before they go. */
enum { EXTRA_OBJECTS = 512, EXTRA_TURNS = 2000 };

/* Blocks that are kept for the next marking, besides those for a deep heap: mapping them anew takes longer than marking
 * a small one. */
enum { BLOCKS_KEPT = 64 };

/* Objects after which helpers are called, and what a slice or a batch of spans counts for. */
enum { CALL_AFTER = 512, SLICE_COUNTS = 64, PAGES_COUNT = 256 };

/* The crew. */
enum { IDLE_ONE = 1, THERE_ONE = 1 << 16, COUNT_MASK = 0xffff };
#define CREW_OPEN ((size_t)1 << 32)
#define CREW_CHANGE ((size_t)1 << 33)

static struct {
  struct gcrt_marker *markers;
  unsigned members; /* behind them stand the guests */
  struct gcrt_lock guests[GUESTS];
  struct gcrt_lock starting; /* held by the thread that starts helpers; nobody waits for it */
  gcrt_word started;         /* helpers that run */
  gcrt_word ending;          /* helpers that were told to end and have not yet */
  size_t block_limit;        /* set by tests */
  gcrt_word job, overflowed, overflows, cpu_ns, scanned, assisted, assist_ns;
  gcrt_word open;       /* guests may come */
  gcrt_word taking;     /* members of the job that runs, at most; a late helper of the last one may look */
  gcrt_word firm;       /* those of them that stay until its end */
  unsigned extra;       /* how many more may come to jobs beside the program */
  gcrt_word until_call; /* what is left to be done before helpers are called; 0: they were */
} team;

gcrt_word gcrt_team_crew, gcrt_team_hungry;

void gcrt_team_overflowed(void) { gcrt_store(&team.overflowed, 1); }

void gcrt_team_scanned(const struct gcrt_marker *marker, size_t bytes) {
  gcrt_add(&team.scanned, bytes);
  if (marker >= team.markers + team.members) gcrt_add(&team.assisted, bytes);
}

/* Marker i of all whose deques may hold something: the members, then the guests. */
static struct gcrt_marker *peer(unsigned i, unsigned members) {
  return &team.markers[i < members ? i : team.members + i - members];
}

static struct gcrt_block *steal_block(const struct gcrt_marker *marker) {
  unsigned members = (unsigned)gcrt_load_acquire(&team.started) + 1;
  unsigned peers = members + GUESTS;
  unsigned first = (unsigned)(marker - team.markers) + 1;
  for (unsigned i = 0; i < peers; i++) {
    struct gcrt_marker *victim = peer((first + i) % peers, members);
    struct gcrt_block *block = victim == marker ? NULL : gcrt_deque_steal(&victim->deque);
    if (block) return block;
  }
  return NULL;
}

/* What it left the last time comes first: with each turn another block would be left. */
static struct gcrt_block *next_block_of(struct gcrt_marker *marker) {
  struct gcrt_block *block = gcrt_deque_pop(&marker->deque);
  return block ? block : steal_block(marker);
}

static bool steal(struct gcrt_marker *marker) {
  struct gcrt_block *block = steal_block(marker);
  if (!block) return false;
  gcrt_marker_block(marker, block);
  return true;
}

static bool work_in_sight(void) {
  if (gcrt_work_is_left()) return true;
  unsigned members = (unsigned)gcrt_load_acquire(&team.started) + 1;
  for (unsigned i = 0; i < members + GUESTS; i++) {
    if (!gcrt_deque_empty(&peer(i, members)->deque)) return true;
  }
  return false;
}

static void join(void) { gcrt_add_full(&gcrt_team_crew, THERE_ONE + IDLE_ONE); }
static void leave(void) { gcrt_sub_full(&gcrt_team_crew, THERE_ONE + IDLE_ONE); }

/* False: the job is closed. */
static bool get_busy(void) {
  for (;;) {
    size_t crew = gcrt_load(&gcrt_team_crew);
    if (!(crew & CREW_OPEN)) return false;
    if (gcrt_cas_full(&gcrt_team_crew, crew, crew - IDLE_ONE + CREW_CHANGE)) return true;
  }
}

static void get_idle(void) { gcrt_add_full(&gcrt_team_crew, IDLE_ONE); }

/* Closes the job if nobody is busy and nothing is left. Member 0 alone. */
static bool close_job(void) {
  size_t crew = gcrt_load_acquire(&gcrt_team_crew);
  if ((crew & COUNT_MASK) != (crew / THERE_ONE & COUNT_MASK) || work_in_sight()) return false;
  return gcrt_cas_full(&gcrt_team_crew, crew, crew & ~CREW_OPEN);
}

/* The number of a job and its members, as a futex sees them: 24 bits and 8. */
static void publish_job(unsigned members) {
  size_t number = ((gcrt_load(&team.job) >> 8) + 1) & 0xffffff;
  gcrt_store_release(&team.job, number << 8 | members);
  gcrt_futex_wake(&team.job, INT32_MAX);
}

/* Counts what member 0 has done; true once helpers are called. */
static bool call_helpers(size_t done) {
  size_t left = gcrt_load(&team.until_call);
  if (left == 0) return true;
  gcrt_store(&team.until_call, left - gcrt_min(left, done));
  if (left > done) return false;
  publish_job((unsigned)gcrt_load(&team.taking));
  return true;
}

bool gcrt_team_is_to_rest(const struct gcrt_marker *marker) {
  return marker == team.markers && gcrt_load(&team.open) && gcrt_pace_is_due();
}

bool gcrt_team_may_share(const struct gcrt_marker *marker) {
  if (marker == team.markers && !call_helpers(1)) return false;
  if (gcrt_load(&team.until_call) == 0) gcrt_store(&gcrt_team_hungry, 0);
  return true;
}

/* Waits, idle, until there is work again (true) or the job is over (false). */
static bool wait_for_work(const struct gcrt_marker *marker) {
  for (unsigned turn = 0;; turn++) {
    if (marker == team.markers) {
      if (close_job()) return false;
    } else if (gcrt_load(&team.job) != marker->seen) {
      return false;
    }
    if (!(gcrt_load(&gcrt_team_crew) & CREW_OPEN)) return false;
    if (work_in_sight()) return get_busy();
    gcrt_cpu_relax();
    if (turn % 256 == 255) gcrt_thread_yield();
  }
}

static void work_as(struct gcrt_marker *marker) {
  marker->alone = gcrt_load(&team.taking) == 1 && !gcrt_load(&team.open);
  join();
  bool busy = get_busy();
  while (busy) {
    uint64_t begin = gcrt_clock_thread_cpu();
    gcrt_marker_rest(marker);
    for (;;) {
      struct gcrt_work work;
      if (gcrt_work_take(&work)) {
        gcrt_work_do(marker, &work);
        if (marker == team.markers) (void)call_helpers(work.kind == GCRT_WORK_PAGES ? PAGES_COUNT : SLICE_COUNTS);
      } else if (!steal(marker)) {
        break;
      }
    }
    gcrt_add(&team.cpu_ns, gcrt_clock_thread_cpu() - begin);
    get_idle();
    busy = wait_for_work(marker);
  }
  gcrt_marker_finish(marker);
  leave();
}

/* A little of what there is to do. False: there is nothing. */
static bool help(struct gcrt_marker *marker, size_t objects, size_t chunks) {
  struct gcrt_block *block = next_block_of(marker);
  bool helped = block || gcrt_work_scan_pages(marker, chunks);
  if (block) gcrt_marker_assist(marker, block, objects);
  gcrt_marker_finish(marker);
  return helped;
}

/* One that is there because a processor is idle. It takes a little at a time, and goes when it finds nothing, or has
 * had to wait for its processor: what it holds in that moment holds up the others. */
static void work_as_extra(struct gcrt_marker *marker) {
  long preempted = gcrt_thread_preemptions();
  bool stays = true;
  join();
  while (stays && get_busy()) {
    uint64_t begin = gcrt_clock_thread_cpu();
    while (stays && help(marker, EXTRA_OBJECTS, GCRT_WORK_CHUNKS)) stays = gcrt_thread_preemptions() == preempted;
    gcrt_store(&gcrt_team_hungry, 1);
    gcrt_add(&team.cpu_ns, gcrt_clock_thread_cpu() - begin);
    get_idle();
    for (unsigned turn = 0; stays && !work_in_sight(); turn++) {
      stays = turn < EXTRA_TURNS;
      gcrt_cpu_relax();
    }
  }
  leave();
}

static void helper(void *argument) {
  struct gcrt_marker *marker = argument;
  unsigned self = (unsigned)(marker - team.markers);
  for (;;) {
    size_t job = gcrt_load_acquire(&team.job);
    if (job == marker->seen) {
      gcrt_futex_wait(&team.job, (uint32_t)job, -1);
      continue;
    }
    marker->seen = job;
    if ((job & 0xff) == 0) {
      if (gcrt_sub_full(&team.ending, 1) == 1) gcrt_futex_wake(&team.ending, 1);
      return;
    }
    if (self >= (job & 0xff)) continue;
    if (self < gcrt_load(&team.firm)) {
      work_as(marker);
    } else {
      work_as_extra(marker);
    }
  }
}

/* With the starting lock held. A machine that refuses threads marks with fewer. */
static void start_helpers(size_t members) {
  GCRT_PARK_SCOPE(park);
  /* One that still sleeps would look at the marker of the new one, and take it for its own for ever. */
  size_t ending;
  while ((ending = gcrt_load_acquire(&team.ending)) != 0) gcrt_futex_wait(&team.ending, (uint32_t)ending, -1);
  for (size_t started = gcrt_load(&team.started); started + 1 < members; started++) {
    team.markers[started + 1].seen = gcrt_load(&team.job);
    if (!gcrt_thread_start(helper, &team.markers[started + 1], "gcrt-marker")) return;
    gcrt_store_release(&team.started, started + 1);
  }
}

void gcrt_mark_start_helpers(unsigned members) {
  if (members > team.members) members = team.members;
  if (gcrt_load_acquire(&team.started) + 1 >= members || !gcrt_lock_try(&team.starting)) return;
  start_helpers(members);
  gcrt_unlock(&team.starting);
}

void gcrt_mark_stop_helpers(void) {
  /* Who starts helpers is a mutator, whose end asks again. */
  if (!gcrt_lock_try(&team.starting)) return;
  gcrt_add(&team.ending, gcrt_load(&team.started));
  gcrt_store(&team.started, 0);
  publish_job(0);
  gcrt_unlock(&team.starting);
}

/* With `open`, guests may help. */
static void run_job(unsigned members, bool open) {
  gcrt_store(&team.firm, members);
  members = (unsigned)gcrt_min(members + (open ? team.extra : 0), gcrt_load_acquire(&team.started) + 1);
  gcrt_store(&team.taking, members);
  gcrt_store(&team.until_call, members > 1 ? CALL_AFTER : 0);
  gcrt_store(&gcrt_team_hungry, members > 1);
  gcrt_store(&team.open, open);
  gcrt_add_full(&gcrt_team_crew, CREW_OPEN);
  work_as(&team.markers[0]);
  gcrt_store(&team.open, 0);
}

bool gcrt_mark_assist(void) {
  for (unsigned i = 0; i < GUESTS; i++) {
    if (!gcrt_lock_try(&team.guests[i])) continue;
    bool helped = false;
    join();
    bool busy = gcrt_load(&team.open) && get_busy();
    if (busy) {
      struct gcrt_marker *marker = &team.markers[team.members + i];
      uint64_t begin = gcrt_clock_thread_cpu();
      helped = help(marker, ASSIST_OBJECTS, ASSIST_CHUNKS);
      if (!helped) gcrt_store(&gcrt_team_hungry, 1);
      uint64_t ns = gcrt_clock_thread_cpu() - begin;
      gcrt_add(&team.cpu_ns, ns);
      gcrt_add(&team.assist_ns, ns);
    }
    if (busy) get_idle();
    leave();
    gcrt_unlock(&team.guests[i]);
    return helped;
  }
  return false;
}

/* Until nothing is grey. Roots and uncollectable objects are looked at first, if there are any in `count`. */
static void mark_until_done(const struct gcrt_root *roots, size_t count, bool spans, unsigned members, bool open,
                            gcrt_mark_pages *pages) {
  members = (unsigned)gcrt_min(members, gcrt_load_acquire(&team.started) + 1);
  gcrt_work_begin(roots, count, spans, pages);
  for (;;) {
    run_job(members, open);
    if (!gcrt_load(&team.overflowed)) break;
    gcrt_store(&team.overflowed, 0);
    gcrt_add(&team.overflows, 1);
    gcrt_work_begin_again();
  }
}

static void bound_blocks(void) {
  size_t used = gcrt_load(&gcrt_heap.used);
  gcrt_block_bound(team.block_limit ? team.block_limit : 1024 + used / 64 / sizeof(struct gcrt_block));
}

void gcrt_mark_all(const struct gcrt_root *roots, size_t count, unsigned members, gcrt_mark_pages *pages) {
  bound_blocks();
  mark_until_done(roots, count, true, members, false, pages);
}

/* A deep heap needs them again the next time; a small one is not to be made larger by them. */
void gcrt_mark_end(void) {
  size_t keep = BLOCKS_KEPT + gcrt_load(&gcrt_heap.used) / 256 / sizeof(struct gcrt_block);
  gcrt_block_trim(team.block_limit ? gcrt_min(keep, team.block_limit) : keep);
}

void gcrt_mark_begin(unsigned extra) {
  team.extra = extra;
  bound_blocks();
  gcrt_copies_begin(gcrt_load(&gcrt_heap.used));
}

void gcrt_mark_grey(const struct gcrt_root *roots, size_t count) {
  for (size_t i = 0; i < count; i++) {
    gcrt_marker_grey_root(&team.markers[0], roots[i].range, roots[i].kind == GCRT_ROOT_STACK);
  }
}

void gcrt_mark_grey_noted(void) { gcrt_mark_grey_notes(&team.markers[0]); }

void gcrt_mark_written(struct gcrt_marker *marker, uintptr_t low, uintptr_t high) {
  gcrt_marker_written(marker, (struct gcrt_range){low, high});
}

void gcrt_mark_written_last(struct gcrt_marker *marker, uintptr_t low, uintptr_t high) {
  gcrt_marker_written_last(marker, (struct gcrt_range){low, high});
}

void gcrt_mark_written_root(uintptr_t low, uintptr_t high) {
  gcrt_marker_written_root(&team.markers[0], (struct gcrt_range){low, high});
}

void gcrt_mark_grey_out(unsigned members, bool uncollectable) {
  bound_blocks();
  mark_until_done(NULL, 0, uncollectable, members, true, NULL);
}

void gcrt_mark_pages_beside(unsigned members, gcrt_mark_pages *pages, bool shared) {
  bound_blocks();
  gcrt_work_share_pages(shared);
  mark_until_done(NULL, 0, false, members, true, pages);
  gcrt_work_share_pages(false);
}

static size_t markers_size(unsigned members) {
  return gcrt_align_up((members + GUESTS) * sizeof(struct gcrt_marker), gcrt_page_size());
}

void gcrt_mark_init(unsigned members) {
  size_t bytes = markers_size(members);
  team.markers = gcrt_memory_map(bytes);
  if (!team.markers) gcrt_fatal("no memory for %u markers", members);
  team.members = members;
  /* It holds addresses of objects from marking to marking: as a root it would keep them alive. */
  gcrt_loader_exclude(&team, &team + 1);
  gcrt_work_init();
}

unsigned gcrt_mark_members(void) { return team.members; }

void gcrt_mark_get_stats(struct gcrt_mark_stats *stats) {
  stats->cpu_ns = gcrt_load(&team.cpu_ns);
  stats->overflows = gcrt_load(&team.overflows);
  stats->scanned = gcrt_load(&team.scanned);
  stats->assisted = gcrt_load(&team.assisted);
  stats->assist_ns = gcrt_load(&team.assist_ns);
}

size_t gcrt_mark_memory(void) { return markers_size(team.members) + gcrt_block_memory() + gcrt_copies_memory(); }

void gcrt_mark_limit_blocks(size_t blocks) { team.block_limit = blocks; }

/* What was grey in the parent's marking. Its blocks may be anywhere: they are lost. */
static void abandon(void) {
  for (unsigned i = 0; i < team.members + GUESTS; i++) {
    struct gcrt_marker *marker = &team.markers[i];
    marker->block = NULL;
    gcrt_store(&marker->deque.top, 0);
    gcrt_store(&marker->deque.bottom, 0);
  }
  gcrt_block_forget();
  gcrt_copies_after_fork();
  gcrt_notes_after_fork();
  gcrt_store(&team.overflowed, 0);
  gcrt_work_forget();
}

void gcrt_mark_after_fork(void) {
  /* Also when nobody marks: a helper that came late may have been giving its block back. */
  abandon();
  gcrt_store(&team.started, 0);
  gcrt_store(&team.ending, 0);
  gcrt_store(&team.open, 0);
  gcrt_store(&gcrt_team_crew, 0);
  for (unsigned i = 0; i < GUESTS; i++) gcrt_lock_reset(&team.guests[i]);
  gcrt_lock_reset(&team.starting);
  gcrt_block_reset_lock();
}
