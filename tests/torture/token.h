/* Tokens: objects that exactly one pointer leads to, kept in exactly one place. */
#ifndef GCRT_TESTS_TOKEN_H
#define GCRT_TESTS_TOKEN_H

#include "torture.h"

/* Where the only pointer to a token may be. */
enum place_kind {
  PLACE_HEAP,          /* a collected object, held by a global variable */
  PLACE_UNCOLLECTABLE, /* an uncollectable object that nothing points to */
  PLACE_DATA,          /* a global variable with a value at the start */
  PLACE_BSS,           /* a global variable without one */
  PLACE_TLS,           /* a thread-local variable */
  PLACE_SPECIFIC,      /* pthread_setspecific */
  PLACE_STACK,         /* the stack of a waiting function */
  PLACE_COROUTINE,     /* the stack of a coroutine that is not being run */
  PLACE_ROOTS,         /* memory of malloc that gc_add_roots was told of */
  PLACE_KINDS
};

enum { PLACE_SLOTS = 6, TOKENS = 40, TOKEN_THREADS = 4 };

/* Made and checked without knowing where it is kept. Every token has a companion that it alone points to. */
void *token_new(struct test_random *r, uint64_t id);
void *token_new_sized(size_t size, uint64_t id);

/* The same token with another size, at another address or the same one. */
void *token_resize(void *token, size_t size);

/* The least size of a token. */
enum { TOKEN_SIZE_LEAST = 32 };

/* Aborts unless p points into the whole token `id`; returns its start. */
void *token_check(void *p, uint64_t id, const char *where);

/* The address for p that is kept: its start, or somewhere inside it. */
void *token_pointer(void *token, struct test_random *r);

/* The places of one thread. Before the first use and after the last: */
void places_open(unsigned thread, void **stack_slots);
void places_close(void);

/* Whether the kind can be used in this build. */
bool place_usable(enum place_kind kind);
const char *place_name(enum place_kind kind);

/* Puts p into an empty slot; takes what is there out, and leaves NULL. */
void place_put(enum place_kind kind, unsigned slot, void *p);
void *place_take(enum place_kind kind, unsigned slot);

/* The calling thread's slot itself; NULL if the kind has no address of its own. */
void *volatile *place_slot(enum place_kind kind, unsigned slot);

#endif
