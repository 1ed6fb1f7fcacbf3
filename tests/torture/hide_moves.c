/* Moves of pointers, as compilers, C libraries and the kernel make them.
 *
 * Called by the threads of hide.c, each with a pipe of its own. Every access is volatile or goes through a function
 * that the compiler cannot see into, as it must neither keep a copy nor leave a store out. A pointer on its way through
 * a pipe is where no collector looks, so the word it came from is cleared only when read has returned. */
#include "hide_moves.h"

#include <sched.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *const names[MOVE_KINDS] = {
    [MOVE_REGISTER] = "a register",   [MOVE_COPY_FIRST] = "a copy", [MOVE_EXCHANGE] = "atomic exchange",
    [MOVE_MEMCPY] = "memcpy",         [MOVE_MEMMOVE] = "memmove",   [MOVE_STRING] = "rep movs",
    [MOVE_READ] = "read from a pipe", [MOVE_READV] = "readv",       [MOVE_VECTOR] = "16 bytes at once",
};

const char *move_name(enum move_kind kind) { return names[kind]; }

static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile copy_overlapping)(void *, const void *, size_t) = memmove;

void move_pipe_open(struct move_pipe *p) { TEST_REQUIRE(pipe(p->ends) == 0); }

void move_pipe_close(struct move_pipe *p) {
  close(p->ends[0]);
  close(p->ends[1]);
}

void *move_pause(void *p, struct test_random *r) {
  uint64_t kind = test_random_below(r, 1024);
  if (kind == 0) sched_yield();
  if (kind > 0 && kind < 16) TEST_REQUIRE(gc_alloc(64) != NULL);
  uint64_t spins = kind < 512 ? 0 : test_random_below(r, 200);
  while (spins-- > 0) __asm__ volatile("" : "+r"(p) : : "memory");
  return p;
}

static void copy_string(void *to, const void *from, size_t words) {
#if defined(__x86_64__)
  __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
#else
  copy(to, from, words * sizeof(void *));
#endif
}

typedef uint64_t two_words __attribute__((vector_size(16), aligned(8), may_alias));

static void copy_vector(void *volatile *to, void *volatile *from) {
  two_words both = *(volatile two_words *)from;
  __asm__ volatile("" : : : "memory");
  *(volatile two_words *)to = both;
}

static void copy_through_pipe(void *to, const void *from, size_t bytes, const struct move_pipe *pipe, bool pieces) {
  TEST_REQUIRE(write(pipe->ends[1], from, bytes) == (ssize_t)bytes);
  ssize_t got;
  if (pieces) {
    struct iovec parts[2] = {{to, 3}, {(char *)to + 3, bytes - 3}};
    got = readv(pipe->ends[0], parts, 2);
  } else {
    got = read(pipe->ends[0], to, bytes);
  }
  TEST_REQUIRE(got == (ssize_t)bytes, "%zd of %zu bytes from the pipe", got, bytes);
}

static void clear(void *volatile *at, unsigned words) {
  for (unsigned i = 0; i < words; i++) at[i] = NULL;
}

void move_words(enum move_kind kind, void *volatile *to, void *volatile *from, unsigned words, struct move_pipe *pipe,
                struct test_random *r) {
  void *target = (void *)(uintptr_t)to;
  const void *source = (const void *)(uintptr_t)from;
  void *p;
  switch (kind) {
  case MOVE_REGISTER:
    p = *from;
    *from = NULL;
    *to = move_pause(p, r);
    return;
  case MOVE_EXCHANGE:
    p = __atomic_exchange_n(from, NULL, __ATOMIC_ACQ_REL);
    (void)__atomic_exchange_n(to, move_pause(p, r), __ATOMIC_ACQ_REL);
    return;
  case MOVE_MEMCPY:
    copy(target, source, words * sizeof *to);
    break;
  case MOVE_MEMMOVE:
    copy_overlapping(target, source, words * sizeof *to);
    break;
  case MOVE_STRING:
    copy_string(target, source, words);
    break;
  case MOVE_READ:
  case MOVE_READV:
    copy_through_pipe(target, source, words * sizeof *to, pipe, kind == MOVE_READV);
    break;
  case MOVE_VECTOR:
    copy_vector(to, from);
    break;
  default:
    for (unsigned i = 0; i < words; i++) to[i] = from[i];
  }
  clear(from, words);
}
