/* Collecting on demand and its settings: the public entry points. Thread-safe, not async-signal-safe. */
#include <gcrt/collect.h>

#include "api/api.h"
#include "base/options.h"
#include "base/report.h"
#include "cycle/cycle.h"
#include "cycle/limit.h"
#include "cycle/scavenger.h"
#include "heap/heap.h"
#include "sys/cards.h"

#include <errno.h>

GCRT_EXPORT void gc_collect(void) {
  if (!gcrt_mutator()) gcrt_fatal("gc_collect: no memory to make the calling thread known");
  gcrt_cycle_collect(GCRT_CYCLE_FORCED);
}

GCRT_EXPORT int gc_set_percent(int percent) {
  gcrt_init_once();
  return gcrt_pacer_set_percent(percent);
}

GCRT_EXPORT int64_t gc_set_memory_limit(int64_t bytes) {
  gcrt_init_once();
  return gcrt_limit_set(bytes);
}

GCRT_EXPORT size_t gc_set_min_heap(size_t bytes) {
  gcrt_init_once();
  return gcrt_pacer_set_minimum(bytes);
}

GCRT_EXPORT int gc_set_limit_handler(gc_limit_handler fn, void *arg, uint64_t after_ns) {
  if (fn && after_ns == 0) {
    errno = EINVAL;
    return -1;
  }
  if (!gcrt_mutator()) return -1;
  gcrt_limit_handler_set(fn, arg, after_ns);
  return 0;
}

GCRT_EXPORT void gc_free_os_memory(void) {
  gc_collect();
  gcrt_scavenger_release(UINT64_MAX);
  gcrt_scavenger_tell();
}

/* While nothing is marked beside the program there is nothing to tell: a marking that begins later finds the store. */
GCRT_EXPORT void gc_write_barrier(void *object) {
  if (GCRT_LIKELY(!gcrt_load(&gcrt_heap.marking)) || gcrt_options.tracker != GCRT_CHOOSE_explicit) return;
  struct gcrt_place place;
  uintptr_t address = (uintptr_t)object;
  if (!gcrt_find_cell(address, &place)) return;
  uintptr_t start = gcrt_place_start(&place);
  size_t size = gcrt_place_size(&place);
  bool one_place = size > GCRT_CARD_BYTES && address != start;
  if (one_place) {
    gcrt_cards_write(address, address + 1);
  } else {
    gcrt_cards_write(start, start + size);
  }
}

GCRT_EXPORT void gc_keep_alive(const void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }
