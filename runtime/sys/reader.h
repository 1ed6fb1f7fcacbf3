/* A file of the kernel's, read character by character through a small buffer: such files have no size that could be
 * asked for, and are read where neither malloc nor much stack is to be had. Raw system calls; async-signal-safe. errno
 * may change. */
#ifndef GCRT_SYS_READER_H
#define GCRT_SYS_READER_H

#include <stdbool.h>
#include <stddef.h>

struct gcrt_reader {
  long fd;
  size_t at, length;
  char buffer[512];
};

/* False: it cannot be opened. */
bool gcrt_reader_open(struct gcrt_reader *reader, const char *path);
/* The next character, as an unsigned char; -1 at the end, and where reading fails. */
int gcrt_reader_next(struct gcrt_reader *reader);
void gcrt_reader_close(struct gcrt_reader *reader);

#endif
