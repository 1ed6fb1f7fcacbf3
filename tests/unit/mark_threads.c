/* Marking by a team over a random graph: what is marked is exactly what is reachable, and the sweep leaves exactly
 * that, to the byte. The graph knows its edges by itself, so it says what is reachable without reading any object.
 *
 * Objects are made by several threads at once, each with a cache of its own, as in a program; then those threads have
 * ended, which is what a stop is to the heap. Unused cells of their windows stay. */
#include "heap_fixture.h"
#include "threads_fixture.h"

#include "mark/mark.h"

#include <stdlib.h>

enum {
  NODES = 24000,
  EDGES = 24,           /* of one node, at most */
  WIDE = 4000,          /* children of the wide node alone, more than one block holds */
  ROUNDS = 3,           /* collections of one graph; white and black change places */
  ROOT_WORDS = 1 << 16, /* more than one slice */
  STACK_WORDS = 512,
};

struct node {
  uintptr_t start; /* 0: swept */
  size_t size, cell;
  enum gcrt_kind kind;
  unsigned edges;
  unsigned to[EDGES];
  bool reachable;
};
static struct node nodes[NODES + WIDE + 1];
static struct node *const wide = &nodes[NODES + WIDE];

static uintptr_t globals[ROOT_WORDS], stack[STACK_WORDS];
static const struct gcrt_root roots[] = {
    {{(uintptr_t)globals, (uintptr_t)(globals + ROOT_WORDS)}, GCRT_ROOT_GLOBAL},
    {{(uintptr_t)stack, (uintptr_t)(stack + STACK_WORDS)}, GCRT_ROOT_STACK},
};
static unsigned queue[NODES + WIDE + 1];

/* A thread that makes its share of the objects. */
struct builder {
  unsigned number;
  struct test_random random;
  struct gcrt_cache *cache;
};
static struct builder builders[THREADS];

static size_t choose_size(struct test_random *r) {
  if (test_random_once_in(r, 400)) return 33000 + test_random_below(r, 400000);
  if (test_random_once_in(r, 20)) return 600 + test_random_below(r, 8000);
  /* One in four fills its cell, so that a pointer one past its end counts. */
  size_t size = 16 + test_random_below(r, 300);
  return test_random_once_in(r, 4) ? gcrt_class_size[gcrt_class_of((unsigned)size)] : size;
}

static void make_node(struct builder *b, struct node *node, size_t size, enum gcrt_kind kind) {
  *node = (struct node){.size = size, .kind = kind};
  if (size > GCRT_SMALL_MAX) {
    struct gcrt_span *span = gcrt_span_large(size, 16, kind);
    TEST_REQUIRE(span != NULL);
    node->start = gcrt_span_start(span);
  } else {
    node->start = (uintptr_t)take_cell(b->cache, gcrt_slot_for(size, kind));
  }
  struct gcrt_place place;
  TEST_REQUIRE(node->start && reads_zero((void *)node->start, size) && gcrt_find(node->start, &place));
  node->cell = gcrt_place_size(&place);
}

static void *build(void *argument) {
  struct builder *b = argument;
  if (!b->cache) b->cache = gcrt_cache_new();
  TEST_REQUIRE(b->cache != NULL);
  for (unsigned i = b->number; i < NODES; i += THREADS) {
    if (nodes[i].start) continue;
    enum gcrt_kind kind = test_random_once_in(&b->random, 4) ? GCRT_NOSCAN : GCRT_SCAN;
    if (test_random_once_in(&b->random, 2000)) kind = GCRT_UNCOLLECTABLE;
    make_node(b, &nodes[i], choose_size(&b->random), kind);
  }
  return NULL;
}

/* An address inside, of any byte that the program may use. */
static uintptr_t pointer_to(struct test_random *r, const struct node *node) {
  return test_random_once_in(r, 2) ? node->start : node->start + test_random_below(r, node->size);
}

/* Edges of new nodes; those that are not scanned hold addresses as well, which count for nothing. */
static void connect(struct test_random *r, unsigned i) {
  struct node *node = &nodes[i];
  uintptr_t *words = (uintptr_t *)node->start;
  size_t count = node->size / sizeof *words;
  unsigned most = node->size > GCRT_SMALL_MAX ? EDGES : 4;
  for (unsigned e = 0; e < most; e++) {
    size_t at = test_random_below(r, count);
    if (words[at] || test_random_once_in(r, 2)) continue;
    unsigned to = (unsigned)test_random_below(r, NODES);
    words[at] = pointer_to(r, &nodes[to]);
    if (node->kind != GCRT_NOSCAN) node->to[node->edges++] = to;
  }
}

static void build_wide(struct builder *b) {
  make_node(b, wide, WIDE * sizeof(uintptr_t), GCRT_SCAN);
  for (unsigned i = 0; i < WIDE; i++) {
    make_node(b, &nodes[NODES + i], 32, GCRT_SCAN);
    ((uintptr_t *)wide->start)[i] = nodes[NODES + i].start;
  }
}

static void build_graph(struct test_random *r, bool with_wide) {
  bool fresh[NODES];
  for (unsigned i = 0; i < NODES; i++) fresh[i] = !nodes[i].start;
  run_threads(build, builders, sizeof builders[0], NULL);
  for (unsigned i = 0; i < NODES; i++)
    if (fresh[i]) connect(r, i);
  if (with_wide && !wide->start) build_wide(&builders[0]);
}

static size_t reached;

static void reach(unsigned i) {
  if (nodes[i].reachable) return;
  nodes[i].reachable = true;
  queue[reached++] = i;
}

static int by_start(const void *a, const void *b) {
  uintptr_t left = (*(struct node *const *)a)->start, right = (*(struct node *const *)b)->start;
  return (left > right) - (left < right);
}

/* Words of a stack: addresses of the ends of objects that fill their cells, and whose neighbour is known. */
static void point_past_ends(struct test_random *r) {
  static struct node *sorted[NODES];
  for (unsigned i = 0; i < NODES; i++) sorted[i] = &nodes[i];
  qsort(sorted, NODES, sizeof sorted[0], by_start);
  for (unsigned n = 0; n < 60; n++) {
    unsigned i = (unsigned)test_random_below(r, NODES - 1);
    uintptr_t last = sorted[i]->start + sorted[i]->cell;
    if (sorted[i]->size != sorted[i]->cell || sorted[i + 1]->start != last) continue;
    stack[test_random_below(r, STACK_WORDS)] = last;
  }
  /* Two of the above may have met in one word: what is there now counts. */
  for (unsigned w = 0; w < STACK_WORDS; w++) {
    for (unsigned i = 0; stack[w] && i < NODES; i++) {
      uintptr_t last = nodes[i].start + nodes[i].cell;
      if (nodes[i].start == stack[w] || (last == stack[w] && nodes[i].size == nodes[i].cell)) reach(i);
    }
  }
}

/* New roots; finds what is reachable from them. */
static void choose_roots(struct test_random *r) {
  memset(globals, 0, sizeof globals);
  memset(stack, 0, sizeof stack);
  for (unsigned i = 0; i < NODES + WIDE + 1; i++) nodes[i].reachable = false;
  reached = 0;
  for (unsigned n = 0; n < 50; n++) {
    unsigned to = (unsigned)test_random_below(r, NODES);
    size_t at = test_random_below(r, ROOT_WORDS - 1); /* the last one is the wide object's */
    if (globals[at]) continue;
    globals[at] = pointer_to(r, &nodes[to]);
    reach(to);
  }
  if (wide->start) {
    globals[ROOT_WORDS - 1] = wide->start;
    for (unsigned i = 0; i <= WIDE; i++) reach(NODES + i);
  }
  point_past_ends(r);
  for (unsigned i = 0; i < NODES; i++)
    if (nodes[i].kind == GCRT_UNCOLLECTABLE) reach(i);
  for (size_t at = 0; at < reached; at++)
    for (unsigned e = 0; e < nodes[queue[at]].edges; e++) reach(nodes[queue[at]].to[e]);
}

static size_t count_marked(void) {
  size_t marked = 0;
  for (size_t i = 0; i < gcrt_heap.used / GCRT_CHUNK; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells == 0 || chunk->first != i) continue;
    for (size_t word = 0; word * 64 < chunk->cells; word++)
      marked += gcrt_popcount(gcrt_marks_with(gcrt_span_marks(chunk) + 64 * word, gcrt_black()));
  }
  return marked;
}

/* Unused cells in the windows of uncollectable objects, which marking takes for such objects. */
static size_t unused_uncollectable(void) {
  size_t cells = 0;
  for (unsigned i = 0; i < THREADS; i++)
    for (unsigned slot = 0; slot < GCRT_SLOTS; slot++)
      if (gcrt_slot_kind(slot) == GCRT_UNCOLLECTABLE) cells += gcrt_popcount(builders[i].cache->windows[slot].mask);
  return cells;
}

static void check_marks(void) {
  for (unsigned i = 0; i < NODES + WIDE + 1; i++) {
    struct gcrt_place place;
    if (!nodes[i].start) continue;
    TEST_REQUIRE(gcrt_find(nodes[i].start, &place));
    TEST_REQUIRE((gcrt_load_byte(place.mark) == gcrt_black()) == nodes[i].reachable, "node %u of %zu bytes", i,
                 nodes[i].size);
  }
  ck_assert_uint_eq(count_marked(), reached + unused_uncollectable());
  gcrt_mark_check(roots, GCRT_COUNT(roots));
}

/* As cycle/cycle.c does it. */
static void sweep(bool clobber) {
  size_t expected = 0;
  for (size_t i = 0; i < reached; i++) expected += nodes[queue[i]].cell;
  for (unsigned i = 0; i < THREADS; i++) {
    gcrt_cache_keep_unused(builders[i].cache);
    for (unsigned slot = 0; slot < GCRT_SLOTS; slot++) {
      const struct gcrt_window *window = &builders[i].cache->windows[slot];
      expected += gcrt_popcount(window->mask) * window->cell;
    }
  }
  gcrt_heap_flip(clobber);
  gcrt_heap_sweep_rest();
  ck_assert_uint_eq(gcrt_heap.live, expected);
  gcrt_heap_verify();
  for (unsigned i = 0; i < NODES + WIDE + 1; i++)
    if (!nodes[i].reachable) nodes[i].start = 0;
}

static void start(size_t heap) {
  fresh_heap(heap);
  gcrt_mark_init(THREADS);
  for (unsigned i = 0; i < THREADS; i++) builders[i] = (struct builder){i, test_random_stream(i), NULL};
}

static uint64_t overflows(void) {
  struct gcrt_mark_stats stats;
  gcrt_mark_get_stats(&stats);
  return stats.overflows;
}

static void collect_often(unsigned members, size_t blocks) {
  struct test_random random = test_random_stream(100 + members + 10 * blocks);
  start(1024 * (size_t)MIB);
  gcrt_mark_limit_blocks(blocks);
  for (unsigned round = 0; round < ROUNDS; round++) {
    build_graph(&random, blocks != 0);
    gcrt_mark_start_helpers(members);
    choose_roots(&random);
    gcrt_mark_all(roots, GCRT_COUNT(roots), members, NULL);
    check_marks();
    sweep(test_random_once_in(&random, 2));
  }
}

START_TEST(what_is_marked_is_what_is_reachable) {
  collect_often((unsigned)_i, 0);
  ck_assert_uint_eq(overflows(), 0);
}
END_TEST

START_TEST(also_with_next_to_no_mark_stack) {
  collect_often(THREADS, (size_t)_i);
  /* With more than one block it depends on how fast the others empty what is shared. */
  if (_i == 1) ck_assert_uint_ge(overflows(), ROUNDS);
}
END_TEST

/* More large objects than markers may share at once, on one table: each holds a small object in its last word. A marker
 * that is alone takes none before it has come to the end of the table. */
START_TEST(large_objects_are_shared) {
  enum { LARGE = 300, BYTES = 140000 };
  start(256 * MIB);
  struct builder *b = &builders[0];
  b->cache = new_cache();
  uintptr_t table = (uintptr_t)gcrt_span_start(gcrt_span_large(BYTES, 16, GCRT_SCAN)), dead = 0;
  struct gcrt_place place;
  for (unsigned i = 0; i < LARGE; i++) {
    make_node(b, &nodes[i], BYTES, GCRT_SCAN);
    make_node(b, &nodes[LARGE + i], 48, GCRT_SCAN);
    ((uintptr_t *)table)[i] = nodes[i].start;
    ((uintptr_t *)nodes[i].start)[BYTES / sizeof(uintptr_t) - 1] = nodes[LARGE + i].start;
    dead = (uintptr_t)take_cell(b->cache, gcrt_slot_for(48, GCRT_SCAN));
  }
  globals[0] = table;
  gcrt_mark_start_helpers((unsigned)_i);
  gcrt_mark_all(roots, GCRT_COUNT(roots), (unsigned)_i, NULL);
  ck_assert_uint_eq(count_marked(), 1 + 2 * LARGE);
  for (unsigned i = 0; i < 2 * LARGE; i++) {
    TEST_REQUIRE(gcrt_find(nodes[i].start, &place) && gcrt_load_byte(place.mark) == gcrt_black(), "object %u", i);
  }
  ck_assert(gcrt_find(dead, &place) && gcrt_load_byte(place.mark) == gcrt_heap.white);
}
END_TEST

/* Markers that take a little at a time, and go when they are in the way or find nothing, leave nothing behind. There is
 * enough to mark that they are awake before all is done. */
START_TEST(markers_on_idle_processors_come_and_go) {
  enum { CHAINS = 2000, LINKS = 300, TIMES = 8 };
  start(256 * (size_t)MIB);
  struct builder *b = &builders[0];
  b->cache = new_cache();
  unsigned slot = gcrt_slot_for(32, GCRT_SCAN);
  for (unsigned i = 0; i < CHAINS * LINKS; i++) {
    uintptr_t *link = take_cell(b->cache, slot);
    TEST_REQUIRE(link != NULL);
    *link = globals[i % CHAINS];
    globals[i % CHAINS] = (uintptr_t)link;
  }
  gcrt_mark_start_helpers(THREADS);
  for (unsigned n = 0; n < TIMES; n++) {
    gcrt_store(&gcrt_heap.marking, GCRT_MARKING);
    gcrt_mark_begin(THREADS - 1);
    gcrt_mark_grey(roots, GCRT_COUNT(roots));
    gcrt_mark_grey_out(1, true);
    TEST_REQUIRE(count_marked() == CHAINS * LINKS, "%zu are marked", (size_t)count_marked());
    gcrt_cache_keep_unused(b->cache);
    gcrt_heap_flip(false);
    gcrt_heap_sweep_rest();
  }
}
END_TEST

static void scan_all(struct gcrt_marker *marker, size_t first, size_t end) {
  gcrt_mark_written_last(marker, gcrt_chunk_address(first), gcrt_chunk_address(end));
}

/* What was written into marked objects since they were scanned is found, by all markers, over the whole heap. */
START_TEST(written_pages_are_shared) {
  enum { PARENTS = 2000, BYTES = 50000 };
  start(512 * (size_t)MIB);
  struct builder *b = &builders[0];
  b->cache = new_cache();
  struct gcrt_place place;
  for (unsigned i = 0; i < PARENTS; i++) {
    make_node(b, &nodes[i], BYTES, GCRT_SCAN);
    globals[i] = nodes[i].start;
  }
  gcrt_mark_start_helpers((unsigned)_i);
  gcrt_mark_all(roots, GCRT_COUNT(roots), (unsigned)_i, NULL);
  ck_assert_uint_eq(count_marked(), PARENTS);
  for (unsigned i = 0; i < PARENTS; i++) {
    make_node(b, &nodes[PARENTS + i], 48, GCRT_SCAN);
    ((uintptr_t *)nodes[i].start)[i] = nodes[PARENTS + i].start;
  }
  gcrt_mark_all(NULL, 0, (unsigned)_i, scan_all);
  ck_assert_uint_eq(count_marked(), 2 * PARENTS);
  for (unsigned i = 0; i < 2 * PARENTS; i++) {
    TEST_REQUIRE(gcrt_find(nodes[i].start, &place) && gcrt_load_byte(place.mark) == gcrt_black(), "object %u", i);
  }
}
END_TEST

/* Helpers that are told to end may still be asleep when new ones take their places. */
START_TEST(helpers_end_and_start_again) {
  enum { CHILDREN = 200, TIMES = 300 };
  start(64 * MIB);
  struct builder *b = &builders[0];
  b->cache = new_cache();
  make_node(b, wide, CHILDREN * sizeof(uintptr_t), GCRT_SCAN);
  for (unsigned i = 0; i < CHILDREN; i++) {
    make_node(b, &nodes[i], 32, GCRT_SCAN);
    ((uintptr_t *)wide->start)[i] = nodes[i].start;
  }
  globals[0] = wide->start;
  for (unsigned n = 0; n < TIMES; n++) {
    gcrt_mark_start_helpers(THREADS);
    gcrt_mark_all(roots, GCRT_COUNT(roots), THREADS, NULL);
    TEST_REQUIRE(count_marked() == CHILDREN + 1);
    gcrt_cache_keep_unused(b->cache);
    gcrt_heap_flip(false);
    gcrt_heap_sweep_rest();
    gcrt_mark_stop_helpers();
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("mark, several threads");
  TCase *tests = test_case(suite, "graph", 60);
  tcase_add_loop_test(tests, what_is_marked_is_what_is_reachable, 1, THREADS + 1);
  tcase_add_loop_test(tests, also_with_next_to_no_mark_stack, 1, 4);
  tcase_add_loop_test(tests, large_objects_are_shared, 1, THREADS + 1);
  tcase_add_test(tests, markers_on_idle_processors_come_and_go);
  tcase_add_loop_test(tests, written_pages_are_shared, 1, THREADS + 1);
  tcase_add_test(tests, helpers_end_and_start_again);
  return suite;
}

TEST_MAIN(make_suite)
