/* pthread_create and what belongs to it, interposed so that threads are known without a word from the program.
 *
 * The new thread runs `run` first, which makes it known, then the program's function. Its result is a root until the
 * thread is joined or detached: pthread_join, its variants and pthread_detach tell. Waiting for a thread is parked.
 * pthread_setspecific and tss_set keep a copy of the values that the C library would keep in malloc memory, where
 * nobody looks.
 *
 * Compiled with -fexceptions: cancellation and pthread_exit unwind through these frames. Not async-signal-safe, as the
 * functions behind it are not. */
#include "base/report.h"
#include "sys/memory.h"
#include "sys/real.h"
#include "sys/signal.h"
#include "world/interpose_call.h"
#include "world/park.h"
#include "world/signals.h"
#include "world/thread.h"

#include <errno.h>
#include <threads.h>
#include <time.h>

/* The C library keeps this many values in the thread's control block, which is a root anyway. */
enum { KEYS_IN_CONTROL_BLOCK = 32 };

struct start {
  void *(*function)(void *);
  thrd_start_t c11; /* instead of function, from thrd_create */
  struct gcrt_thread *thread;
  sigset_t mask;           /* the creator's */
  bool mask_by_attributes; /* the C library sets another one */
};

static void *run(void *start_record) {
  struct start *record = start_record;
  struct start start = *record;
  gcrt_memory_unmap(record, gcrt_page_size());
  gcrt_thread_started(start.thread);
  if (!start.mask_by_attributes) {
    gcrt_signals_take_out(&start.mask);
    gcrt_signal_restore(&start.mask);
  }
  void *argument = start.thread->roots[0];
  start.thread->roots[0] = NULL;
  if (start.c11) return (void *)(intptr_t)start.c11(argument);
  void *result = start.function(argument);
  start.thread->roots[1] = result;
  return result;
}

static int run_c11(void *start_record) { return (int)(intptr_t)run(start_record); }

/* NULL: no memory. */
static struct start *prepare(void *argument, bool detached) {
  struct start *start = gcrt_memory_map(gcrt_page_size());
  if (!start) return NULL;
  start->thread = gcrt_thread_announce(argument, detached);
  if (start->thread) return start;
  gcrt_memory_unmap(start, gcrt_page_size());
  return NULL;
}

static void withdraw(struct start *start) {
  gcrt_thread_withdraw(start->thread);
  gcrt_memory_unmap(start, gcrt_page_size());
}

/* The C library's functions are called with every signal blocked, which the new thread inherits until it is known: a
 * handler of the program in it would run in a thread that the library does not know yet. And parked, as they may wait,
 * deaf to every signal, for a thread that is loading a library. */
static int create_blocked(struct start *start, pthread_t *handle, const pthread_attr_t *attributes) {
  GCRT_KEEP(handle);
  GCRT_PARK_SCOPE(park);
  sigset_t mine;
  gcrt_signal_block_all(&mine);
  start->mask = mine;
  int error = start->c11 ? gcrt_real(thrd_create)(handle, run_c11, start)
                         : gcrt_real(pthread_create)(handle, attributes, run, start);
  gcrt_signal_restore(&mine);
  return error;
}

/* ThreadSanitizer starts a thread of its own through here, with all signals blocked past the interposed functions; in
 * the child of a fork before the library's locks are reset. It touches no objects and must not be waited for. */
static bool of_sanitizer(const pthread_attr_t *attributes) {
  if (!GCRT_TSAN_BUILD || attributes) return false;
  sigset_t mask;
  gcrt_signal_block_all(&mask);
  gcrt_signal_restore(&mask);
  return sigismember(&mask, gcrt_stop_signal) == 1;
}

GCRT_EXPORT int pthread_create(pthread_t *restrict handle, const pthread_attr_t *restrict attributes,
                               void *(*function)(void *), void *restrict argument) {
  if (!gcrt_stop_signal || of_sanitizer(attributes))
    return gcrt_real(pthread_create)(handle, attributes, function, argument);
  int state = PTHREAD_CREATE_JOINABLE;
  if (attributes) pthread_attr_getdetachstate(attributes, &state);
  struct start *start = prepare(argument, state == PTHREAD_CREATE_DETACHED);
  if (!start) return EAGAIN;
  start->function = function;
  sigset_t mask;
  start->mask_by_attributes = attributes && pthread_attr_getsigmask_np(attributes, &mask) == 0;
  struct gcrt_thread *thread = start->thread; /* start belongs to the new thread once it runs */
  int error = create_blocked(start, handle, attributes);
  if (error) {
    withdraw(start);
  } else {
    gcrt_thread_created(thread, handle);
  }
  return error;
}

GCRT_EXPORT int thrd_create(thrd_t *handle, thrd_start_t function, void *argument) {
  if (!gcrt_stop_signal) return gcrt_real(thrd_create)(handle, function, argument);
  struct start *start = prepare(argument, true);
  if (!start) return thrd_nomem;
  start->c11 = function;
  struct gcrt_thread *thread = start->thread;
  int error = create_blocked(start, handle, NULL);
  if (error != thrd_success) {
    withdraw(start);
  } else {
    gcrt_thread_created(thread, handle);
  }
  return error;
}

GCRT_EXPORT void pthread_exit(void *result) {
  struct gcrt_thread *thread = gcrt_self;
  if (thread) thread->roots[1] = result;
  gcrt_real(pthread_exit)(result);
  __builtin_unreachable();
}

static int parked_join(pthread_t handle, void **result) {
  GCRT_KEEP(result);
  GCRT_PARKED_CALL(int, gcrt_real(pthread_join)(handle, result));
}
static int parked_timed(pthread_t handle, void **result, const struct timespec *end) {
  GCRT_KEEP(result);
  GCRT_PARKED_CALL(int, gcrt_real(pthread_timedjoin_np)(handle, result, end));
}
static int parked_clock(pthread_t handle, void **result, clockid_t clock, const struct timespec *end) {
  GCRT_KEEP(result);
  GCRT_PARKED_CALL(int, gcrt_real(pthread_clockjoin_np)(handle, result, clock, end));
}
static int parked_thrd(thrd_t handle, int *result) { GCRT_PARKED_CALL(int, gcrt_real(thrd_join)(handle, result)); }

/* A thread that is cancelled while it waits leaves the other one to be joined by somebody else: the claim is given back
 * however the call ends. */
struct claim {
  struct gcrt_thread *thread;
  int error;
};

static void settle(struct claim *claim) {
  if (claim->thread) gcrt_thread_settle(claim->thread, claim->error == 0);
}

#define CLAIMED_CALL(handle, expression)                                                                               \
  do {                                                                                                                 \
    __attribute__((cleanup(settle))) struct claim claim = {gcrt_thread_claim(handle), EINTR};                          \
    return claim.error = (expression);                                                                                 \
  } while (0)

GCRT_EXPORT int pthread_join(pthread_t handle, void **result) { CLAIMED_CALL(handle, parked_join(handle, result)); }
GCRT_EXPORT int pthread_tryjoin_np(pthread_t handle, void **result) {
  CLAIMED_CALL(handle, gcrt_real(pthread_tryjoin_np)(handle, result));
}
GCRT_EXPORT int pthread_timedjoin_np(pthread_t handle, void **result, const struct timespec *end) {
  CLAIMED_CALL(handle, parked_timed(handle, result, end));
}
GCRT_EXPORT int pthread_clockjoin_np(pthread_t handle, void **result, clockid_t clock, const struct timespec *end) {
  CLAIMED_CALL(handle, parked_clock(handle, result, clock, end));
}
GCRT_EXPORT int pthread_detach(pthread_t handle) { CLAIMED_CALL(handle, gcrt_real(pthread_detach)(handle)); }
GCRT_EXPORT int thrd_join(thrd_t handle, int *result) { return parked_thrd(handle, result); }

GCRT_EXPORT int pthread_setspecific(pthread_key_t key, const void *value) {
  int error = gcrt_real(pthread_setspecific)(key, value);
  if (error || key < KEYS_IN_CONTROL_BLOCK) return error;
  return gcrt_thread_specific(key, (uintptr_t)value) ? 0 : ENOMEM;
}

GCRT_EXPORT int tss_set(tss_t key, void *value) {
  int error = gcrt_real(tss_set)(key, value);
  if (error != thrd_success || key < KEYS_IN_CONTROL_BLOCK) return error;
  return gcrt_thread_specific(key, (uintptr_t)value) ? thrd_success : thrd_error;
}
