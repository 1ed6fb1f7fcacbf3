/* Tokens.
 *
 * A token's contents follow from its id, so whoever takes one out of its place knows what it has to find there. Nothing
 * but the caller's own variable points to a token while it is moved. Any thread may call these. */
#include "token.h"

enum { PATTERN_MOST = 1024 };

struct token {
  uint64_t id;
  uint64_t size;
  uint64_t *companion;
  unsigned char pattern[];
};

static size_t pattern_size(uint64_t size) {
  size_t room = size - sizeof(struct token);
  return room < PATTERN_MOST ? room : PATTERN_MOST;
}

_Static_assert(TOKEN_SIZE_LEAST == sizeof(struct token) + 8, "room for a word of the pattern");

void *token_new(struct test_random *r, uint64_t id) { return token_new_sized(torture_size(r, TOKEN_SIZE_LEAST), id); }

void *token_new_sized(size_t size, uint64_t id) {
  struct token *t = gc_alloc(size);
  TEST_REQUIRE(t != NULL);
  t->id = id | 1ull << 63;
  t->size = size;
  t->companion = gc_alloc_noscan(sizeof *t->companion);
  TEST_REQUIRE(t->companion != NULL);
  *t->companion = ~t->id;
  test_pattern_write(t->pattern, pattern_size(size), id);
  return t;
}

void *token_resize(void *token, size_t size) {
  struct token *t = gc_realloc(token, size);
  TEST_REQUIRE(t != NULL);
  t->size = size;
  test_pattern_write(t->pattern, pattern_size(size), t->id & ~(1ull << 63));
  return t;
}

void *token_check(void *p, uint64_t id, const char *where) {
  TEST_REQUIRE(p != NULL, "the place (%s) of token %llu is empty", where, (unsigned long long)id);
  struct token *t = gc_base(p);
  TEST_REQUIRE(t != NULL, "lost: token %llu at %p, kept in %s", (unsigned long long)id, p, where);
  TEST_REQUIRE(t->id == (id | 1ull << 63), "lost: %llx at %p where token %llu was, kept in %s",
               (unsigned long long)t->id, p, (unsigned long long)id, where);
  size_t size = pattern_size(t->size);
  TEST_REQUIRE(test_pattern_bad(t->pattern, size, id) == size, "damaged: token %llu at %p, kept in %s",
               (unsigned long long)id, p, where);
  TEST_REQUIRE(gc_base(t->companion) == t->companion && *t->companion == ~t->id,
               "lost: the companion of token %llu at %p, kept in %s", (unsigned long long)id, p, where);
  return t;
}

void *token_pointer(void *token, struct test_random *r) {
  struct token *t = token;
  return test_random_once_in(r, 2) ? t : (void *)((char *)t + test_random_below(r, t->size));
}
