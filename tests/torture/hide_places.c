/* The ballast of hide.c and the places in it.
 *
 * The ballast is a binary tree that makes a marking last: whatever it is that holds a pointer, some of the holders were
 * scanned and some were not. Its nodes are found by number, through a table of hidden addresses in memory of malloc.
 * Children of two nodes of the same depth may be exchanged: it stays a tree, and a large part of it hangs on a register
 * meanwhile. Each thread uses places and ballast of its own. */
#include "hide_places.h"
#include "module.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE_OBJECTS = 4, LARGE_SLOTS = 16, FRESH_OBJECTS = 8, FRESH_SLOTS = 4 };

struct node {
  struct node *child[2];
  void *slot[2];
  uint64_t check;
  uint64_t pad[];
};

struct hide_places {
  unsigned thread;
  struct node *top;
  uintptr_t *nodes; /* hidden */
  size_t count;
  size_t in_node[HIDE_SLOTS / 2]; /* numbers of nodes, all different */
  uintptr_t large[LARGE_OBJECTS]; /* hidden; held by `held` */
  size_t large_size[LARGE_OBJECTS];
  uintptr_t fresh[FRESH_OBJECTS];
  uintptr_t uncollectable[FRESH_OBJECTS];
  void **held; /* an uncollectable object: large ones, then fresh ones */
  void *volatile *frames[HIDE_FRAMES];
  unsigned depth;
  void *module;
  module_slots_fn *module_slots;
};

static const char *const names[] = {
    [HIDE_NODE - PLACE_KINDS] = "a small object",
    [HIDE_LARGE - PLACE_KINDS] = "a large object",
    [HIDE_FRESH - PLACE_KINDS] = "a new object",
    [HIDE_FRESH_UNCOLLECTABLE - PLACE_KINDS] = "a new uncollectable object",
    [HIDE_MODULE_DATA - PLACE_KINDS] = "a module's .data",
    [HIDE_MODULE_BSS - PLACE_KINDS] = "a module's .bss",
    [HIDE_MODULE_TLS_DATA - PLACE_KINDS] = "a module's thread-local .tdata",
    [HIDE_MODULE_TLS_BSS - PLACE_KINDS] = "a module's thread-local .tbss",
    [HIDE_FRAME - PLACE_KINDS] = "a frame of the stack",
};

const char *hide_name(unsigned kind) {
  return kind < PLACE_KINDS ? place_name((enum place_kind)kind) : names[kind - PLACE_KINDS];
}

static struct node *node_at(const struct hide_places *p, size_t i) { return test_reveal(p->nodes[i]); }

static uint64_t node_check(size_t i) { return ~(uint64_t)i * 3; }

/* The numbers of the nodes are those of a binary heap: node i has the children 2i + 1 and 2i + 2. */
static void make_ballast(struct hide_places *p, size_t bytes, struct test_random *r) {
  enum { MEAN = 128 };
  p->count = bytes / MEAN + HIDE_SLOTS;
  p->nodes = calloc(p->count, sizeof *p->nodes);
  TEST_REQUIRE(p->nodes != NULL);
  for (size_t i = 0; i < p->count; i++) {
    struct node *node = gc_alloc(sizeof *node + test_random_below(r, 2 * (MEAN - sizeof *node)));
    TEST_REQUIRE(node != NULL);
    node->check = node_check(i);
    if (i > 0) {
      node_at(p, (i - 1) / 2)->child[(i - 1) % 2] = node;
    } else {
      p->top = node;
    }
    p->nodes[i] = test_hide(node);
  }
  for (unsigned i = 0; i < HIDE_SLOTS / 2; i++) p->in_node[i] = p->count / (HIDE_SLOTS / 2) * i;
}

void hide_swap_ballast(struct hide_places *p, struct test_random *r) {
  size_t i = 1 + test_random_below(r, p->count / 2 - 1);
  size_t first = 1;
  while (2 * first + 1 <= i) first = 2 * first + 1; /* the first of that depth */
  size_t last = 2 * first < p->count / 2 - 1 ? 2 * first : p->count / 2 - 1;
  struct node *volatile *a = &node_at(p, i)->child[test_random_below(r, 2)];
  struct node *volatile *b =
      &node_at(p, first + test_random_below(r, last - first + 1))->child[test_random_below(r, 2)];
  struct node *of_a = *a, *of_b = *b;
  *a = NULL;
  *b = of_a;
  if (a != b) *a = of_b;
}

void hide_check_ballast(struct hide_places *p) {
  size_t seen = 0, below = 1;
  struct node **stack = calloc(p->count, sizeof *stack);
  TEST_REQUIRE(stack != NULL);
  uint64_t sum = 0, wanted = 0;
  stack[0] = p->top;
  while (below > 0) {
    struct node *node = stack[--below];
    TEST_REQUIRE(gc_base(node) == node, "lost: a node of the ballast at %p", (void *)node);
    TEST_REQUIRE(seen < p->count, "the ballast has more nodes than it had");
    sum += node->check;
    wanted += node_check(seen++);
    for (unsigned i = 0; i < 2; i++)
      if (node->child[i] != NULL) stack[below++] = node->child[i];
  }
  TEST_REQUIRE(seen == p->count && sum == wanted, "the ballast has %zu nodes of %zu, with the sum %llx", seen, p->count,
               (unsigned long long)sum);
  free(stack);
}

void hide_other_node(struct hide_places *p, unsigned slot, struct test_random *r) {
  size_t share = p->count / (HIDE_SLOTS / 2);
  p->in_node[slot / 2] = share * (slot / 2) + test_random_below(r, share);
}

static size_t large_size(struct test_random *r) { return (40 << 10) + test_random_below(r, 400 << 10); }

static void *volatile *large_slot(struct hide_places *p, unsigned slot) {
  unsigned object = slot / LARGE_SLOTS, pair = slot % LARGE_SLOTS / 2;
  size_t words = p->large_size[object] / sizeof(void *);
  return (void **)test_reveal(p->large[object]) + words / (LARGE_SLOTS / 2) * pair + slot % 2;
}

static void hold(struct hide_places *p, unsigned at, void *object) { *(void *volatile *)&p->held[at] = object; }

/* Either in another size by gc_realloc, or in the same size by a copy. */
static __attribute__((noinline)) void *again(void *old, size_t size, bool resize, void *(*allocate)(size_t)) {
  void *made = resize ? gc_realloc(old, size) : allocate(size);
  TEST_REQUIRE(made != NULL);
  if (!resize) {
    memcpy(made, old, size);
    gc_free(old);
  }
  return made;
}

void hide_renew(struct hide_places *p, struct test_random *r) {
  unsigned i = (unsigned)test_random_below(r, FRESH_OBJECTS);
  unsigned large = (unsigned)test_random_below(r, LARGE_OBJECTS);
  size_t size = sizeof(void *) * FRESH_SLOTS;
  bool resize = test_random_once_in(r, 2);
  if (resize) size += test_random_below(r, 500);
  switch (test_random_below(r, 16)) {
  case 0: { /* slots depend on the size, which stays */
    void *made = again(test_reveal(p->large[large]), p->large_size[large], false, gc_alloc);
    p->large[large] = test_hide(made);
    hold(p, large, made);
    break;
  }
  case 1:
  case 2:
  case 3:
  case 4:
  case 5: {
    void *made = again(test_reveal(p->fresh[i]), size, resize, gc_alloc);
    p->fresh[i] = test_hide(made);
    hold(p, LARGE_OBJECTS + i, made);
    break;
  }
  default:
    p->uncollectable[i] = test_hide(again(test_reveal(p->uncollectable[i]), size, resize, gc_alloc_uncollectable));
  }
}

static void make_objects(struct hide_places *p, struct test_random *r) {
  p->held = gc_alloc_uncollectable((LARGE_OBJECTS + FRESH_OBJECTS) * sizeof(void *));
  TEST_REQUIRE(p->held != NULL);
  for (unsigned i = 0; i < LARGE_OBJECTS + FRESH_OBJECTS; i++) {
    size_t size = i < LARGE_OBJECTS ? large_size(r) : sizeof(void *) * FRESH_SLOTS;
    hold(p, i, gc_alloc(size));
    TEST_REQUIRE(p->held[i] != NULL);
    if (i < LARGE_OBJECTS) {
      p->large[i] = test_hide(p->held[i]);
      p->large_size[i] = size;
      continue;
    }
    p->fresh[i - LARGE_OBJECTS] = test_hide(p->held[i]);
    void *uncollectable = gc_alloc_uncollectable(size);
    TEST_REQUIRE(uncollectable != NULL);
    p->uncollectable[i - LARGE_OBJECTS] = test_hide(uncollectable);
  }
}

static void load_module(struct hide_places *p) {
  char name[] = "TORTURE_MODULE_0";
  name[sizeof name - 2] = (char)('0' + p->thread % 2);
  const char *path = getenv(name);
  TEST_REQUIRE(path != NULL, "%s is not set: it is the path of the module", name);
  p->module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  TEST_REQUIRE(p->module != NULL, "%s", dlerror());
  *(void **)&p->module_slots = dlsym(p->module, TORTURE_MODULE_SYMBOL);
  TEST_REQUIRE(p->module_slots != NULL, "%s", dlerror());
}

struct hide_places *hide_open(unsigned thread, size_t ballast_bytes, void **stack_slots, struct test_random *r) {
  /* The collector reads it: `top` and `held` are what keeps all the rest. */
  struct hide_places *p = gc_alloc_uncollectable(sizeof *p);
  TEST_REQUIRE(p != NULL);
  p->thread = thread;
  places_open(thread, stack_slots);
  load_module(p);
  make_ballast(p, ballast_bytes, r);
  make_objects(p, r);
  return p;
}

void hide_close(struct hide_places *p) {
  places_close();
  for (unsigned i = 0; i < FRESH_OBJECTS; i++) gc_free(test_reveal(p->uncollectable[i]));
  gc_free(p->held);
  free(p->nodes);
  dlclose(p->module);
  /* A stale word may name one node: it shall not keep the others. */
  gc_free(p);
}

void hide_enter(struct hide_places *p, void *volatile *slots) { p->frames[p->depth++] = slots; }
void hide_leave(struct hide_places *p) { p->depth--; }

unsigned hide_slot_count(const struct hide_places *p, unsigned kind) {
  if (kind < PLACE_KINDS) return place_usable((enum place_kind)kind) ? PLACE_SLOTS : 0;
  if (kind == HIDE_NODE) return HIDE_SLOTS;
  if (kind == HIDE_LARGE) return LARGE_OBJECTS * LARGE_SLOTS;
  if (kind == HIDE_FRESH || kind == HIDE_FRESH_UNCOLLECTABLE) return FRESH_OBJECTS * FRESH_SLOTS;
  if (kind == HIDE_FRAME) return p->depth * HIDE_FRAME_SLOTS;
  return MODULE_SLOTS / 2;
}

void *volatile *hide_slot(struct hide_places *p, unsigned kind, unsigned slot) {
  if (kind < PLACE_KINDS) return place_slot((enum place_kind)kind, slot);
  switch (kind) {
  case HIDE_NODE:
    return &node_at(p, p->in_node[slot / 2])->slot[slot % 2];
  case HIDE_LARGE:
    return large_slot(p, slot);
  case HIDE_FRESH:
    return (void **)test_reveal(p->fresh[slot / FRESH_SLOTS]) + slot % FRESH_SLOTS;
  case HIDE_FRESH_UNCOLLECTABLE:
    return (void **)test_reveal(p->uncollectable[slot / FRESH_SLOTS]) + slot % FRESH_SLOTS;
  case HIDE_FRAME:
    return p->frames[slot / HIDE_FRAME_SLOTS] + slot % HIDE_FRAME_SLOTS;
  default:
    /* Two threads may share a module's static variables. */
    return p->module_slots((enum module_kind)(kind - HIDE_MODULE_DATA)) + p->thread / 2 * (MODULE_SLOTS / 2) + slot;
  }
}
