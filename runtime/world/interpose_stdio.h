/* What the files that interpose stdio share.
 *
 * The C library reads and writes streams with system calls of its own, which cannot be interposed; on a socket with a
 * time limit (SO_RCVTIMEO, SO_SNDTIMEO) a handler makes them fail with EINTR. So the functions that may make them are
 * parked, but only once such a limit was set somewhere in the process: until then each costs a load and a call more.
 *
 * While a thread is parked no code of the program may run in it, as that could touch collected objects. Inside stdio
 * there are two kinds of such code: the functions of fopencookie, whose streams have no descriptor, and those of
 * register_printf_function and its kin. Calls that may come to them are forwarded unparked. */
#ifndef GCRT_WORLD_INTERPOSE_STDIO_H
#define GCRT_WORLD_INTERPOSE_STDIO_H

#include "base/atomics.h"
#include "world/interpose_call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <wchar.h>

/* Each is 0 until it happens for the first time, and then 1 for good. */
extern gcrt_word gcrt_time_limits;     /* a time limit was set on a socket */
extern gcrt_word gcrt_cookie_streams;  /* fopencookie was called */
extern gcrt_word gcrt_printf_handlers; /* a function for conversions of printf was registered */

static inline bool gcrt_time_limited(void) { return GCRT_UNLIKELY(gcrt_load(&gcrt_time_limits) != 0); }

/* Whether a call that writes this stream may wait in the C library, and in nothing of the program's. NULL: all streams.
 * The field, not fileno(): that sets errno where there is no descriptor. */
static inline bool gcrt_stream_writes(const FILE *stream) {
  return gcrt_time_limited() && (stream ? stream->_fileno >= 0 : !gcrt_load(&gcrt_cookie_streams));
}

/* The same for a call that reads it; that may write standard output first, if both are not fully buffered. */
static inline bool gcrt_stream_reads(const FILE *stream) {
  if (!gcrt_time_limited() || stream->_fileno < 0) return false;
  return !gcrt_load(&gcrt_cookie_streams) || !stdout || stdout->_fileno >= 0;
}

/* The same for a call that formats into it. */
static inline bool gcrt_stream_formats(const FILE *stream) {
  return gcrt_stream_writes(stream) && !gcrt_load(&gcrt_printf_handlers);
}

/* Defines the interposer of NAME: parked if `waits`, after the statement `keep` (GCRT_KEEP of its arguments).
 *
 * The headers of the C library give some of these functions other names than they call them (fscanf is __isoc99_fscanf
 * or __isoc23_fscanf, by the language's version), so here they have names of their own, and the assembler's name is
 * the C library's. call_NAME is for the forms with variable arguments, which go to those that take a va_list;
 * parked_NAME is apart so that the other way stays short. */
#define GCRT_STREAM_CALL(type, name, parameters, arguments, waits, keep)                                               \
  GCRT_EXPORT type gcrt_stdio_##name parameters __asm__(#name);                                                        \
  static __attribute__((noinline, cold)) type parked_##name parameters {                                               \
    __typeof__(&gcrt_stdio_##name) real = gcrt_real_function(GCRT_REAL_##name);                                        \
    keep;                                                                                                              \
    GCRT_PARKED_CALL(type, real arguments);                                                                            \
  }                                                                                                                    \
  static inline type call_##name parameters {                                                                          \
    __typeof__(&gcrt_stdio_##name) real = gcrt_real_function(GCRT_REAL_##name);                                        \
    if (waits) return parked_##name arguments;                                                                         \
    return real arguments;                                                                                             \
  }                                                                                                                    \
  type gcrt_stdio_##name parameters { return call_##name arguments; }

/* The same for a function without a result. */
#define GCRT_STREAM_PROCEDURE(name, parameters, arguments, waits, keep)                                                \
  GCRT_EXPORT void gcrt_stdio_##name parameters __asm__(#name);                                                        \
  void gcrt_stdio_##name parameters {                                                                                  \
    __typeof__(&gcrt_stdio_##name) real = gcrt_real_function(GCRT_REAL_##name);                                        \
    if (!(waits)) {                                                                                                    \
      real arguments;                                                                                                  \
      return;                                                                                                          \
    }                                                                                                                  \
    keep;                                                                                                              \
    GCRT_PARK_SCOPE(park);                                                                                             \
    real arguments;                                                                                                    \
  }

#define GCRT_KEEP_BOTH(first, second)                                                                                  \
  GCRT_KEEP(first);                                                                                                    \
  GCRT_KEEP(second)

/* The interposer of NAME, which takes variable arguments behind `last`, by means of the form that takes a va_list. */
#define GCRT_STREAM_VARIADIC(name, parameters, last, form)                                                             \
  GCRT_EXPORT int gcrt_stdio_##name parameters __asm__(#name);                                                         \
  int gcrt_stdio_##name parameters {                                                                                   \
    va_list list;                                                                                                      \
    va_start(list, last);                                                                                              \
    int result = form;                                                                                                 \
    va_end(list);                                                                                                      \
    return result;                                                                                                     \
  }

#endif
