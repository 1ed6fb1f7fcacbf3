/* The write tracker: the kernel notes which pages were written, whoever wrote them (the program, a system call, any
 * thread), without a signal and without a barrier in the program.
 *
 * A page of a registered range is armed or not. A write to an armed page disarms it. "Written" means not armed: a page
 * that was never armed, is in a mapping that came after gcrt_tracker_add, or was given back by madvise counts as
 * written, so whatever the tracker does not know errs on the safe side. A page without memory behind it reads as zero,
 * or as the file under it; it may be reported or not, and if it is not, it will be once it was written.
 *
 * start, add, check, disarm and after_fork: one thread at a time, and no other call meanwhile. arm and written: any
 * number of threads at once, for ranges that do not overlap. Nothing here allocates, takes a lock or calls the program,
 * so all may run while the world is stopped. errno may change. */
#ifndef GCRT_SYS_TRACKER_H
#define GCRT_SYS_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gcrt_tracker_kind { GCRT_TRACKER_NONE, GCRT_TRACKER_UFFD };

/* What the collector asks of a tracker, whichever it is; the functions below say what each does. */
struct gcrt_tracker {
  bool (*start)(char *reason, size_t size);
  bool (*add)(uintptr_t start, uintptr_t end);
  bool (*check)(char *reason, size_t size);
  bool (*intact)(void);
  bool (*arm)(uintptr_t start, uintptr_t end);
  bool (*written)(uintptr_t start, uintptr_t end, bool rearm,
                  void (*found)(void *argument, uintptr_t low, uintptr_t high), void *argument);
  bool (*disarm)(uintptr_t start, uintptr_t end);
  void (*after_fork)(void);
};
extern const struct gcrt_tracker gcrt_uffd_tracker;  /* tracker.c: the functions below */
extern const struct gcrt_tracker gcrt_cards_tracker; /* cards.c: the program says what it writes */

/* Probes for the tracker and opens it; nothing to do if it is open. False: it does not work here; writes a short reason
 * ("userfaultfd: Operation not permitted") into reason. */
bool gcrt_tracker_start(char *reason, size_t size);

/* Registers a mapped range (page-aligned): its writes can be tracked from now on. Holes are left out; protection does
 * not matter and may change later. False: refused, nothing is mapped there, or another userfaultfd has it. Ranges that
 * are registered already are fine, and cost a system call; a new mapping at an old place must be added again. */
bool gcrt_tracker_add(uintptr_t start, uintptr_t end);

/* Before each cycle: the descriptors are still ours (the program may have closed every descriptor, and the numbers may
 * be files of its own by then). A lost one is opened and everything registered again, so that all pages read as
 * written; false: that failed, reason as above. Never touches a descriptor that is not ours. In a forked child that
 * never called gcrt_tracker_after_fork it does that as well. */
bool gcrt_tracker_check(char *reason, size_t size);

/* The same question without the remedy, for the end of a cycle: false if a descriptor was lost, and what was read since
 * the last check may have come from a file of the program's. Any thread. */
bool gcrt_tracker_intact(void);

/* Writes into the range are noted from here on (it forgets earlier ones). Parts that are not registered stay unarmed.
 * Memory that was never touched costs page tables, 1/512 of its size: arm what is in use. False: refused. */
bool gcrt_tracker_arm(uintptr_t start, uintptr_t end);

/* Calls found(argument, low, high) for each run of pages of the range that were written since they were armed, or that
 * are not armed, in rising order; with rearm those in mappings that are not registered come last. With rearm they are
 * armed again, before found is called, so a write that found does not see makes the page written anew. Runs may hold
 * pages that cannot be read (PROT_NONE, guard pages) if the range does. False: refused (then treat everything as
 * written; some of it may be armed). */
bool gcrt_tracker_written(uintptr_t start, uintptr_t end, bool rearm,
                          void (*found)(void *argument, uintptr_t low, uintptr_t high), void *argument);

/* Writes need not be noted any longer (no more faults). Parts that are not registered are passed over. False: refused.
 */
bool gcrt_tracker_disarm(uintptr_t start, uintptr_t end);

/* In the child of a fork: descriptors belong to the parent's memory; closes them (only if they are ours) and forgets;
 * start again to use it. Async-signal-safe enough for a fork child. */
void gcrt_tracker_after_fork(void);

/* For tests. */
struct gcrt_tracker_stats {
  enum gcrt_tracker_kind kind;
  uint64_t reopened; /* times since the process began that gcrt_tracker_check had to open a descriptor again */
  uint64_t ranges;   /* registered; those that touch are one */
};

/* Any thread. */
void gcrt_tracker_get_stats(struct gcrt_tracker_stats *stats);

#endif
