/* The places of hide.c: those of token.h, and more in the heap, in a module and on the stack. */
#ifndef GCRT_TESTS_HIDE_PLACES_H
#define GCRT_TESTS_HIDE_PLACES_H

#include "token.h"

/* After the kinds of enum place_kind. */
enum hide_kind {
  HIDE_NODE = PLACE_KINDS,  /* a node of the ballast */
  HIDE_LARGE,               /* somewhere in a large object */
  HIDE_FRESH,               /* an object that is made anew, resized and copied again and again */
  HIDE_FRESH_UNCOLLECTABLE, /* the same, uncollectable, and held by nothing */
  HIDE_MODULE_DATA,         /* of a library that was loaded by dlopen: .data */
  HIDE_MODULE_BSS,
  HIDE_MODULE_TLS_DATA,
  HIDE_MODULE_TLS_BSS,
  HIDE_FRAME, /* the stack, at any depth */
  HIDE_KINDS
};

enum { HIDE_SLOTS = 128, HIDE_FRAMES = 24, HIDE_FRAME_SLOTS = 4 };

/* The ballast and the places of one thread. The structure is known to its thread alone and holds no plain address of a
 * collected object, but for `top`. */
struct hide_places;

struct hide_places *hide_open(unsigned thread, size_t ballast_bytes, void **stack_slots, struct test_random *r);
void hide_close(struct hide_places *places);

unsigned hide_slot_count(const struct hide_places *places, unsigned kind);
/* NULL: the kind has no address; place_put and place_take do for it. Slots 2n and 2n+1 are adjacent. */
void *volatile *hide_slot(struct hide_places *places, unsigned kind, unsigned slot);
const char *hide_name(unsigned kind);

/* A frame of a function that is running, and the end of it. */
void hide_enter(struct hide_places *places, void *volatile *slots);
void hide_leave(struct hide_places *places);

/* Lets an empty pair of slots in a node be in another one. */
void hide_other_node(struct hide_places *places, unsigned slot, struct test_random *r);

/* Makes a large, fresh or fresh uncollectable object anew with all that it holds. */
void hide_renew(struct hide_places *places, struct test_random *r);

/* Exchanges two parts of the ballast. */
void hide_swap_ballast(struct hide_places *places, struct test_random *r);

/* Aborts unless every node is there, and whole. */
void hide_check_ballast(struct hide_places *places);

#endif
