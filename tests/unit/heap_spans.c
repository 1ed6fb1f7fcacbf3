/* Spans of every slot and large ones, and how any address finds its cell. */
#include "heap_fixture.h"
#include "sys/memory.h"

#include <stdlib.h>

static const enum gcrt_kind kinds[] = {GCRT_SCAN, GCRT_NOSCAN, GCRT_UNCOLLECTABLE};

START_TEST(slots_carry_class_kind_and_fill) {
  bool seen[GCRT_SLOTS] = {false};
  for (unsigned class = 0; class < GCRT_CLASSES; class ++)
    for (unsigned kind = 0; kind < GCRT_KINDS; kind++)
      for (unsigned tight = 0; tight < 2; tight++) {
        unsigned slot = gcrt_slot_of(class, kinds[kind], tight);
        ck_assert_uint_lt(slot, GCRT_SLOTS);
        ck_assert(!seen[slot]);
        seen[slot] = true;
        ck_assert_uint_eq(gcrt_slot_class(slot), class);
        ck_assert_int_eq(gcrt_slot_kind(slot), kinds[kind]);
        ck_assert_int_eq(gcrt_slot_tight(slot), tight);
      }
}
END_TEST

START_TEST(sizes_go_to_the_slot_of_their_class) {
  fresh_heap(16 * MIB);
  for (size_t size = 0; size <= GCRT_SMALL_MAX; size++)
    for (unsigned kind = 0; kind < GCRT_KINDS; kind++) {
      unsigned slot = gcrt_slot_for(size, kinds[kind]), class = gcrt_class_of(size ? (unsigned)size : 1);
      TEST_REQUIRE(gcrt_slot_class(slot) == class);
      TEST_REQUIRE(gcrt_slot_kind(slot) == kinds[kind]);
      TEST_REQUIRE(gcrt_slot_tight(slot) == (gcrt_class_size[class] == size), "size %zu", size);
    }
}
END_TEST

static void assert_entries(const struct gcrt_span *span, unsigned slot) {
  size_t first = gcrt_span_index(span);
  unsigned class = gcrt_slot_class(slot);
  ck_assert_uint_eq(span->slot, slot);
  ck_assert(span->owned && !span->listed);
  ck_assert_uint_eq(span->chunks, gcrt_class_chunks[class]);
  for (size_t i = first; i < first + span->chunks; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    ck_assert_uint_eq(chunk->first, first);
    ck_assert_uint_eq(chunk->class, class);
    ck_assert_uint_eq(chunk->cell, gcrt_class_size[class]);
    ck_assert_uint_eq(chunk->cells, span->chunks * GCRT_CHUNK / gcrt_class_size[class]);
    ck_assert_int_eq((chunk->flags & GCRT_FLAG_NOSCAN) != 0, gcrt_slot_kind(slot) == GCRT_NOSCAN);
    ck_assert_int_eq((chunk->flags & GCRT_FLAG_UNCOLLECTABLE) != 0, gcrt_slot_kind(slot) == GCRT_UNCOLLECTABLE);
    ck_assert_int_eq((chunk->flags & GCRT_FLAG_TIGHT) != 0, gcrt_slot_tight(slot));
    ck_assert_int_eq(chunk->flags & GCRT_FLAG_LARGE, 0);
  }
}

START_TEST(spans_of_every_slot_are_made_and_taken_apart) {
  fresh_heap(64 * MIB);
  for (unsigned slot = GCRT_SLOTS_PER_CLASS; slot < GCRT_SLOTS; slot++) {
    struct gcrt_span *span = gcrt_central_take(slot);
    ck_assert_ptr_nonnull(span);
    assert_entries(span, slot);
    ck_assert_uint_eq(gcrt_heap.busy, span->chunks);
    gcrt_heap_verify();
    uintptr_t start = gcrt_span_start(span);
    gcrt_central_give(span); /* nothing in it is in use */
    ck_assert_uint_eq(gcrt_heap.busy, 0);
    struct gcrt_place place;
    ck_assert(!gcrt_find_cell(start, &place));
    gcrt_heap_verify();
  }
}
END_TEST

START_TEST(every_address_finds_its_cell) {
  unsigned slot = gcrt_slot_of((unsigned)_i, GCRT_SCAN, true);
  fresh_heap(16 * MIB);
  /* Not the first chunk, so that a mistaken offset shows. */
  ck_assert_ptr_nonnull(gcrt_central_take(gcrt_slot_of(1, GCRT_NOSCAN, false)));
  struct gcrt_span *span = gcrt_central_take(slot);
  uintptr_t start = gcrt_span_start(span);
  size_t cell = gcrt_class_size[_i], cells = gcrt_heap.chunks[gcrt_span_index(span)].cells;
  for (size_t offset = 0; offset < span->chunks * (size_t)GCRT_CHUNK; offset++) {
    struct gcrt_place place;
    bool found = gcrt_find_cell(start + offset, &place);
    TEST_REQUIRE(found == (offset / cell < cells), "offset %zu", offset);
    if (!found) continue;
    size_t index = offset / cell;
    TEST_REQUIRE(place.index == index && gcrt_place_start(&place) == start + index * cell, "offset %zu", offset);
    TEST_REQUIRE(place.alloc == &gcrt_heap.allocs[gcrt_span_index(span) * GCRT_WORDS + index / 64]);
    TEST_REQUIRE(place.bit == (size_t)1 << (index % 64) && gcrt_place_size(&place) == cell);
  }
}
END_TEST

START_TEST(other_addresses_find_nothing) {
  struct gcrt_place place;
  int local = 0;
  fresh_heap(16 * MIB);
  struct gcrt_span *span = gcrt_central_take(gcrt_slot_of(4, GCRT_SCAN, true));
  size_t end = gcrt_heap.base + gcrt_heap.used;
  ck_assert(gcrt_in_heap(gcrt_heap.base) && gcrt_in_heap(end - 1));
  const uintptr_t outside[] = {0,
                               1,
                               4096,
                               (uintptr_t)&local,
                               (uintptr_t)malloc(16),
                               gcrt_heap.base - 1,
                               end,
                               end + GCRT_CHUNK,
                               gcrt_heap.base + gcrt_heap.reserved,
                               UINTPTR_MAX};
  for (size_t i = 0; i < GCRT_COUNT(outside); i++) {
    ck_assert(!gcrt_in_heap(outside[i]));
    ck_assert(!gcrt_find_cell(outside[i], &place));
    ck_assert_int_eq(gcrt_object_at((void *)outside[i], &place), GCRT_OBJECT_FOREIGN);
  }
  /* A cell that is not handed out is found, but is no object. */
  ck_assert(gcrt_find_cell(gcrt_span_start(span), &place));
  ck_assert(!gcrt_find(gcrt_span_start(span), &place));
  ck_assert_int_eq(gcrt_object_at((void *)gcrt_span_start(span), &place), GCRT_OBJECT_FREE);
}
END_TEST

START_TEST(large_objects_have_spans_of_their_own) {
  static const size_t sizes[] = {GCRT_SMALL_MAX + 1, 40000, 65535, 65536, 65537, 100000, 131072, 1 << 20, 5 * MIB + 1};
  size_t live = 0;
  fresh_heap(64 * MIB);
  for (size_t i = 0; i < GCRT_COUNT(sizes); i++) {
    struct gcrt_span *span = gcrt_span_large(sizes[i], 16, kinds[i % 3]);
    ck_assert_ptr_nonnull(span);
    uintptr_t start = gcrt_span_start(span);
    ck_assert_uint_ge(span->size, sizes[i]);
    ck_assert_uint_lt(span->size - sizes[i], 4096);
    ck_assert_uint_eq(span->chunks, (span->size + GCRT_CHUNK - 1) / GCRT_CHUNK);
    ck_assert(reads_zero((void *)start, span->size));
    live += span->size;
    ck_assert_uint_eq(gcrt_heap.live, live);
    for (size_t offset = 0; offset < sizes[i]; offset += offset < 4096 ? 1 : 4093) {
      struct gcrt_place place;
      TEST_REQUIRE(gcrt_find(start + offset, &place) && gcrt_place_start(&place) == start, "offset %zu", offset);
      TEST_REQUIRE(gcrt_place_size(&place) == span->size && (place.chunk->flags & GCRT_FLAG_LARGE));
      TEST_REQUIRE(gcrt_object_kind(&place) == kinds[i % 3]);
      enum gcrt_object_state state = offset ? GCRT_OBJECT_INTERIOR : GCRT_OBJECT_OK;
      TEST_REQUIRE(gcrt_object_at((void *)(start + offset), &place) == state, "offset %zu", offset);
    }
    gcrt_heap_verify();
  }
  ck_assert_uint_eq(gcrt_heap.large_mallocs, GCRT_COUNT(sizes));
  ck_assert_uint_eq(gcrt_heap.large_bytes, live);
}
END_TEST

START_TEST(one_past_a_large_object_is_in_it_unless_it_is_tight) {
  static const size_t sizes[] = {40000, 61440, 65536, 131072, 131073};
  fresh_heap(64 * MIB);
  for (size_t i = 0; i < GCRT_COUNT(sizes); i++) {
    struct gcrt_span *span = gcrt_span_large(sizes[i], 16, GCRT_SCAN);
    uintptr_t start = gcrt_span_start(span), end = start + span->size;
    struct gcrt_place place;
    bool tight = gcrt_heap.chunks[gcrt_span_index(span)].flags & GCRT_FLAG_TIGHT;
    ck_assert_int_eq(tight, span->size % GCRT_CHUNK == 0);
    bool found = gcrt_find(end, &place) && gcrt_place_start(&place) == start;
    ck_assert_int_eq(found, !tight);
  }
}
END_TEST

START_TEST(large_objects_are_aligned) {
  fresh_heap(64 * MIB);
  for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 2) {
    struct gcrt_span *span = gcrt_span_large(GCRT_SMALL_MAX + 1, alignment, GCRT_SCAN);
    ck_assert_ptr_nonnull(span);
    ck_assert_uint_eq(gcrt_span_start(span) % alignment, 0);
  }
  gcrt_heap_verify();
}
END_TEST

START_TEST(a_large_object_in_used_memory_is_zeroed) {
  fresh_heap(16 * MIB);
  for (unsigned round = 0; round < 3; round++) {
    struct gcrt_span *span = gcrt_span_large(300000, 16, GCRT_NOSCAN);
    uintptr_t start = gcrt_span_start(span);
    ck_assert_uint_eq(start, gcrt_heap.base);
    ck_assert(reads_zero((void *)start, span->size));
    memset((void *)start, 0x99, span->size);
    struct gcrt_place place;
    ck_assert_int_eq(gcrt_object_at((void *)start, &place), GCRT_OBJECT_OK);
    ck_assert_uint_ge(gcrt_object_usable(&place), 300000);
    ck_assert(gcrt_object_free(&place, false));
    ck_assert_uint_eq(gcrt_heap.busy, 0);
    ck_assert_uint_eq(gcrt_heap.live, 0);
    ck_assert_int_eq(gcrt_object_at((void *)start, &place), GCRT_OBJECT_FREE);
    gcrt_heap_verify();
  }
  ck_assert_uint_eq(gcrt_heap_stats.frees[0], 3);
  ck_assert_uint_eq(gcrt_heap_stats.large_freed_bytes, gcrt_heap.large_bytes);
}
END_TEST

START_TEST(too_large_is_refused) {
  fresh_heap(16 * MIB);
  static const size_t sizes[] = {16 * MIB + 1, (size_t)1 << 40, SIZE_MAX / 2, SIZE_MAX - 4095, SIZE_MAX};
  for (size_t i = 0; i < GCRT_COUNT(sizes); i++) ck_assert_ptr_null(gcrt_span_large(sizes[i], 16, GCRT_SCAN));
  ck_assert_ptr_nonnull(gcrt_span_large(16 * MIB, 16, GCRT_SCAN));
  ck_assert_ptr_null(gcrt_central_take(gcrt_slot_of(1, GCRT_SCAN, true)));
  gcrt_heap_verify();
}
END_TEST

/* Chunks of cells under 64 bytes touch mark bytes of their own; each page of them counts once. */
START_TEST(touched_mark_bytes_are_counted) {
  fresh_heap(16 * MIB);
  struct gcrt_heap_usage none, usage;
  unsigned coarse = gcrt_slot_of(gcrt_class_of(64), GCRT_SCAN, true);
  unsigned fine[] = {gcrt_slot_of(gcrt_class_of(16), GCRT_SCAN, true),
                     gcrt_slot_of(gcrt_class_of(48), GCRT_NOSCAN, false)};
  ck_assert_ptr_nonnull(gcrt_central_take(coarse));
  gcrt_heap_usage(&none);
  ck_assert_uint_eq(gcrt_heap.fine_pages, 0);
  struct gcrt_span *spans[2];
  for (size_t i = 0; i < 2; i++) {
    spans[i] = gcrt_central_take(fine[i]);
    size_t last = (gcrt_span_index(spans[i]) << GCRT_MARKS_SHIFT_FINE) / gcrt_page_size();
    size_t first = (gcrt_span_index(spans[0]) << GCRT_MARKS_SHIFT_FINE) / gcrt_page_size();
    gcrt_heap_usage(&usage);
    ck_assert_uint_eq(usage.tables_sys - none.tables_sys, (last - first + 1) * gcrt_page_size());
  }
  size_t pages = gcrt_load(&gcrt_heap.fine_pages);
  for (size_t i = 0; i < 2; i++) gcrt_central_give(spans[i]);
  for (size_t i = 0; i < 2; i++) ck_assert_uint_eq(gcrt_span_index(gcrt_central_take(fine[i])), 1 + i);
  ck_assert_uint_eq(gcrt_heap.fine_pages, pages);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap/span");
  TCase *tc = test_case(suite, "small", 60);
  tcase_add_test(tc, slots_carry_class_kind_and_fill);
  tcase_add_test(tc, sizes_go_to_the_slot_of_their_class);
  tcase_add_test(tc, spans_of_every_slot_are_made_and_taken_apart);
  tcase_add_loop_test(tc, every_address_finds_its_cell, 1, GCRT_CLASSES);
  tcase_add_test(tc, other_addresses_find_nothing);
  tcase_add_test(tc, touched_mark_bytes_are_counted);
  tc = test_case(suite, "large", 60);
  tcase_add_test(tc, large_objects_have_spans_of_their_own);
  tcase_add_test(tc, one_past_a_large_object_is_in_it_unless_it_is_tight);
  tcase_add_test(tc, large_objects_are_aligned);
  tcase_add_test(tc, a_large_object_in_used_memory_is_zeroed);
  tcase_add_test(tc, too_large_is_refused);
  return suite;
}

TEST_MAIN(make_suite)
