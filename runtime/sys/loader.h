/* What the dynamic loader has mapped: the writable data of the program and of its libraries.
 *
 * gcrt_loader_call holds the (recursive) lock of the loader's list while it calls back: no object joins or leaves the
 * list during the call, except by the calling thread itself. Another thread may be inside a constructor. It is built of
 * nested dl_iterate_phdr calls. A collection runs inside, so the lock order is: loader lock, then everything of the
 * library's. */
#ifndef GCRT_SYS_LOADER_H
#define GCRT_SYS_LOADER_H

#include <stddef.h>
#include <stdint.h>

struct gcrt_range {
  uintptr_t start, end; /* [start, end), word-aligned */
};

/* Calls call(argument) under the loader's lock. */
void gcrt_loader_call(void (*call)(void *argument), void *argument);

/* Inside gcrt_loader_call: visits each writable data range (.data, .bss and the like; PT_GNU_RELRO pages left out) of
 * every loaded object except ranges of this library that hold only its own tables (see gcrt_loader_exclude). */
void gcrt_loader_data(void (*visit)(void *argument, struct gcrt_range range), void *argument);

/* Inside gcrt_loader_call: visits the thread-local storage segment of every loaded object: its module id (the index in
 * the thread's dtv) and its size in bytes. */
void gcrt_loader_tls(void (*visit)(void *argument, size_t module, size_t size), void *argument);

/* Inside gcrt_loader_call: how often the list of loaded objects has changed. */
uint64_t gcrt_loader_changes(void);

/* Leaves [start, end) out of gcrt_loader_data from now on: at most 8 ranges, called during initialisation only. */
void gcrt_loader_exclude(const void *start, const void *end);

#endif
