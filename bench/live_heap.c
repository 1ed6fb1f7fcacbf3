/* live_heap SHAPE MIB: what a full collection of a large live heap costs. Collectors only.
 *
 * Builds MIB of 64-byte nodes, then times five full collections. Shapes:
 *   list   one list in the order of allocation: addresses ascend, but each is known only when the one before was read
 *   tree   a balanced binary tree, each node allocated before its left and its left before its right subtree
 *   graph  two pointers in every node: one to its successor in a cycle through all nodes in random order, so that all
 *          are live, and one to a uniformly random node. There is no order that a cache could use
 * The nodes are read afterwards, so a collector that loses one is found out by the checksum. */
#include "allocator.h"
#include "report.h"

enum { EDGES = 7, GRAPH_EDGES = 2, TIMED_COLLECTIONS = 5, STEPS_OF_WALK = 1000000 };

struct node {
  struct node *edge[EDGES];
  uint64_t value;
};

_Static_assert(sizeof(struct node) == 64, "the figures are of 64-byte nodes");

/* A global variable, so that what the collectors find does not depend on which register the compiler chose. */
static struct node *root;

static struct node *node_new(uint64_t value) {
  struct node *n = allocate(sizeof *n);
  n->value = value;
  return n;
}

static void build_list(uint64_t nodes) {
  struct node *last = root = node_new(0);
  for (uint64_t i = 1; i < nodes; i++) last = last->edge[0] = node_new(i);
}

static uint64_t read_list(uint64_t nodes) {
  uint64_t sum = 0, count = 0;
  for (const struct node *n = root; n != NULL; n = n->edge[0], count++) sum += n->value * 31 + count;
  return count == nodes ? sum : 0;
}

static struct node *subtree_new(uint64_t nodes, uint64_t *serial) {
  if (nodes == 0) return NULL;
  struct node *n = node_new((*serial)++);
  n->edge[0] = subtree_new((nodes - 1) / 2, serial);
  n->edge[1] = subtree_new(nodes - 1 - (nodes - 1) / 2, serial);
  return n;
}

static void build_tree(uint64_t nodes) {
  uint64_t serial = 0;
  root = subtree_new(nodes, &serial);
}

static uint64_t subtree_sum(const struct node *n) {
  return n == NULL ? 0 : n->value * 31 + 1 + subtree_sum(n->edge[0]) + subtree_sum(n->edge[1]);
}

static uint64_t read_tree(uint64_t nodes) { return subtree_sum(root) + nodes; }

/* The nodes are first a list, which keeps them alive: the table that finds them by number is memory from libc, where no
 * collector looks. Nothing is allocated while the edges take the list's place. */
static void build_graph(uint64_t nodes) {
  struct node **table = malloc(nodes * sizeof *table);
  if (table == NULL) {
    fprintf(stderr, "live_heap: no memory for the table of nodes\n");
    exit(1);
  }
  for (uint64_t i = 0; i < nodes; i++) {
    struct node *n = node_new(i);
    n->edge[0] = root;
    root = table[i] = n;
  }
  uint64_t state = 88172645463325252u;
  for (uint64_t i = nodes - 1; i > 0; i--) {
    uint64_t j = random_below(&state, (uint32_t)i + 1);
    struct node *n = table[i];
    table[i] = table[j];
    table[j] = n;
  }
  for (uint64_t i = 0; i < nodes; i++) {
    table[i]->edge[0] = table[(i + 1) % nodes];
    table[i]->edge[1] = table[random_below(&state, (uint32_t)nodes)];
  }
  root = table[0];
  free(table);
}

static uint64_t read_graph(uint64_t nodes) {
  uint64_t state = 2463534242u, sum = nodes;
  const struct node *n = root;
  for (unsigned i = 0; i < STEPS_OF_WALK; i++) {
    sum = sum * 31 + n->value;
    n = n->edge[random_below(&state, GRAPH_EDGES)];
  }
  return sum;
}

static const struct shape {
  const char *name;
  void (*build)(uint64_t nodes);
  uint64_t (*read)(uint64_t nodes);
} shapes[] = {
    {"list", build_list, read_list},
    {"tree", build_tree, read_tree},
    {"graph", build_graph, read_graph},
};

static const struct shape *shape_named(const char *name) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
  fprintf(stderr, "live_heap: shape=%s: expected list, tree or graph\n", name);
  exit(2);
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  const struct shape *shape = shape_named(argc > 1 ? argv[1] : "list");
  uint64_t nodes = argument(argc, argv, 2, "MiB", 1024, 1, 65536) * ((1 << 20) / sizeof(struct node));
  allocator_start();
  uint64_t start = now_ns();
  shape->build(nodes);
  uint64_t built = now_ns();
  uint64_t collections_of_build = collections();

  uint64_t times[TIMED_COLLECTIONS];
  for (int i = 0; i < TIMED_COLLECTIONS; i++) {
    uint64_t before = now_ns();
    collect();
    times[i] = now_ns() - before;
  }
  qsort(times, TIMED_COLLECTIONS, sizeof *times, compare);

  report_number("build_ns", built - start);
  report_number("build_collections", collections_of_build);
  report_number("collect_ns", times[TIMED_COLLECTIONS / 2]);
  report_number("collect_min_ns", times[0]);
  report_number("collect_max_ns", times[TIMED_COLLECTIONS - 1]);
  report_run(now_ns() - start, shape->read(nodes));
  return 0;
}
