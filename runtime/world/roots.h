/* Where roots are: everything a collection must search, as ranges of words. */
#ifndef GCRT_WORLD_ROOTS_H
#define GCRT_WORLD_ROOTS_H

#include "sys/loader.h"

#include <stdbool.h>
#include <stddef.h>

enum gcrt_root_kind {
  GCRT_ROOT_STACK,  /* stacks and registers: a pointer one past the end counts, too */
  GCRT_ROOT_GLOBAL, /* thread-local variables, and what the library knows of threads */
  GCRT_ROOT_DATA,   /* writable data of a loaded object: mapped until it leaves the loader's list */
  GCRT_ROOT_ADDED,  /* what the program registered: mapped until it is removed */
};

struct gcrt_root {
  struct gcrt_range range;
  enum gcrt_root_kind kind;
};

/* A slot of the tables of what the program registered; empty if `times` is 0. */
struct gcrt_registered {
  struct gcrt_range range;
  size_t times;
};

/* root_set.c: ranges and stacks that the program registers. Thread-safe, under their own lock. */
int gcrt_root_add(uintptr_t start, uintptr_t end);    /* 0 or ENOMEM */
int gcrt_root_remove(uintptr_t start, uintptr_t end); /* 0 or ENOENT */
int gcrt_stack_add(uintptr_t low, uintptr_t high);    /* 0, EEXIST or ENOMEM */
int gcrt_stack_remove(uintptr_t low);                 /* 0 or ENOENT */
/* Under that lock: the tables, with empty slots among the others, and how many slots are not empty in both. */
const struct gcrt_registered *gcrt_root_ranges(size_t *slots);
const struct gcrt_registered *gcrt_root_stacks(size_t *slots);
size_t gcrt_root_set_count(void);
/* Under that lock: whether the range is registered. */
bool gcrt_root_set_has(struct gcrt_range range);
/* Around fork and around a stop: the tables do not change. */
void gcrt_root_set_lock(void);
void gcrt_root_set_unlock(void);
void gcrt_root_set_reset_lock(void);

/* roots.c. The list of all roots has its memory before a stop begins. */
/* Under the lock of the root set: room for so many registered ranges and stacks. False: no memory. */
bool gcrt_roots_room(size_t registered);
/* Under gcrt_world.lock, which the root set's follows: room for the threads that are listed. False: no memory. */
bool gcrt_roots_room_for_threads(void);
/* Under the loader's lock and gcrt_world.lock: counts what is loaded, and makes room for all. False: no memory. */
bool gcrt_roots_reserve(void);
/* With the world stopped, the loader's lock and that of the root set held. All roots of the moment, in an
 * array that stays valid until the next call. */
struct gcrt_root *gcrt_roots_collect(size_t *count);

/* While the program runs: what these miss, and what changes behind them, gcrt_roots_collect finds. */
/* Under the loader's lock and gcrt_world.lock, after gcrt_roots_reserve and before gcrt_roots_of_thread. */
void gcrt_roots_look_at_modules(void);
/* The same locks; the thread does not run (gcrt_world_visit). Registers, own stack, thread-local variables. Valid until
 * the next call. */
struct gcrt_thread;
const struct gcrt_root *gcrt_roots_of_thread(const struct gcrt_thread *thread, size_t *count);
/* Under the loader's lock: global variables and what the program registered. The root set is locked for each of the
 * latter: visit returns soon and registers nothing. */
void gcrt_roots_visit_shared(void (*visit)(void *argument, struct gcrt_root root), void *argument);

#endif
