/* What is done before an allocation returns NULL: a collection, then the program's handler, as long as it wants.
 *
 * A NULL comes only after a collection that began after the allocation was refused; another thread's counts, so threads
 * that are refused together share one. None is made if it is certain that it could not help: the reservation, or what
 * the system lets it use, is too small for the object even if nothing else were in it. That nothing was allocated or
 * freed since the last collection that did not help is no such reason: the program may have dropped a reference, which
 * nobody sees, and a program that drops its caches and tries again must find their memory.
 *
 * A memory limit never refuses anything. The handler and its argument are set under a lock that a mutator holds in a
 * critical section, and read as a pair; the argument is a root as every variable of a loaded object is. Not
 * async-signal-safe. */
#include "api/api.h"
#include "cycle/cycle.h"
#include "heap/heap.h"

#include <errno.h>

static struct {
  struct gcrt_lock lock;
  gc_oom_handler fn;
  void *argument;
} handler;

void gcrt_oom_handler_set(gc_oom_handler fn, void *argument) {
  gcrt_gate_enter(gcrt_self);
  gcrt_lock(&handler.lock);
  handler.fn = fn;
  handler.argument = argument;
  gcrt_unlock(&handler.lock);
  gcrt_gate_exit(gcrt_self);
}

void gcrt_oom_after_fork(void) { gcrt_lock_reset(&handler.lock); }

/* Whether to try again. */
static bool ask_handler(struct gcrt_thread *thread, size_t size) {
  if (thread->in_oom_handler) return false;
  gcrt_gate_enter(thread);
  gcrt_lock(&handler.lock);
  gc_oom_handler fn = handler.fn;
  void *argument = handler.argument;
  gcrt_unlock(&handler.lock);
  gcrt_gate_exit(thread);
  if (!fn) return false;
  thread->in_oom_handler = true;
  int again = fn(size, argument);
  thread->in_oom_handler = false;
  return again != 0;
}

static bool collection_may_help(struct gcrt_thread *thread, const struct gcrt_request *request) {
  if (!request->large) return true;
  size_t chunks = request->size / GCRT_CHUNK + (request->size % GCRT_CHUNK != 0);
  gcrt_gate_enter(thread);
  bool may = gcrt_pages_possible(chunks, gcrt_max(1, request->alignment / GCRT_CHUNK));
  gcrt_gate_exit(thread);
  return may;
}

GCRT_COLD void *gcrt_out_of_memory(struct gcrt_thread *thread, const struct gcrt_request *request,
                                   void *(*try_again)(struct gcrt_thread *, const struct gcrt_request *)) {
  void *object = NULL;
  for (bool again = true; again; again = ask_handler(thread, request->size)) {
    object = try_again(thread, request);
    if (!object && collection_may_help(thread, request)) {
      gcrt_cycle_collect(GCRT_CYCLE_EMERGENCY);
      object = try_again(thread, request);
    }
    if (object) return object;
  }
  errno = ENOMEM;
  return NULL;
}
