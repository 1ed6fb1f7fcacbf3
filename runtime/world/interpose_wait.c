/* Interposed calls that wait for descriptors, semaphores, messages, asynchronous input and output, and children.
 *
 * signal(7): poll, ppoll, select, pselect, the epoll_wait family, semop, semtimedop, msgsnd and msgrcv fail with EINTR
 * after any handler, SA_RESTART or not; so do semaphores waited for with a time limit and aio_suspend, whose futex
 * waits are not restarted. The wait family is restarted, and parked all the same: it waits long, and a parked thread
 * costs a stop nothing.
 *
 * Calls whose arguments say that they do not wait are forwarded unparked. Masks that replace the thread's own for the
 * duration of a call lose the stop signal. Any thread may call them; no locks. Compiled with -fexceptions: most are
 * cancellation points. */
#include "world/interpose_call.h"
#include "world/signals.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/wait.h>

static bool is_zero(const struct timespec *time) { return time && time->tv_sec == 0 && time->tv_nsec == 0; }

static int unavailable(void) {
  errno = ENOSYS;
  return -1;
}

GCRT_EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout) {
  if (timeout == 0) return gcrt_real(poll)(fds, count, timeout);
  GCRT_KEEP(fds);
  GCRT_PARKED_CALL(int, gcrt_real(poll)(fds, count, timeout));
}
GCRT_ALSO_CALLED(__poll, poll);

GCRT_EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size) {
  if (timeout == 0) return gcrt_real(__poll_chk)(fds, count, timeout, size);
  GCRT_KEEP(fds);
  GCRT_PARKED_CALL(int, gcrt_real(__poll_chk)(fds, count, timeout, size));
}

GCRT_EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  if (is_zero(timeout)) return gcrt_real(ppoll)(fds, count, timeout, mask);
  GCRT_KEEP(fds);
  GCRT_PARKED_CALL(int, gcrt_real(ppoll)(fds, count, timeout, mask));
}

GCRT_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
                            size_t size) {
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  if (is_zero(timeout)) return gcrt_real(__ppoll_chk)(fds, count, timeout, mask, size);
  GCRT_KEEP(fds);
  GCRT_PARKED_CALL(int, gcrt_real(__ppoll_chk)(fds, count, timeout, mask, size));
}

GCRT_EXPORT int select(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout) {
  if (timeout && timeout->tv_sec == 0 && timeout->tv_usec == 0)
    return gcrt_real(select)(count, readable, writable, exceptional, timeout);
  GCRT_KEEP(readable);
  GCRT_KEEP(writable);
  GCRT_KEEP(exceptional);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(select)(count, readable, writable, exceptional, timeout));
}
GCRT_ALSO_CALLED(__select, select);

GCRT_EXPORT int pselect(int count, fd_set *readable, fd_set *writable, fd_set *exceptional,
                        const struct timespec *timeout, const sigset_t *mask) {
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  if (is_zero(timeout)) return gcrt_real(pselect)(count, readable, writable, exceptional, timeout, mask);
  GCRT_KEEP(readable);
  GCRT_KEEP(writable);
  GCRT_KEEP(exceptional);
  GCRT_PARKED_CALL(int, gcrt_real(pselect)(count, readable, writable, exceptional, timeout, mask));
}

GCRT_EXPORT int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout) {
  if (timeout == 0) return gcrt_real(epoll_wait)(epoll, events, count, timeout);
  GCRT_KEEP(events);
  GCRT_PARKED_CALL(int, gcrt_real(epoll_wait)(epoll, events, count, timeout));
}

GCRT_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout, const sigset_t *mask) {
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  if (timeout == 0) return gcrt_real(epoll_pwait)(epoll, events, count, timeout, mask);
  GCRT_KEEP(events);
  GCRT_PARKED_CALL(int, gcrt_real(epoll_pwait)(epoll, events, count, timeout, mask));
}

GCRT_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int count, const struct timespec *timeout,
                             const sigset_t *mask) {
  if (!gcrt_real(epoll_pwait2)) return unavailable();
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  GCRT_KEEP(events);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(epoll_pwait2)(epoll, events, count, timeout, mask));
}

GCRT_EXPORT int sem_wait(sem_t *semaphore) {
  GCRT_KEEP(semaphore);
  GCRT_PARKED_CALL(int, gcrt_real(sem_wait)(semaphore));
}

GCRT_EXPORT int sem_timedwait(sem_t *semaphore, const struct timespec *deadline) {
  GCRT_KEEP(semaphore);
  GCRT_KEEP(deadline);
  GCRT_PARKED_CALL(int, gcrt_real(sem_timedwait)(semaphore, deadline));
}

GCRT_EXPORT int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *deadline) {
  if (!gcrt_real(sem_clockwait)) return unavailable();
  GCRT_KEEP(semaphore);
  GCRT_KEEP(deadline);
  GCRT_PARKED_CALL(int, gcrt_real(sem_clockwait)(semaphore, clock, deadline));
}

GCRT_EXPORT int semop(int set, struct sembuf *operations, size_t count) {
  GCRT_KEEP(operations);
  GCRT_PARKED_CALL(int, gcrt_real(semop)(set, operations, count));
}

GCRT_EXPORT int semtimedop(int set, struct sembuf *operations, size_t count, const struct timespec *timeout) {
  GCRT_KEEP(operations);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(semtimedop)(set, operations, count, timeout));
}

GCRT_EXPORT int msgsnd(int queue, const void *message, size_t size, int flags) {
  if (flags & IPC_NOWAIT) return gcrt_real(msgsnd)(queue, message, size, flags);
  GCRT_KEEP(message);
  GCRT_PARKED_CALL(int, gcrt_real(msgsnd)(queue, message, size, flags));
}

GCRT_EXPORT ssize_t msgrcv(int queue, void *message, size_t size, long type, int flags) {
  if (flags & IPC_NOWAIT) return gcrt_real(msgrcv)(queue, message, size, type, flags);
  GCRT_KEEP(message);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(msgrcv)(queue, message, size, type, flags));
}

/* The control blocks are reached through the list, which stays where it is. */
GCRT_EXPORT int aio_suspend(const struct aiocb *const *list, int count, const struct timespec *timeout) {
  if (!gcrt_real(aio_suspend)) return unavailable();
  GCRT_KEEP(list);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(aio_suspend)(list, count, timeout));
}

GCRT_EXPORT int aio_suspend64(const struct aiocb64 *const *list, int count, const struct timespec *timeout) {
  if (!gcrt_real(aio_suspend64)) return unavailable();
  GCRT_KEEP(list);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(aio_suspend64)(list, count, timeout));
}

GCRT_EXPORT pid_t wait(int *status) {
  GCRT_KEEP(status);
  GCRT_PARKED_CALL(pid_t, gcrt_real(wait)(status));
}
GCRT_ALSO_CALLED(__wait, wait);

GCRT_EXPORT pid_t waitpid(pid_t child, int *status, int options) {
  if (options & WNOHANG) return gcrt_real(waitpid)(child, status, options);
  GCRT_KEEP(status);
  GCRT_PARKED_CALL(pid_t, gcrt_real(waitpid)(child, status, options));
}
GCRT_ALSO_CALLED(__waitpid, waitpid);

GCRT_EXPORT int waitid(idtype_t kind, id_t child, siginfo_t *info, int options) {
  if (options & WNOHANG) return gcrt_real(waitid)(kind, child, info, options);
  GCRT_KEEP(info);
  GCRT_PARKED_CALL(int, gcrt_real(waitid)(kind, child, info, options));
}

GCRT_EXPORT pid_t wait3(int *status, int options, struct rusage *usage) {
  if (options & WNOHANG) return gcrt_real(wait3)(status, options, usage);
  GCRT_KEEP(status);
  GCRT_KEEP(usage);
  GCRT_PARKED_CALL(pid_t, gcrt_real(wait3)(status, options, usage));
}

GCRT_EXPORT pid_t wait4(pid_t child, int *status, int options, struct rusage *usage) {
  if (options & WNOHANG) return gcrt_real(wait4)(child, status, options, usage);
  GCRT_KEEP(status);
  GCRT_KEEP(usage);
  GCRT_PARKED_CALL(pid_t, gcrt_real(wait4)(child, status, options, usage));
}
