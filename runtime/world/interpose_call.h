/* What the files that interpose waiting calls share.
 *
 * An interposed function has the C library's prototype and default visibility, and forwards to gcrt_real(NAME): parked
 * (world/park.h) if the call may wait, directly if its arguments say that it does not. */
#ifndef GCRT_WORLD_INTERPOSE_CALL_H
#define GCRT_WORLD_INTERPOSE_CALL_H

#include "base/bits.h"
#include "sys/real.h"
#include "world/park.h"

#include <signal.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

/* Keeps the object that an argument points to alive while the call waits. The argument may be the only pointer to it
 * (send(fd, make_message(), …)), and it arrives in a register that the caller need not preserve: it may move into a
 * preserved one only after park_enter has seen those. A slot in the interposer's frame is scanned in any case. */
#define GCRT_KEEP(pointer)                                                                                             \
  const volatile void *volatile keep_##pointer __attribute__((unused)) = (const volatile void *)(pointer)

/* The C library exports some functions under a second name, to which old programs and libraries were linked. */
#define GCRT_ALSO_CALLED(other, name) extern __typeof__(name) other __attribute__((visibility("default"), alias(#name)))

/* Functions that the oldest supported C library lacks, or that its headers do not declare under every feature macro. */
struct epoll_event;
struct pollfd;
struct aiocb;
struct aiocb64;
int epoll_pwait2(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
int __poll_chk(struct pollfd *, unsigned long, int, size_t);
int __ppoll_chk(struct pollfd *, unsigned long, const struct timespec *, const sigset_t *, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
int aio_suspend(const struct aiocb *const *, int, const struct timespec *);
int aio_suspend64(const struct aiocb64 *const *, int, const struct timespec *);
int __xpg_sigpause(int);

#endif
