/* Messages to the person who runs the program: one line on standard error, "gcrt: …".
 *
 * All of it is async-signal-safe (own formatting into a buffer on the stack, one write(2), errno kept) and may be
 * called with any lock held. The format knows %s %d %u %ld %lu %zu %zd %x %lx %p %c %% and no widths. */
#ifndef GCRT_BASE_REPORT_H
#define GCRT_BASE_REPORT_H

#include <stdarg.h>
#include <stddef.h>

/* Formats into buffer (always terminated); returns the length that was written without the terminator. */
size_t gcrt_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t gcrt_vformat(char *buffer, size_t size, const char *format, va_list arguments);

/* Writes a line; the program goes on. */
void gcrt_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The library found itself or its surroundings broken: a line, then abort(). */
_Noreturn void gcrt_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The program broke the contract of a call: a line that names the call and the value, then abort(). */
_Noreturn void gcrt_misuse(const char *call, const void *value, const char *what);

/* Writes raw text to standard error, without prefix. Defined in sys/proc.c, as it is a system call. */
void gcrt_write_error(const char *text, size_t length);

/* An invariant of the library; checked in every build, as a collector that goes on with a broken heap loses data. */
#define GCRT_CHECK(condition)                                                                                          \
  do {                                                                                                                 \
    if (__builtin_expect(!(condition), 0)) gcrt_fatal("%s:%d: broken invariant: %s", __FILE__, __LINE__, #condition);  \
  } while (0)

#endif
