/* GCRT_TRACKER=explicit: a program that says what it writes is marked beside its running, and loses nothing. */
#include "system.h"

#include <stdatomic.h>
#include <string.h>

enum { SLOTS = 20000, THREADS = 3, MOVES = 400000, BOXES = 64 };

/* A token is led to by one pointer alone, in the slot of a table (a large object) or in a box (a small one). */
struct token {
  size_t id;
  struct token *self; /* tells a token from what took its place */
  size_t filler[4];
};

struct mutator {
  struct token **table;
  struct token ***boxes; /* each a small object that holds one pointer */
  size_t first;          /* id of the first token */
  uint64_t seed;
};

static struct mutator mutators[THREADS];
static atomic_int running;

static uint64_t random_of(struct mutator *m) {
  m->seed ^= m->seed << 13;
  m->seed ^= m->seed >> 7;
  return m->seed ^= m->seed << 17;
}

static void store(struct token **place, struct token *token) {
  *place = token;
  gc_write_barrier(place);
  gc_keep_alive(token);
}

static void build(struct mutator *m, size_t first) {
  m->first = first;
  m->table = gc_alloc_array(SLOTS, sizeof *m->table);
  m->boxes = gc_alloc_array(BOXES, sizeof *m->boxes);
  for (size_t i = 0; i < BOXES; i++) {
    struct token **box = gc_alloc(sizeof *box);
    m->boxes[i] = box;
    gc_write_barrier(&m->boxes[i]);
    gc_keep_alive(box);
  }
  for (size_t i = 0; i < SLOTS; i++) {
    struct token *token = gc_alloc(sizeof *token);
    token->id = first + i;
    token->self = token;
    gc_write_barrier(token);
    store(&m->table[i], token);
  }
}

/* Swaps what two places hold: in between one token is nowhere but in a register. */
static void *move(void *argument) {
  struct mutator *m = argument;
  for (unsigned i = 0; i < MOVES; i++) {
    struct token **a = &m->table[random_of(m) % SLOTS];
    struct token **b = random_of(m) % 2 ? m->boxes[random_of(m) % BOXES] : &m->table[random_of(m) % SLOTS];
    struct token *held = *a;
    store(a, *b);
    TEST_REQUIRE(gc_alloc(48) != NULL);
    store(b, held);
    if (random_of(m) % 64 == 0) {
      struct token **box = gc_realloc(*m->boxes, 8 + random_of(m) % 200);
      TEST_REQUIRE(box != NULL);
      m->boxes[0] = box;
      gc_write_barrier(m->boxes);
      gc_keep_alive(box);
    }
  }
  atomic_fetch_sub(&running, 1);
  return NULL;
}

static void check(const struct mutator *m) {
  static unsigned char seen[SLOTS];
  memset(seen, 0, sizeof seen);
  size_t found = 0;
  for (size_t i = 0; i < SLOTS + BOXES; i++) {
    const struct token *token = i < SLOTS ? m->table[i] : *m->boxes[i - SLOTS];
    if (!token) continue;
    size_t number = token->id - m->first;
    TEST_REQUIRE(gc_base(token) == token && token->self == token && number < SLOTS && !seen[number]);
    seen[number] = 1;
    found++;
  }
  TEST_REQUIRE(found == SLOTS, "%zu of %d tokens", found, SLOTS);
}

static int moves_tokens(int argc, char **argv) {
  (void)argc;
  (void)argv;
  pthread_t threads[THREADS];
  const char *reason;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "explicit") == 0);
  for (size_t i = 0; i < THREADS; i++) {
    mutators[i].seed = 88172645463325252U + i;
    build(&mutators[i], 1 + i * SLOTS);
  }
  atomic_store(&running, THREADS);
  for (size_t i = 0; i < THREADS; i++) {
    TEST_REQUIRE(pthread_create(&threads[i], NULL, move, &mutators[i]) == 0);
  }
  while (atomic_load(&running)) gc_collect();
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (size_t i = 0; i < THREADS; i++) check(&mutators[i]);
  struct runtime_metrics m = system_metrics();
  TEST_REQUIRE(m.num_concurrent_gc > 0 && m.num_concurrent_gc == m.num_gc, "%u of %u", m.num_concurrent_gc, m.num_gc);
  puts("kept");
  return 0;
}

START_TEST(what_is_told_is_kept) {
  static const char *const debug[] = {"GCRT_DEBUG=", "GCRT_DEBUG=checkmark=1,clobberfree=1,verify=1"};
  const char *const environment[] = {"GCRT_TRACKER=explicit", debug[_i], NULL};
  struct test_child_options options = {.environment = environment};
  struct test_child child = test_child_exec_self("moves-tokens", NULL, &options);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "kept");
  test_child_free(&child);
}
END_TEST

/* With other trackers, and for what is not in the heap, it does nothing. */
START_TEST(may_be_called_for_anything) {
  static int variable;
  int local = 0;
  gc_write_barrier(NULL);
  gc_write_barrier(&variable);
  gc_write_barrier(&local);
  gc_write_barrier((void *)~(uintptr_t)0);
  char *object = gc_alloc(100000);
  gc_write_barrier(object);
  gc_write_barrier(object + 99999);
  gc_free(object);
  gc_write_barrier(object);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("barrier");
  TCase *tests = test_case(suite, "barrier", 120);
  tcase_add_loop_test(tests, what_is_told_is_kept, 0, 2);
  tcase_add_test(tests, may_be_called_for_anything);
  return suite;
}

static const struct test_child_entry children[] = {{"moves-tokens", moves_tokens}, {NULL, NULL}};

TEST_MAIN_CHILDREN(make_suite, children)
