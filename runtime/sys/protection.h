/* Pages of one range whose first write faults, by mprotect: the memory's side of the tracker `mprotect`. world/faults.h
 * has the signal's side. What a tracker is stands in sys/tracker.h. */
#ifndef GCRT_SYS_PROTECTION_H
#define GCRT_SYS_PROTECTION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The range whose pages will be armed. What is armed, and all between two armed pages, must be readable and writable
 * memory. False: no memory for the table, or another range was taken before. */
bool gcrt_protection_add(uintptr_t start, uintptr_t end);
/* Lifts all protection and gives the range up. For the probe and for tests; nobody may write meanwhile. */
void gcrt_protection_remove(void);

/* As in struct gcrt_tracker. */
bool gcrt_protection_arm(uintptr_t start, uintptr_t end);
bool gcrt_protection_written(uintptr_t start, uintptr_t end, bool rearm,
                             void (*found)(void *argument, uintptr_t low, uintptr_t high), void *argument);
bool gcrt_protection_disarm(uintptr_t start, uintptr_t end);
void gcrt_protection_after_fork(void);

/* Pages that get another use: they are disarmed, if there is a table at all. Async-signal-safe. */
void gcrt_protection_lift(uintptr_t start, uintptr_t end);

/* For the handler of SIGSEGV, which blocks every signal: true if the fault was a write to a page that is or was
 * protected. It can be written then. Async-signal-safe; any number of threads at once; errno may change. */
bool gcrt_protection_fault(const siginfo_t *info, const void *context);

/* How many mappings the tracker may cut the range into; add reads it from the system. For tests. */
void gcrt_protection_limit(size_t mappings);

#endif
