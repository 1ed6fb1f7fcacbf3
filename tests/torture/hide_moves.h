/* Ways to move a pointer from one word of memory to another. */
#ifndef GCRT_TESTS_HIDE_MOVES_H
#define GCRT_TESTS_HIDE_MOVES_H

#include "torture.h"

enum move_kind {
  MOVE_REGISTER,   /* taken, kept in a register for a while, put down */
  MOVE_COPY_FIRST, /* put down before the other copy goes */
  MOVE_EXCHANGE,   /* atomic exchange at both ends */
  MOVE_MEMCPY,
  MOVE_MEMMOVE,
  MOVE_STRING, /* rep movs */
  MOVE_READ,   /* through a pipe: the kernel writes the word */
  MOVE_READV,  /* the same in two pieces */
  MOVE_VECTOR, /* 16 bytes at once */
  MOVE_KINDS
};

/* Descriptors of a pipe. */
struct move_pipe {
  int ends[2];
};
void move_pipe_open(struct move_pipe *pipe);
void move_pipe_close(struct move_pipe *pipe);

/* Moves `words` adjacent words, 1 or 2; those at `from` are NULL afterwards. The thread holds no other copy at the end,
 * but for what it may have left in registers. MOVE_VECTOR needs two words, MOVE_REGISTER and MOVE_EXCHANGE one. */
void move_words(enum move_kind kind, void *volatile *to, void *volatile *from, unsigned words, struct move_pipe *pipe,
                struct test_random *r);

const char *move_name(enum move_kind kind);

/* Lets time go by with p in a register, or in a frame of the caller while it allocates or gives the processor away. */
void *move_pause(void *p, struct test_random *r);

#endif
