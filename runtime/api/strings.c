/* Strings in noscan objects. Thread-safe as allocation is; no lock of their own. */
#include <gcrt/alloc.h>

#include "base/bits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *copy(const char *s, size_t length) {
  char *result = gc_alloc_noscan(length + 1);
  return result ? memcpy(result, s, length) : NULL;
}

GCRT_EXPORT char *gc_strdup(const char *s) { return copy(s, strlen(s)); }

GCRT_EXPORT char *gc_strndup(const char *s, size_t n) { return copy(s, strnlen(s, n)); }

GCRT_EXPORT char *gc_asprintf(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (length < 0) return NULL;
  char *result = gc_alloc_noscan((size_t)length + 1);
  if (!result) return NULL;
  va_start(arguments, format);
  length = vsnprintf(result, (size_t)length + 1, format, arguments);
  va_end(arguments);
  return length < 0 ? NULL : result;
}
