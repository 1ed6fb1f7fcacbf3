/* The stop signal, and that of faults, among the signals of the program.
 *
 * The program must not be able to block, consume or take over the signal that stops its threads, not even by sets that
 * mean "every signal". The interposed functions take it out of every such set. */
#ifndef GCRT_WORLD_SIGNALS_H
#define GCRT_WORLD_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* 0 until the library is initialised; not written after that. */
extern int gcrt_stop_signal;

/* SIGSEGV from when the library tells its own faults from the program's (world/faults.h); 0 otherwise. Blocked, a write
 * to a tracked page would end the process. */
extern int gcrt_fault_signal;

/* Takes out of a set what the program must not block. Async-signal-safe. */
static inline void gcrt_signals_take_out(sigset_t *set) {
  if (gcrt_stop_signal != 0) sigdelset(set, gcrt_stop_signal);
  if (gcrt_fault_signal != 0) sigdelset(set, gcrt_fault_signal);
}

/* `set` without them: `set` itself, or *copy if one had to be taken out. NULL stays NULL. Async-signal-safe. */
static inline const sigset_t *gcrt_signals_allowed(const sigset_t *set, sigset_t *copy) {
  if (!set) return set;
  bool has_stop = gcrt_stop_signal != 0 && sigismember(set, gcrt_stop_signal) == 1;
  bool has_fault = gcrt_fault_signal != 0 && sigismember(set, gcrt_fault_signal) == 1;
  if (!has_stop && !has_fault) return set;
  *copy = *set;
  gcrt_signals_take_out(copy);
  return copy;
}

#endif
