/* Interposed calls that wait for storage or for a file lock.
 *
 * Most are restarted after a handler with SA_RESTART, or cannot be interrupted at all: signal(7) speaks of "slow"
 * devices, and a thread that waits for a disk or a file server answers no signal until that has answered. Parked, it
 * holds up no stop. fallocate(2) may fail with EINTR: on a file in memory it does in older kernels, and undoes what it
 * has done, so that a program that is interrupted often enough gets nowhere.
 *
 * Any thread may call them; no locks. Compiled with -fexceptions: fsync, fdatasync, msync and fallocate are
 * cancellation points. */
#include "world/interpose_call.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

GCRT_EXPORT int fsync(int file) { GCRT_PARKED_CALL(int, gcrt_real(fsync)(file)); }

GCRT_EXPORT int fdatasync(int file) { GCRT_PARKED_CALL(int, gcrt_real(fdatasync)(file)); }

GCRT_EXPORT int syncfs(int file) { GCRT_PARKED_CALL(int, gcrt_real(syncfs)(file)); }

GCRT_EXPORT void sync(void) {
  GCRT_PARK_SCOPE(park);
  gcrt_real(sync)();
}

GCRT_EXPORT int msync(void *start, size_t size, int flags) {
  if (!(flags & MS_SYNC)) return gcrt_real(msync)(start, size, flags);
  GCRT_PARKED_CALL(int, gcrt_real(msync)(start, size, flags));
}

GCRT_EXPORT int flock(int file, int operation) {
  if (operation & LOCK_NB) return gcrt_real(flock)(file, operation);
  GCRT_PARKED_CALL(int, gcrt_real(flock)(file, operation));
}

#define RESERVES(name, offset_type)                                                                                    \
  GCRT_EXPORT int name(int file, int mode, offset_type offset, offset_type size) {                                     \
    GCRT_PARKED_CALL(int, gcrt_real(name)(file, mode, offset, size));                                                  \
  }
RESERVES(fallocate, off_t)
RESERVES(fallocate64, off64_t)

#define RESERVES_POSIX(name, offset_type)                                                                              \
  GCRT_EXPORT int name(int file, offset_type offset, offset_type size) {                                               \
    GCRT_PARKED_CALL(int, gcrt_real(name)(file, offset, size));                                                        \
  }
RESERVES_POSIX(posix_fallocate, off_t)
RESERVES_POSIX(posix_fallocate64, off64_t)
