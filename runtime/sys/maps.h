/* What is mapped where, by /proc/thread-self/maps: of the calling thread, as the initial one may have ended, and with
 * it what /proc/self shows. Raw system calls; async-signal-safe. A full table of descriptors or a missing /proc keeps
 * it away. errno may change. */
#ifndef GCRT_SYS_MAPS_H
#define GCRT_SYS_MAPS_H

#include "sys/reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gcrt_mapping {
  uintptr_t start, end;
  bool readable;
  bool private; /* what is written is seen nowhere else, nor what is written elsewhere here */
};

/* False: cannot be read. */
bool gcrt_maps_open(struct gcrt_reader *maps);
/* The next mapping in rising order; false: there is none. */
bool gcrt_maps_next(struct gcrt_reader *maps, struct gcrt_mapping *mapping);
void gcrt_maps_close(struct gcrt_reader *maps);

/* Whether all that is mapped between two addresses is private; false also if it cannot be told. */
bool gcrt_maps_private(uintptr_t start, uintptr_t end);

#endif
