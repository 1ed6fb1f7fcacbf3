/* Parking: see park.h for what it promises and thread.h for the states.
 *
 * Async-signal-safe. A flag that the stopper reads was not chosen: the compare-and-swap decides between the thread that
 * parks and the stopper that signals it, so no signal can reach the system call that follows. */
#include "world/park.h"

#include "sys/proc.h"
#include "world/thread.h"

#include <errno.h>
#include <string.h>

/* Publishes the registers, only as many as there are. Where the alternate signal stack is costs a system call, and
 * matters only to a thread that may run on it. */
static void publish(struct gcrt_thread *thread, const struct gcrt_registers *registers) {
  thread->registers.sp = registers->sp;
  thread->registers.count = registers->count;
  memcpy(thread->registers.values, registers->values, registers->count * sizeof registers->values[0]);
  thread->frame = (struct gcrt_bounds){0, 0};
  bool own = registers->sp - thread->stack.low < thread->stack.high - thread->stack.low;
  thread->alternate =
      own && !thread->interrupted_sp ? (struct gcrt_bounds){0, 0} : gcrt_thread_alternate(thread, registers->sp);
}

void gcrt_thread_unpark(struct gcrt_thread *thread) {
  size_t resumed = 0;
  while (!gcrt_cas_full(&thread->state, GCRT_PARKED, GCRT_RUNNING)) {
    if (gcrt_cas_full(&thread->state, GCRT_HELD, GCRT_AWAITED)) resumed++;
    gcrt_futex_wait(&thread->state, GCRT_AWAITED, -1);
  }
  if (resumed) gcrt_thread_resumed(resumed);
}

/* RUNNING → PARKED, with these registers. A stop that has signalled this thread comes first: its handler interrupts
 * this wait. A stop that came and went between publishing and parking left the registers of this function behind, which
 * are right only until it returns: then all is done again. A child of vfork runs on its parent's record, and the
 * parent, asleep until it is gone, will take no signal: it does not park. False: not parked. */
static bool park(struct gcrt_thread *thread, const struct gcrt_registers *registers) {
  for (;;) {
    size_t stops = thread->stops;
    gcrt_signal_fence();
    publish(thread, registers);
    gcrt_signal_fence();
    if (gcrt_cas_full(&thread->state, GCRT_RUNNING, GCRT_PARKED)) {
      gcrt_signal_fence();
      if (thread->stops == stops) return true;
      gcrt_thread_unpark(thread);
      continue;
    }
    if (gcrt_thread_id() != thread->tid) return false;
    if (gcrt_load(&thread->state) == GCRT_DEFERRED) gcrt_stop_deferred(thread);
    gcrt_futex_wait(&thread->state, GCRT_SIGNALLED, -1);
  }
}

static bool parked(const struct gcrt_thread *thread) {
  size_t state = gcrt_load(&thread->state);
  return state == GCRT_PARKED || state == GCRT_HELD || state == GCRT_AWAITED;
}

static struct gcrt_thread *self_if_free(void) {
  struct gcrt_thread *thread = gcrt_self;
  if (!thread || gcrt_load(&thread->busy) || parked(thread)) return NULL;
  return thread;
}

void gcrt_park_enter(struct gcrt_park *park_record, const struct gcrt_registers *registers) {
  struct gcrt_thread *thread = self_if_free();
  park_record->thread = thread;
  if (!thread) return;
  int error = errno;
  if (!park(thread, registers)) park_record->thread = NULL;
  errno = error;
}

void gcrt_park_leave(struct gcrt_park *park_record) {
  struct gcrt_thread *thread = park_record->thread;
  if (!thread || !parked(thread)) return;
  int error = errno;
  gcrt_thread_unpark(thread);
  errno = error;
}

void gcrt_unpark_enter(struct gcrt_unpark *record, const void *context) {
  struct gcrt_thread *thread = gcrt_self;
  record->thread = NULL;
  record->interrupted_sp = 0;
  if (!thread) return;
  int error = errno;
  struct gcrt_registers interrupted;
  gcrt_registers_of_context(&interrupted, context);
  struct gcrt_bounds alternate = gcrt_stack_of_context(context);
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  record->interrupted_sp = thread->interrupted_sp;
  record->handler_stack[0] = thread->handler_stack.low;
  record->handler_stack[1] = thread->handler_stack.high;
  if (here - alternate.low < alternate.high - alternate.low &&
      interrupted.sp - alternate.low >= alternate.high - alternate.low) {
    thread->interrupted_sp = interrupted.sp;
    thread->handler_stack = alternate;
  }
  /* Also if the thread is not parked: it may be about to, with its registers published but the state not yet set. */
  record->registers = thread->registers;
  if (!gcrt_load(&thread->busy) && parked(thread)) {
    record->thread = thread;
    gcrt_thread_unpark(thread);
  }
  errno = error;
}

void gcrt_unpark_leave(struct gcrt_unpark *record) {
  struct gcrt_thread *thread = gcrt_self;
  if (!thread) return;
  int error = errno;
  thread->interrupted_sp = record->interrupted_sp;
  thread->handler_stack = (struct gcrt_bounds){record->handler_stack[0], record->handler_stack[1]};
  if (record->thread) {
    park(thread, &record->registers);
  } else {
    publish(thread, &record->registers);
  }
  errno = error;
}
