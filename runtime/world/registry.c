/* The registry of threads: who is known, from when, and until when.
 *
 * A thread made by pthread_create is announced by its parent, so that its argument is a root from before the call
 * returns; it counts as parked until it runs. A thread leaves after its last key destructor, as those of the program
 * may still allocate; after that its result is kept until it is joined.
 *
 * All lists under gcrt_world.lock. Records are mapped by themselves: malloc may not be called from everywhere here, and
 * its memory would be searched by nobody. Nothing here is async-signal-safe. */
#include "base/report.h"
#include "base/tsan.h"
#include "sys/memory.h"
#include "sys/proc.h"
#include "sys/real.h"
#include "sys/signal.h"
#include "sys/tls.h"
#include "world/roots.h"
#include "world/signals.h"
#include "world/thread.h"

#include <errno.h>
#include <limits.h>

struct gcrt_world gcrt_world;
struct gcrt_world_hooks gcrt_world_hooks;
__thread struct gcrt_thread *gcrt_self __attribute__((tls_model("initial-exec")));

/* Two keys with the same destructor, of which a thread uses one. The C library calls destructors in the order of their
 * keys, in rounds: the last key there can be makes ours the last of each round, and nobody allocates behind it. But
 * what it keeps for that key it has from malloc: where that fails, or may not be called yet, the first key serves. */
static pthread_key_t first_key, last_key;
enum {
  SPECIFIC_KEYS = PTHREAD_KEYS_MAX,
  SPECIFIC_FIRST = 32, /* values of the keys below are in the thread's control block */
};

static size_t record_size(void) { return gcrt_align_up(sizeof(struct gcrt_thread), gcrt_page_size()); }
static size_t specific_size(void) { return gcrt_align_up(SPECIFIC_KEYS * sizeof(uintptr_t), gcrt_page_size()); }

/* False: no memory for what a collection must note of one more. */
static bool list(struct gcrt_thread *thread) {
  gcrt_add(&gcrt_world.records, 1);
  if (!gcrt_roots_room_for_threads()) {
    gcrt_sub(&gcrt_world.records, 1);
    return false;
  }
  thread->next = gcrt_world.threads;
  if (thread->next) thread->next->previous = thread;
  gcrt_world.threads = thread;
  gcrt_world.count++;
  return true;
}

static void unlist_and_free(struct gcrt_thread *thread) {
  gcrt_sub(&gcrt_world.records, 1);
  if (thread->previous) {
    thread->previous->next = thread->next;
  } else {
    gcrt_world.threads = thread->next;
  }
  if (thread->next) thread->next->previous = thread->previous;
  if (thread->specific) gcrt_memory_unmap(thread->specific, specific_size());
  gcrt_memory_unmap(thread, record_size());
}

/* Under the lock. */
static void free_if_done(struct gcrt_thread *thread) {
  if (gcrt_load(&thread->state) == GCRT_ENDED && thread->detached && !thread->creating) unlist_and_free(thread);
}

/* Fills in what only the thread itself can know. */
static void adopt(struct gcrt_thread *thread) {
  thread->tid = gcrt_thread_id();
  thread->tls = gcrt_tls_self();
  /* Its creator may have blocked them past the interposed functions. */
  if (gcrt_stop_signal) gcrt_signal_unblock(gcrt_stop_signal);
  if (gcrt_fault_signal) gcrt_signal_unblock(gcrt_fault_signal);
  if (!gcrt_stack_bounds(&thread->stack)) {
    /* A thread of unknown make: what it keeps above the present frame would not be found. */
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    gcrt_fatal("thread %d: the bounds of its stack around %p are not to be had", thread->tid, (void *)here);
  }
  thread->exit_rounds = PTHREAD_DESTRUCTOR_ITERATIONS - 1;
}

/* Asks to be told of the calling thread's end. False: no memory. */
static bool hold(struct gcrt_thread *thread) {
  if (!GCRT_TSAN_BUILD && gcrt_real(pthread_setspecific)(last_key, thread) == 0) return true;
  return gcrt_real(pthread_setspecific)(first_key, thread) == 0;
}

static void let_go(void) {
  gcrt_real(pthread_setspecific)(last_key, NULL);
  gcrt_real(pthread_setspecific)(first_key, NULL);
}

/* Whether any key of the program has a value in the calling thread. The C library takes a value away before it calls
 * its destructor, also where there is none: what is left has a destructor still to come. */
static bool others_hold(void) {
  for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
    if (key != first_key && key != last_key && pthread_getspecific(key)) return true;
  }
  return false;
}

/* The destructor of the keys: the C library calls it in every round as long as the value is set again. A thread that
 * became known in a destructor has fewer rounds before it than exit_rounds says; it mostly ends for want of values. */
static void on_thread_end(void *value) {
  struct gcrt_thread *thread = value;
  if (thread != gcrt_self) return;
  if (thread->exit_rounds > 0 && others_hold()) {
    thread->exit_rounds--;
    if (hold(thread)) return;
  }
  gcrt_thread_detach_self();
}

/* Values that the calling thread's keys had before it was known. False: no memory. */
static bool note_values(void) {
  for (pthread_key_t key = SPECIFIC_FIRST; key < SPECIFIC_KEYS; key++) {
    if (key == first_key || key == last_key) continue;
    if (!gcrt_thread_specific(key, (uintptr_t)pthread_getspecific(key))) return false;
  }
  return true;
}

static void create_keys(void) {
  pthread_key_t keys[PTHREAD_KEYS_MAX];
  size_t count = 0;
  while (count < PTHREAD_KEYS_MAX && gcrt_real(pthread_key_create)(&keys[count], on_thread_end) == 0) count++;
  if (count == 0) gcrt_fatal("no key of pthread_key_create is left for the library");
  first_key = last_key = keys[0];
  for (size_t i = 1; i < count; i++) {
    first_key = (pthread_key_t)gcrt_min(first_key, keys[i]);
    last_key = (pthread_key_t)gcrt_max(last_key, keys[i]);
  }
  for (size_t i = 0; i < count; i++) {
    if (keys[i] != first_key && keys[i] != last_key) (void)pthread_key_delete(keys[i]);
  }
}

static void reserve_roots(void *done) { *(bool *)done = gcrt_roots_reserve(); }

void gcrt_world_init(void) {
  bool reserved;
  gcrt_loader_call(reserve_roots, &reserved);
  create_keys();
  struct gcrt_thread *thread = reserved ? gcrt_thread_attach() : NULL;
  if (!thread) gcrt_fatal("no memory for the record of the main thread");
  if (thread->tid != gcrt_process_id()) return;
  /* The initial thread may be joined like one that pthread_create made. */
  thread->handle = pthread_self();
  thread->named = true;
  thread->detached = false;
}

struct gcrt_thread *gcrt_thread_announce(void *argument, bool detached) {
  struct gcrt_thread *thread = gcrt_memory_map(record_size());
  if (!thread) return NULL;
  thread->roots[0] = argument;
  thread->detached = detached;
  thread->creating = true;
  gcrt_store(&thread->state, GCRT_PARKED);
  gcrt_lock(&gcrt_world.lock);
  bool listed = list(thread);
  gcrt_unlock(&gcrt_world.lock);
  if (listed) return thread;
  gcrt_memory_unmap(thread, record_size());
  return NULL;
}

void gcrt_thread_started(struct gcrt_thread *thread) {
  adopt(thread);
  gcrt_self = thread;
  if (!hold(thread)) gcrt_fatal("thread %d: no memory for a value of pthread_setspecific", thread->tid);
  gcrt_thread_unpark(thread);
  gcrt_lock(&gcrt_world.lock);
  thread->handle = pthread_self();
  thread->named = true;
  gcrt_unlock(&gcrt_world.lock);
  /* Only now: a thread that is held here has published no registers, and its argument is all it has. */
  thread->started = true;
}

void gcrt_thread_created(struct gcrt_thread *thread, const pthread_t *handle) {
  gcrt_lock(&gcrt_world.lock);
  /* If the thread runs already it has named itself, and may have freed the memory of the handle. It cannot begin to run
   * the program's function now: it names itself under the lock first. */
  if (!thread->named) thread->handle = *handle;
  thread->named = true;
  thread->creating = false;
  free_if_done(thread);
  gcrt_unlock(&gcrt_world.lock);
}

void gcrt_thread_withdraw(struct gcrt_thread *thread) {
  gcrt_lock(&gcrt_world.lock);
  gcrt_world.count--;
  unlist_and_free(thread);
  gcrt_unlock(&gcrt_world.lock);
}

struct gcrt_thread *gcrt_thread_attach(void) {
  if (gcrt_self) return gcrt_self;
  struct gcrt_thread *thread = gcrt_memory_map(record_size());
  if (!thread) {
    errno = ENOMEM;
    return NULL;
  }
  adopt(thread);
  thread->started = true;
  /* Nobody will announce the result of this thread's join. */
  thread->detached = true;
  gcrt_lock(&gcrt_world.lock);
  bool listed = list(thread);
  if (listed) gcrt_self = thread;
  gcrt_unlock(&gcrt_world.lock);
  if (!listed) {
    gcrt_memory_unmap(thread, record_size());
    errno = ENOMEM;
    return NULL;
  }
  if (note_values() && hold(thread)) return thread;
  gcrt_thread_detach_self();
  errno = ENOMEM;
  return NULL;
}

void gcrt_thread_detach_self(void) {
  struct gcrt_thread *thread = gcrt_self;
  if (!thread) return;
  let_go();
  gcrt_lock(&gcrt_world.lock);
  gcrt_world_hooks.end(thread);
  gcrt_self = NULL;
  if (--gcrt_world.count == 0) gcrt_world_hooks.last();
  gcrt_store_release(&thread->state, GCRT_ENDED);
  free_if_done(thread);
  gcrt_unlock(&gcrt_world.lock);
}

struct gcrt_thread *gcrt_thread_claim(pthread_t handle) {
  struct gcrt_thread *found = NULL;
  gcrt_lock(&gcrt_world.lock);
  for (struct gcrt_thread *t = gcrt_world.threads; t && !found; t = t->next) {
    if (!t->detached && !t->claimed && t->named && pthread_equal(t->handle, handle)) found = t;
  }
  if (found) found->claimed = true;
  gcrt_unlock(&gcrt_world.lock);
  return found;
}

void gcrt_thread_settle(struct gcrt_thread *thread, bool done) {
  gcrt_lock(&gcrt_world.lock);
  thread->claimed = false;
  if (done) {
    thread->detached = true;
    free_if_done(thread);
  }
  gcrt_unlock(&gcrt_world.lock);
}

void gcrt_world_after_fork(void) {
  gcrt_lock_reset(&gcrt_world.lock);
  gcrt_store(&gcrt_world.pending, 0);
  gcrt_store(&gcrt_world.resuming, 0);
  gcrt_store(&gcrt_world.resumed, 0);
  struct gcrt_thread *next;
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = next) {
    next = t->next;
    if (t == gcrt_self) continue;
    if (gcrt_load(&t->state) != GCRT_ENDED) gcrt_world_hooks.end(t);
    unlist_and_free(t);
  }
  gcrt_world.count = gcrt_self != NULL;
  if (!gcrt_self) return;
  gcrt_self->tid = gcrt_thread_id();
  gcrt_store(&gcrt_self->state, GCRT_RUNNING);
}

bool gcrt_thread_specific(unsigned key, uintptr_t value) {
  struct gcrt_thread *thread = gcrt_self;
  if (!thread || key >= SPECIFIC_KEYS) return true;
  if (!thread->specific) {
    if (value == 0) return true;
    uintptr_t *values = gcrt_memory_map(specific_size());
    if (!values) return false;
    thread->specific = values;
  }
  thread->specific[key] = value;
  return true;
}
