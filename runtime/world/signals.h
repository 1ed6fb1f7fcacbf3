/* The stop signal among the signals of the program.
 *
 * The program must not be able to block, consume or take over the signal that stops its threads, not even by sets that
 * mean "every signal". The interposed functions take it out of every such set. */
#ifndef GCRT_WORLD_SIGNALS_H
#define GCRT_WORLD_SIGNALS_H

#include <signal.h>
#include <stddef.h>

/* 0 until the library is initialised; not written after that. */
extern int gcrt_stop_signal;

/* `set` without the stop signal: `set` itself, or *copy if the signal had to be taken out. NULL stays NULL.
 * Async-signal-safe. */
static inline const sigset_t *gcrt_signals_allowed(const sigset_t *set, sigset_t *copy) {
  int stop = gcrt_stop_signal;
  if (!set || stop == 0 || sigismember(set, stop) != 1) return set;
  *copy = *set;
  sigdelset(copy, stop);
  return copy;
}

#endif
