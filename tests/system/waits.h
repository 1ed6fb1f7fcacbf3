/* The waiting calls of libc that signal(7) says a handler interrupts, and others that a program waits in: one table,
 * which eintr.c and cancel.c run through.
 *
 * Every call waits in one of two ways: until its timeout, where it has one, or until the test wakes it. */
#ifndef GCRT_TESTS_WAITS_H
#define GCRT_TESTS_WAITS_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

/* What a wait has to itself. */
struct wait_room {
  int pair[2];    /* sockets, nothing to read; the first is full for writing */
  int pipe[2];    /* a pipe with nothing in it */
  int full[2];    /* a pipe that takes no more */
  int listener;   /* a socket that nobody connects to */
  int epoll;      /* that watches pair[0] */
  int queue;      /* a message queue of System V, empty; -1: none here */
  int full_queue; /* one that takes no more */
  int semaphores; /* a set of one, at 0; -1: none here */
  pid_t child;    /* a child that waits for its input to end */
  int child_input;
  FILE *stream; /* over pair[0]; NULL before it is needed */
  char *line;   /* of getline */
  size_t line_room;
  double seconds; /* timeout of the calls that have one */
};

/* What a call came to. */
struct wait_result {
  long value; /* returned */
  int error;  /* errno, or the error returned */
};

struct wait_call {
  const char *name;
  struct wait_result (*run)(struct wait_room *room);
  bool timed;        /* ends by itself after room->seconds */
  bool cancellation; /* is a cancellation point */
  bool interrupted;  /* a handler of the program's, without SA_RESTART, interrupts it (signal(7)) */
  int on_timeout;    /* errno when the time is over; 0: it returns as if done */
};

extern const struct wait_call wait_calls[];
extern const int wait_call_count;

/* Makes what the calls need. Everything is in static or malloc memory. */
void wait_room_open(struct wait_room *room, double seconds);
/* Wakes whatever waits in the room for something to happen. */
void wait_room_wake(struct wait_room *room);
void wait_room_close(struct wait_room *room);

#endif
