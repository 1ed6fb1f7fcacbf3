/* The C library's own definitions of the functions that the library interposes.
 *
 * gcrt_real(NAME) is the next definition of NAME after this library's (dlsym with RTLD_NEXT), looked up by
 * gcrt_real_init, or at first use when a constructor of another library comes earlier. A function the C library lacks
 * gives NULL. */
#ifndef GCRT_SYS_REAL_H
#define GCRT_SYS_REAL_H

#include <stddef.h>

enum gcrt_real_name {
#define GCRT_REAL(name) GCRT_REAL_##name,
#include "sys/real_names.h"
#undef GCRT_REAL
  GCRT_REAL_COUNT
};

extern void *gcrt_real_table[GCRT_REAL_COUNT];

/* Looks all names up. Not async-signal-safe. */
void gcrt_real_init(void);

/* Looks one up; ends the program with a message if the C library must have it and has not. */
void *gcrt_real_lookup(enum gcrt_real_name name);

static inline void *gcrt_real_function(enum gcrt_real_name name) {
  void *function = gcrt_real_table[name];
  return function ? function : gcrt_real_lookup(name);
}

/* Typed by the prototype in the C library's header. */
#define gcrt_real(name) ((__typeof__(&name))gcrt_real_function(GCRT_REAL_##name))

#endif
