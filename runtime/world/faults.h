/* The tracker `mprotect`, the signal's side: sys/protection.h has the memory's. */
#ifndef GCRT_WORLD_FAULTS_H
#define GCRT_WORLD_FAULTS_H

#include "sys/tracker.h"

extern const struct gcrt_tracker gcrt_mprotect_tracker;

/* interpose_signal.c: from here on the library answers SIGSEGV, and passes on to the program's disposition what is not
 * its own. Called again, it comes back before a handler that the program has installed past the interposed functions.
 * False: refused. Any thread; the first time, before the library has made one of its own. */
bool gcrt_faults_take(void);

#endif
