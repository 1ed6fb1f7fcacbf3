/* Allocation as alloc.h promises it: sizes, alignment, zeroing, lookup, cost of a cell.
 *
 * Every size that could be special is tried, the rest by a seeded stream. Sizes go through volatile variables, because
 * a compiler that knows gc_alloc's attributes warns of, or folds, calls that cannot succeed. */
#include "system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static bool all_zero(const void *p, size_t n) {
  const unsigned char *bytes = p;
  return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

static void *alloc_aligned_64(size_t size) { return gc_alloc_aligned(64, size); }
static void *alloc_array_bytes(size_t size) { return gc_alloc_array(size, 1); }
static void *alloc_array_one(size_t size) { return gc_alloc_array(1, size); }
static void *alloc_by_realloc(size_t size) { return gc_realloc(NULL, size); }

static const struct allocator {
  const char *name;
  system_allocate_fn *allocate;
} allocators[] = {
    {"gc_alloc", gc_alloc},
    {"gc_alloc_noscan", gc_alloc_noscan},
    {"gc_alloc_uncollectable", gc_alloc_uncollectable},
    {"gc_alloc_aligned", alloc_aligned_64},
    {"gc_alloc_array(n, 1)", alloc_array_bytes},
    {"gc_alloc_array(1, n)", alloc_array_one},
    {"gc_realloc(NULL, n)", alloc_by_realloc},
};
enum { ALLOCATORS = sizeof allocators / sizeof *allocators };

START_TEST(zero_size_is_a_unique_object) {
  const struct allocator *a = &allocators[_i];
  volatile size_t zero = 0;
  void *p = a->allocate(zero), *q = a->allocate(zero);
  ck_assert_ptr_nonnull(p);
  ck_assert_ptr_nonnull(q);
  ck_assert_ptr_ne(p, q);
  ck_assert_ptr_eq(gc_base(p), p);
  ck_assert_uint_ge(gc_usable_size(p), 1);
  gc_free(p);
  gc_free(q);
}
END_TEST

START_TEST(zero_count_or_element_is_a_unique_object) {
  volatile size_t zero = 0, many = SIZE_MAX;
  void *p = gc_alloc_array(zero, 8), *q = gc_alloc_array(8, zero), *r = gc_alloc_array(many, zero);
  ck_assert(p != NULL && q != NULL && r != NULL);
  ck_assert(p != q && q != r && p != r);
}
END_TEST

START_TEST(unrepresentable_size_is_enomem) {
  const struct allocator *a = &allocators[_i];
  static const size_t sizes[] = {SIZE_MAX,         SIZE_MAX - 1,          SIZE_MAX - 15,    SIZE_MAX - 16,
                                 SIZE_MAX - 4095,  SIZE_MAX - 65535,      SIZE_MAX - 65536, SIZE_MAX / 2,
                                 SIZE_MAX / 2 + 1, (size_t)PTRDIFF_MAX,   (size_t)1 << 62,  (size_t)1 << 56,
                                 (size_t)1 << 48,  ((size_t)1 << 47) - 1, (size_t)1 << 46};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    volatile size_t size = sizes[i];
    errno = 0;
    void *p = a->allocate(size);
    ck_assert_msg(p == NULL, "%s(%zu) gave %p", a->name, sizes[i], p);
    ck_assert_msg(errno == ENOMEM, "%s(%zu): errno is %d", a->name, sizes[i], errno);
  }
  void *p = a->allocate(100);
  ck_assert_ptr_nonnull(p);
}
END_TEST

START_TEST(failed_realloc_leaves_the_object) {
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1, (size_t)1 << 56, (size_t)1 << 46};
  static const size_t olds[] = {1, 100, 5000, 200000};
  for (size_t o = 0; o < sizeof olds / sizeof *olds; o++) {
    char *p = gc_alloc(olds[o]);
    test_pattern_write(p, olds[o], 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      volatile size_t size = sizes[i];
      errno = 0;
      void *q = gc_realloc(p, size);
      ck_assert_ptr_null(q);
      ck_assert_int_eq(errno, ENOMEM);
      ck_assert_ptr_eq(gc_base(p), p);
      ck_assert_uint_eq(test_pattern_bad(p, olds[o], 7), olds[o]);
    }
  }
}
END_TEST

START_TEST(array_overflow_is_enomem) {
  static const size_t pairs[][2] = {
      {SIZE_MAX / 2 + 1, 2},  {2, SIZE_MAX / 2 + 1}, {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32},
      {SIZE_MAX / 8 + 1, 8},  {SIZE_MAX / 8 + 2, 8}, {3, SIZE_MAX / 2},    {((size_t)1 << 32) + 1, (size_t)1 << 32},
      {SIZE_MAX / 16 + 2, 16}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    volatile size_t count = pairs[i][0], size = pairs[i][1];
    errno = 0;
    ck_assert_ptr_null(gc_alloc_array(count, size));
    ck_assert_int_eq(errno, ENOMEM);
  }
  uint64_t *array = gc_alloc_array(1000, sizeof *array);
  ck_assert_ptr_nonnull(array);
  ck_assert_uint_ge(gc_usable_size(array), 8000);
  ck_assert(all_zero(array, 8000));
}
END_TEST

START_TEST(good_alignments) {
  static const size_t sizes[] = {0, 1, 16, 100, 4096, 100000};
  for (size_t alignment = 1; alignment <= GC_MAX_ALIGNMENT; alignment *= 2)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      unsigned char *p = gc_alloc_aligned(alignment, sizes[i]);
      ck_assert_msg(p != NULL, "gc_alloc_aligned(%zu, %zu) gave NULL", alignment, sizes[i]);
      ck_assert_msg((uintptr_t)p % alignment == 0, "gc_alloc_aligned(%zu, %zu) gave %p", alignment, sizes[i], p);
      size_t usable = gc_usable_size(p);
      ck_assert_uint_ge(usable, sizes[i]);
      ck_assert_ptr_eq(gc_base(p), p);
      if (sizes[i] > 0) ck_assert_ptr_eq(gc_base(p + sizes[i] - 1), p);
      ck_assert(all_zero(p, sizes[i]));
      memset(p, 0xff, sizes[i]);
      gc_free(p);
    }
}
END_TEST

START_TEST(bad_alignments_are_einval) {
  static const size_t bad[] = {0,
                               3,
                               6,
                               24,
                               48,
                               100,
                               4095,
                               4097,
                               3 << 20,
                               GC_MAX_ALIGNMENT * 2,
                               GC_MAX_ALIGNMENT + 1,
                               (size_t)1 << 40,
                               (size_t)1 << 63,
                               SIZE_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    volatile size_t alignment = bad[i];
    errno = 0;
    ck_assert_ptr_null(gc_alloc_aligned(alignment, 64));
    ck_assert_msg(errno == EINVAL, "alignment %zu: errno is %d", bad[i], errno);
  }
}
END_TEST

START_TEST(natural_alignment) {
  for (size_t size = 1; size <= 40000; size += 1 + size / 16) {
    void *p = gc_alloc(size), *q = gc_alloc_noscan(size);
    ck_assert_uint_eq((uintptr_t)p % 16, 0);
    ck_assert_uint_eq((uintptr_t)q % 16, 0);
  }
  for (size_t size = 16; size <= 4096; size *= 2)
    for (int i = 0; i < 20; i++) {
      void *p = gc_alloc(size);
      ck_assert_msg((uintptr_t)p % size == 0, "gc_alloc(%zu) gave %p", size, p);
    }
}
END_TEST

START_TEST(memory_is_zero_when_reused) {
  static const size_t sizes[] = {1, 16, 17, 64, 100, 128, 1000, 4096, 30000, 70000, 1 << 20};
  static system_allocate_fn *const kinds[] = {gc_alloc, gc_alloc_noscan, gc_alloc_uncollectable};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (size_t k = 0; k < 3; k++)
      for (int round = 0; round < (sizes[s] > 50000 ? 12 : 300); round++) {
        unsigned char *p = kinds[k](sizes[s]);
        size_t usable = gc_usable_size(p);
        ck_assert_msg(all_zero(p, usable), "%zu bytes of kind %zu, round %d", sizes[s], k, round);
        memset(p, 0xff, usable);
        if (k == 2 || round % 3 == 0)
          gc_free(p);
        else if (round % 100 == 1)
          gc_collect();
      }
}
END_TEST

static void check_interior(unsigned char *p, size_t size, size_t step) {
  size_t usable = gc_usable_size(p);
  ck_assert_uint_ge(usable, size);
  /* Check writes to a pipe at each assertion, so only what is wrong reaches one. */
  for (size_t i = 0; i < usable; i += step) {
    if (gc_base(p + i) != p) ck_abort_msg("gc_base of byte %zu of %zu", i, size);
    if (gc_usable_size(p + i) != usable) ck_abort_msg("gc_usable_size of byte %zu of %zu", i, size);
  }
  ck_assert_ptr_eq(gc_base(p + usable - 1), p);
  ck_assert_ptr_ne(gc_base(p - 1), p);
  memset(p, 0xee, usable);
}

START_TEST(lookup_of_every_interior_pointer) {
  for (size_t size = 1; size <= 600; size++) check_interior(gc_alloc(size), size, 1);
  static const size_t large[] = {1000,  2049,  5000,  9217,  20481,   32768,
                                 32769, 40000, 65536, 65537, 1 << 20, (4 << 20) + 5};
  for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
    check_interior(gc_alloc(large[i]), large[i], 61);
    check_interior(gc_alloc_noscan(large[i]), large[i], 61);
    unsigned char *p = gc_alloc_uncollectable(large[i]);
    check_interior(p, large[i], 61);
    gc_free(p);
  }
}
END_TEST

static int some_global;

START_TEST(lookup_of_foreign_memory) {
  int local;
  void *heap = malloc(100);
  void *map = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned char *own = gc_alloc(64);
  const void *foreign[] = {NULL,
                           &local,
                           &some_global,
                           "text",
                           heap,
                           map,
                           (void *)1,
                           (void *)UINTPTR_MAX,
                           (void *)(UINTPTR_MAX / 2),
                           own + ((size_t)4 << 40)};
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
    ck_assert_msg(gc_base(foreign[i]) == NULL, "gc_base(%p)", foreign[i]);
    ck_assert_msg(gc_usable_size(foreign[i]) == 0, "gc_usable_size(%p)", foreign[i]);
  }
  gc_free(own);
  ck_assert_ptr_null(gc_base(own));
  ck_assert_uint_eq(gc_usable_size(own), 0);
  munmap(map, 1 << 16);
  free(heap);
}
END_TEST

START_TEST(an_object_of_64_bytes_costs_64) {
  enum { OBJECTS = 1 << 17 };
  gc_set_percent(-1);
  gc_collect();
  struct runtime_metrics before = system_metrics();
  void **list = NULL;
  for (int i = 0; i < OBJECTS; i++) {
    void **node = gc_alloc(64);
    ck_assert_ptr_nonnull(node);
    node[0] = list;
    list = node;
  }
  struct runtime_metrics after = system_metrics();
  ck_assert_uint_eq(gc_usable_size(list), 64);
  uint64_t cost = after.heap_inuse - before.heap_inuse;
  ck_assert_msg(cost <= (uint64_t)OBJECTS * 64 + (256 << 10), "%d objects cost %llu bytes of spans", OBJECTS,
                (unsigned long long)cost);
  ck_assert_uint_ge(cost + (256 << 10), (uint64_t)OBJECTS * 64);
  ck_assert_uint_eq(after.heap_alloc - before.heap_alloc, (uint64_t)OBJECTS * 64);
  gc_keep_alive(list);
}
END_TEST

START_TEST(small_sizes_are_exact) {
  for (size_t size = 16; size <= 128; size += 16) ck_assert_uint_eq(gc_usable_size(gc_alloc(size)), size);
}
END_TEST

START_TEST(waste_is_at_most_an_eighth) {
  struct runtime_metrics m = system_metrics();
  size_t largest = 0;
  for (size_t i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++)
    if (m.by_size[i].size > largest) largest = m.by_size[i].size;
  ck_assert_uint_ge(largest, 1024);
  for (size_t size = 129; size <= largest; size += size < 4096 ? 1 : 17) {
    void *p = gc_alloc_noscan(size);
    size_t usable = gc_usable_size(p);
    ck_assert_msg(usable >= size && (usable - size) * 8 <= usable, "%zu bytes cost %zu", size, usable);
    gc_free(p);
  }
}
END_TEST

/* The cell that an object of so many usable bytes lies in: one byte of it may be spare. */
static size_t cell_of(const struct runtime_metrics *m, size_t usable) {
  for (size_t i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++)
    if (m->by_size[i].size >= usable) return m->by_size[i].size;
  return usable;
}

START_TEST(free_counts_and_takes_null) {
  gc_free(NULL);
  gc_set_percent(-1);
  void *objects[50];
  for (int i = 0; i < 50; i++) objects[i] = gc_alloc(i * 500);
  struct runtime_metrics before = system_metrics();
  uint64_t bytes = 0;
  for (int i = 0; i < 50; i++) {
    bytes += cell_of(&before, gc_usable_size(objects[i]));
    gc_free(objects[i]);
  }
  struct runtime_metrics after = system_metrics();
  ck_assert_uint_eq(after.frees - before.frees, 50);
  ck_assert_uint_eq(before.heap_alloc - after.heap_alloc, bytes);
}
END_TEST

START_TEST(objects_do_not_overlap) {
  enum { OBJECTS = 4000 };
  static struct {
    unsigned char *p;
    size_t size;
  } objects[OBJECTS];
  struct test_random random = test_random_stream(1);
  for (int round = 0; round < 4; round++) {
    for (size_t i = 0; i < OBJECTS; i++)
      if (objects[i].p == NULL || test_random_once_in(&random, 2)) {
        if (objects[i].p && test_random_once_in(&random, 2)) gc_free(objects[i].p);
        objects[i].size = test_random_below(&random, test_random_once_in(&random, 50) ? 50000 : 300);
        objects[i].p = test_random_once_in(&random, 2) ? gc_alloc(objects[i].size) : gc_alloc_noscan(objects[i].size);
        ck_assert_ptr_nonnull(objects[i].p);
        test_pattern_write(objects[i].p, objects[i].size, i);
      }
    for (size_t i = 0; i < OBJECTS; i++)
      ck_assert_uint_eq(test_pattern_bad(objects[i].p, objects[i].size, i), objects[i].size);
  }
}
END_TEST

START_TEST(version_is_the_headers) {
  char text[40];
  snprintf(text, sizeof text, "%d.%d.%d", GC_VERSION_MAJOR, GC_VERSION_MINOR, GC_VERSION_PATCH);
  ck_assert_str_eq(gc_version(), text);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *sizes = test_case(suite, "alloc-sizes", 10);
  tcase_add_loop_test(sizes, zero_size_is_a_unique_object, 0, ALLOCATORS);
  tcase_add_test(sizes, zero_count_or_element_is_a_unique_object);
  tcase_add_loop_test(sizes, unrepresentable_size_is_enomem, 0, ALLOCATORS);
  tcase_add_test(sizes, failed_realloc_leaves_the_object);
  tcase_add_test(sizes, array_overflow_is_enomem);
  TCase *alignment = test_case(suite, "alloc-alignment", 10);
  tcase_add_test(alignment, good_alignments);
  tcase_add_test(alignment, bad_alignments_are_einval);
  tcase_add_test(alignment, natural_alignment);
  TCase *memory = test_case(suite, "alloc-memory", 10);
  tcase_add_test(memory, memory_is_zero_when_reused);
  tcase_add_test(memory, lookup_of_every_interior_pointer);
  tcase_add_test(memory, lookup_of_foreign_memory);
  tcase_add_test(memory, objects_do_not_overlap);
  TCase *cost = test_case(suite, "alloc-cost", 10);
  tcase_add_test(cost, an_object_of_64_bytes_costs_64);
  tcase_add_test(cost, small_sizes_are_exact);
  tcase_add_test(cost, waste_is_at_most_an_eighth);
  tcase_add_test(cost, free_counts_and_takes_null);
  tcase_add_test(cost, version_is_the_headers);
  return suite;
}
TEST_MAIN(make_suite)
