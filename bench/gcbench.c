/* gcbench DEPTH: the load of the benchmark known as GCBench, which most collectors have published figures for.
 *
 * Nodes hold two pointers and two integers. A tree of DEPTH + 2 stretches the heap and is dropped; a tree of DEPTH and
 * an array of 500 000 doubles then live to the end, while trees of every second depth from 4 to DEPTH are built and
 * dropped: from the root down, which stores into nodes that have been there for a while, and from the leaves up, which
 * does not. */
#include "allocator.h"
#include "report.h"

enum { SMALLEST_DEPTH = 4, ARRAY_LENGTH = 500000 };

struct node {
  struct node *left, *right;
  int depth, visits;
};

static uint64_t tree_size(unsigned depth) { return ((uint64_t)2 << depth) - 1; }

static struct node *node_new(unsigned depth, struct node *left, struct node *right) {
  struct node *n = allocate(sizeof *n);
  n->left = left;
  n->right = right;
  n->depth = (int)depth;
  n->visits = 0;
  return n;
}

static void grow_down(struct node *n, unsigned depth) {
  if (depth == 0) return;
  n->left = node_new(depth - 1, NULL, NULL);
  n->right = node_new(depth - 1, NULL, NULL);
  grow_down(n->left, depth - 1);
  grow_down(n->right, depth - 1);
}

static struct node *grow_up(unsigned depth) {
  if (depth == 0) return node_new(0, NULL, NULL);
  struct node *left = grow_up(depth - 1);
  struct node *right = grow_up(depth - 1);
  return node_new(depth, left, right);
}

static void tree_drop(struct node *n) {
  if (!ALLOCATOR_FREES) return;
  if (n->left != NULL) {
    tree_drop(n->left);
    tree_drop(n->right);
  }
  release(n);
}

/* The depth of the leftmost path: cheap, and keeps the compiler from dropping a tree that nothing reads. */
static uint64_t tree_probe(const struct node *n) {
  uint64_t levels = 0;
  for (; n != NULL; n = n->left) levels += (uint64_t)n->depth + 1;
  return levels;
}

static uint64_t build_and_drop(unsigned depth, uint64_t trees) {
  uint64_t checksum = 0;
  for (uint64_t i = 0; i < trees; i++) {
    struct node *tree = node_new(depth, NULL, NULL);
    grow_down(tree, depth);
    checksum = checksum * 31 + tree_probe(tree);
    tree_drop(tree);
  }
  for (uint64_t i = 0; i < trees; i++) {
    struct node *tree = grow_up(depth);
    checksum = checksum * 31 + tree_probe(tree);
    tree_drop(tree);
  }
  return checksum;
}

static uint64_t tree_sum(const struct node *n) {
  return n == NULL ? 0 : (uint64_t)n->depth + 1 + tree_sum(n->left) + tree_sum(n->right);
}

int main(int argc, char **argv) {
  unsigned depth = (unsigned)argument(argc, argv, 1, "depth", 16, SMALLEST_DEPTH, 24);
  allocator_start();
  uint64_t start = now_ns();
  struct node *stretch = grow_up(depth + 2);
  uint64_t checksum = tree_probe(stretch);
  tree_drop(stretch);
  stretch = NULL;

  struct node *kept = node_new(depth, NULL, NULL);
  grow_down(kept, depth);
  double *array = allocate_noscan(ARRAY_LENGTH * sizeof *array);
  for (unsigned i = 0; i < ARRAY_LENGTH; i++) array[i] = 1.0 + i;

  for (unsigned d = SMALLEST_DEPTH; d <= depth; d += 2)
    checksum = checksum * 31 + build_and_drop(d, 2 * tree_size(depth + 2) / tree_size(d));

  checksum = checksum * 31 + tree_sum(kept);
  for (unsigned i = 0; i < ARRAY_LENGTH; i += 1000) checksum = checksum * 31 + (uint64_t)array[i];
  tree_drop(kept);
  release(array);
  report_run(now_ns() - start, checksum);
  return 0;
}
