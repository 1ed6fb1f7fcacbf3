/* What the public entry points share. */
#ifndef GCRT_API_API_H
#define GCRT_API_API_H

#include "heap/cache.h"
#include "world/thread.h"

/* Brings the library up: once, by its constructor or by the first call that comes before it. */
void gcrt_init_once(void);

/* The calling thread, made known if it was not, with a cache; NULL with errno ENOMEM. */
struct gcrt_thread *gcrt_mutator(void);

/* fork.c */
void gcrt_fork_init(void);

#endif
