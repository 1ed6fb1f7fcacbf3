/* Nodes of random graphs.
 *
 * An edge is an interior pointer with the id of the node it should lead to: after every step gc_base must find the
 * node, and its id, checksum, pattern and label must be those written when it was made. An object that was reclaimed
 * shows at once: gc_base knows it no longer, or another object with another id stands there. A world is used by one
 * thread at a time, so nothing here locks. The walk keeps its stack in memory of malloc, which is no root: all that is
 * on it is reachable from the world as well. */
#include "node.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_NODES = 2500, MOST_BYTES = 8 << 20, BLOCK = 256 };

static uint64_t node_sum(const struct node *n) {
  uint64_t facts[3] = {n->id, (uint64_t)n->size << 32 | n->kind, n->edges};
  return test_checksum(facts, sizeof facts, (uintptr_t)n->label);
}

static unsigned char *node_pattern(const struct node *n) {
  return (unsigned char *)n + sizeof *n + n->edges * sizeof(struct edge);
}

static size_t node_pattern_size(const struct node *n) { return n->size - sizeof *n - n->edges * sizeof(struct edge); }

static void *allocate(enum node_kind kind, size_t size, struct test_random *r) {
  switch (kind) {
  case NODE_ARRAY:
    return gc_alloc_array((size + 7) / 8, 8);
  case NODE_ALIGNED: {
    size_t alignment = (size_t)8 << test_random_below(r, 11);
    void *p = gc_alloc_aligned(alignment, size);
    TEST_REQUIRE((uintptr_t)p % alignment == 0, "%p is not aligned to %zu", p, alignment);
    return p;
  }
  case NODE_NOSCAN:
    return gc_alloc_noscan(size);
  default:
    return gc_alloc(size);
  }
}

static void check_zeroed(const unsigned char *bytes, size_t size, enum node_kind kind) {
  for (size_t i = 0; i < size; i++)
    TEST_REQUIRE(bytes[i] == 0, "byte %zu of %zu of a new object of kind %d is %#x", i, size, (int)kind, bytes[i]);
}

static void write_pattern(struct node *n) {
  unsigned char *pattern = node_pattern(n);
  size_t size = node_pattern_size(n);
  for (size_t at = 0; at < size; at += BLOCK)
    test_pattern_write(pattern + at, size - at < BLOCK ? size - at : BLOCK, n->id + at);
}

struct node *node_new(struct world *w, struct test_random *r) {
  enum node_kind kind = (enum node_kind)test_random_below(r, NODE_KINDS);
  uint32_t edges = kind == NODE_NOSCAN ? 0 : (uint32_t)test_random_below(r, NODE_EDGES + 1);
  size_t size = torture_size(r, sizeof(struct node) + edges * sizeof(struct edge));
  struct node *n = allocate(kind, size, r);
  TEST_REQUIRE(n != NULL, "%zu bytes", size);
  TEST_REQUIRE(gc_usable_size(n) >= size && gc_base((char *)n + size - 1) == n);
  check_zeroed((unsigned char *)n, size, kind);
  n->id = w->next_id++;
  n->size = (uint32_t)size;
  n->kind = kind;
  n->edges = edges;
  if (kind != NODE_NOSCAN && test_random_once_in(r, 4)) {
    n->label = gc_asprintf("node %llx", (unsigned long long)n->id);
    TEST_REQUIRE(n->label != NULL);
  }
  n->sum = node_sum(n);
  write_pattern(n);
  for (uint32_t i = 0; i < edges; i++) edge_set(&n->edge[i], world_pick(w, r), r);
  return n;
}

struct node *edge_check(const struct edge *e) {
  struct node *n = gc_base(e->into);
  TEST_REQUIRE(n != NULL, "lost: nothing is at %p, where node %llx was", e->into, (unsigned long long)e->id);
  TEST_REQUIRE(n->id == e->id, "lost: %llx is at %p, where node %llx was", (unsigned long long)n->id, (void *)n,
               (unsigned long long)e->id);
  TEST_REQUIRE(n->sum == node_sum(n), "damaged: node %llx at %p", (unsigned long long)n->id, (void *)n);
  return n;
}

void edge_set(struct edge *e, struct node *n, struct test_random *r) {
  e->id = n == NULL ? 0 : n->id;
  e->into = n == NULL ? NULL : (char *)n + test_random_below(r, n->size);
}

/* The contents after the head: some blocks of a large node, all of a small one. */
static void check_pattern(const struct node *n, struct test_random *r) {
  const unsigned char *pattern = node_pattern(n);
  size_t size = node_pattern_size(n);
  size_t blocks = (size + BLOCK - 1) / BLOCK;
  bool some = blocks > 8;
  for (size_t i = 0; i < (some ? 8 : blocks); i++) {
    size_t at = BLOCK * (some ? test_random_below(r, blocks) : i);
    size_t length = size - at < BLOCK ? size - at : BLOCK;
    size_t bad = test_pattern_bad(pattern + at, length, n->id + at);
    TEST_REQUIRE(bad == length, "damaged: byte %zu of node %llx at %p, %u bytes, kind %u",
                 (size_t)(pattern - (const unsigned char *)n) + at + bad, (unsigned long long)n->id, (const void *)n,
                 n->size, n->kind);
  }
}

static void check_label(const struct node *n) {
  if (n->label == NULL) return;
  char expected[64];
  snprintf(expected, sizeof expected, "node %llx", (unsigned long long)n->id);
  TEST_REQUIRE(gc_base(n->label) == n->label && strcmp(n->label, expected) == 0, "lost: the label of node %llx at %p",
               (unsigned long long)n->id, (const void *)n);
}

struct world *world_new(unsigned number) {
  struct world *w = gc_alloc(sizeof *w);
  TEST_REQUIRE(w != NULL);
  w->next_id = 1ull << 63 | (uint64_t)(number + 1) << 40;
  return w;
}

struct node *world_pick(struct world *w, struct test_random *r) {
  const struct edge *at = &w->root[test_random_below(r, WORLD_ROOTS)];
  struct node *n = NULL;
  for (uint64_t steps = test_random_below(r, 12); at->into != NULL; steps--) {
    n = edge_check(at);
    if (steps == 0 || n->edges == 0) break;
    at = &n->edge[test_random_below(r, n->edges)];
  }
  return n;
}

struct walk {
  struct node **stack;
  size_t count;
  size_t capacity;
};

static void visit(struct world *w, struct walk *walk, const struct edge *e) {
  if (e->into == NULL) return;
  struct node *n = edge_check(e);
  if (n->seen == w->walk) return;
  n->seen = w->walk;
  w->nodes++;
  w->bytes += n->size;
  if (walk->count == walk->capacity) {
    walk->capacity = walk->capacity * 2 + 256;
    walk->stack = realloc(walk->stack, walk->capacity * sizeof *walk->stack);
    TEST_REQUIRE(walk->stack != NULL);
  }
  walk->stack[walk->count++] = n;
}

/* Each cut may make other nodes of the list unreachable, and another thread may collect at any time: the list itself
 * has to hold them, so it is a collected object. */
static void cut(struct world *w, struct node **nodes, size_t count, struct test_random *r, bool all) {
  for (size_t i = 0; i < count; i++)
    for (uint32_t j = 0; j < nodes[i]->edges; j++)
      if (all || test_random_once_in(r, 2)) edge_set(&nodes[i]->edge[j], NULL, r);
  for (size_t i = 0; i < WORLD_ROOTS; i++)
    if (all || test_random_once_in(r, 2)) edge_set(&w->root[i], NULL, r);
}

void world_walk(struct world *w, struct test_random *r, bool all) {
  struct walk walk = {0};
  w->walk++;
  w->nodes = 0;
  w->bytes = 0;
  for (size_t i = 0; i < WORLD_ROOTS; i++) visit(w, &walk, &w->root[i]);
  for (size_t done = 0; done < walk.count; done++) {
    struct node *n = walk.stack[done];
    check_pattern(n, r);
    check_label(n);
    for (uint32_t i = 0; i < n->edges; i++) visit(w, &walk, &n->edge[i]);
  }
  if (all || w->nodes > MOST_NODES || w->bytes > MOST_BYTES) {
    size_t bytes = walk.count * sizeof *walk.stack + 1;
    struct node **held = gc_alloc(bytes);
    TEST_REQUIRE(held != NULL);
    if (walk.count > 0) memcpy(held, walk.stack, walk.count * sizeof *held);
    cut(w, held, walk.count, r, all);
    gc_free(held);
  }
  free(walk.stack);
}
