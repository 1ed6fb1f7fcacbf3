/* Interposed calls on sockets.
 *
 * signal(7): the input calls fail with EINTR after any handler, SA_RESTART or not, once SO_RCVTIMEO is set on the
 * socket, and the output calls and connect once SO_SNDTIMEO is; and where a part was transferred already, a handler
 * cuts the call short (MSG_WAITALL). Whether a socket has a time limit cannot be seen from the arguments, so all calls
 * are parked except those with MSG_DONTWAIT. Only stdio, which is called much more often, is parked no sooner than
 * setsockopt has set a limit on any socket.
 *
 * Any thread may call them; no locks. Compiled with -fexceptions: all of them are cancellation points. */
#include "world/interpose_stdio.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, __SOCKADDR_ARG, socklen_t *);

GCRT_EXPORT int accept(int socket, __SOCKADDR_ARG address, socklen_t *length) {
  const void *from = address.__sockaddr__;
  GCRT_KEEP(from);
  GCRT_KEEP(length);
  GCRT_PARKED_CALL(int, gcrt_real(accept)(socket, address, length));
}

GCRT_EXPORT int accept4(int socket, __SOCKADDR_ARG address, socklen_t *length, int flags) {
  const void *from = address.__sockaddr__;
  GCRT_KEEP(from);
  GCRT_KEEP(length);
  GCRT_PARKED_CALL(int, gcrt_real(accept4)(socket, address, length, flags));
}

GCRT_EXPORT int connect(int socket, __CONST_SOCKADDR_ARG address, socklen_t length) {
  const void *to = address.__sockaddr__;
  GCRT_KEEP(to);
  GCRT_PARKED_CALL(int, gcrt_real(connect)(socket, address, length));
}
GCRT_ALSO_CALLED(__connect, connect);

GCRT_EXPORT ssize_t recv(int socket, void *buffer, size_t size, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(recv)(socket, buffer, size, flags);
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(recv)(socket, buffer, size, flags));
}

GCRT_EXPORT ssize_t __recv_chk(int socket, void *buffer, size_t size, size_t room, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(__recv_chk)(socket, buffer, size, room, flags);
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(__recv_chk)(socket, buffer, size, room, flags));
}

GCRT_EXPORT ssize_t recvfrom(int socket, void *buffer, size_t size, int flags, __SOCKADDR_ARG address,
                             socklen_t *length) {
  if (flags & MSG_DONTWAIT) return gcrt_real(recvfrom)(socket, buffer, size, flags, address, length);
  const void *from = address.__sockaddr__;
  GCRT_KEEP(buffer);
  GCRT_KEEP(from);
  GCRT_KEEP(length);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(recvfrom)(socket, buffer, size, flags, address, length));
}

GCRT_EXPORT ssize_t __recvfrom_chk(int socket, void *buffer, size_t size, size_t room, int flags,
                                   __SOCKADDR_ARG address, socklen_t *length) {
  if (flags & MSG_DONTWAIT) return gcrt_real(__recvfrom_chk)(socket, buffer, size, room, flags, address, length);
  const void *from = address.__sockaddr__;
  GCRT_KEEP(buffer);
  GCRT_KEEP(from);
  GCRT_KEEP(length);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(__recvfrom_chk)(socket, buffer, size, room, flags, address, length));
}

GCRT_EXPORT ssize_t recvmsg(int socket, struct msghdr *message, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(recvmsg)(socket, message, flags);
  GCRT_KEEP(message);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(recvmsg)(socket, message, flags));
}

GCRT_EXPORT int recvmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
  if (flags & MSG_DONTWAIT) return gcrt_real(recvmmsg)(socket, messages, count, flags, timeout);
  GCRT_KEEP(messages);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(recvmmsg)(socket, messages, count, flags, timeout));
}

GCRT_EXPORT ssize_t send(int socket, const void *buffer, size_t size, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(send)(socket, buffer, size, flags);
  GCRT_KEEP(buffer);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(send)(socket, buffer, size, flags));
}
GCRT_ALSO_CALLED(__send, send);

GCRT_EXPORT ssize_t sendto(int socket, const void *buffer, size_t size, int flags, __CONST_SOCKADDR_ARG address,
                           socklen_t length) {
  if (flags & MSG_DONTWAIT) return gcrt_real(sendto)(socket, buffer, size, flags, address, length);
  const void *to = address.__sockaddr__;
  GCRT_KEEP(buffer);
  GCRT_KEEP(to);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(sendto)(socket, buffer, size, flags, address, length));
}

GCRT_EXPORT ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(sendmsg)(socket, message, flags);
  GCRT_KEEP(message);
  GCRT_PARKED_CALL(ssize_t, gcrt_real(sendmsg)(socket, message, flags));
}

GCRT_EXPORT int sendmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags) {
  if (flags & MSG_DONTWAIT) return gcrt_real(sendmmsg)(socket, messages, count, flags);
  GCRT_KEEP(messages);
  GCRT_PARKED_CALL(int, gcrt_real(sendmmsg)(socket, messages, count, flags));
}

/* Noted before it is set, so that no stream is read in between. It stays noted: the socket may have been duplicated or
 * handed on, and with it its limit. Both generations of the options have this layout where long has 64 bits. */
static bool limits_time(int level, int option, const void *value, socklen_t size) {
  struct timeval limit;
  if (level != SOL_SOCKET || !value || size < sizeof limit) return false;
  if (option != SO_RCVTIMEO && option != SO_SNDTIMEO && option != SO_RCVTIMEO_NEW && option != SO_SNDTIMEO_NEW)
    return false;
  memcpy(&limit, value, sizeof limit);
  return limit.tv_sec != 0 || limit.tv_usec != 0;
}

GCRT_EXPORT int setsockopt(int socket, int level, int option, const void *value, socklen_t size) {
  if (limits_time(level, option, value, size)) gcrt_store(&gcrt_time_limits, 1);
  return gcrt_real(setsockopt)(socket, level, option, value, size);
}
