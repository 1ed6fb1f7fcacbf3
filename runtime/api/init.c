/* Initialisation: from the constructor, or from a call that another library's constructor makes before it.
 *
 * There is one thread then, or the others cannot be known yet. No lock: a constructor runs alone under the loader's.
 * Not async-signal-safe. */
#include "api/api.h"

#include <gcrt/collect.h>
#include <gcrt/version.h>

#include "base/options.h"
#include "base/report.h"
#include "cycle/cycle.h"
#include "cycle/limit.h"
#include "cycle/scavenger.h"
#include "heap/heap.h"
#include "mark/mark.h"
#include "objects/pool.h"
#include "observe/observe.h"
#include "sys/loader.h"
#include "sys/proc.h"
#include "sys/real.h"
#include "sys/tls.h"

enum { MARKERS_BY_DEFAULT = 8 };

static bool initialised;

/* The program's last thread ends: the library's would keep the process. */
static void end_of_program(void) {
  gcrt_background_quit();
  gcrt_scavenger_quit();
  gcrt_cycle_stop_helpers(false);
}

static void end_of_thread(struct gcrt_thread *thread) {
  gcrt_pools_end_thread(thread);
  if (!thread->cache) return;
  gcrt_cache_retire(thread->cache);
  thread->cache = NULL;
}

GCRT_COLD static void initialise(void) {
  gcrt_real_init();
  gcrt_options_read();
  gcrt_tls_init();
  gcrt_heap_init((size_t)gcrt_options.heap_reserve);
  gcrt_loader_exclude(&gcrt_heap, &gcrt_heap + 1);
  gcrt_world_hooks = (struct gcrt_world_hooks){.end = end_of_thread, .last = end_of_program};
  gcrt_world_init();
  size_t members = (size_t)gcrt_options.markers;
  gcrt_mark_init((unsigned)(members ? members : gcrt_min(gcrt_cpu_count(), MARKERS_BY_DEFAULT)));
  gcrt_concurrent_init();
  gcrt_cpu_time_init();
  gcrt_limit_init(gcrt_options.memlimit);
  gcrt_pacer_set_percent((int)gcrt_options.gogc);
  gcrt_pools_init();
  gcrt_observe_init();
  gcrt_fork_init();
  gcrt_stop_init((int)gcrt_options.signal, gcrt_options.stop_timeout);
}

void gcrt_init_once(void) {
  if (GCRT_LIKELY(initialised)) return;
  initialised = true;
  initialise();
}

__attribute__((constructor(101))) static void on_load(void) { gcrt_init_once(); }

GCRT_EXPORT int gc_init(void) {
  gcrt_init_once();
  return 0;
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

GCRT_EXPORT const char *gc_version(void) { return VERSION_TEXT(GC_VERSION_MAJOR, GC_VERSION_MINOR, GC_VERSION_PATCH); }
