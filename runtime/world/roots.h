/* Where roots are: everything a collection must search, as ranges of words. */
#ifndef GCRT_WORLD_ROOTS_H
#define GCRT_WORLD_ROOTS_H

#include "sys/loader.h"

#include <stdbool.h>
#include <stddef.h>

enum gcrt_root_kind {
  GCRT_ROOT_STACK,  /* stacks and registers: a pointer one past the end counts, too */
  GCRT_ROOT_GLOBAL, /* everything else */
};

struct gcrt_root {
  struct gcrt_range range;
  enum gcrt_root_kind kind;
};

/* root_set.c: ranges and stacks that the program registers. Thread-safe, under their own lock. */
int gcrt_root_add(uintptr_t start, uintptr_t end);    /* 0 or ENOMEM */
int gcrt_root_remove(uintptr_t start, uintptr_t end); /* 0 or ENOENT */
int gcrt_stack_add(uintptr_t low, uintptr_t high);    /* 0, EEXIST or ENOMEM */
int gcrt_stack_remove(uintptr_t low);                 /* 0 or ENOENT */
const struct gcrt_range *gcrt_root_ranges(size_t *count);
const struct gcrt_range *gcrt_root_stacks(size_t *count);
/* Around fork and around a stop: the tables do not change. */
void gcrt_root_set_lock(void);
void gcrt_root_set_unlock(void);
void gcrt_root_set_reset_lock(void);

/* roots.c: with the world stopped, the loader's lock and that of the root set held. All roots of the moment, in an
 * array that stays valid until the next call. */
const struct gcrt_root *gcrt_roots_collect(size_t *count);

#endif
