/* The sweep, the recount of a forked child and the verifier: survivors are what was marked, counts agree to the byte,
 * and every breach of an invariant is found. */
#include "heap_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { COUNT = 4000 };

struct object {
  unsigned char *cell;
  size_t size;
  bool marked;
};
static struct object objects[COUNT];
static struct gcrt_cache *cache;

static void allocate(struct test_random *random) {
  static const enum gcrt_kind kinds[] = {GCRT_SCAN, GCRT_NOSCAN, GCRT_UNCOLLECTABLE};
  fresh_heap(256 * MIB);
  cache = new_cache();
  for (size_t i = 0; i < COUNT; i++) {
    size_t size = 1 + test_random_below(random, test_random_once_in(random, 8) ? 40000 : 300);
    enum gcrt_kind kind = kinds[test_random_below(random, 3)];
    if (size > GCRT_SMALL_MAX)
      objects[i].cell = (unsigned char *)gcrt_span_start(gcrt_span_large(size, 16, kind));
    else
      objects[i].cell = take_cell(cache, gcrt_slot_for(size, kind));
    objects[i].size = size;
    memset(objects[i].cell, (int)(i % 200 + 1), size);
  }
}

/* Marks about one in n, none for 0; returns the bytes of their cells. */
static size_t mark_some(struct test_random *random, unsigned n) {
  size_t bytes = 0;
  for (size_t i = 0; i < COUNT; i++) {
    struct gcrt_place place;
    objects[i].marked = n && test_random_once_in(random, n);
    if (!objects[i].marked) continue;
    mark_cell(objects[i].cell);
    ck_assert(gcrt_find((uintptr_t)objects[i].cell, &place));
    bytes += gcrt_place_size(&place);
  }
  return bytes;
}

static size_t sweep(bool clobber) {
  size_t before = gcrt_heap.live;
  gcrt_cache_keep_unused(cache);
  gcrt_heap_flip(clobber);
  size_t live = before - gcrt_heap_sweep_rest();
  ck_assert_uint_eq(live, gcrt_heap.live);
  gcrt_heap_verify();
  return live;
}

static size_t unused_bytes(void) {
  size_t bytes = 0;
  for (unsigned slot = 0; slot < GCRT_SLOTS; slot++)
    bytes += gcrt_popcount(cache->windows[slot].mask) * cache->windows[slot].cell;
  return bytes;
}

static size_t freed(void) {
  size_t count = 0;
  for (unsigned class = 0; class < GCRT_CLASSES; class ++) count += gcrt_heap_stats.frees[class];
  return count;
}

START_TEST(survivors_are_what_was_marked) {
  struct test_random random = test_random_stream(20 + (uint64_t)_i);
  allocate(&random);
  gcrt_heap_verify();
  size_t bytes = mark_some(&random, (unsigned)_i + 1), survivors = 0;
  ck_assert_uint_eq(sweep(false), bytes + unused_bytes());
  for (size_t i = 0; i < COUNT; i++) {
    struct gcrt_place place;
    ck_assert_int_eq(gcrt_find((uintptr_t)objects[i].cell, &place), objects[i].marked);
    survivors += objects[i].marked;
  }
  ck_assert_uint_eq(freed(), COUNT - survivors);
  /* What was not marked is used again, zeroed; survivors stay as they are. */
  for (size_t i = 0; i < COUNT; i++) {
    unsigned char *cell = take_cell(cache, gcrt_slot_for(objects[i].size % 2000, GCRT_SCAN));
    ck_assert(reads_zero(cell, objects[i].size % 2000));
    memset(cell, 0xee, objects[i].size % 2000);
  }
  for (size_t i = 0; i < COUNT; i++)
    if (objects[i].marked) ck_assert(filled(objects[i].cell, (unsigned char)(i % 200 + 1), objects[i].size));
  gcrt_heap_verify();
}
END_TEST

START_TEST(nothing_marked_leaves_only_windows) {
  struct test_random random = test_random_stream(1);
  allocate(&random);
  mark_some(&random, 0);
  ck_assert_uint_eq(sweep(false), unused_bytes());
  ck_assert_uint_eq(freed(), COUNT);
  ck_assert_uint_eq(gcrt_heap_stats.large_freed_bytes, gcrt_heap.large_bytes);
  gcrt_cache_retire(cache);
  ck_assert_uint_eq(gcrt_heap.live, 0);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  gcrt_heap_verify();
}
END_TEST

/* A thread that takes a span is left behind by a fork before it has noted which. */
START_TEST(a_span_whose_owner_is_gone_is_anybodys) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  unsigned slot = gcrt_slot_for(512, GCRT_SCAN);
  char *cell = take_cell(cache, slot);
  struct gcrt_span *span = cache->refill[slot].span;
  cache->refill[slot].span = NULL;
  ck_assert(gcrt_load_byte(&span->owned));
  mark_cell(cell);
  sweep(false);
  ck_assert_ptr_eq(gcrt_central_take(slot), span);
}
END_TEST

/* Who frees may not know yet that marking has begun, and end a span in which another thread has freed that does. */
START_TEST(a_span_that_ends_as_marking_begins_leaves_no_marks) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  unsigned slot = gcrt_slot_for(512, GCRT_SCAN);
  char *cell = take_cell(cache, slot);
  gcrt_cache_retire(cache);
  struct gcrt_place place;
  ck_assert(gcrt_find((uintptr_t)cell, &place));
  gcrt_mark *mark = place.mark;
  struct gcrt_span *span = gcrt_central_take(slot);
  ck_assert_uint_eq(gcrt_span_start(span), (uintptr_t)cell);
  gcrt_store(&gcrt_heap.marking, GCRT_MARKING_BEGINS);
  ck_assert(gcrt_object_free(&place, false));
  ck_assert_uint_eq(*mark, GCRT_MARK_FREED);
  gcrt_span_destroy(span);
  ck_assert_uint_eq(*mark, 0);
  gcrt_store(&gcrt_heap.marking, 0);
  gcrt_heap_verify();
}
END_TEST

START_TEST(unused_cells_of_a_window_survive_a_sweep) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  unsigned slot = gcrt_slot_for(64, GCRT_SCAN);
  char *first = take_cell(cache, slot);
  sweep(false);
  struct gcrt_place place;
  ck_assert(!gcrt_find((uintptr_t)first, &place));
  ck_assert(gcrt_find((uintptr_t)first + 64, &place));
  ck_assert(gcrt_heap.spans[place.chunk->first].windows & 1);
  char *second = take_cell(cache, slot);
  ck_assert_ptr_eq(second, first + 64);
  ck_assert(reads_zero(second, 64));
}
END_TEST

/* gc_free has counted a large object off and not yet ended its span, when the sweep comes by and ends it: it was ended
 * twice, the second time as what another thread had made of its chunks. */
START_TEST(large_object_freed_beside_the_sweep_was_ended_twice) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  struct gcrt_span *span = gcrt_span_large(3 * 65536, 1, GCRT_SCAN);
  size_t slot = gcrt_load(&span->slot), bytes = span->size;
  mark_cell((void *)gcrt_span_start(span));
  gcrt_heap_flip(false);
  struct gcrt_place place;
  ck_assert(gcrt_find(gcrt_span_start(span), &place));
  *place.mark = 0;
  gcrt_clear_bits(place.alloc, place.bit);
  gcrt_sub(&gcrt_heap.live, bytes);
  gcrt_sub(&span->used, 1);
  ck_assert_uint_eq(gcrt_heap_sweep_rest(), 0);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.busy), 0);
  gcrt_span_large_freed(span, slot);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.busy), 0);
  ck_assert_ptr_eq(gcrt_span_large(2 * 65536, 1, GCRT_SCAN), span);
  gcrt_span_large_freed(span, slot);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.busy), 2);
  gcrt_heap_verify();
}
END_TEST

/* The other order: the sweep finds nothing to do, or has not come yet. */
START_TEST(large_object_freed_before_its_sweep_ends_with_it) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  struct gcrt_span *span = gcrt_span_large(3 * 65536, 1, GCRT_SCAN);
  mark_cell((void *)gcrt_span_start(span));
  gcrt_heap_flip(false);
  struct gcrt_place place;
  ck_assert(gcrt_find(gcrt_span_start(span), &place));
  ck_assert(gcrt_object_free(&place, false));
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.busy), 3);
  ck_assert_uint_eq(gcrt_heap_sweep_rest(), 0);
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.busy), 0);
  gcrt_heap_verify();
}
END_TEST

/* What is freed while objects are marked stays taken until the sweep, whatever a late marker stores. */
START_TEST(cells_freed_while_marking_are_not_handed_out) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  unsigned slot = gcrt_slot_for(512, GCRT_SCAN);
  enum { CELLS = 65536 / 512 };
  char *cells[CELLS];
  for (size_t i = 0; i < CELLS; i++) cells[i] = take_cell(cache, slot);
  gcrt_store(&gcrt_heap.marking, GCRT_MARKING);
  for (size_t i = 0; i < CELLS; i++) {
    struct gcrt_place place;
    ck_assert(gcrt_find((uintptr_t)cells[i], &place));
    ck_assert(gcrt_object_free(&place, false));
    ck_assert(!gcrt_object_free(&place, false));
    if (i % 3 == 0) *place.mark = (uint8_t)gcrt_black();
    if (i % 3 == 1) ck_assert_uint_eq(*place.mark, GCRT_MARK_FREED);
  }
  for (size_t i = 0; i < 2 * CELLS; i++) {
    char *cell = take_cell(cache, slot);
    ck_assert(cell < cells[0] || cell > cells[CELLS - 1]);
  }
  gcrt_cache_keep_unused(cache);
  gcrt_heap_flip(false);
  gcrt_heap_sweep_rest();
  gcrt_heap_verify();
  ck_assert_uint_eq(gcrt_heap.live, unused_bytes());
}
END_TEST

/* A child of fork gives up its parent's marking: its own begins with a heap that is white. */
START_TEST(given_up_marking_leaves_no_marks) {
  struct test_random random = test_random_stream(3);
  allocate(&random);
  gcrt_store(&gcrt_heap.marking, GCRT_MARKING);
  mark_some(&random, 2);
  struct gcrt_place place;
  ck_assert(gcrt_find((uintptr_t)objects[0].cell, &place));
  ck_assert(gcrt_object_free(&place, false));
  *place.mark = (uint8_t)gcrt_black();
  gcrt_heap_abandon_marking();
  ck_assert_uint_eq(gcrt_load(&gcrt_heap.marking), 0);
  gcrt_heap_begin_marking();
  for (size_t i = 0; i < COUNT; i++) objects[i].marked = false;
  ck_assert_uint_eq(sweep(false), unused_bytes());
}
END_TEST

START_TEST(the_dead_are_clobbered_when_asked) {
  struct test_random random = test_random_stream(2);
  allocate(&random);
  mark_some(&random, 2);
  sweep(true);
  for (size_t i = 0; i < COUNT; i++)
    ck_assert(filled(objects[i].cell, (unsigned char)(objects[i].marked ? i % 200 + 1 : 0xdb), objects[i].size));
}
END_TEST

static gcrt_word swept;

static void *sweep_beside(void *unused) {
  gcrt_heap_sweep_rest();
  gcrt_store_release(&swept, 1);
  return unused;
}

static size_t bytes_in_spans(void) {
  size_t bytes = 0;
  for (size_t i = 0; i < gcrt_load(&gcrt_heap.used) / GCRT_CHUNK; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells == 0 || chunk->first != i) continue;
    bytes += gcrt_load(&gcrt_heap.spans[i].used) * (chunk->cell ? chunk->cell : gcrt_heap.spans[i].size);
  }
  return bytes;
}

/* A fork holds all locks of the heap, and its child keeps the count that it finds. */
START_TEST(child_of_a_fork_beside_a_sweep_took_the_freed_for_alive) {
  struct test_random random = test_random_stream(27);
  for (int round = 0; round < 20; round++) {
    allocate(&random);
    mark_some(&random, 3);
    gcrt_cache_keep_unused(cache);
    gcrt_heap_flip(true);
    gcrt_store(&swept, 0);
    pthread_t sweeper;
    ck_assert_int_eq(pthread_create(&sweeper, NULL, sweep_beside, NULL), 0);
    while (!gcrt_load_acquire(&swept)) {
      gcrt_heap_lock_all();
      size_t live = gcrt_load(&gcrt_heap.live), bytes = bytes_in_spans();
      gcrt_heap_unlock_all();
      TEST_REQUIRE(live == bytes, "%zu bytes count as alive, %zu are", live, bytes);
    }
    ck_assert_int_eq(pthread_join(sweeper, NULL), 0);
  }
}
END_TEST

START_TEST(a_recount_agrees_with_the_bitmaps) {
  struct test_random random = test_random_stream(3);
  allocate(&random);
  mark_some(&random, 2);
  size_t live = sweep(false);
  uint64_t before[GCRT_CLASSES] = {0}, after[GCRT_CLASSES] = {0};
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) before[class] = gcrt_heap_stats.retired[class];
  gcrt_cache_count(cache, before);
  /* As another thread that was in the middle of an exchange leaves them. */
  gcrt_store(&gcrt_heap.live, live + 12345);
  for (size_t i = 0; i < gcrt_heap.used / GCRT_CHUNK; i++)
    if (gcrt_heap.chunks[i].cells && gcrt_heap.chunks[i].first == i) gcrt_add(&gcrt_heap.spans[i].used, 3);
  gcrt_heap_recount_spans();
  gcrt_heap_recount_classes(cache);
  ck_assert_uint_eq(gcrt_heap.live, live);
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) after[class] = gcrt_heap_stats.retired[class];
  gcrt_cache_count(cache, after);
  for (unsigned class = 1; class < GCRT_CLASSES; class ++) ck_assert_uint_eq(after[class], before[class]);
  gcrt_heap_verify();
}
END_TEST

/* The child of a fork has the tables page by page, each of its own moment. */
START_TEST(mark_bytes_of_another_moment_are_mended) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  char *cells[4];
  for (size_t i = 0; i < 4; i++) cells[i] = take_cell(cache, gcrt_slot_for(3000, GCRT_SCAN));
  struct gcrt_place freed_place, taken_place;
  ck_assert(gcrt_find((uintptr_t)cells[1], &freed_place) && gcrt_find((uintptr_t)cells[2], &taken_place));
  gcrt_clear_bits(freed_place.alloc, freed_place.bit); /* freed, its mark byte from before */
  *taken_place.mark = 0;                               /* taken, its mark byte from before */
  gcrt_heap_recount_spans();
  ck_assert_uint_eq(*freed_place.mark, 0);
  ck_assert_uint_eq(*taken_place.mark, gcrt_heap.white);
  mark_cell(cells[0]);
  sweep(false);
  struct gcrt_place place;
  ck_assert(gcrt_find((uintptr_t)cells[0], &place));
  ck_assert(!gcrt_find((uintptr_t)cells[2], &place) && !gcrt_find((uintptr_t)cells[3], &place));
}
END_TEST

START_TEST(window_newer_than_the_alloc_bits_takes_no_object_away) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  struct gcrt_cache *other = new_cache();
  unsigned slot = gcrt_slot_for(1000, GCRT_SCAN);
  char *object = take_cell(other, slot);
  while (other->windows[slot].mask) (void)gcrt_cache_take(other, slot);
  ck_assert(gcrt_cache_refill(other, slot, 1));
  struct gcrt_window *window = &other->windows[slot];
  gcrt_word *alloc = (gcrt_word *)window->alloc;
  uint64_t unused = window->mask;
  gcrt_clear_bits(alloc, unused);
  /* As many cells are objects as the window says it has. */
  struct gcrt_place place;
  ck_assert(gcrt_find((uintptr_t)object, &place));
  for (size_t i = 0; i < GCRT_WORDS; i++)
    gcrt_store(&gcrt_heap.allocs[gcrt_chunk_index((uintptr_t)object) * GCRT_WORDS + i], 0);
  gcrt_set_bits(place.alloc, place.bit);
  ck_assert_uint_eq(gcrt_popcount(unused), 1);
  gcrt_heap_recount_spans();
  gcrt_cache_retire(other);
  gcrt_heap_recount_classes(cache);
  ck_assert(gcrt_find((uintptr_t)object, &place));
  ck_assert_uint_eq(gcrt_heap.spans[place.chunk->first].used, 1);
  gcrt_heap_verify();
}
END_TEST

/* One small object's span, one large object, and a listed span, each with something to break. */
static struct gcrt_span *small_span, *large_span, *listed_span;

static void make_breakable(void) {
  fresh_heap(16 * MIB);
  cache = new_cache();
  char *small = take_cell(cache, gcrt_slot_for(64, GCRT_SCAN));
  char *other = take_cell(cache, gcrt_slot_for(3000, GCRT_NOSCAN));
  large_span = gcrt_span_large(200000, 16, GCRT_SCAN);
  small_span = &gcrt_heap.spans[gcrt_chunk_index((uintptr_t)small)];
  listed_span = &gcrt_heap.spans[gcrt_chunk_index((uintptr_t)other)];
  mark_cell(small);
  mark_cell(other);
  mark_cell((void *)gcrt_span_start(large_span));
  sweep(false);
  TEST_REQUIRE(listed_span->listed && small_span->listed);
}

static struct gcrt_chunk *chunk_of(struct gcrt_span *span) { return &gcrt_heap.chunks[gcrt_span_index(span)]; }
static gcrt_word *alloc_of(struct gcrt_span *span, size_t i) {
  return &gcrt_heap.allocs[gcrt_span_index(span) * GCRT_WORDS + i];
}

static gcrt_mark *marks_of(struct gcrt_span *span) { return gcrt_span_marks(&gcrt_heap.chunks[gcrt_span_index(span)]); }

static void break_nothing(void) {}
static void break_mark(void) { marks_of(small_span)[0] = (uint8_t)gcrt_black(); }
static void break_mark_behind(void) { marks_of(large_span)[9] = (uint8_t)gcrt_black(); }
static void break_alloc(void) { *alloc_of(small_span, 2) ^= 4; }
static void break_alloc_behind_the_cells(void) { *alloc_of(listed_span, 1) = 1; }
static void break_used(void) { small_span->used++; }
static void break_live(void) { gcrt_heap.live += 16; }
static void break_busy(void) { gcrt_heap.busy--; }
static void break_busy_map(void) { gcrt_heap.busy_map[0] &= ~(UINT64_C(1) << (gcrt_span_index(large_span) + 1)); }
static void break_busy_map_beyond(void) { gcrt_heap.busy_map[0] &= ~(UINT64_C(1) << gcrt_span_index(small_span)); }
static void break_first(void) { chunk_of(large_span)[1].first++; }
static void break_cells(void) { chunk_of(large_span)[1].cells = 2; }
static void break_magic(void) { chunk_of(large_span)[2].magic = 77; }
static void break_cell(void) { chunk_of(small_span)->cell = 80; }
static void break_class(void) { chunk_of(small_span)->class ++; }
static void break_slot(void) { small_span->slot = (uint16_t)gcrt_slot_of(9, GCRT_SCAN, true); }
static void break_chunks(void) { small_span->chunks = 2; }
static void break_fresh(void) { small_span->fresh = 100000; }
static void break_size(void) { large_span->size = 65536 * 5; }
static void break_owner(void) { small_span->owned = true; }
static void break_list_flag(void) { listed_span->listed = false; }
static void break_list_loop(void) { small_span->next = small_span; }
static void break_list_slot(void) { gcrt_heap.central[small_span->slot].partial = listed_span; }

static const struct breach {
  void (*make)(void);
  const char *name;
} breaches[] = {
    {break_nothing, "nothing"},
    {break_mark, "a mark bit is set"},
    {break_mark_behind, "a mark bit behind the cells is set"},
    {break_alloc, "an alloc bit is flipped"},
    {break_alloc_behind_the_cells, "an alloc bit behind the cells is set"},
    {break_used, "a span's used cells"},
    {break_live, "the heap's live bytes"},
    {break_busy, "the count of busy chunks"},
    {break_busy_map, "a chunk inside a span is free"},
    {break_busy_map_beyond, "a span is free"},
    {break_first, "a chunk's first"},
    {break_cells, "a chunk's cells"},
    {break_magic, "a chunk's magic"},
    {break_cell, "a span's cell size"},
    {break_class, "a span's class"},
    {break_slot, "a span's slot"},
    {break_chunks, "a span's chunks"},
    {break_fresh, "a span's fresh cells"},
    {break_size, "a large object's size"},
    {break_owner, "a listed span is owned"},
    {break_list_flag, "a span in a list is not marked as listed"},
    {break_list_loop, "a list bites its tail"},
    {break_list_slot, "a span is in another slot's list"},
};

static int break_and_verify(void *arg) {
  ((const struct breach *)arg)->make();
  gcrt_heap_verify();
  return 0;
}

START_TEST(every_breach_is_found) {
  make_breakable();
  struct breach breach = breaches[_i];
  struct test_child child = test_child_fork(break_and_verify, &breach, NULL);
  if (breach.make == break_nothing) {
    test_assert_exited(&child, 0);
  } else {
    ck_assert_msg(test_child_signalled(&child, SIGABRT), "%s: %s", breach.name, test_child_text(&child));
    test_assert_err_has(&child, "broken invariant");
  }
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap/sweep, heap/recount and heap/verify");
  TCase *tc = test_case(suite, "sweep", 120);
  tcase_add_loop_test(tc, survivors_are_what_was_marked, 0, 4);
  tcase_add_test(tc, nothing_marked_leaves_only_windows);
  tcase_add_test(tc, a_span_whose_owner_is_gone_is_anybodys);
  tcase_add_test(tc, a_span_that_ends_as_marking_begins_leaves_no_marks);
  tcase_add_test(tc, unused_cells_of_a_window_survive_a_sweep);
  tcase_add_test(tc, large_object_freed_beside_the_sweep_was_ended_twice);
  tcase_add_test(tc, large_object_freed_before_its_sweep_ends_with_it);
  tcase_add_test(tc, cells_freed_while_marking_are_not_handed_out);
  tcase_add_test(tc, given_up_marking_leaves_no_marks);
  tcase_add_test(tc, the_dead_are_clobbered_when_asked);
  tcase_add_test(tc, child_of_a_fork_beside_a_sweep_took_the_freed_for_alive);
  tcase_add_test(tc, a_recount_agrees_with_the_bitmaps);
  tcase_add_test(tc, mark_bytes_of_another_moment_are_mended);
  tcase_add_test(tc, window_newer_than_the_alloc_bits_takes_no_object_away);
  tc = test_case(suite, "verify", 60);
  tcase_add_loop_test(tc, every_breach_is_found, 0, (int)GCRT_COUNT(breaches));
  return suite;
}

TEST_MAIN(make_suite)
