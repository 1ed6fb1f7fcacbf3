/* Roots, threads and stacks that the program registers: the public entry points.
 *
 * Thread-safe. The root set's lock is taken inside a critical section, as the collector takes it behind a stop. Not
 * async-signal-safe, gc_call_blocking excepted. */
#include <gcrt/roots.h>
#include <gcrt/thread.h>

#include "api/api.h"
#include "world/park.h"
#include "world/roots.h"

#include <errno.h>

static int outcome(int error) {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

/* Calls of the root set, guarded. */
#define GUARDED(call)                                                                                                  \
  do {                                                                                                                 \
    struct gcrt_thread *thread_ = gcrt_mutator();                                                                      \
    if (!thread_) return -1;                                                                                           \
    gcrt_gate_enter(thread_);                                                                                          \
    int error_ = (call);                                                                                               \
    gcrt_gate_exit(thread_);                                                                                           \
    return outcome(error_);                                                                                            \
  } while (0)

GCRT_EXPORT int gc_add_roots(void *start, void *end) {
  if ((uintptr_t)end < (uintptr_t)start) return outcome(EINVAL);
  GUARDED(gcrt_root_add((uintptr_t)start, (uintptr_t)end));
}

GCRT_EXPORT int gc_remove_roots(void *start, void *end) { GUARDED(gcrt_root_remove((uintptr_t)start, (uintptr_t)end)); }

GCRT_EXPORT int gc_stack_register(void *low, void *high) {
  if ((uintptr_t)high <= (uintptr_t)low) return outcome(EINVAL);
  GUARDED(gcrt_stack_add((uintptr_t)low, (uintptr_t)high));
}

GCRT_EXPORT int gc_stack_unregister(void *low) { GUARDED(gcrt_stack_remove((uintptr_t)low)); }

GCRT_EXPORT int gc_thread_register(void) {
  gcrt_init_once();
  if (gcrt_self) return 0;
  struct gcrt_thread *thread = gcrt_thread_attach();
  if (!thread) return -1;
  thread->explicit_registration = true;
  return 0;
}

GCRT_EXPORT int gc_thread_unregister(void) {
  if (!gcrt_self || !gcrt_self->explicit_registration) return outcome(ENOENT);
  gcrt_thread_detach_self();
  return 0;
}

GCRT_EXPORT void *gc_call_blocking(void *(*fn)(void *), void *arg) {
  /* The argument may be the only pointer to its object, in a register that is not among those saved. */
  void *volatile kept __attribute__((unused)) = arg;
  GCRT_PARKED_CALL(void *, fn(arg));
}
