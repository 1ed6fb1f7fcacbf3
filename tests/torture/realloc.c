/* Allocation of all kinds, gc_realloc, gc_free and forgetting, checked against a model of what must be there.
 *
 * The model knows of every object its size, kind and contents; the objects' addresses are kept by one collected table,
 * for the model is in memory of malloc, which is no root. One thread checks the counters exactly: nobody else
 * allocates. Several threads trade objects through a shared place, so that one frees what another allocated. */
#include "torture.h"

#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 400, LINKS = 4 };

enum kind { SCAN, NOSCAN, UNCOLLECTABLE, ALIGNED, KINDS };

struct model {
  uint64_t id;
  size_t size;
  enum kind kind;
};

struct table {
  unsigned char *object[OBJECTS];
};

struct state {
  struct test_random *random;
  struct table *table; /* on the thread's stack through this structure */
  struct model *model;
  uint64_t next_id;
  uint64_t mallocs; /* what the counters must have grown by */
  uint64_t frees;   /* at least */
};

/* Where one object waits for any thread to take it. */
static struct {
  pthread_mutex_t lock;
  unsigned char *object;
  struct model model;
} exchange = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t some_size(struct test_random *r) {
  if (test_random_once_in(r, 40)) return 0;
  return test_random_once_in(r, 300) ? test_random_below(r, 3 << 20) : torture_size(r, 0);
}

static void *allocate(enum kind kind, size_t size, struct test_random *r) {
  switch (kind) {
  case NOSCAN:
    return gc_alloc_noscan(size);
  case UNCOLLECTABLE:
    return gc_alloc_uncollectable(size);
  case ALIGNED:
    return gc_alloc_aligned((size_t)16 << test_random_below(r, 10), size);
  default:
    return gc_alloc(size);
  }
}

static void check_zero(const unsigned char *p, size_t from, size_t to, const char *what) {
  for (size_t i = from; i < to; i++)
    TEST_REQUIRE(p[i] == 0, "byte %zu of %zu bytes that %s added is %#x", i, to, what, p[i]);
}

/* All that the library says of the object, and its contents. */
static void check_object(struct state *s, unsigned slot) {
  const struct model *m = &s->model[slot];
  unsigned char *p = s->table->object[slot];
  size_t usable = gc_usable_size(p);
  TEST_REQUIRE(usable >= m->size && usable > 0, "%zu bytes of %zu may be used", usable, m->size);
  TEST_REQUIRE(gc_base(p) == p, "lost: object %llu of %zu bytes", (unsigned long long)m->id, m->size);
  size_t at = test_random_below(s->random, usable);
  TEST_REQUIRE(gc_base(p + at) == p && gc_usable_size(p + at) > 0, "at %zu of %zu", at, usable);
  size_t bad = test_pattern_bad(p, m->size, m->id);
  TEST_REQUIRE(bad == m->size, "damaged: byte %zu of object %llu, kind %d, %zu bytes", bad, (unsigned long long)m->id,
               (int)m->kind, m->size);
}

static void fill(struct state *s, unsigned slot, unsigned char *p, size_t size) {
  struct model *m = &s->model[slot];
  m->size = size;
  m->id = ++s->next_id;
  test_pattern_write(p, size, m->id);
  s->table->object[slot] = p;
}

static void make(struct state *s, unsigned slot) {
  size_t size = some_size(s->random);
  enum kind kind = (enum kind)test_random_below(s->random, KINDS);
  unsigned char *p = allocate(kind, size, s->random);
  TEST_REQUIRE(p != NULL, "%zu bytes", size);
  s->mallocs++;
  check_zero(p, 0, size, "a new object");
  s->model[slot].kind = kind;
  fill(s, slot, p, size);
}

static void release(struct state *s, unsigned slot) {
  gc_free(s->table->object[slot]);
  s->frees++;
  s->table->object[slot] = NULL;
}

static void forget(struct state *s, unsigned slot) {
  if (s->model[slot].kind == UNCOLLECTABLE) release(s, slot);
  s->table->object[slot] = NULL;
}

/* Contents up to the smaller size stay, what is added is zeroed, and the kind stays (see check_kind). */
static void resize(struct state *s, unsigned slot) {
  struct model *m = &s->model[slot];
  size_t size = test_random_once_in(s->random, 3) ? m->size + test_random_below(s->random, 64) : some_size(s->random);
  size_t kept = size < m->size ? size : m->size;
  uintptr_t before = (uintptr_t)s->table->object[slot];
  unsigned char *p = gc_realloc(s->table->object[slot], size);
  TEST_REQUIRE(p != NULL, "%zu bytes", size);
  if ((uintptr_t)p != before) {
    s->mallocs++;
    s->frees++;
  }
  size_t bad = test_pattern_bad(p, kept, m->id);
  /* The last word of a pattern that was cut short is whole in a longer one, so a shorter one compares as well. */
  TEST_REQUIRE(bad == kept, "gc_realloc from %zu to %zu bytes damaged byte %zu", m->size, size, bad);
  /* An object of size 0 has some bytes, too, and keeps them. */
  if (m->size > 0) check_zero(p, kept, size, "gc_realloc");
  fill(s, slot, p, size);
}

static void trade(struct state *s, unsigned slot) {
  pthread_mutex_lock(&exchange.lock);
  unsigned char *object = exchange.object;
  struct model model = exchange.model;
  exchange.object = s->table->object[slot];
  exchange.model = s->model[slot];
  s->table->object[slot] = object;
  s->model[slot] = model;
  pthread_mutex_unlock(&exchange.lock);
}

static void step(struct state *s) {
  unsigned slot = (unsigned)test_random_below(s->random, OBJECTS);
  if (s->table->object[slot] == NULL) {
    make(s, slot);
    return;
  }
  check_object(s, slot);
  switch (test_random_below(s->random, 6)) {
  case 0:
    release(s, slot);
    break;
  case 1:
    forget(s, slot);
    break;
  case 2:
    trade(s, slot);
    break;
  default:
    resize(s, slot);
  }
}

static void drop_all(struct state *s) {
  for (unsigned i = 0; i < OBJECTS; i++)
    if (s->table->object[i] != NULL) {
      check_object(s, i);
      forget(s, i);
    }
  trade(s, 0);
  if (s->table->object[0] != NULL) {
    check_object(s, 0);
    forget(s, 0);
  }
}

static void open_state(struct state *s, struct torture_worker *worker) {
  *s = (struct state){.random = &worker->random, .next_id = (uint64_t)worker->index << 48};
  s->table = gc_alloc(sizeof *s->table);
  s->model = calloc(OBJECTS, sizeof *s->model);
  TEST_REQUIRE(s->table != NULL && s->model != NULL);
}

static void mix(struct torture_worker *worker) {
  struct state s;
  open_state(&s, worker);
  struct runtime_metrics before;
  torture_read_metrics(&before);
  do {
    for (unsigned i = 0; i < 100; i++) step(&s);
    struct runtime_metrics now;
    torture_read_metrics(&now);
    if (worker->threads == 1) {
      TEST_REQUIRE(now.mallocs - before.mallocs == s.mallocs, "%llu objects counted, %llu allocated",
                   (unsigned long long)(now.mallocs - before.mallocs), (unsigned long long)s.mallocs);
      TEST_REQUIRE(now.frees - before.frees >= s.frees, "%llu frees counted, %llu done",
                   (unsigned long long)(now.frees - before.frees), (unsigned long long)s.frees);
    }
  } while (torture_continues(worker));
  drop_all(&s);
  free(s.model);
}

static const unsigned thread_counts[] = {1, 2, 4};

START_TEST(model_agrees) {
  struct torture_heap base = torture_heap_now();
  torture_run(thread_counts[_i], 1.0 / 4, mix, NULL);
  torture_heap_check(&base, 200, 16 << 20);
}
END_TEST

/* gc_realloc keeps the kind: a scan object still holds what it points to, an uncollectable one stays a root. */
static __attribute__((noinline)) void **grow_with_links(uintptr_t *hidden, size_t size, bool uncollectable) {
  void **p = uncollectable ? gc_alloc_uncollectable(size) : gc_alloc(size);
  TEST_REQUIRE(p != NULL);
  for (unsigned i = 0; i < LINKS; i++) {
    uint64_t *link = gc_alloc_noscan(64);
    TEST_REQUIRE(link != NULL);
    *link = ~(uint64_t)i;
    hidden[i] = test_hide(link);
    p[i] = link;
  }
  p = gc_realloc(p, size * 3);
  TEST_REQUIRE(p != NULL);
  return p;
}

static __attribute__((noinline)) void check_links(void **p, const uintptr_t *hidden, size_t size) {
  for (unsigned i = 0; i < LINKS; i++) {
    TEST_REQUIRE(p[i] == test_reveal(hidden[i]) && gc_base(p[i]) == p[i] && *(uint64_t *)p[i] == ~(uint64_t)i,
                 "lost: link %u of an object that grew from %zu bytes", i, size);
  }
}

START_TEST(realloc_keeps_kind) {
  static const size_t sizes[] = {32, 64, 100, 1000, 5000, 40000, 300000};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    uintptr_t hidden[LINKS];
    void **p = grow_with_links(hidden, sizes[i], false);
    torture_collect();
    check_links(p, hidden, sizes[i]);
    uintptr_t root = test_hide(grow_with_links(hidden, sizes[i], true));
    torture_collect();
    TEST_REQUIRE(gc_base(test_reveal(root)) == test_reveal(root), "lost: an uncollectable object that has grown");
    check_links(test_reveal(root), hidden, sizes[i]);
    gc_free(test_reveal(root));
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("realloc");
  TCase *tc = test_case(suite, "model", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, model_agrees, 0, sizeof thread_counts / sizeof *thread_counts);
  tcase_add_test(tc, realloc_keeps_kind);
  return suite;
}

TEST_MAIN(make_suite)
