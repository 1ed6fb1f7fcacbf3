/* What the process's control group allows it: memory, and time on processors. Thread-safe, async-signal-safe but for
 * the 16 KiB of stack that it takes; errno may change. Every call reads the files anew, some 15 of them: not for each
 * collection.
 *
 * `root` goes before every path; "" is the real file system, tests have a tree of their own. */
#ifndef GCRT_SYS_CGROUP_H
#define GCRT_SYS_CGROUP_H

#include <stdint.h>

/* The least memory limit of the group and of those around it, as far as they can be seen; bytes. UINT64_MAX: there is
 * none, and *reason says why. Otherwise *reason is "". */
uint64_t gcrt_cgroup_memory_limit(const char *root, const char **reason);

/* How many processors' time the group may use, rounded up, at least 1. UINT64_MAX: as many as there are, and *reason
 * says why. Otherwise *reason is "". */
uint64_t gcrt_cgroup_processors(const char *root, const char **reason);

#endif
