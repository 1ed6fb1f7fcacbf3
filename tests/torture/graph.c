/* Random graph mutators on 1, 2 and 4 threads.
 *
 * Each thread owns one world at a time and trades it for another thread's through a few shared places, so that what one
 * thread allocated another frees, marks and walks. While it mutates, a world is held by the thread's stack alone; while
 * it waits, by a global variable alone. Garbage, uncollectable objects, explicit gc_free and pointers one past the end
 * are mixed in. */
#include "node.h"

#include <string.h>

enum { PLACES = 3, ANCHORS = 4 };

static struct world *places[PLACES];
static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;

static struct world *trade(struct world *w, struct test_random *r) {
  pthread_mutex_lock(&places_lock);
  struct world **place = &places[test_random_below(r, PLACES)];
  struct world *other = *place;
  *place = w;
  pthread_mutex_unlock(&places_lock);
  return other;
}

/* Objects whose start is kept nowhere, only one past their end. */
static __attribute__((noinline)) void keep_one_past(struct test_random *r) {
  enum { COUNT = 8 };
  char *volatile past[COUNT];
  size_t sizes[COUNT];
  for (unsigned i = 0; i < COUNT; i++) {
    char *p = gc_alloc(torture_size(r, 16));
    TEST_REQUIRE(p != NULL);
    sizes[i] = gc_usable_size(p);
    test_pattern_write(p, sizes[i] < 512 ? sizes[i] : 512, i);
    past[i] = p + sizes[i];
  }
  test_clear_stack();
  gc_collect();
  for (unsigned i = 0; i < COUNT; i++) {
    char *p = past[i] - sizes[i];
    size_t length = sizes[i] < 512 ? sizes[i] : 512;
    TEST_REQUIRE(gc_base(p) == p, "lost: an object of %zu bytes that one past its end is known of", sizes[i]);
    TEST_REQUIRE(test_pattern_bad(p, length, i) == length, "damaged: an object of %zu bytes", sizes[i]);
  }
}

/* An object that is never collected, and the node that it alone points to. */
struct anchor {
  struct edge edge;
  uint64_t mark;
};

static void renew_anchor(uintptr_t *hidden, struct world *w, struct test_random *r) {
  if (*hidden != 0) {
    struct anchor *old = test_reveal(*hidden);
    TEST_REQUIRE(gc_base(old) == old && old->mark == *hidden, "lost: an uncollectable object at %p", (void *)old);
    if (old->edge.into != NULL) edge_check(&old->edge);
    gc_free(old);
    *hidden = 0;
  }
  if (w == NULL) return;
  struct anchor *a = gc_alloc_uncollectable(sizeof *a + test_random_below(r, 500));
  TEST_REQUIRE(a != NULL);
  *hidden = test_hide(a);
  a->mark = *hidden;
  edge_set(&a->edge, node_new(w, r), r);
}

static void make_garbage(struct test_random *r) {
  size_t size = torture_size(r, 1);
  unsigned char *p = test_random_once_in(r, 2) ? gc_alloc(size) : gc_alloc_noscan(size);
  TEST_REQUIRE(p != NULL);
  TEST_REQUIRE(p[0] == 0 && p[size / 2] == 0 && p[size - 1] == 0, "a new object of %zu bytes is not zeroed", size);
  memset(p, 0xa5, size < 4096 ? size : 4096);
  if (test_random_once_in(r, 8)) gc_free(p);
}

static void mutate(struct world *w, struct test_random *r) {
  switch (test_random_below(r, 8)) {
  case 0:
  case 1:
  case 2:
    edge_set(&w->root[test_random_below(r, WORLD_ROOTS)], node_new(w, r), r);
    break;
  case 3: {
    struct node *n = world_pick(w, r);
    if (n != NULL && n->edges > 0) edge_set(&n->edge[test_random_below(r, n->edges)], world_pick(w, r), r);
    break;
  }
  case 4: {
    struct node *n = world_pick(w, r);
    if (n != NULL && n->edges > 0) edge_set(&n->edge[test_random_below(r, n->edges)], node_new(w, r), r);
    break;
  }
  case 5:
    edge_set(&w->root[test_random_below(r, WORLD_ROOTS)], world_pick(w, r), r);
    break;
  default:
    make_garbage(r);
  }
}

static void mutator(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  struct world *w = world_new(worker->index);
  uintptr_t anchors[ANCHORS] = {0};
  unsigned number = worker->index;
  do {
    for (unsigned i = 0; i < 300; i++) mutate(w, r);
    world_walk(w, r, false);
    renew_anchor(&anchors[test_random_below(r, ANCHORS)], w, r);
    w = trade(w, r);
    if (w == NULL) w = world_new(number += worker->threads);
    if (test_random_once_in(r, 8)) keep_one_past(r);
    if (test_random_once_in(r, 8)) torture_check_metrics();
  } while (torture_continues(worker));
  for (unsigned i = 0; i < ANCHORS; i++) renew_anchor(&anchors[i], NULL, r);
  world_walk(w, r, true);
}

static const unsigned thread_counts[] = {1, 2, 4};

START_TEST(graph_survives) {
  struct torture_heap base = torture_heap_now();
  torture_run(thread_counts[_i], 1.0 / 3, mutator, NULL);
  struct test_random r = test_random_stream(1000);
  for (unsigned i = 0; i < PLACES; i++)
    if (places[i] != NULL) {
      world_walk(places[i], &r, true);
      places[i] = NULL;
    }
  torture_heap_check(&base, 1000, 4 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("graph");
  TCase *tc = test_case(suite, "mutators", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, graph_survives, 0, sizeof thread_counts / sizeof *thread_counts);
  return suite;
}

TEST_MAIN(make_suite)
