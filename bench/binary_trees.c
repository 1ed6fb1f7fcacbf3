/* binary_trees DEPTH: complete binary trees of 16-byte nodes, built and dropped, next to one that stays.
 *
 * First a tree of DEPTH + 1 that is dropped at once, then one of DEPTH that lives to the end, then for every second
 * depth from 4 on so many short-lived trees that each depth allocates about the same. It measures allocation of the
 * smallest objects, marking of a few MiB of them, and, for malloc, freeing them one by one. */
#include "allocator.h"
#include "report.h"

enum { SMALLEST_DEPTH = 4 };

struct node {
  struct node *left, *right;
};

static struct node *tree_new(unsigned depth) {
  struct node *n = allocate(sizeof *n);
  n->left = depth == 0 ? NULL : tree_new(depth - 1);
  n->right = depth == 0 ? NULL : tree_new(depth - 1);
  return n;
}

static uint64_t tree_count(const struct node *n) {
  return n->left == NULL ? 1 : 1 + tree_count(n->left) + tree_count(n->right);
}

static void tree_drop(struct node *n) {
  if (!ALLOCATOR_FREES) return;
  if (n->left != NULL) {
    tree_drop(n->left);
    tree_drop(n->right);
  }
  release(n);
}

static uint64_t build_count_drop(unsigned depth) {
  struct node *tree = tree_new(depth);
  uint64_t count = tree_count(tree);
  tree_drop(tree);
  return count;
}

int main(int argc, char **argv) {
  unsigned depth = (unsigned)argument(argc, argv, 1, "depth", 18, SMALLEST_DEPTH, 26);
  allocator_start();
  uint64_t start = now_ns();
  uint64_t checksum = build_count_drop(depth + 1);
  struct node *kept = tree_new(depth);
  for (unsigned d = SMALLEST_DEPTH; d <= depth; d += 2) {
    uint64_t trees = (uint64_t)1 << (depth - d + SMALLEST_DEPTH);
    for (uint64_t i = 0; i < trees; i++) checksum = checksum * 31 + build_count_drop(d);
  }
  checksum = checksum * 31 + tree_count(kept);
  tree_drop(kept);
  report_run(now_ns() - start, checksum);
  return 0;
}
