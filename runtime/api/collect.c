/* Collecting on demand and its settings: the public entry points. Thread-safe, not async-signal-safe. */
#include <gcrt/collect.h>

#include "api/api.h"
#include "base/report.h"
#include "cycle/cycle.h"
#include "heap/heap.h"

GCRT_EXPORT void gc_collect(void) {
  if (!gcrt_mutator()) gcrt_fatal("gc_collect: no memory to make the calling thread known");
  gcrt_cycle_collect(GCRT_CYCLE_FORCED);
}

GCRT_EXPORT int gc_set_percent(int percent) {
  gcrt_init_once();
  return gcrt_pacer_set_percent(percent);
}

GCRT_EXPORT void gc_free_os_memory(void) {
  gc_collect();
  struct gcrt_thread *thread = gcrt_self;
  gcrt_gate_enter(thread);
  gcrt_pages_release();
  gcrt_gate_exit(thread);
}

GCRT_EXPORT void gc_keep_alive(const void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }
