/* What is mapped, and what of it is private. */
#include "sys/maps.h"

#include "sys/memory.h"

#include "support/support.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* A stretch of the address space in which each test maps what it wants: see map_pages. */
enum { PAGES = 12 };
static char *area;

static void setup(void) {
  area = mmap(NULL, PAGES * gcrt_page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(area, MAP_FAILED);
}

static char *page_at(size_t page) { return area + page * gcrt_page_size(); }

/* Pages [first, end) in place of what is there. */
static void map_pages(size_t first, size_t end, int protection, int flags, int fd) {
  size_t size = (end - first) * gcrt_page_size();
  ck_assert_ptr_eq(mmap(page_at(first), size, protection, flags | MAP_FIXED, fd, 0), page_at(first));
}

static void map_private(size_t first, size_t end) {
  map_pages(first, end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static int new_file(void) {
  int fd = memfd_create("shared", MFD_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(ftruncate(fd, (off_t)(PAGES * gcrt_page_size())), 0);
  return fd;
}

static void map_shared(size_t first, size_t end) {
  int fd = new_file();
  map_pages(first, end, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  close(fd);
}

static void unmap(size_t first, size_t end) {
  ck_assert_int_eq(munmap(page_at(first), (end - first) * gcrt_page_size()), 0);
}

static bool private_pages(size_t first, size_t end) {
  return gcrt_maps_private((uintptr_t)page_at(first), (uintptr_t)page_at(end));
}

/* Also a part that neither begins nor ends with a page. */
START_TEST(anonymous_memory_is_private) {
  map_private(0, PAGES);
  ck_assert(private_pages(0, PAGES));
  ck_assert(private_pages(3, 4));
  ck_assert(gcrt_maps_private((uintptr_t)page_at(3) + 8, (uintptr_t)page_at(3) + 16));
}
END_TEST

START_TEST(variables_are_private) {
  static char variables[1 << 16];
  ck_assert(gcrt_maps_private((uintptr_t)variables, (uintptr_t)variables + sizeof variables));
}
END_TEST

START_TEST(private_view_of_a_file_is_private) {
  int fd = new_file();
  map_pages(0, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
  close(fd);
  ck_assert(private_pages(0, PAGES));
}
END_TEST

START_TEST(shared_memory_is_not) {
  map_shared(0, PAGES);
  ck_assert(!private_pages(0, PAGES));
  ck_assert(!private_pages(3, 4));
  ck_assert(!gcrt_maps_private((uintptr_t)page_at(3) + 8, (uintptr_t)page_at(3) + 16));
  map_pages(0, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
  ck_assert(!private_pages(0, PAGES));
  map_pages(0, PAGES, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1);
  ck_assert(!private_pages(0, PAGES));
}
END_TEST

START_TEST(one_shared_page_is_enough) {
  map_private(0, PAGES);
  map_shared(5, 6);
  ck_assert(!private_pages(0, PAGES));
  ck_assert(!private_pages(0, 6));
  ck_assert(!private_pages(5, PAGES));
  ck_assert(!gcrt_maps_private((uintptr_t)page_at(4), (uintptr_t)page_at(5) + 1));
  ck_assert(!gcrt_maps_private((uintptr_t)page_at(6) - 1, (uintptr_t)page_at(7)));
}
END_TEST

START_TEST(shared_neighbours_do_not_matter) {
  map_shared(0, 3);
  map_private(3, 7);
  map_shared(7, PAGES);
  ck_assert(private_pages(3, 7));
  ck_assert(private_pages(3, 4));
  ck_assert(private_pages(6, 7));
}
END_TEST

START_TEST(nothing_mapped_is_not_private) {
  unmap(2, 8);
  ck_assert(!private_pages(2, 8));
  ck_assert(!private_pages(4, 5));
}
END_TEST

/* A hole is nobody's: it is what is mapped around it that counts. */
START_TEST(holes_are_passed_over) {
  map_private(0, PAGES);
  unmap(4, 6);
  ck_assert(private_pages(0, PAGES));
  ck_assert(private_pages(4, 8));
  ck_assert(private_pages(2, 6));
  map_shared(8, 9);
  ck_assert(!private_pages(0, PAGES));
  ck_assert(!private_pages(5, 9));
  ck_assert(private_pages(5, 8));
}
END_TEST

START_TEST(nothing_is_private_where_it_cannot_be_told) {
  map_private(0, PAGES);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0}), 0);
  struct gcrt_reader maps;
  TEST_REQUIRE(!gcrt_maps_open(&maps));
  TEST_REQUIRE(!private_pages(0, PAGES));
}
END_TEST

/* The mapping that begins with this page. */
static struct gcrt_mapping mapping_at(size_t page) {
  struct gcrt_reader maps;
  struct gcrt_mapping mapping;
  TEST_REQUIRE(gcrt_maps_open(&maps));
  uintptr_t before = 0;
  do {
    TEST_REQUIRE(gcrt_maps_next(&maps, &mapping), "page %zu is not in the list", page);
    TEST_REQUIRE(mapping.start >= before && mapping.end > mapping.start);
    before = mapping.end;
  } while (mapping.start != (uintptr_t)page_at(page));
  gcrt_maps_close(&maps);
  return mapping;
}

START_TEST(list_says_what_was_mapped) {
  map_shared(2, 4);
  map_pages(6, 9, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  struct gcrt_mapping shared = mapping_at(2), readable = mapping_at(6), none = mapping_at(4);
  ck_assert_uint_eq(shared.end, (uintptr_t)page_at(4));
  ck_assert(shared.readable && !shared.private);
  ck_assert_uint_eq(readable.end, (uintptr_t)page_at(9));
  ck_assert(readable.readable && readable.private);
  ck_assert_uint_eq(none.end, (uintptr_t)page_at(6));
  ck_assert(!none.readable && none.private);
}
END_TEST

/* More of them than the buffer holds: lines are read in pieces. */
START_TEST(long_list_is_read_to_its_end) {
  enum { MAPPINGS = 2000 };
  size_t page = gcrt_page_size();
  char *start = mmap(NULL, MAPPINGS * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(start, MAP_FAILED);
  for (size_t i = 0; i < MAPPINGS; i += 2) TEST_REQUIRE(mprotect(start + i * page, page, PROT_NONE) == 0);
  struct gcrt_reader maps;
  struct gcrt_mapping mapping;
  size_t found = 0;
  TEST_REQUIRE(gcrt_maps_open(&maps));
  while (gcrt_maps_next(&maps, &mapping)) {
    size_t at = (mapping.start - (uintptr_t)start) / page;
    if (mapping.start < (uintptr_t)start || at >= MAPPINGS) continue;
    TEST_REQUIRE(mapping.readable == (at % 2 != 0), "mapping %zu", at);
    found++;
  }
  gcrt_maps_close(&maps);
  ck_assert_uint_ge(found, MAPPINGS - 2); /* the outer ones may be one with their neighbours */
  ck_assert(gcrt_maps_private((uintptr_t)start, (uintptr_t)start + MAPPINGS * page));
}
END_TEST

static pthread_t initial;

static void *look_when_the_initial_thread_ended(void *unused) {
  (void)unused;
  TEST_REQUIRE(pthread_join(initial, NULL) == 0);
  _exit(private_pages(0, PAGES) ? 0 : 1);
}

static int initial_thread_ends(void *unused) {
  pthread_t thread;
  (void)unused;
  initial = pthread_self();
  TEST_REQUIRE(pthread_create(&thread, NULL, look_when_the_initial_thread_ended, NULL) == 0);
  pthread_exit(NULL);
}

START_TEST(list_is_there_when_the_initial_thread_has_ended) {
  map_private(0, PAGES);
  struct test_child child = test_child_fork(initial_thread_ends, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/maps");
  TCase *tc = test_case(suite, "maps", 30);
  tcase_add_checked_fixture(tc, setup, NULL);
  tcase_add_test(tc, anonymous_memory_is_private);
  tcase_add_test(tc, variables_are_private);
  tcase_add_test(tc, private_view_of_a_file_is_private);
  tcase_add_test(tc, shared_memory_is_not);
  tcase_add_test(tc, one_shared_page_is_enough);
  tcase_add_test(tc, shared_neighbours_do_not_matter);
  tcase_add_test(tc, nothing_mapped_is_not_private);
  tcase_add_test(tc, holes_are_passed_over);
  tcase_add_test(tc, nothing_is_private_where_it_cannot_be_told);
  tcase_add_test(tc, list_says_what_was_mapped);
  tcase_add_test(tc, long_list_is_read_to_its_end);
  tcase_add_test(tc, list_is_there_when_the_initial_thread_has_ended);
  return suite;
}

TEST_MAIN(make_suite)
