/* Objects through a thread's cache: distinct, zeroed, counted to the byte; freed by address and found again. */
#include "heap_fixture.h"

#include <pthread.h>
#include <stdlib.h>

static const enum gcrt_kind kinds[] = {GCRT_SCAN, GCRT_NOSCAN, GCRT_UNCOLLECTABLE};

/* Cells that lie unused in the cache's windows, in bytes. */
static size_t unused_bytes(const struct gcrt_cache *cache) {
  size_t bytes = 0;
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++)
    if (cache->windows[slot].mask) bytes += gcrt_popcount(cache->windows[slot].mask) * cache->windows[slot].cell;
  return bytes;
}

static uint64_t counted(const struct gcrt_cache *cache, unsigned class) {
  uint64_t counts[GCRT_CLASSES] = {0};
  gcrt_cache_count(cache, counts);
  return counts[class];
}

START_TEST(cells_of_every_class_are_distinct_and_zero) {
  unsigned class = (unsigned)_i, kind = class % 3;
  size_t cell = gcrt_class_size[class], count = 4 * GCRT_CHUNK / cell + 3;
  fresh_heap(64 * MIB);
  struct gcrt_cache *cache = new_cache();
  char **cells = malloc(count * sizeof *cells);
  unsigned slot = gcrt_slot_of(class, kinds[kind], true);
  for (size_t i = 0; i < count; i++) {
    cells[i] = take_cell(cache, slot);
    TEST_REQUIRE(cells[i] && reads_zero(cells[i], cell), "cell %zu", i);
    test_pattern_write(cells[i], cell, i);
    if (i % 61 != 0 && i + 1 < count) continue;
    TEST_REQUIRE(gcrt_heap.live == (i + 1) * cell + unused_bytes(cache), "cell %zu", i);
    TEST_REQUIRE(counted(cache, class) == i + 1);
  }
  gcrt_heap_verify();
  for (size_t i = 0; i < count; i++) {
    struct gcrt_place place;
    TEST_REQUIRE(test_pattern_bad(cells[i], cell, i) == cell, "cell %zu was overwritten", i);
    TEST_REQUIRE(gcrt_object_at(cells[i] + 1, &place) == GCRT_OBJECT_INTERIOR);
    TEST_REQUIRE(gcrt_object_at(cells[i] + cell - 1, &place) == GCRT_OBJECT_INTERIOR);
    TEST_REQUIRE(gcrt_object_at(cells[i], &place) == GCRT_OBJECT_OK);
    TEST_REQUIRE(gcrt_object_usable(&place) == cell && gcrt_object_kind(&place) == kinds[kind]);
  }
  gcrt_cache_retire(cache);
  ck_assert_uint_eq(gcrt_heap.live, count * cell);
  ck_assert_uint_eq(gcrt_heap_stats.retired[class], count);
  gcrt_heap_verify();
  free(cells);
}
END_TEST

START_TEST(what_does_not_fill_its_cell_leaves_a_byte) {
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  for (size_t size = 1; size <= GCRT_SMALL_MAX; size += size < 2048 ? 1 : 509) {
    char *cell = take_cell(cache, gcrt_slot_for(size, GCRT_NOSCAN));
    struct gcrt_place place;
    ck_assert_int_eq(gcrt_object_at(cell, &place), GCRT_OBJECT_OK);
    size_t usable = gcrt_object_usable(&place);
    ck_assert_uint_ge(usable, size);
    ck_assert_uint_eq(usable, gcrt_class_size[gcrt_class_of((unsigned)size)] - (gcrt_slot_for(size, 0) % 2 == 0));
    /* One past what the program may use is in the cell, except where the object fills it. */
    bool inside = gcrt_find((uintptr_t)cell + usable, &place) && gcrt_place_start(&place) == (uintptr_t)cell;
    ck_assert_int_eq(inside, usable < gcrt_class_size[gcrt_class_of((unsigned)size)]);
  }
  gcrt_heap_verify();
}
END_TEST

START_TEST(a_refill_takes_no_more_than_asked) {
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_for(16, GCRT_SCAN);
  for (unsigned cells = 1; cells <= 64; cells++) {
    ck_assert(gcrt_cache_refill(cache, slot, cells));
    unsigned got = 0;
    while (gcrt_cache_take(cache, slot)) got++;
    ck_assert_uint_ge(got, 1);
    ck_assert_uint_le(got, cells);
  }
  /* A window is bounded in bytes, too. */
  unsigned large = gcrt_slot_for(4096, GCRT_SCAN);
  ck_assert(gcrt_cache_refill(cache, large, 64));
  ck_assert_uint_le(gcrt_popcount(cache->windows[large].mask) * 4096U, GCRT_WINDOW_BYTES);
  gcrt_heap_verify();
}
END_TEST

START_TEST(a_window_holds_what_it_has_not_handed_out) {
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_for(64, GCRT_SCAN);
  char *cell = take_cell(cache, slot);
  struct gcrt_place place;
  ck_assert(gcrt_find((uintptr_t)cell, &place));
  ck_assert(!gcrt_cache_holds(cache, slot, place.alloc, place.bit));
  ck_assert(gcrt_find((uintptr_t)cell + 64, &place));
  ck_assert(gcrt_cache_holds(cache, slot, place.alloc, place.bit));
  ck_assert(!gcrt_cache_holds(cache, slot + 1, place.alloc, place.bit));
  ck_assert_ptr_eq(take_cell(cache, slot), cell + 64);
  ck_assert(!gcrt_cache_holds(cache, slot, place.alloc, place.bit));
  ck_assert(gcrt_heap.spans[place.chunk->first].windows & 1);
}
END_TEST

START_TEST(freeing_counts_and_gives_the_cell_back) {
  enum { COUNT = 3000 };
  static char *cells[COUNT];
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_for(100, GCRT_SCAN), class = gcrt_slot_class(slot);
  struct gcrt_place place;
  for (unsigned i = 0; i < COUNT; i++) {
    cells[i] = take_cell(cache, slot);
    memset(cells[i], 0x77, 100);
  }
  size_t live = gcrt_heap.live;
  for (unsigned i = 0; i < COUNT; i += 2) {
    ck_assert_int_eq(gcrt_object_at(cells[i], &place), GCRT_OBJECT_OK);
    ck_assert(gcrt_object_free(&place, false));
    live -= 112;
    ck_assert_uint_eq(gcrt_heap.live, live);
    ck_assert_int_eq(gcrt_object_at(cells[i], &place), GCRT_OBJECT_FREE);
    ck_assert_int_eq(gcrt_object_at(cells[i] + 8, &place), GCRT_OBJECT_FREE);
  }
  ck_assert_uint_eq(gcrt_heap_stats.frees[class], COUNT / 2);
  gcrt_heap_verify();
  size_t busy = gcrt_heap.busy;
  /* The free cells serve again, zeroed, before a new span is made. */
  for (unsigned i = 0; i < COUNT; i += 2) {
    cells[i] = take_cell(cache, slot);
    ck_assert(reads_zero(cells[i], 112));
    memset(cells[i], 0x77, 112);
  }
  ck_assert_uint_le(gcrt_heap.busy, busy + 1);
  gcrt_heap_verify();
  for (unsigned i = 0; i < COUNT; i++) {
    ck_assert_int_eq(gcrt_object_at(cells[i], &place), GCRT_OBJECT_OK);
    ck_assert(gcrt_object_free(&place, false));
  }
  gcrt_heap_verify();
  gcrt_cache_retire(cache);
  ck_assert_uint_eq(gcrt_heap.live, 0);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  ck_assert_uint_eq(gcrt_heap_stats.retired[class], gcrt_heap_stats.frees[class]);
  gcrt_heap_verify();
}
END_TEST

START_TEST(a_second_free_of_the_same_place_is_refused) {
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  char *cell = take_cell(cache, gcrt_slot_for(32, GCRT_SCAN));
  struct gcrt_place place, same;
  ck_assert_int_eq(gcrt_object_at(cell, &place), GCRT_OBJECT_OK);
  same = place;
  ck_assert(gcrt_object_free(&place, false));
  ck_assert(!gcrt_object_free(&same, false));
  gcrt_heap_verify();
}
END_TEST

START_TEST(a_freed_object_is_clobbered_when_asked) {
  fresh_heap(16 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_for(48, GCRT_SCAN);
  unsigned char *cell = take_cell(cache, slot), *next = take_cell(cache, slot);
  struct gcrt_place place;
  memset(cell, 1, 48);
  memset(next, 1, 48);
  ck_assert_int_eq(gcrt_object_at(cell, &place), GCRT_OBJECT_OK);
  ck_assert(gcrt_object_free(&place, true));
  for (unsigned i = 0; i < 48; i++) {
    ck_assert_uint_eq(cell[i], 0xdb);
    ck_assert_uint_eq(next[i], 1);
  }
}
END_TEST

START_TEST(freed_spans_serve_other_classes) {
  fresh_heap(16 * MIB);
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) {
    struct gcrt_cache *cache = new_cache();
    unsigned slot = gcrt_slot_of(class, GCRT_SCAN, true);
    struct gcrt_place place;
    size_t count = 0;
    /* Fill most of the heap, which no class could if another kept its chunks. */
    static void *cells[12 * MIB / 16];
    while (count * gcrt_class_size[class] < 12 * MIB) ck_assert_ptr_nonnull(cells[count++] = take_cell(cache, slot));
    while (count)
      ck_assert(gcrt_object_at(cells[--count], &place) == GCRT_OBJECT_OK && gcrt_object_free(&place, false));
    gcrt_cache_retire(cache);
    ck_assert_uint_eq(gcrt_heap.busy, 0);
  }
}
END_TEST

START_TEST(a_full_heap_refuses_and_recovers) {
  fresh_heap(4 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_for(1024, GCRT_SCAN);
  size_t count = 0;
  char *cell, *last = NULL;
  while ((cell = take_cell(cache, slot)) != NULL) {
    last = cell;
    count++;
  }
  ck_assert_uint_eq(count, 4 * MIB / 1024);
  ck_assert_ptr_null(take_cell(cache, gcrt_slot_for(16, GCRT_SCAN)));
  gcrt_heap_verify();
  struct gcrt_place place;
  ck_assert_int_eq(gcrt_object_at(last, &place), GCRT_OBJECT_OK);
  ck_assert(gcrt_object_free(&place, false));
  ck_assert_ptr_eq(take_cell(cache, slot), last);
  ck_assert_ptr_null(take_cell(cache, slot));
  gcrt_heap_verify();
}
END_TEST

enum { THREADS = 4, OBJECTS = 500, ROUNDS = 20000 };
static gcrt_word handed[THREADS];

/* Allocates and frees at random; frees also what another thread allocated. */
static char *volatile shared[THREADS * OBJECTS];

static size_t pattern_size(size_t size) { return size & ~(size_t)7; }

static void free_one(char *cell) {
  struct gcrt_place place;
  TEST_REQUIRE(gcrt_object_at(cell, &place) == GCRT_OBJECT_OK);
  size_t size = pattern_size(gcrt_object_usable(&place));
  size_t bad = test_pattern_bad(cell, size, (uintptr_t)cell);
  TEST_REQUIRE(bad == size, "byte %zu of %zu", bad, size);
  TEST_REQUIRE(gcrt_object_free(&place, false));
}

static void *churn(void *arg) {
  struct test_random random = test_random_stream(7 + (uintptr_t)arg);
  struct gcrt_cache *cache = gcrt_cache_new();
  TEST_REQUIRE(cache != NULL);
  for (unsigned i = 0; i < ROUNDS; i++) {
    size_t at = test_random_below(&random, GCRT_COUNT(shared));
    char *old = __atomic_exchange_n(&shared[at], NULL, __ATOMIC_ACQ_REL);
    if (old) {
      free_one(old);
      continue;
    }
    size_t size = 1 + test_random_below(&random, test_random_once_in(&random, 10) ? 8000 : 200);
    char *cell = take_cell(cache, gcrt_slot_for(size, kinds[i % 3]));
    struct gcrt_place place;
    TEST_REQUIRE(cell && gcrt_object_at(cell, &place) == GCRT_OBJECT_OK);
    gcrt_add(&handed[(uintptr_t)arg], 1);
    TEST_REQUIRE(reads_zero(cell, gcrt_object_usable(&place)));
    test_pattern_write(cell, pattern_size(gcrt_object_usable(&place)), (uintptr_t)cell);
    old = __atomic_exchange_n(&shared[at], cell, __ATOMIC_ACQ_REL);
    if (old) free_one(old);
  }
  gcrt_cache_retire(cache);
  return NULL;
}

START_TEST(threads_share_the_heap) {
  pthread_t threads[THREADS];
  fresh_heap(64 * MIB);
  for (uintptr_t i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  gcrt_heap_verify();
  size_t total = 0, retired = 0, freed = 0;
  for (unsigned i = 0; i < THREADS; i++) total += handed[i];
  for (size_t i = 0; i < GCRT_COUNT(shared); i++)
    if (shared[i]) free_one(shared[i]);
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) {
    retired += gcrt_heap_stats.retired[class];
    freed += gcrt_heap_stats.frees[class];
    ck_assert_uint_eq(gcrt_heap_stats.retired[class], gcrt_heap_stats.frees[class]);
  }
  ck_assert_uint_eq(retired, total);
  ck_assert_uint_eq(freed, total);
  ck_assert_uint_eq(gcrt_heap.live, 0);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  gcrt_heap_verify();
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap/cache and heap/object");
  TCase *tc = test_case(suite, "objects", 120);
  tcase_add_loop_test(tc, cells_of_every_class_are_distinct_and_zero, 1, GCRT_CLASSES);
  tcase_add_test(tc, what_does_not_fill_its_cell_leaves_a_byte);
  tcase_add_test(tc, a_refill_takes_no_more_than_asked);
  tcase_add_test(tc, a_window_holds_what_it_has_not_handed_out);
  tcase_add_test(tc, freeing_counts_and_gives_the_cell_back);
  tcase_add_test(tc, a_second_free_of_the_same_place_is_refused);
  tcase_add_test(tc, a_freed_object_is_clobbered_when_asked);
  tcase_add_test(tc, freed_spans_serve_other_classes);
  tcase_add_test(tc, a_full_heap_refuses_and_recovers);
  tcase_add_test(tc, threads_share_the_heap);
  return suite;
}

TEST_MAIN(make_suite)
