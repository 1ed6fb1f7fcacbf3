/* Parking: a thread inside a call that waits counts as stopped.
 *
 *   GCRT_PARKED_CALL(type, expression)   evaluates expression with the calling thread parked and returns its value
 *
 * While parked, a thread touches no collected object: collections neither signal it nor wait for it, so its system
 * call is never interrupted. It published its registers and stack pointer; leaving waits for a running stop to end.
 *
 * Threads the library does not know, calls nested in a parked one, and library code in a critical section pass
 * through. Entering and leaving keep errno. Leaving also happens when the call is left by cancellation, pthread_exit
 * or a C++ exception (cleanup attribute: files that park are compiled with -fexceptions). A handler of the program that
 * interrupts a parked call unparks for its duration (interpose_signal.c), so leaving it by siglongjmp is right, too.
 * Async-signal-safe. */
#ifndef GCRT_WORLD_PARK_H
#define GCRT_WORLD_PARK_H

#include "sys/registers.h"

struct gcrt_thread;

struct gcrt_park {
  struct gcrt_thread *thread; /* NULL: passed through */
};

/* The caller's frame must outlive the park: both are called in the same function. */
void gcrt_park_enter(struct gcrt_park *park, const struct gcrt_registers *registers);
void gcrt_park_leave(struct gcrt_park *park);

#define GCRT_PARK_SCOPE(name)                                                                                          \
  struct gcrt_registers name##_registers;                                                                              \
  gcrt_registers_save(&name##_registers);                                                                              \
  __attribute__((cleanup(gcrt_park_leave))) struct gcrt_park name;                                                     \
  gcrt_park_enter(&name, &name##_registers)

#define GCRT_PARKED_CALL(type, expression)                                                                             \
  do {                                                                                                                 \
    GCRT_PARK_SCOPE(park_);                                                                                            \
    type result_ = (expression);                                                                                       \
    return result_;                                                                                                    \
  } while (0)

/* For handlers of the program: unparks the calling thread if it is parked and remembers that in *unparked; the second
 * call parks it again as it was. */
struct gcrt_unpark {
  struct gcrt_thread *thread; /* NULL: was not parked */
  struct gcrt_registers registers;
  uintptr_t interrupted_sp;   /* of the frame below, on the thread's own stack, if the handler is on an alternate one */
  uintptr_t handler_stack[2]; /* and that alternate one */
};
void gcrt_unpark_enter(struct gcrt_unpark *unpark, const void *context);
void gcrt_unpark_leave(struct gcrt_unpark *unpark);

#endif
