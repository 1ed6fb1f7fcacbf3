/* What is told of the library: the metrics and the lines of the traces. Hears of collections through
 * gcrt_cycle_listener. */
#ifndef GCRT_OBSERVE_OBSERVE_H
#define GCRT_OBSERVE_OBSERVE_H

#include "cycle/cycle.h"

/* Starts listening. */
void gcrt_observe_init(void);

/* gctrace.c: writes the line of a collection. */
void gcrt_gctrace_line(const struct gcrt_cycle_report *report, double cpu_fraction, uint64_t since_start_ns);

/* phasetrace.c: writes the line of a phase. */
void gcrt_phasetrace_line(enum gcrt_cycle_phase phase, uint64_t number, uint64_t since_start_ns);

/* pacertrace.c: writes the lines of one that begins to mark beside the program, and of any that has ended. */
void gcrt_pacertrace_begin(uint64_t number, const struct gcrt_pacer_account *account);
void gcrt_pacertrace_end(const struct gcrt_cycle_report *report, const struct gcrt_pacer_account *account);

/* heaptrace.c: writes what the heap has now. */
void gcrt_heaptrace_line(uint64_t since_start_ns);

/* scavtrace.c: writes the line of what was given back. */
void gcrt_scavtrace_line(const struct gcrt_release_report *report, uint64_t since_start_ns);

/* metrics.c */
/* In a forked child, whose only thread is the caller. */
void gcrt_metrics_after_fork(void);

#endif
