/* Interposed read, write and their relatives that a handler can cut short.
 *
 * signal(7) lists them among the calls that SA_RESTART restarts, and says in two other places that this is not the
 * whole truth. On a socket with SO_RCVTIMEO or SO_SNDTIMEO they fail with EINTR like recv and send. And a call that
 * transferred a part before the handler ran is not restarted: a blocking write of a megabyte to a pipe returns 64 KiB,
 * sendfile, copy_file_range and getrandom return less than was asked for. Programs rely on getting all where
 * they have no handlers. So the thread is parked.
 *
 * Not here: pread, pwrite and the like are for files that can be sought in, whose transfers are not interrupted; tee
 * and vmsplice wait only for their first byte, and are restarted.
 * Any thread may call them, in handlers, too; no locks. Compiled with -fexceptions: most are cancellation points. */
#include "world/interpose_call.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t __read_chk(int, void *, size_t, size_t);

GCRT_EXPORT ssize_t read(int file, void *buffer, size_t size) {
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(read)(file, buffer, size));
}
GCRT_ALSO_CALLED(__read, read);

GCRT_EXPORT ssize_t __read_chk(int file, void *buffer, size_t size, size_t room) {
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(__read_chk)(file, buffer, size, room));
}

GCRT_EXPORT ssize_t readv(int file, const struct iovec *parts, int count) {
  GCRT_KEEP(parts);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(readv)(file, parts, count));
}

GCRT_EXPORT ssize_t write(int file, const void *buffer, size_t size) {
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(write)(file, buffer, size));
}
GCRT_ALSO_CALLED(__write, write);

GCRT_EXPORT ssize_t writev(int file, const struct iovec *parts, int count) {
  GCRT_KEEP(parts);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(writev)(file, parts, count));
}

/* At the offset -1 they are readv and writev. */
#define AT_OFFSET(name, offset_type)                                                                                   \
  GCRT_EXPORT ssize_t name(int file, const struct iovec *parts, int count, offset_type offset, int flags) {            \
    if (offset != -1) return gcrt_real(name)(file, parts, count, offset, flags);                                       \
    GCRT_KEEP(parts);                                                                                                  \
    GCRT_PARKED_CALL(ssize_t, gcrt_real(name)(file, parts, count, offset, flags));                                     \
  }
AT_OFFSET(preadv2, off_t)
AT_OFFSET(preadv64v2, off64_t)
AT_OFFSET(pwritev2, off_t)
AT_OFFSET(pwritev64v2, off64_t)

GCRT_EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
  GCRT_KEEP(offset);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(sendfile)(to, from, offset, size));
}

GCRT_EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
  GCRT_KEEP(offset);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(sendfile64)(to, from, offset, size));
}

GCRT_EXPORT ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags) {
  if (flags & SPLICE_F_NONBLOCK) return gcrt_real(splice)(from, from_offset, to, to_offset, size, flags);
  GCRT_KEEP(from_offset);
  GCRT_KEEP(to_offset);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(splice)(from, from_offset, to, to_offset, size, flags));
}

GCRT_EXPORT ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                                    unsigned flags) {
  GCRT_KEEP(from_offset);
  GCRT_KEEP(to_offset);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(copy_file_range)(from, from_offset, to, to_offset, size, flags));
}

/* Up to 256 bytes are never cut short. */
GCRT_EXPORT ssize_t getrandom(void *buffer, size_t size, unsigned flags) {
  if (size <= 256) return gcrt_real(getrandom)(buffer, size, flags);
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(getrandom)(buffer, size, flags));
}
