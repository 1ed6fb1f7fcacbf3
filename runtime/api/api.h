/* What the public entry points share. */
#ifndef GCRT_API_API_H
#define GCRT_API_API_H

#include <gcrt/collect.h>

#include "heap/cache.h"
#include "heap/layout.h"
#include "world/thread.h"

/* Brings the library up: once, by its constructor or by the first call that comes before it. */
void gcrt_init_once(void);

/* The calling thread, made known if it was not, with a cache; NULL with errno ENOMEM. */
struct gcrt_thread *gcrt_mutator(void);

/* An allocation. */
struct gcrt_request {
  size_t size;
  size_t alignment;
  enum gcrt_kind kind;
  unsigned slot; /* of a small one */
  bool large;
};

/* out_of_memory.c: what is done before an allocation that was refused returns NULL, with errno ENOMEM. */
void *gcrt_out_of_memory(struct gcrt_thread *thread, const struct gcrt_request *request,
                         void *(*try_again)(struct gcrt_thread *, const struct gcrt_request *));
/* A mutator outside critical sections. */
void gcrt_oom_handler_set(gc_oom_handler fn, void *argument);
void gcrt_oom_after_fork(void);

/* fork.c */
void gcrt_fork_init(void);

#endif
