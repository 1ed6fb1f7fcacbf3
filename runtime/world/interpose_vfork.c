/* Interposed vfork: the thread counts as parked until its child has called exec or is gone.
 *
 * signal(7) has no rule for it: the parent waits in the kernel, deaf to signals. It would hold up a stop; and the
 * child, which runs in the same memory and as the same thread to this library, would park and unpark its parent's
 * record by the calls it makes, and leave it parked when it is killed in one of them. Parked from before to after,
 * calls of the child pass through, and what it does to itself changes nothing for the parent.
 *
 * The registers are copied into the thread's record: the frames below vfork's caller belong to the child. Async-signal-
 * safe, no locks. */
#include "sys/vfork.h"

#include "world/interpose_call.h"

#include <errno.h>
#include <string.h>

__attribute__((used)) void *gcrt_vfork_enter(const uintptr_t *values, size_t count, uintptr_t sp) {
  struct gcrt_registers registers;
  struct gcrt_park park;
  memcpy(registers.values, values, count * sizeof *values);
  registers.count = count;
  registers.sp = sp;
  gcrt_park_enter(&park, &registers);
  return park.thread;
}

__attribute__((used)) pid_t gcrt_vfork_leave(long result, void *entered) {
  struct gcrt_park park = {entered};
  gcrt_park_leave(&park);
  if (result >= 0) return (pid_t)result;
  errno = (int)-result;
  return -1;
}
