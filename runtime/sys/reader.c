/* Files of the kernel's: see reader.h. No lock; a file may change while it is read. What reads by lines or fields does
 * so from the stream and not from a buffer of its own, as a line of mountinfo can be of any length. */
#include "sys/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

bool gcrt_reader_open(struct gcrt_reader *reader, const char *path) {
  reader->at = reader->length = 0;
  do reader->fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  while (reader->fd < 0 && errno == EINTR);
  return reader->fd >= 0;
}

int gcrt_reader_next(struct gcrt_reader *reader) {
  if (reader->at == reader->length) {
    long got;
    do got = syscall(SYS_read, reader->fd, reader->buffer, sizeof reader->buffer);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return -1;
    reader->at = 0;
    reader->length = (size_t)got;
  }
  return (unsigned char)reader->buffer[reader->at++];
}

void gcrt_reader_close(struct gcrt_reader *reader) { (void)syscall(SYS_close, reader->fd); }
