/* How much of a processor marking beside the program takes. */
#ifndef GCRT_MARK_PACE_H
#define GCRT_MARK_PACE_H

#include <stdbool.h>

/* The thread that runs a collection beside the program: it begins. It may take `percent` of a processor while the
 * program has use for all of them. Returns how many processors the program leaves unused, by what it used since the
 * last gcrt_pace_end. */
unsigned gcrt_pace_begin(unsigned percent);
/* The same thread, between two pieces of work: whether it is time to rest. */
bool gcrt_pace_is_due(void);
/* Whether it does so at all, as no processor is idle. */
bool gcrt_pace_rests(void);
/* If it is time: sleeps. The thread holds nothing that a mutator may wait for. */
void gcrt_pace_rest(void);
void gcrt_pace_end(void);
/* Around the wait of a mutator for the end of a collection: there is no rest meanwhile. Any thread. */
void gcrt_pace_hurry(void);
void gcrt_pace_relax(void);
/* In a forked child. */
void gcrt_pace_after_fork(void);

#endif
