/* The heap under several threads: refills, central lists, large objects, and frees of what another thread made, all at
 * once. No cell is handed out twice, and in the end every count agrees to the byte.
 *
 * Objects go from thread to thread around a ring, by one store with release and one load with acquire: what else orders
 * the threads is the heap's own doing, which ThreadSanitizer then checks. */
#include "heap_fixture.h"
#include "threads_fixture.h"

#include "sys/proc.h"

enum { KEPT_MAX = 256, BOXES = 64 };

/* Sizes of objects, how many each thread keeps, and how much it does. */
struct mix {
  size_t small, large; /* sizes up to large where one in `rare` is over small */
  unsigned rare, kept, steps, lives;
  unsigned sweeps; /* collections; threads keep their windows over each, and lose the spans they own */
  bool releases;   /* memory is given back to the operating system meanwhile */
};
static const struct mix mixes[] = {
    {.small = 64, .large = 64, .rare = 1, .kept = 256, .steps = 20000, .lives = 4, .sweeps = 1},
    {.small = 300, .large = 2000, .rare = 4, .kept = 256, .steps = 5000, .lives = 20, .sweeps = 4},
    {.small = 8192, .large = 32768, .rare = 2, .kept = 24, .steps = 16000, .lives = 40, .releases = true},
    {.small = 1000, .large = 200000, .rare = 8, .kept = 64, .steps = 8000, .lives = 8},
    {.small = 40000, .large = 150000, .rare = 2, .kept = 8, .steps = 3000, .lives = 1, .releases = true},
};

/* What every object begins with; a pattern follows that depends on it. */
struct head {
  uint32_t size, kind;
  uint64_t id;
};

struct worker {
  const struct mix *mix;
  struct test_random random;
  struct gcrt_cache *cache;
  struct head *kept[KEPT_MAX];
  gcrt_word inbox[BOXES];
  struct worker *next;
  bool last; /* no sweep follows */
};
static struct worker workers[THREADS];
static gcrt_word working;

static size_t choose_size(struct worker *w) {
  size_t low = sizeof(struct head), high = w->mix->small;
  if (high < w->mix->large && test_random_once_in(&w->random, w->mix->rare)) {
    low = high + 1;
    high = w->mix->large;
  }
  return low + test_random_below(&w->random, high - low + 1);
}

static struct head *make(struct worker *w) {
  size_t size = choose_size(w);
  enum gcrt_kind kind = (enum gcrt_kind)test_random_below(&w->random, GCRT_KINDS);
  struct head *object;
  if (size > GCRT_SMALL_MAX) {
    struct gcrt_span *span = gcrt_span_large(size, 16, kind);
    TEST_REQUIRE(span != NULL);
    object = (struct head *)gcrt_span_start(span);
  } else {
    object = take_cell(w->cache, gcrt_slot_for(size, kind));
    TEST_REQUIRE(object != NULL);
  }
  TEST_REQUIRE(reads_zero(object, size), "%zu bytes", size);
  *object = (struct head){(uint32_t)size, kind, test_random_next(&w->random)};
  test_pattern_write(object + 1, size - sizeof *object, object->id);
  return object;
}

static struct gcrt_place place_of(const struct head *object) {
  struct gcrt_place place;
  TEST_REQUIRE(gcrt_object_at(object, &place) == GCRT_OBJECT_OK);
  TEST_REQUIRE(gcrt_object_usable(&place) >= object->size && gcrt_object_kind(&place) == object->kind);
  size_t size = object->size - sizeof *object;
  TEST_REQUIRE(test_pattern_bad(object + 1, size, object->id) == size, "%u bytes at %p", object->size, (void *)object);
  return place;
}

static void end(const struct head *object, bool clobber) {
  struct gcrt_place place = place_of(object);
  TEST_REQUIRE(gcrt_object_free(&place, clobber));
}

static void receive(struct worker *w) {
  gcrt_word *box = &w->inbox[test_random_below(&w->random, BOXES)];
  struct head *object = (struct head *)gcrt_load_acquire(box);
  if (!object) return;
  end(object, test_random_once_in(&w->random, 2));
  gcrt_store(box, 0);
}

/* An object goes to the next thread, or ends here if the box is full. */
static void pass_on(struct worker *w, struct head *object) {
  gcrt_word *box = &w->next->inbox[test_random_below(&w->random, BOXES)];
  if (gcrt_load(box) == 0) {
    gcrt_store_release(box, (size_t)object);
  } else {
    end(object, test_random_once_in(&w->random, 2));
  }
}

static void *work(void *argument) {
  struct worker *w = argument;
  for (unsigned life = 1; life <= w->mix->lives; life++) {
    if (!w->cache) w->cache = gcrt_cache_new();
    TEST_REQUIRE(w->cache != NULL);
    for (unsigned step = 0; step < w->mix->steps / w->mix->lives; step++) {
      struct head **kept = &w->kept[test_random_below(&w->random, w->mix->kept)];
      struct head *old = *kept;
      *kept = make(w);
      if (old) pass_on(w, old);
      receive(w);
    }
    if (life == w->mix->lives && !w->last) break;
    gcrt_cache_retire(w->cache);
    w->cache = NULL;
  }
  gcrt_add_full(&working, (size_t)-1);
  return NULL;
}

/* gc_free_os_memory and the metrics, beside the others. */
static void release_and_read(void) {
  while (gcrt_load_acquire(&working)) {
    struct gcrt_heap_usage usage;
    gcrt_heap_usage(&usage);
    TEST_REQUIRE(usage.heap_inuse + usage.heap_released <= usage.heap_sys);
    gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL);
    gcrt_thread_yield();
  }
}

struct totals {
  size_t bytes, count[GCRT_CLASSES], large_bytes;
};

static void count(void *argument, struct head *object) {
  struct totals *totals = argument;
  struct gcrt_place place = place_of(object);
  totals->bytes += gcrt_place_size(&place);
  totals->count[place.chunk->class]++;
  if (place.chunk->class == 0) totals->large_bytes += gcrt_place_size(&place);
}

static void mark_object(void *unused, struct head *object) {
  (void)unused;
  mark_cell(object);
}

static void end_object(void *unused, struct head *object) {
  (void)unused;
  end(object, false);
}

/* Every object that somebody holds. */
static void visit(void (*function)(void *argument, struct head *object), void *argument) {
  for (struct worker *w = workers; w < workers + THREADS; w++) {
    for (unsigned i = 0; i < KEPT_MAX; i++)
      if (w->kept[i]) function(argument, w->kept[i]);
    for (unsigned i = 0; i < BOXES; i++)
      if (w->inbox[i]) function(argument, (struct head *)w->inbox[i]);
  }
}

/* What nobody holds goes: nothing, as all else was freed. The sweep runs beside the threads. */
static void flip(void) {
  visit(mark_object, NULL);
  for (unsigned i = 0; i < THREADS; i++) gcrt_cache_keep_unused(workers[i].cache);
  gcrt_heap_flip(false);
}

static void sweep(void) { ck_assert_uint_eq(gcrt_heap_sweep_rest(), 0); }

static void sweep_release_and_read(void) {
  sweep();
  release_and_read();
}

/* Objects of a class that were handed out and not freed, as the heap counts them. */
static size_t alive(unsigned class) {
  size_t made = class ? gcrt_load(&gcrt_heap_stats.retired[class]) : gcrt_load(&gcrt_heap.large_mallocs);
  return made - gcrt_load(&gcrt_heap_stats.frees[class]);
}

static void check_counts(void) {
  struct totals totals = {0};
  visit(count, &totals);
  ck_assert_uint_eq(gcrt_heap.live, totals.bytes);
  ck_assert_uint_eq(gcrt_heap.large_bytes - gcrt_heap_stats.large_freed_bytes, totals.large_bytes);
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) TEST_REQUIRE(alive(class) == totals.count[class]);
  gcrt_heap_verify();
}

START_TEST(objects_made_and_freed_by_all) {
  const struct mix *mix = &mixes[_i];
  fresh_heap(512 * MIB);
  for (unsigned i = 0; i < THREADS; i++) {
    workers[i] = (struct worker){.mix = mix, .random = test_random_stream(i), .next = &workers[(i + 1) % THREADS]};
  }
  for (unsigned sweeps = 0; sweeps <= mix->sweeps; sweeps++) {
    if (sweeps) flip();
    for (unsigned i = 0; i < THREADS; i++) workers[i].last = sweeps == mix->sweeps;
    gcrt_store(&working, THREADS);
    run_threads(work, workers, sizeof workers[0], mix->releases ? sweep_release_and_read : sweep);
    gcrt_heap_verify();
  }
  check_counts();
  visit(end_object, NULL);
  ck_assert_uint_eq(gcrt_heap.live, 0);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  gcrt_heap_verify();
}
END_TEST

/* A thread that allocates and shows what it made last. */
struct shower {
  struct gcrt_cache *cache;
  struct test_random random;
  gcrt_word shown;
  uint64_t made[GCRT_CLASSES], seen[GCRT_CLASSES];
};
static struct shower showers[THREADS];

static void *show(void *argument) {
  struct shower *s = argument;
  for (unsigned i = 0; i < 40000; i++) {
    unsigned slot = gcrt_slot_for(1 + test_random_below(&s->random, 200), GCRT_SCAN);
    void *cell = take_cell(s->cache, slot);
    TEST_REQUIRE(cell != NULL);
    s->made[gcrt_slot_class(slot)]++;
    gcrt_store_release(&s->shown, (size_t)cell);
  }
  gcrt_add_full(&working, (size_t)-1);
  return NULL;
}

/* What was handed out is in nobody's window, and no count ever falls. */
static void read_windows(void) {
  while (gcrt_load_acquire(&working)) {
    for (struct shower *s = showers; s < showers + THREADS; s++) {
      struct gcrt_place place;
      void *shown = (void *)gcrt_load_acquire(&s->shown);
      uint64_t counts[GCRT_CLASSES] = {0};
      gcrt_cache_count(s->cache, counts);
      for (unsigned class = 0; class < GCRT_CLASSES; class ++) TEST_REQUIRE(counts[class] >= s->seen[class]);
      memcpy(s->seen, counts, sizeof counts);
      if (!shown) continue;
      TEST_REQUIRE(gcrt_object_at(shown, &place) == GCRT_OBJECT_OK);
      unsigned slot = (unsigned)gcrt_heap.spans[place.chunk->first].slot;
      for (unsigned i = 0; i < THREADS; i++) {
        TEST_REQUIRE(!gcrt_cache_holds(showers[i].cache, slot, place.alloc, place.bit), "%p", shown);
      }
    }
  }
}

START_TEST(windows_are_read_by_others) {
  fresh_heap(256 * MIB);
  for (unsigned i = 0; i < THREADS; i++)
    showers[i] = (struct shower){.cache = new_cache(), .random = test_random_stream(10 + i)};
  gcrt_store(&working, THREADS);
  run_threads(show, showers, sizeof showers[0], read_windows);
  for (unsigned i = 0; i < THREADS; i++) {
    uint64_t counts[GCRT_CLASSES] = {0};
    gcrt_cache_count(showers[i].cache, counts);
    for (unsigned class = 0; class < GCRT_CLASSES; class ++) TEST_REQUIRE(counts[class] == showers[i].made[class]);
  }
  gcrt_heap_verify();
}
END_TEST

enum { CHUNKS = 256, RUNS = 12 };

static unsigned owner[CHUNKS]; /* of each chunk, by number; ordered by nothing but the chunk allocator */

struct taker {
  unsigned number;
  struct test_random random;
  struct run {
    size_t first, length;
  } runs[RUNS];
};
static struct taker takers[THREADS];

static void give_run(struct taker *t, struct run *run) {
  for (size_t i = run->first; i < run->first + run->length; i++) {
    TEST_REQUIRE(owner[i] == t->number && *(uint64_t *)gcrt_chunk_address(i) == t->number, "chunk %zu", i);
    owner[i] = 0;
  }
  gcrt_pages_give(run->first, run->length, false);
  run->length = 0;
}

static void take_run(struct taker *t, struct run *run) {
  size_t length = 1 + test_random_below(&t->random, 8), alignment = (size_t)1 << test_random_below(&t->random, 3);
  bool zeroed;
  size_t first = gcrt_pages_take(length, alignment, &zeroed);
  if (first == SIZE_MAX) return;
  *run = (struct run){first, length};
  TEST_REQUIRE(gcrt_chunk_address(first) % (alignment * GCRT_CHUNK) == 0);
  for (size_t i = first; i < first + length; i++) {
    uint64_t *word = (uint64_t *)gcrt_chunk_address(i);
    TEST_REQUIRE(owner[i] == 0 && (!zeroed || *word == 0), "chunk %zu", i);
    owner[i] = t->number;
    *word = t->number;
  }
}

static void *take_and_give(void *argument) {
  struct taker *t = argument;
  for (unsigned step = 0; step < 20000; step++) {
    struct run *run = &t->runs[test_random_below(&t->random, RUNS)];
    if (run->length) {
      give_run(t, run);
    } else {
      take_run(t, run);
    }
  }
  for (unsigned i = 0; i < RUNS; i++)
    if (t->runs[i].length) give_run(t, &t->runs[i]);
  gcrt_add_full(&working, (size_t)-1);
  return NULL;
}

START_TEST(runs_of_chunks_are_one_threads) {
  fresh_heap(CHUNKS * (size_t)GCRT_CHUNK);
  for (unsigned i = 0; i < THREADS; i++) takers[i] = (struct taker){i + 1, test_random_stream(20 + i), {{0, 0}}};
  gcrt_store(&working, THREADS);
  run_threads(take_and_give, takers, sizeof takers[0], release_and_read);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  gcrt_heap_verify();
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap, several threads");
  TCase *tc = test_case(suite, "objects", 60);
  tcase_add_loop_test(tc, objects_made_and_freed_by_all, 0, (int)GCRT_COUNT(mixes));
  tcase_add_test(tc, windows_are_read_by_others);
  tc = test_case(suite, "chunks", 60);
  tcase_add_test(tc, runs_of_chunks_are_one_threads);
  return suite;
}

TEST_MAIN(make_suite)
