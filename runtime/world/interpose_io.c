/* Interposed calls that wait for storage or for a file lock.
 *
 * They are restarted after a handler with SA_RESTART, or cannot be interrupted at all: signal(7) speaks of "slow"
 * devices, and a thread that waits for a disk or a file server answers no signal until that has answered. Parked, it
 * holds up no stop.
 *
 * Any thread may call them; no locks. Compiled with -fexceptions: fsync, fdatasync and msync are cancellation points.
 */
#include "world/interpose_call.h"

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
