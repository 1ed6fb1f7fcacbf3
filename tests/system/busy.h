/* A large live heap, and a thread that keeps asking for collections: most of what another thread does then happens
 * while the heap is marked. */
#ifndef GCRT_TESTS_BUSY_H
#define GCRT_TESTS_BUSY_H

#include "system.h"

/* Options for a child: its environment asks for concurrent collections, unless GCRT_TRACKER is set already. With
 * `verified` every collection is checked. */
struct test_child_options busy_options(bool verified);

/* Runs a child with them and one more setting (or NULL); arguments[0] is its name. It must exit with 0. */
void busy_run(const char *const *arguments, bool verified, const char *setting);

/* NULL, or why a child with these options cannot collect concurrently here. In a buffer that stays. */
const char *busy_unavailable(void);

/* What busy_unavailable starts: an entry for the program's list of children. */
#define BUSY_CHILD                                                                                                     \
  { "busy-probe", busy_probe }
int busy_probe(int argc, char **argv);

/* Builds a heap of so many MiB, and starts the thread that collects. */
void busy_start(size_t mebibytes);

/* Aborts unless the whole heap is there and holds what it held. Also in a forked child. */
void busy_check(void);

/* Collections that have ended. */
unsigned busy_collections(void);

/* Waits until so many more collections have ended. */
void busy_wait(unsigned collections);

/* Descriptors of a write tracker that this process has open. */
size_t busy_descriptors(void);

/* In a forked child: the thread is not there. */
void busy_forget_thread(void);

/* Ends the thread, checks the heap and the metrics. */
void busy_stop(void);

#endif
