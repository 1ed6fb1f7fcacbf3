/* Scanning what was written while objects are marked: each step is taken by hand, on a heap of the test's own. */
#include "mark/copies.h"
#include "mark/mark.h"

#include "heap_fixture.h"

enum { WORDS = 512, TABLE_PAGES = 40 };

static struct gcrt_cache *cache;
static void *volatile *table; /* TABLE_PAGES pages of pointers */

static void *new_object(size_t size, enum gcrt_kind kind) {
  void *object = take_cell(cache, gcrt_slot_for(size, kind));
  TEST_REQUIRE(object != NULL);
  return object;
}

static bool marked(const void *object) {
  struct gcrt_place place;
  TEST_REQUIRE(gcrt_find_cell((uintptr_t)object, &place));
  return *place.mark == gcrt_black();
}

static void free_object(const void *object) {
  struct gcrt_place place;
  TEST_REQUIRE(gcrt_find((uintptr_t)object, &place) && gcrt_object_free(&place, false));
}

/* What a collection does first: the table is the only root. */
static void begin(void) {
  static uintptr_t root[1];
  static const struct gcrt_root roots[] = {{{(uintptr_t)root, (uintptr_t)(root + 1)}, GCRT_ROOT_GLOBAL}};
  root[0] = (uintptr_t)table;
  gcrt_heap_begin_marking();
  gcrt_store(&gcrt_heap.marking, GCRT_MARKING);
  gcrt_mark_begin(0);
  gcrt_mark_grey(roots, 1);
  gcrt_mark_grey_out(1, true);
}

static struct gcrt_range range;

/* All of the range is in the part of the heap that begins with its first chunk. */
static void scan_range(struct gcrt_marker *marker, size_t first, size_t end) {
  size_t chunk = gcrt_chunk_index(range.start);
  if (first <= chunk && chunk < end) gcrt_mark_written(marker, range.start, range.end);
}

static void written(void *volatile *first, size_t words) {
  range = (struct gcrt_range){(uintptr_t)first, (uintptr_t)(first + words)};
  gcrt_mark_pages_beside(1, scan_range, false);
}

static void setup(void) {
  fresh_heap(64 * MIB);
  gcrt_mark_init(1);
  cache = new_cache();
  struct gcrt_span *span = gcrt_span_large(TABLE_PAGES * GCRT_COPY_BYTES, 1, GCRT_SCAN);
  ck_assert_ptr_nonnull(span);
  table = (void *volatile *)gcrt_span_start(span);
}

/* Fills a page of the table, so that it is worth a copy, and has it scanned until it has one. */
static void copy_page(size_t page) {
  for (size_t i = 0; i < WORDS; i++) {
    if (!table[page * WORDS + i]) table[page * WORDS + i] = new_object(48, GCRT_SCAN);
  }
  for (int i = 0; i < 3; i++) written(table + page * WORDS, WORDS);
  ck_assert_ptr_nonnull(gcrt_copy_find((uintptr_t)(table + page * WORDS) - gcrt_heap.base));
}

START_TEST(objects_stored_meanwhile_are_found) {
  setup();
  begin();
  struct test_random random = test_random_stream(1);
  for (unsigned round = 0; round < 200; round++) {
    size_t page = test_random_below(&random, TABLE_PAGES);
    void **objects[20];
    for (unsigned i = 0; i < 20; i++) {
      objects[i] = new_object(64, GCRT_SCAN);
      objects[i][1] = new_object(32, GCRT_NOSCAN);
      table[page * WORDS + test_random_below(&random, WORDS)] = objects[i];
    }
    written(table + page * WORDS, WORDS);
    for (size_t i = 0; i < WORDS; i++) {
      void **object = table[page * WORDS + i];
      if (object) TEST_REQUIRE(marked(object) && marked(object[1]));
    }
  }
}
END_TEST

START_TEST(objects_that_are_not_marked_are_not_scanned) {
  setup();
  begin();
  void **white = new_object(64, GCRT_SCAN);
  white[0] = new_object(64, GCRT_SCAN);
  written((void *volatile *)white, 8);
  ck_assert(!marked(white) && !marked(white[0]));
  table[7] = white;
  written(table, WORDS);
  ck_assert(marked(white) && marked(white[0]));
}
END_TEST

/* A part of a large object is a part of it, and its neighbours on the page are others. */
START_TEST(only_what_was_written_is_scanned) {
  setup();
  begin();
  void *first = new_object(64, GCRT_SCAN), *last = new_object(64, GCRT_SCAN);
  table[0] = first;
  table[TABLE_PAGES * WORDS - 1] = last;
  written(table + WORDS, WORDS);
  ck_assert(!marked(first) && !marked(last));
  written(table + (TABLE_PAGES - 1) * WORDS, WORDS);
  ck_assert(!marked(first) && marked(last));
}
END_TEST

START_TEST(copies_spare_what_did_not_change) {
  setup();
  begin();
  copy_page(3);
  const uintptr_t *copy = gcrt_copy_find((uintptr_t)(table + 3 * WORDS) - gcrt_heap.base);
  for (size_t i = 0; i < WORDS; i++) ck_assert_uint_eq(copy[i], (uintptr_t)table[3 * WORDS + i]);
  void *object = new_object(48, GCRT_SCAN);
  table[3 * WORDS + 100] = object;
  written(table + 3 * WORDS, WORDS);
  ck_assert(marked(object));
  ck_assert_uint_eq(copy[100], (uintptr_t)object);
}
END_TEST

/* The same bits: a word in front of a free cell, which is handed out and stored in the same place. */
START_TEST(word_seen_before_its_cell_was_handed_out) {
  setup();
  unsigned slot = gcrt_slot_for(96, GCRT_SCAN);
  char *object = take_cell(cache, slot);
  /* In the window after this one: free. */
  char *far = object + 64 * cache->windows[slot].cell;
  begin();
  table[5 * WORDS + 9] = far;
  copy_page(5);
  const uintptr_t *copy = gcrt_copy_find((uintptr_t)(table + 5 * WORDS) - gcrt_heap.base);
  struct gcrt_place place;
  ck_assert(!gcrt_find((uintptr_t)far, &place));
  ck_assert_uint_eq(copy[9], 0);
  char *taken;
  do taken = take_cell(cache, slot);
  while (taken != far);
  written(table + 5 * WORDS, WORDS);
  ck_assert(marked(far));
}
END_TEST

/* The same bits again: what is freed while objects are marked does not become another object before the sweep. */
START_TEST(word_seen_before_its_object_was_freed) {
  setup();
  begin();
  copy_page(5);
  void *object = table[5 * WORDS + 9];
  free_object(object);
  for (unsigned i = 0; i < 20000; i++) ck_assert(new_object(48, GCRT_SCAN) != object);
}
END_TEST

/* A word of an object that is white is not seen: the object may change, be marked and scanned, and change back. */
START_TEST(word_of_a_white_object_is_not_seen) {
  setup();
  begin();
  copy_page(2);
  void *volatile *small = new_object(48, GCRT_SCAN);
  size_t page = gcrt_align_down((uintptr_t)small - gcrt_heap.base, GCRT_COPY_BYTES);
  ck_assert(gcrt_copy_make(page));
  small[1] = new_object(48, GCRT_SCAN);
  written(small, 6);
  ck_assert(!marked(small[1]));
  table[0] = (void *)small;
  void *kept = small[1];
  small[1] = NULL;
  written(table, WORDS);
  ck_assert(marked((void *)small) && !marked(kept));
  small[1] = kept;
  written(small, 6);
  ck_assert(marked(kept));
}
END_TEST

START_TEST(copies_end_with_the_marking) {
  setup();
  begin();
  copy_page(1);
  size_t page = (uintptr_t)(table + WORDS) - gcrt_heap.base;
  gcrt_copies_begin(gcrt_load(&gcrt_heap.used));
  ck_assert_ptr_null(gcrt_copy_find(page));
}
END_TEST

/* Pages that share a place in the table take it from each other. */
START_TEST(pages_that_meet_lose_a_copy_and_no_object) {
  gcrt_copies_begin(0);
  size_t other = (size_t)256 * GCRT_COPY_BYTES;
  ck_assert(gcrt_copy_make(0));
  uintptr_t *first = gcrt_copy_take(0);
  ck_assert_ptr_nonnull(first);
  first[3] = 7;
  gcrt_copy_give(0);
  ck_assert(gcrt_copy_make(other));
  const uintptr_t *second = gcrt_copy_find(other);
  ck_assert_ptr_eq(first, second);
  ck_assert_uint_eq(second[3], 0);
  ck_assert_ptr_null(gcrt_copy_find(0));
  ck_assert_ptr_null(gcrt_copy_take(0));
  ck_assert_uint_gt(gcrt_copies_memory(), 256 * GCRT_COPY_BYTES);
}
END_TEST

/* What one marker writes, another neither reads nor takes for its own page. */
START_TEST(copy_is_one_markers_at_a_time) {
  size_t other = (size_t)256 * GCRT_COPY_BYTES;
  gcrt_copies_begin(0);
  ck_assert(gcrt_copy_make(0));
  ck_assert_ptr_nonnull(gcrt_copy_take(0));
  ck_assert_ptr_null(gcrt_copy_take(0));
  ck_assert_ptr_null(gcrt_copy_take(other));
  ck_assert(!gcrt_copy_make(other));
  gcrt_copy_give(0);
  ck_assert_ptr_nonnull(gcrt_copy_take(0));
  gcrt_copy_give(0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("mark/written");
  TCase *tests = test_case(suite, "written", 30);
  tcase_add_test(tests, objects_stored_meanwhile_are_found);
  tcase_add_test(tests, objects_that_are_not_marked_are_not_scanned);
  tcase_add_test(tests, only_what_was_written_is_scanned);
  tcase_add_test(tests, copies_spare_what_did_not_change);
  tcase_add_test(tests, word_seen_before_its_cell_was_handed_out);
  tcase_add_test(tests, word_seen_before_its_object_was_freed);
  tcase_add_test(tests, word_of_a_white_object_is_not_seen);
  tcase_add_test(tests, copies_end_with_the_marking);
  tcase_add_test(tests, pages_that_meet_lose_a_copy_and_no_object);
  tcase_add_test(tests, copy_is_one_markers_at_a_time);
  return suite;
}

TEST_MAIN(make_suite)
