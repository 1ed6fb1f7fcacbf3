/* The table of waiting calls; see waits.h.
 *
 * A room belongs to one thread that waits and one that wakes. Each function makes one call, so that a cancelled thread
 * leaves nothing behind but the room. */
#include "waits.h"

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static struct timespec span_of(double seconds) {
  return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
}

static struct timespec deadline(clockid_t clock, double seconds) {
  struct timespec now, span = span_of(seconds);
  clock_gettime(clock, &now);
  now.tv_sec += span.tv_sec + (now.tv_nsec + span.tv_nsec) / 1000000000;
  now.tv_nsec = (now.tv_nsec + span.tv_nsec) % 1000000000;
  return now;
}

static int milliseconds(const struct wait_room *r) { return (int)(r->seconds * 1000); }

static struct wait_result done(long value) { return (struct wait_result){value, value == -1 ? errno : 0}; }
static struct wait_result returned(int error) { return (struct wait_result){error ? -1 : 0, error}; }

static struct wait_result wait_nanosleep(struct wait_room *r) {
  struct timespec span = span_of(r->seconds);
  return done(nanosleep(&span, NULL));
}
static struct wait_result wait_clock_nanosleep(struct wait_room *r) {
  struct timespec span = span_of(r->seconds);
  return returned(clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL));
}
static struct wait_result wait_clock_nanosleep_until(struct wait_room *r) {
  struct timespec end = deadline(CLOCK_MONOTONIC, r->seconds);
  return returned(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL));
}
static struct wait_result wait_usleep(struct wait_room *r) { return done(usleep((useconds_t)(r->seconds * 1e6))); }
/* sleep returns the whole seconds that it did not sleep, so less than one is told by the clock alone. */
static struct wait_result wait_sleep(struct wait_room *r) {
  unsigned asked = r->seconds < 1 ? 1 : (unsigned)r->seconds;
  double start = test_now();
  unsigned left = sleep(asked);
  return returned(left > 0 || test_now() - start < asked - 0.001 ? EINTR : 0);
}
static struct wait_result wait_thrd_sleep(struct wait_room *r) {
  struct timespec span = span_of(r->seconds);
  return returned(thrd_sleep(&span, NULL) == -1 ? EINTR : 0);
}
static struct wait_result wait_poll(struct wait_room *r) {
  struct pollfd p = {.fd = r->pair[0], .events = POLLIN};
  return done(poll(&p, 1, milliseconds(r)));
}
static struct wait_result wait_ppoll(struct wait_room *r) {
  struct pollfd p = {.fd = r->pair[0], .events = POLLIN};
  struct timespec span = span_of(r->seconds);
  return done(ppoll(&p, 1, &span, NULL));
}
static struct wait_result wait_select(struct wait_room *r) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(r->pair[0], &set);
  struct timeval span = {.tv_sec = (time_t)r->seconds, .tv_usec = span_of(r->seconds).tv_nsec / 1000};
  return done(select(r->pair[0] + 1, &set, NULL, NULL, &span));
}
static struct wait_result wait_pselect(struct wait_room *r) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(r->pair[0], &set);
  struct timespec span = span_of(r->seconds);
  return done(pselect(r->pair[0] + 1, &set, NULL, NULL, &span, NULL));
}
static struct wait_result wait_epoll_wait(struct wait_room *r) {
  struct epoll_event event;
  return done(epoll_wait(r->epoll, &event, 1, milliseconds(r)));
}
static struct wait_result wait_epoll_pwait(struct wait_room *r) {
  struct epoll_event event;
  sigset_t none;
  sigemptyset(&none);
  return done(epoll_pwait(r->epoll, &event, 1, milliseconds(r), &none));
}
static struct wait_result wait_sem_timedwait(struct wait_room *r) {
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  struct timespec end = deadline(CLOCK_REALTIME, r->seconds);
  return done(sem_timedwait(&semaphore, &end));
}
static struct wait_result wait_sem_clockwait(struct wait_room *r) {
#if __GLIBC_PREREQ(2, 30)
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  struct timespec end = deadline(CLOCK_MONOTONIC, r->seconds);
  return done(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &end));
#else
  return wait_sem_timedwait(r);
#endif
}
static struct wait_result wait_cond_timedwait(struct wait_room *r) {
  static __thread pthread_mutex_t mutex;
  static __thread pthread_cond_t cond;
  pthread_mutex_init(&mutex, NULL);
  pthread_cond_init(&cond, NULL);
  struct timespec end = deadline(CLOCK_REALTIME, r->seconds);
  pthread_mutex_lock(&mutex);
  return returned(pthread_cond_timedwait(&cond, &mutex, &end));
}

static void set_timeout(int fd, int option, double seconds) {
  struct timeval span = {.tv_sec = (time_t)seconds, .tv_usec = span_of(seconds).tv_nsec / 1000};
  setsockopt(fd, SOL_SOCKET, option, &span, sizeof span);
}
static char byte_buffer[16];
static struct wait_result wait_recv(struct wait_room *r) {
  set_timeout(r->pair[0], SO_RCVTIMEO, r->seconds);
  return done(recv(r->pair[0], byte_buffer, 1, 0));
}
static struct wait_result wait_recvfrom(struct wait_room *r) {
  set_timeout(r->pair[0], SO_RCVTIMEO, r->seconds);
  return done(recvfrom(r->pair[0], byte_buffer, 1, 0, NULL, NULL));
}
static struct wait_result wait_recvmsg(struct wait_room *r) {
  struct iovec vector = {byte_buffer, 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  set_timeout(r->pair[0], SO_RCVTIMEO, r->seconds);
  return done(recvmsg(r->pair[0], &message, 0));
}
static struct wait_result wait_read_timeout(struct wait_room *r) {
  set_timeout(r->pair[0], SO_RCVTIMEO, r->seconds);
  return done(read(r->pair[0], byte_buffer, 1));
}
static struct wait_result wait_send(struct wait_room *r) {
  set_timeout(r->pair[0], SO_SNDTIMEO, r->seconds);
  return done(send(r->pair[0], "x", 1, MSG_NOSIGNAL));
}
static struct wait_result wait_sendto(struct wait_room *r) {
  set_timeout(r->pair[0], SO_SNDTIMEO, r->seconds);
  return done(sendto(r->pair[0], "x", 1, MSG_NOSIGNAL, NULL, 0));
}
static struct wait_result wait_sendmsg(struct wait_room *r) {
  struct iovec vector = {"x", 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  set_timeout(r->pair[0], SO_SNDTIMEO, r->seconds);
  return done(sendmsg(r->pair[0], &message, MSG_NOSIGNAL));
}
static struct wait_result wait_accept(struct wait_room *r) {
  set_timeout(r->listener, SO_RCVTIMEO, r->seconds);
  return done(accept(r->listener, NULL, NULL));
}
static struct wait_result wait_accept4(struct wait_room *r) {
  set_timeout(r->listener, SO_RCVTIMEO, r->seconds);
  return done(accept4(r->listener, NULL, NULL, SOCK_CLOEXEC));
}
static struct wait_result wait_preadv2(struct wait_room *r) {
  struct iovec vector = {byte_buffer, 1};
  set_timeout(r->pair[0], SO_RCVTIMEO, r->seconds);
  return done(preadv2(r->pair[0], &vector, 1, -1, 0));
}
/* A stream over the socket with a time limit, without a buffer to write to. */
static FILE *stream_of(struct wait_room *r, int option) {
  set_timeout(r->pair[0], option, r->seconds);
  if (!r->stream) {
    r->stream = fdopen(fcntl(r->pair[0], F_DUPFD_CLOEXEC, 0), "r+");
    TEST_REQUIRE(r->stream != NULL);
    setvbuf(r->stream, NULL, _IONBF, 0);
  }
  clearerr(r->stream);
  return r->stream;
}
static struct wait_result wait_fgetc(struct wait_room *r) { return done(fgetc(stream_of(r, SO_RCVTIMEO))); }
static struct wait_result wait_fgets(struct wait_room *r) {
  return done(fgets(byte_buffer, sizeof byte_buffer, stream_of(r, SO_RCVTIMEO)) ? 0 : -1);
}
static struct wait_result wait_fread(struct wait_room *r) {
  return done(fread(byte_buffer, 1, 1, stream_of(r, SO_RCVTIMEO)) == 1 ? 1 : -1);
}
static struct wait_result wait_getline(struct wait_room *r) {
  return done(getline(&r->line, &r->line_room, stream_of(r, SO_RCVTIMEO)));
}
static struct wait_result wait_fscanf(struct wait_room *r) {
  int number;
  return done(fscanf(stream_of(r, SO_RCVTIMEO), "%d", &number));
}
static struct wait_result wait_fwrite(struct wait_room *r) {
  return done(fwrite("x", 1, 1, stream_of(r, SO_SNDTIMEO)) == 1 ? 1 : -1);
}
static struct wait_result wait_fprintf(struct wait_room *r) {
  return done(fprintf(stream_of(r, SO_SNDTIMEO), "%d", r->pair[0]));
}
static struct wait_result wait_fflush(struct wait_room *r) {
  FILE *stream = stream_of(r, SO_SNDTIMEO);
  setvbuf(stream, NULL, _IOFBF, 64);
  fputc('x', stream);
  return done(fflush(stream));
}
/* Its stream is on its stack, and the C library leaves it in its list of streams when the thread is cancelled. */
static struct wait_result wait_dprintf(struct wait_room *r) {
  set_timeout(r->pair[0], SO_SNDTIMEO, r->seconds);
  return done(dprintf(r->pair[0], "%d", r->pair[0]));
}
/* A listener with a backlog of nothing is full after the first connection; the second waits. */
static struct wait_result wait_connect(struct wait_room *r) {
  struct sockaddr_un address;
  socklen_t length = sizeof address;
  if (getsockname(r->listener, (struct sockaddr *)&address, &length)) return done(-1);
  long result = 0;
  for (int i = 0; i < 8 && result == 0; i++) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_timeout(fd, SO_SNDTIMEO, r->seconds);
    result = connect(fd, (struct sockaddr *)&address, length);
  }
  return done(result);
}
static struct wait_result wait_sigtimedwait(struct wait_room *r) {
  sigset_t set;
  siginfo_t info;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  struct timespec span = span_of(r->seconds);
  return done(sigtimedwait(&set, &info, &span));
}
static struct wait_result wait_semtimedop(struct wait_room *r) {
  struct sembuf down = {.sem_op = -1};
  struct timespec span = span_of(r->seconds);
  return done(semtimedop(r->semaphores, &down, 1, &span));
}
/* What follows has no timeout; the test wakes it. */
static struct wait_result wait_semop(struct wait_room *r) {
  struct sembuf down = {.sem_op = -1};
  return done(semop(r->semaphores, &down, 1));
}
struct message {
  long type;
  char text[64];
};
static struct wait_result wait_msgrcv(struct wait_room *r) {
  struct message message;
  return done(msgrcv(r->queue, &message, sizeof message.text, 0, 0));
}
static struct wait_result wait_msgsnd(struct wait_room *r) {
  struct message message = {.type = 1};
  return done(msgsnd(r->full_queue, &message, sizeof message.text, 0));
}
static struct wait_result wait_read(struct wait_room *r) { return done(read(r->pipe[0], byte_buffer, 1)); }
static struct wait_result wait_write(struct wait_room *r) { return done(write(r->full[1], "x", 1)); }
static struct wait_result wait_waitpid(struct wait_room *r) {
  int status;
  return done(waitpid(r->child, &status, 0));
}
static struct wait_result wait_waitid(struct wait_room *r) {
  siginfo_t info;
  return done(waitid(P_PID, (id_t)r->child, &info, WEXITED));
}
static struct wait_result wait_poll_forever(struct wait_room *r) {
  struct pollfd p = {.fd = r->pipe[0], .events = POLLIN};
  return done(poll(&p, 1, -1));
}
static struct wait_result wait_select_forever(struct wait_room *r) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(r->pipe[0], &set);
  return done(select(r->pipe[0] + 1, &set, NULL, NULL, NULL));
}

const struct wait_call wait_calls[] = {
    {"nanosleep", wait_nanosleep, true, true, true, 0},
    {"clock_nanosleep", wait_clock_nanosleep, true, true, true, 0},
    {"clock_nanosleep(TIMER_ABSTIME)", wait_clock_nanosleep_until, true, true, true, 0},
    {"usleep", wait_usleep, true, true, true, 0},
    {"sleep", wait_sleep, true, true, true, 0},
    {"thrd_sleep", wait_thrd_sleep, true, false, true, 0},
    {"poll", wait_poll, true, true, true, 0},
    {"ppoll", wait_ppoll, true, true, true, 0},
    {"select", wait_select, true, true, true, 0},
    {"pselect", wait_pselect, true, true, true, 0},
    {"epoll_wait", wait_epoll_wait, true, true, true, 0},
    {"epoll_pwait", wait_epoll_pwait, true, true, true, 0},
    {"sem_timedwait", wait_sem_timedwait, true, true, true, ETIMEDOUT},
    {"sem_clockwait", wait_sem_clockwait, true, true, true, ETIMEDOUT},
    {"pthread_cond_timedwait", wait_cond_timedwait, true, true, false, ETIMEDOUT},
    {"recv", wait_recv, true, true, true, EAGAIN},
    {"recvfrom", wait_recvfrom, true, true, true, EAGAIN},
    {"recvmsg", wait_recvmsg, true, true, true, EAGAIN},
    {"read of a socket with SO_RCVTIMEO", wait_read_timeout, true, true, true, EAGAIN},
    {"send", wait_send, true, true, true, EAGAIN},
    {"sendto", wait_sendto, true, true, true, EAGAIN},
    {"sendmsg", wait_sendmsg, true, true, true, EAGAIN},
    {"preadv2 of a socket with SO_RCVTIMEO", wait_preadv2, true, true, true, EAGAIN},
    {"fgetc of a socket with SO_RCVTIMEO", wait_fgetc, true, true, true, EAGAIN},
    {"fgets of a socket with SO_RCVTIMEO", wait_fgets, true, true, true, EAGAIN},
    {"fread of a socket with SO_RCVTIMEO", wait_fread, true, true, true, EAGAIN},
    {"getline of a socket with SO_RCVTIMEO", wait_getline, true, true, true, EAGAIN},
    {"fscanf of a socket with SO_RCVTIMEO", wait_fscanf, true, true, true, EAGAIN},
    {"fwrite to a socket with SO_SNDTIMEO", wait_fwrite, true, true, true, EAGAIN},
    {"fprintf to a socket with SO_SNDTIMEO", wait_fprintf, true, true, true, EAGAIN},
    {"fflush to a socket with SO_SNDTIMEO", wait_fflush, true, true, true, EAGAIN},
    {"dprintf to a socket with SO_SNDTIMEO", wait_dprintf, true, false, true, EAGAIN},
    {"accept", wait_accept, true, true, true, EAGAIN},
    {"accept4", wait_accept4, true, true, true, EAGAIN},
    {"connect", wait_connect, true, true, true, EAGAIN},
    {"sigtimedwait", wait_sigtimedwait, true, true, true, EAGAIN},
    {"semtimedop", wait_semtimedop, true, false, true, EAGAIN},
    {"semop", wait_semop, false, false, true, 0},
    {"msgrcv", wait_msgrcv, false, true, true, 0},
    {"msgsnd", wait_msgsnd, false, true, true, 0},
    {"read of a pipe", wait_read, false, true, true, 0},
    {"write to a pipe", wait_write, false, true, true, 0},
    {"waitpid", wait_waitpid, false, true, true, 0},
    {"waitid", wait_waitid, false, true, true, 0},
    {"poll without a timeout", wait_poll_forever, false, true, true, 0},
    {"select without a timeout", wait_select_forever, false, true, true, 0},
};
const int wait_call_count = sizeof wait_calls / sizeof *wait_calls;

static void fill(int fd) {
  char block[4096] = {0};
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, block, sizeof block) > 0)
    ;
  while (write(fd, block, 1) > 0)
    ;
  fcntl(fd, F_SETFL, flags);
}

static void open_messages(struct wait_room *room) {
  room->queue = msgget(IPC_PRIVATE, 0600);
  room->full_queue = msgget(IPC_PRIVATE, 0600);
  room->semaphores = semget(IPC_PRIVATE, 1, 0600);
  struct message message = {.type = 1};
  while (room->full_queue >= 0 && msgsnd(room->full_queue, &message, sizeof message.text, IPC_NOWAIT) == 0)
    ;
}

void wait_room_open(struct wait_room *room, double seconds) {
  memset(room, 0, sizeof *room);
  room->seconds = seconds;
  TEST_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, room->pair) == 0);
  TEST_REQUIRE(pipe2(room->pipe, O_CLOEXEC) == 0 && pipe2(room->full, O_CLOEXEC) == 0);
  fill(room->full[1]);
  fill(room->pair[0]);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  room->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  /* Autobind: an abstract name that the kernel chooses. */
  TEST_REQUIRE(bind(room->listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0);
  TEST_REQUIRE(listen(room->listener, 0) == 0);
  room->epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  TEST_REQUIRE(epoll_ctl(room->epoll, EPOLL_CTL_ADD, room->pair[0], &event) == 0);
  open_messages(room);
  int input[2];
  TEST_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) == 0);
  room->child = fork();
  TEST_REQUIRE(room->child >= 0);
  if (room->child == 0) {
    char byte;
    close(input[1]);
    _exit(read(input[0], &byte, 1) == 1 ? 0 : 1);
  }
  close(input[0]);
  room->child_input = input[1];
}

void wait_room_wake(struct wait_room *room) {
  struct sembuf up = {.sem_op = 1};
  struct message message = {.type = 1};
  char block[4096];
  if (room->semaphores >= 0) semop(room->semaphores, &up, 1);
  if (room->queue >= 0) msgsnd(room->queue, &message, sizeof message.text, IPC_NOWAIT);
  if (room->full_queue >= 0) msgrcv(room->full_queue, &message, sizeof message.text, 0, IPC_NOWAIT);
  TEST_REQUIRE(write(room->pipe[1], "x", 1) == 1);
  TEST_REQUIRE(read(room->full[0], block, sizeof block) > 0);
  TEST_REQUIRE(send(room->child_input, "x", 1, MSG_NOSIGNAL) == 1);
}

void wait_room_close(struct wait_room *room) {
  if (room->stream) {
    __fpurge(room->stream);
    fclose(room->stream);
  }
  free(room->line);
  /* Other children have inherited the socket, so that closing it would not end this one. */
  send(room->child_input, "x", 1, MSG_NOSIGNAL);
  int fds[] = {room->pair[0], room->pair[1], room->pipe[0],     room->pipe[1], room->full[0],
               room->full[1], room->epoll,   room->child_input, room->listener};
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) close(fds[i]);
  if (room->queue >= 0) msgctl(room->queue, IPC_RMID, NULL);
  if (room->full_queue >= 0) msgctl(room->full_queue, IPC_RMID, NULL);
  if (room->semaphores >= 0) semctl(room->semaphores, 0, IPC_RMID);
  waitpid(room->child, NULL, 0);
}
