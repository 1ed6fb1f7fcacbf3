/* What the programs of this folder share: sets of objects whose only pointers the test controls, threads, and the
 * balance of the metrics. Only the public API and libc are behind it.
 *
 * Liveness is asked of gc_base: test_hide keeps an address where no collector sees it, and gc_base says whether an
 * object still starts there. A conservative collector may keep a few objects too many (a stale word looks like a
 * pointer), so "all alive" is exact and "dead" means that at least three quarters of a set are gone. */
#ifndef GCRT_TESTS_SYSTEM_H
#define GCRT_TESTS_SYSTEM_H

#include "support.h"

#include <gcrt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SYSTEM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SYSTEM_SANITIZED 1
#endif
#endif
#ifndef SYSTEM_SANITIZED
#define SYSTEM_SANITIZED 0
#endif

#define SYSTEM_NOINLINE __attribute__((noinline))

/* How many objects a set has. */
enum { SYSTEM_SET = 64 };

/* Objects that only hidden pointers name. */
struct system_set {
  uintptr_t hidden[SYSTEM_SET];
  size_t size;  /* what each was asked for */
  uint64_t tag; /* first of their contents, see system_set_intact */
};

/* How an object of a set is made: gc_alloc, gc_alloc_noscan ... */
typedef void *system_allocate_fn(size_t size);

/* Fills a set with new objects and calls place(i, object, arg) for each, which puts the pointer where the test wants
 * it; place may be NULL. It runs on a thread of its own that has ended on return, so that no stale copy is left on
 * the caller's stack. Collection must not run before the pointers are placed: automatic collection is off meanwhile.
 */
void system_set_make(struct system_set *set, size_t size, system_allocate_fn *allocate,
                     void (*place)(size_t i, void *object, void *arg), void *arg);

/* As system_set_make, on the calling thread: for pointers that belong to the thread. */
void system_set_make_here(struct system_set *set, size_t size, system_allocate_fn *allocate,
                          void (*place)(size_t i, void *object, void *arg), void *arg);

/* A place function: arg is an array of SYSTEM_SET pointers. */
void system_place_in_array(size_t i, void *object, void *array);

/* How many of the set are objects still. */
size_t system_set_live(const struct system_set *set);

/* Whether all are alive and hold what they held. */
bool system_set_intact(const struct system_set *set);

/* Whether at least three quarters are gone. */
bool system_set_dead(const struct system_set *set);

/* Clears what the calling thread may hold by chance, then collects. */
void system_collect(void);

/* Runs fn(arg) on a new thread and waits for its end. */
void system_on_thread(void *(*fn)(void *), void *arg);

/* pthread_create of libc itself, past the library's: a thread made by it is unknown. NULL where there is none. */
typedef int system_pthread_create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
system_pthread_create_fn *system_libc_pthread_create(void);

/* Waits until the thread sleeps in the kernel, for at most two seconds. False: it did not. */
bool system_wait_asleep(pid_t tid);

/* A metrics reading. */
struct runtime_metrics system_metrics(void);

/* NULL, or which balance does not hold. */
const char *system_unbalanced(const struct runtime_metrics *m);

/* A child that was to run with GCRT_TRACKER=uffd ended because that does not work here. */
bool system_uffd_refused(const struct test_child *child);

/* Collections so far. */
uint32_t system_collections(void);

/* Something the whole test waits for. */
struct system_event {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned count;
};
#define SYSTEM_EVENT_INITIALIZER                                                                                       \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }
void system_event_post(struct system_event *event);
/* Waits until it was posted `count` times. */
void system_event_wait(struct system_event *event, unsigned count);

#endif
