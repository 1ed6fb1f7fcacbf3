/* The process and its threads, as the kernel sees them. Async-signal-safe unless it says otherwise. */
#ifndef GCRT_SYS_PROC_H
#define GCRT_SYS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int gcrt_process_id(void); /* asks the kernel each time: a cached value is wrong in a vfork child */
int gcrt_thread_id(void);  /* the kernel's id of the calling thread */

/* Sends a signal to one thread of this process. False: it is gone (ESRCH) or the queue is full. errno is kept. */
bool gcrt_thread_signal(int tid, int signal);

/* Whether a thread of this process with that id still exists. */
bool gcrt_thread_exists(int tid);

/* Writes "NAME, state S" of a thread for a message (from /proc/self/task/TID), "unknown" if it cannot be read. */
void gcrt_thread_describe(int tid, char *buffer, size_t size);

/* Processors that this process may keep busy, at least 1: those it may run on, or as many as its control group allows
 * the time of if that is less. The group was asked at the first call, and is again by the second function, which takes
 * some 15 files; `root` as in cgroup.h. */
unsigned gcrt_cpu_count(void);
void gcrt_cpu_count_refresh(const char *root);

/* How often the calling thread has lost its processor to another that wanted it. */
long gcrt_thread_preemptions(void);

/* How long the calling thread has waited for a processor, ns. Always 0 if the kernel does not tell. */
uint64_t gcrt_thread_waited(void);

/* What of this process is resident, bytes; 0 if the kernel does not tell. */
uint64_t gcrt_process_resident(void);

/* Gives the rest of the time slice away. */
void gcrt_thread_yield(void);

/* Starts a thread of the library's own: every signal blocked, detached, not interposed, not known to the world, with
 * the given name (15 characters). Not async-signal-safe. False: the system refuses. */
bool gcrt_thread_start(void (*body)(void *), void *argument, const char *name);
/* The same with a stack of the usual size, as it will run the program's code. */
bool gcrt_thread_start_for_program(void (*body)(void *), void *argument, const char *name);

#endif
