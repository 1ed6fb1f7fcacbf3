/* Messages: own formatting and one write.
 *
 * Messages are written from signal handlers, with locks held and while other threads stand still wherever they were
 * stopped, one of them perhaps inside stdio or malloc. The C library's printf family may take locks and allocate, so
 * none of it is used. Any layer may call this file; it takes no lock and keeps errno. A message longer than the buffer
 * is cut, never split: lines of different threads do not mix. */
#include "base/report.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum { LINE_MAX_BYTES = 768, DIGITS_MAX = 24 };

struct sink {
  char *buffer;
  size_t size, length;
};

static void put(struct sink *sink, char c) {
  if (sink->length + 1 < sink->size) sink->buffer[sink->length++] = c;
}

static void put_text(struct sink *sink, const char *text) {
  for (text = text ? text : "(null)"; *text; text++) put(sink, *text);
}

static void put_unsigned(struct sink *sink, uint64_t value, unsigned base) {
  char digits[DIGITS_MAX];
  unsigned n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  while (n) put(sink, digits[--n]);
}

static void put_signed(struct sink *sink, int64_t value) {
  if (value < 0) put(sink, '-');
  put_unsigned(sink, value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value, 10);
}

size_t gcrt_vformat(char *buffer, size_t size, const char *format, va_list arguments) {
  if (size == 0) return 0;
  struct sink sink = {buffer, size, 0};
  for (const char *f = format; *f; f++) {
    if (*f != '%') {
      put(&sink, *f);
      continue;
    }
    f++;
    /* long and size_t are as wide as each other on every processor the library runs on. */
    bool wide = *f == 'l' || *f == 'z';
    if (wide) f++;
    switch (*f) {
    case 's':
      put_text(&sink, va_arg(arguments, const char *));
      break;
    case 'c':
      put(&sink, (char)va_arg(arguments, int));
      break;
    case 'd':
      put_signed(&sink, wide ? va_arg(arguments, long) : va_arg(arguments, int));
      break;
    case 'u':
      put_unsigned(&sink, wide ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), 10);
      break;
    case 'x':
      put_unsigned(&sink, wide ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), 16);
      break;
    case 'p':
      put_text(&sink, "0x");
      put_unsigned(&sink, (uintptr_t)va_arg(arguments, void *), 16);
      break;
    case '%':
      put(&sink, '%');
      break;
    default: /* the arguments that follow cannot be found any more */
      put_text(&sink, "(bad format)");
      buffer[sink.length] = '\0';
      return sink.length;
    }
  }
  buffer[sink.length] = '\0';
  return sink.length;
}

size_t gcrt_format(char *buffer, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t length = gcrt_vformat(buffer, size, format, arguments);
  va_end(arguments);
  return length;
}

static void write_line(const char *format, va_list arguments) {
  char line[LINE_MAX_BYTES];
  size_t length = gcrt_format(line, sizeof line, "gcrt: ");
  length += gcrt_vformat(line + length, sizeof line - length - 1, format, arguments);
  line[length++] = '\n';
  gcrt_write_error(line, length);
}

void gcrt_warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments);
  va_end(arguments);
}

void gcrt_fatal(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments);
  va_end(arguments);
  abort();
}

void gcrt_misuse(const char *call, const void *value, const char *what) { gcrt_fatal("%s(%p): %s", call, value, what); }
