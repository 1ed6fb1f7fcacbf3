/* Clocks; async-signal-safe. */
#ifndef GCRT_SYS_CLOCK_H
#define GCRT_SYS_CLOCK_H

#include <stdint.h>

uint64_t gcrt_clock_monotonic(void);   /* ns since some fixed moment */
uint64_t gcrt_clock_realtime(void);    /* ns since 1970 */
uint64_t gcrt_clock_thread_cpu(void);  /* ns of processor time of the calling thread */
uint64_t gcrt_clock_process_cpu(void); /* and of all threads of the process */

#endif
