/* Nodes of random graphs: collected objects of every kind and size that know what they and their neighbours are. */
#ifndef GCRT_TESTS_NODE_H
#define GCRT_TESTS_NODE_H

#include "torture.h"

enum { NODE_EDGES = 6, WORLD_ROOTS = 24 };

enum node_kind { NODE_SCAN, NODE_ARRAY, NODE_ALIGNED, NODE_NOSCAN, NODE_KINDS };

struct node;

/* Points anywhere into a node, and says which node that is. */
struct edge {
  void *into;
  uint64_t id;
};

/* What the pattern after it cannot hold. sum covers what never changes. */
struct node {
  uint64_t id; /* the top bit is set: no address */
  uint64_t sum;
  uint32_t size;
  uint32_t kind;
  uint32_t edges; /* 0 in noscan nodes */
  uint32_t seen;  /* the walk that last came here */
  char *label;    /* in an object of its own, or NULL */
  struct edge edge[];
};

/* A graph that one thread uses at a time; a collected object itself. */
struct world {
  struct edge root[WORLD_ROOTS];
  uint64_t next_id;
  uint32_t walk;
  uint32_t nodes; /* of the last walk */
  uint64_t bytes; /* of the last walk */
};

struct world *world_new(unsigned number);

/* A new node, checked for being zeroed, with edges to random nodes of the world. */
struct node *node_new(struct world *w, struct test_random *r);

/* Aborts unless the edge leads to the node that it should, and that is whole. Returns the node. */
struct node *edge_check(const struct edge *e);

/* Makes the edge point somewhere into n; with n NULL, nowhere. */
void edge_set(struct edge *e, struct node *n, struct test_random *r);

/* A random node that is reached from a root within some steps, or NULL. */
struct node *world_pick(struct world *w, struct test_random *r);

/* Visits and checks every node. Cuts edges at random where the world has grown over its bounds; cuts all of them, and
 * the roots, if `all`. */
void world_walk(struct world *w, struct test_random *r, bool all);

#endif
