/* The memory limit in force, and what counts against it.
 *
 * All that the library has mapped counts, less what it gave back: the heap's chunks that hold memory, tables, caches
 * and mark stacks. Pacer and scavenger are told of each change, and read what they need of it without a lock, as the
 * last stop computes a goal too.
 *
 * The goal under a limit depends on memory that changes between collections: cells that are free in spans become
 * objects, chunks are taken and given back. It is computed anew when a collection seems to be due for the limit, and by
 * an allocation that finds the heap's chunks grown by a part of the limit since the last time, or at the limit. That is
 * one comparison for each refill.
 *
 * Free cells in spans count as room, but no longer when what is mapped has grown in spite of them since the last
 * collection: objects of other sizes are allocated then. Go takes them for overhead always. A heap that has been near
 * its limit once and has holes everywhere is collected without end by that, although it could go on for long in what it
 * has (256 MiB, objects of 200 bytes that replace each other at random, half of the limit alive).
 *
 * Memory is given back before an allocation that may take new chunks, by its own thread:
 * afterwards would be over the limit, and inside the chunk allocator a stop would have to wait for the system calls.
 *
 * An automatic limit is a part of what the control group allows. The background thread asks every two seconds: some 15
 * files, 0.15 ms. A mutator's stack may be too small for that. Being told by inotify would need a descriptor, which
 * programs close, and a thread that waits as well.
 *
 * `lock` guards the setting alone; a mutator holds it in a critical section. Not async-signal-safe. */
#include "cycle/limit.h"

#include "base/bits.h"
#include "base/options.h"
#include "cycle/phases.h"
#include "cycle/scavenger.h"
#include "heap/cache.h"
#include "heap/stats.h"
#include "mark/mark.h"
#include "sys/cgroup.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/proc.h"

#include <errno.h>

/* The goal is computed anew after this part of the limit in new chunks. */
enum { STEPS = 128 };

/* An object of this size waits for a collection rather than pass the limit; smaller ones are counted on to be stopped
 * by the goal. */
enum { WORTH_WAITING = 1 << 20 };

/* With a heap under that an automatic limit is not watched. */
enum { WATCHED_BYTES = 4 << 20 };

static struct {
  struct gcrt_lock lock;
  gcrt_word bytes;   /* in force; SIZE_MAX: none */
  gcrt_word percent; /* of what the control group allows; 0: the program's or the option's number */
  gcrt_word least;   /* that was mapped since the last collection, as far as anybody has looked */
  gcrt_word asked;   /* when the group was; monotonic ns */
} limit = {.bytes = SIZE_MAX, .least = SIZE_MAX};

gcrt_word gcrt_limit_look_at = SIZE_MAX;
gcrt_word gcrt_limit_period = 2000000000;
const char *gcrt_limit_root = "";

uint64_t gcrt_limit_bytes(void) { return gcrt_load(&limit.bytes); }
unsigned gcrt_limit_percent_of_group(void) { return (unsigned)gcrt_load(&limit.percent); }

uint64_t gcrt_limit_mapped(void) {
  size_t caches;
  size_t cache = gcrt_cache_bytes(&caches);
  return gcrt_heap_retained() + gcrt_heap_tables() + cache * caches + gcrt_mark_memory() +
         gcrt_load(&gcrt_world.records) * gcrt_page_size();
}

/* Whether allocation finds what it needs in spans: what is mapped has not grown since the last collection, or there is
 * room for some growth. */
static bool spans_suffice(uint64_t bytes, uint64_t mapped) {
  uint64_t least = gcrt_min(gcrt_load(&limit.least), mapped), step = gcrt_max(GCRT_CHUNK, bytes / STEPS);
  gcrt_store(&limit.least, least);
  return mapped - least < (least + step <= bytes ? step : GCRT_CHUNK);
}

void gcrt_limit_memory(struct gcrt_controller_memory *memory) {
  *memory = (struct gcrt_controller_memory){0};
  uint64_t bytes = gcrt_limit_bytes();
  if (bytes == UINT64_MAX) return;
  size_t live = gcrt_load(&gcrt_heap.live), busy = gcrt_load(&gcrt_heap.busy) * GCRT_CHUNK;
  memory->mapped = gcrt_limit_mapped();
  memory->heap_free = gcrt_load(&gcrt_heap.dirty) * GCRT_CHUNK;
  memory->heap_alloc = live;
  if (spans_suffice(bytes, memory->mapped)) memory->heap_free += busy - gcrt_min(busy, live);
}

void gcrt_limit_cycle_end(void) { gcrt_store(&limit.least, SIZE_MAX); }

/* Where there is nothing to give back, looking again is of use when there is more. */
void gcrt_limit_seen(const struct gcrt_controller_memory *memory) {
  uint64_t bytes = gcrt_limit_bytes();
  size_t at = SIZE_MAX;
  if (bytes != UINT64_MAX) {
    size_t retained = gcrt_heap_retained();
    size_t room = (size_t)(bytes - gcrt_min(bytes, memory->mapped));
    bool idle = gcrt_load(&gcrt_heap.dirty) == 0 || gcrt_cpu_time_limits();
    if (room < GCRT_CHUNK && idle) room = GCRT_CHUNK;
    at = retained + gcrt_min(room, gcrt_max(GCRT_CHUNK, bytes / STEPS));
  }
  gcrt_store(&gcrt_limit_look_at, at);
}

/* Of two that race, the later finds that the first has told something old, or tells it again. */
static void tell(void) {
  size_t bytes;
  do {
    bytes = gcrt_load(&limit.bytes);
    gcrt_scavenger_set_limit(bytes);
    gcrt_pacer_update();
  } while (bytes != gcrt_load(&limit.bytes));
}

static void lock(void) {
  if (gcrt_self) gcrt_gate_enter(gcrt_self);
  gcrt_lock(&limit.lock);
}

static void unlock(void) {
  gcrt_unlock(&limit.lock);
  if (gcrt_self) gcrt_gate_exit(gcrt_self);
}

static int64_t as_option(size_t bytes) { return bytes >= INT64_MAX ? INT64_MAX : (int64_t)bytes; }

int64_t gcrt_limit_set(int64_t bytes) {
  if (bytes < 0) return as_option(gcrt_load(&limit.bytes));
  lock();
  int64_t old = as_option(gcrt_load(&limit.bytes));
  gcrt_store(&limit.percent, 0);
  gcrt_store(&limit.bytes, bytes == GCRT_LIMIT_OFF ? SIZE_MAX : (size_t)bytes);
  unlock();
  tell();
  return old;
}

/* --- the control group ------------------------------------------------------------------------------------------- */

static size_t part_of_group(unsigned percent) {
  const char *reason;
  int saved = errno;
  uint64_t group = gcrt_cgroup_memory_limit(gcrt_limit_root, &reason);
  errno = saved;
  if (group == UINT64_MAX) return SIZE_MAX;
  return (size_t)((unsigned __int128)group * percent / 100);
}

static void ask_for_memory(unsigned percent) {
  size_t bytes = part_of_group(percent);
  lock();
  bool changed = gcrt_load(&limit.percent) == percent && gcrt_load(&limit.bytes) != bytes;
  if (changed) gcrt_store(&limit.bytes, bytes);
  unlock();
  if (!changed) return;
  tell();
  /* The program may not allocate for long. */
  if (gcrt_cycle_due()) gcrt_background_request(GCRT_CYCLE_GOAL);
}

int64_t gcrt_limit_refresh(void) {
  unsigned percent = gcrt_limit_percent_of_group();
  uint64_t period = gcrt_load(&gcrt_limit_period), now = gcrt_clock_monotonic();
  uint64_t since = now - gcrt_min(now, gcrt_load(&limit.asked));
  if (since < period) return percent ? (int64_t)(period - since) : INT64_MAX;
  gcrt_store(&limit.asked, now);
  gcrt_cpu_count_refresh(gcrt_limit_root);
  gcrt_cpu_time_set_processors();
  if (percent == 0) return INT64_MAX;
  ask_for_memory(percent);
  return (int64_t)period;
}

void gcrt_limit_init(int64_t setting) {
  unsigned percent = (unsigned)gcrt_limit_percent(setting);
  size_t bytes = setting == GCRT_LIMIT_OFF ? SIZE_MAX : (size_t)setting;
  gcrt_store(&limit.percent, percent);
  gcrt_store(&limit.bytes, percent ? part_of_group(percent) : bytes);
  gcrt_store(&limit.asked, gcrt_clock_monotonic());
  gcrt_scavenger_set_limit(gcrt_limit_bytes());
}

void gcrt_limit_after_fork(void) { gcrt_lock_reset(&limit.lock); }

/* --- allocation -------------------------------------------------------------------------------------------------- */

static uint64_t above(uint64_t bytes, uint64_t most) { return bytes > most ? bytes - most : 0; }

void gcrt_limit_look(size_t bytes) {
  gcrt_pacer_update();
  if (gcrt_limit_percent_of_group() && gcrt_heap_retained() > WATCHED_BYTES) (void)gcrt_background_start();
  if (bytes < WORTH_WAITING || gcrt_cpu_time_limits()) return;
  /* What is free may not be in one piece: so much may be new. */
  uint64_t wanted = above(gcrt_limit_mapped() + bytes, gcrt_limit_bytes());
  uint64_t unused = gcrt_load(&gcrt_heap.dirty) * GCRT_CHUNK;
  uint64_t allocated = above(gcrt_load(&gcrt_heap.live), gcrt_pacer_live());
  if (wanted > unused && allocated > 0) (void)gcrt_cycle_collect(GCRT_CYCLE_LIMIT);
}

void gcrt_limit_make_room(size_t bytes) {
  if (gcrt_cpu_time_limits() || gcrt_load(&gcrt_heap.dirty) == 0) return;
  uint64_t wanted = above(gcrt_limit_mapped() + bytes, gcrt_limit_bytes());
  if (wanted == 0 || gcrt_scavenger_release(wanted) != 0) return;
  /* It is locked: not for every refill. */
  gcrt_store(&gcrt_limit_look_at, gcrt_heap_retained() + 2 * (size_t)GCRT_CHUNK);
}

bool gcrt_limit_postpones(void) {
  if (!gcrt_pacer_limited()) return false;
  gcrt_pacer_update();
  if (!gcrt_cycle_due()) return true;
  gcrt_cpu_time_update();
  return gcrt_cpu_time_limits() && gcrt_load(&gcrt_heap.live) < gcrt_pacer_percent_goal();
}
