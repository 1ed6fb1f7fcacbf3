/* What the write tracker reports, of which memory, and across forks. Skipped with the reason where the system lacks
 * what it needs; a probe that fails where the system has it is a failure here. */
#include "sys/tracker.h"
#include "sys/loader.h"
#include "sys/memory.h"

#include "support/support.h"
#include "tracker_race.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define START_OR_SKIP()                                                                                                \
  do {                                                                                                                 \
    char reason[128];                                                                                                  \
    bool started = gcrt_tracker_start(reason, sizeof reason);                                                          \
    ck_assert_msg(started || !strstr(reason, "fails its probe"), "%s", reason);                                        \
    if (!started) TEST_SKIP("%s", reason);                                                                             \
  } while (0)

enum { PAGES = 8, MANY_PAGES = 2048 };

static size_t page_bytes;

struct area {
  char *start;
  size_t pages;
};

static uintptr_t low_of(const struct area *area) { return (uintptr_t)area->start; }
static uintptr_t high_of(const struct area *area) { return (uintptr_t)area->start + area->pages * page_bytes; }
static volatile char *at(const struct area *area, size_t page) { return area->start + page * page_bytes; }

static char *map_at(void *where, size_t pages) {
  int fixed = where ? MAP_FIXED : 0;
  char *start = mmap(where, pages * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  ck_assert(start != MAP_FAILED);
  memset(start, 1, pages * page_bytes);
  return start;
}

/* Memory that was written already, registered. */
static struct area area_new(size_t pages) {
  page_bytes = gcrt_page_size();
  struct area area = {map_at(NULL, pages), pages};
  ck_assert(gcrt_tracker_add(low_of(&area), high_of(&area)));
  return area;
}

static void arm(const struct area *area) { ck_assert(gcrt_tracker_arm(low_of(area), high_of(area))); }

struct found {
  const struct area *area;
  uintptr_t last;
  char text[MANY_PAGES + 1];
};

static void note(void *argument, uintptr_t low, uintptr_t high) {
  struct found *found = argument;
  TEST_REQUIRE(low < high && low % page_bytes == 0 && high % page_bytes == 0);
  TEST_REQUIRE(low >= low_of(found->area) && high <= high_of(found->area));
  for (; low < high; low += page_bytes) {
    char *mark = &found->text[(low - low_of(found->area)) / page_bytes];
    TEST_REQUIRE(*mark == '.');
    *mark = 'w';
  }
}

/* A character for each page: 'w' written, '.' not. */
static const char *pages_written(const struct area *area, bool rearm) {
  static struct found found;
  found.area = area;
  memset(found.text, '.', area->pages);
  found.text[area->pages] = '\0';
  ck_assert(gcrt_tracker_written(low_of(area), high_of(area), rearm, note, &found));
  return found.text;
}

#define assert_written(area, expected) ck_assert_str_eq(pages_written((area), false), (expected))
#define assert_written_rearm(area, expected) ck_assert_str_eq(pages_written((area), true), (expected))

START_TEST(pages_read_as_written_until_they_are_armed) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  assert_written(&area, "wwwwwwww");
  arm(&area);
  assert_written(&area, "........");
  *at(&area, 2) = 1; /* the value it had */
  at(&area, 5)[page_bytes - 1] = 2;
  assert_written(&area, "..w..w..");
  *at(&area, 6) = 3;
  assert_written(&area, "..w..ww.");
}
END_TEST

START_TEST(reading_is_not_writing) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  arm(&area);
  unsigned sum = 0;
  for (size_t i = 0; i < PAGES; i++) sum += (unsigned)*at(&area, i);
  ck_assert_uint_eq(sum, PAGES);
  assert_written(&area, "........");
}
END_TEST

START_TEST(arming_forgets_and_may_be_of_a_part) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  struct area part = {area.start + 2 * page_bytes, 3};
  arm(&part);
  assert_written(&area, "ww...www");
  *at(&area, 3) = 1;
  assert_written(&part, ".w.");
  arm(&area);
  assert_written(&area, "........");
}
END_TEST

START_TEST(a_scan_arms_again_what_it_reports) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  assert_written_rearm(&area, "wwwwwwww");
  assert_written_rearm(&area, "........");
  *at(&area, 0) = *at(&area, 7) = 1;
  assert_written_rearm(&area, "w......w");
  *at(&area, 7) = 2;
  assert_written_rearm(&area, ".......w");
  assert_written(&area, "........");
}
END_TEST

START_TEST(disarmed_pages_read_as_written) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  arm(&area);
  ck_assert(gcrt_tracker_disarm(low_of(&area) + 2 * page_bytes, high_of(&area)));
  assert_written(&area, "..wwwwww");
  *at(&area, 4) = 1;
  arm(&area);
  assert_written(&area, "........");
}
END_TEST

/* The kernel writes as well: where protection by mprotect would fail the call with EFAULT. */
START_TEST(system_calls_write_into_armed_pages) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  int fds[2];
  ck_assert_int_eq(pipe(fds), 0);
  ck_assert_int_eq(write(fds[1], "pipe", 4), 4);
  arm(&area);
  ck_assert_int_eq(read(fds[0], area.start + 4 * page_bytes - 2, 4), 4);
  ck_assert_int_eq(memcmp(area.start + 4 * page_bytes - 2, "pipe", 4), 0);
  assert_written_rearm(&area, "...ww...");
  /* From armed pages the kernel reads only. */
  ck_assert_int_eq(write(fds[1], area.start, 64), 64);
  assert_written_rearm(&area, "........");
}
END_TEST

static void *write_from_thread(void *argument) {
  struct area *area = argument;
  *at(area, 1) = *at(area, 6) = 9;
  return NULL;
}

START_TEST(writes_of_other_threads_are_seen) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  arm(&area);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, write_from_thread, &area), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  assert_written(&area, ".w....w.");
}
END_TEST

/* More runs than one system call can report. */
START_TEST(every_run_is_reported_once) {
  START_OR_SKIP();
  struct area area = area_new(MANY_PAGES);
  struct test_random random = test_random_stream(1);
  char expected[MANY_PAGES + 1] = "";
  for (int round = 0; round < 4; round++) {
    arm(&area);
    for (size_t i = 0; i < MANY_PAGES; i++) {
      bool write = round == 0 ? i % 2 == 0 : test_random_once_in(&random, 3);
      expected[i] = write ? 'w' : '.';
      if (write) *at(&area, i) = 1;
    }
    assert_written(&area, expected);
    assert_written_rearm(&area, expected);
    memset(expected, '.', MANY_PAGES);
    assert_written(&area, expected);
  }
}
END_TEST

START_TEST(memory_that_was_never_touched_is_tracked_once_it_is) {
  START_OR_SKIP();
  page_bytes = gcrt_page_size();
  struct area area = {mmap(NULL, PAGES * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                      PAGES};
  ck_assert(gcrt_tracker_add(low_of(&area), high_of(&area)));
  arm(&area);
  *at(&area, 3) = 1;
  ck_assert_int_eq(pages_written(&area, true)[3], 'w');
  for (size_t i = 0; i < PAGES; i++) (void)*at(&area, i);
  arm(&area);
  *at(&area, 5) = 1;
  assert_written(&area, ".....w..");
}
END_TEST

START_TEST(memory_that_was_given_back_is_not_lost_sight_of) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  arm(&area);
  gcrt_memory_release(area.start, 4 * page_bytes);
  *at(&area, 2) = 1;
  ck_assert_int_eq(pages_written(&area, true)[2], 'w');
  *at(&area, 2) = 1;
  ck_assert_int_eq(pages_written(&area, false)[2], 'w');
}
END_TEST

/* As the heap does it: address space is registered once and made usable bit by bit. */
START_TEST(a_reservation_stays_registered_when_parts_are_committed) {
  START_OR_SKIP();
  page_bytes = gcrt_page_size();
  size_t size = (size_t)1 << 38, step = (size_t)4 << 20;
  char *start = gcrt_memory_reserve(size, step);
  if (!start) TEST_SKIP("no 256 GiB of address space");
  ck_assert(gcrt_tracker_add((uintptr_t)start, (uintptr_t)start + size));
  for (int i = 0; i < 4; i++) {
    char *part = start + (size_t)i * step;
    ck_assert(gcrt_memory_commit(part, step));
    gcrt_memory_huge(part, step, i % 2);
    struct area area = {part + step - PAGES * page_bytes, PAGES};
    memset(area.start, 1, PAGES * page_bytes);
    arm(&area);
    assert_written(&area, "........");
    *at(&area, 1) = 1;
    assert_written(&area, ".w......");
  }
  gcrt_memory_unmap(start, size);
}
END_TEST

enum { LARGEST_PAGE = 65536 };
static char data_pages[2 * LARGEST_PAGE] __attribute__((aligned(LARGEST_PAGE))) = {1};
static char zero_pages[2 * LARGEST_PAGE] __attribute__((aligned(LARGEST_PAGE)));

static void add_and_arm_range(void *argument, struct gcrt_range range) {
  size_t *ranges = argument;
  uintptr_t low = range.start & ~(page_bytes - 1), high = (range.end + page_bytes - 1) & ~(page_bytes - 1);
  TEST_REQUIRE(gcrt_tracker_add(low, high) && gcrt_tracker_arm(low, high));
  ++*ranges;
}

static void add_and_arm_all(void *argument) { gcrt_loader_data(add_and_arm_range, argument); }

START_TEST(variables_of_the_program_and_its_libraries_are_tracked) {
  START_OR_SKIP();
  page_bytes = gcrt_page_size();
  data_pages[0] = zero_pages[0] = 1;
  size_t ranges = 0;
  gcrt_loader_call(add_and_arm_all, &ranges);
  ck_assert_uint_ge(ranges, 2);
  struct area data = {data_pages, 2}, zero = {zero_pages, 2};
  ck_assert_int_eq(pages_written(&data, false)[0], '.');
  ck_assert_int_eq(pages_written(&zero, false)[0], '.');
  *(volatile char *)data_pages = 2;
  *(volatile char *)zero_pages = 2;
  ck_assert_int_eq(pages_written(&data, true)[0], 'w');
  ck_assert_int_eq(pages_written(&zero, true)[0], 'w');
  ck_assert_int_eq(pages_written(&data, false)[0], '.');
  ck_assert_int_eq(pages_written(&zero, false)[0], '.');
  ck_assert_int_eq(data_pages[0], 2);
}
END_TEST

START_TEST(holes_and_new_mappings_in_a_range) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  arm(&area);
  ck_assert_int_eq(munmap(area.start + 2 * page_bytes, 3 * page_bytes), 0);
  assert_written(&area, "........");
  assert_written_rearm(&area, "........");
  arm(&area);
  *at(&area, 1) = *at(&area, 6) = 1;
  assert_written_rearm(&area, ".w....w.");
  /* Not registered: nothing vouches for it, so it reads as written for ever. */
  map_at(area.start + 3 * page_bytes, 1);
  assert_written_rearm(&area, "...w....");
  arm(&area);
  assert_written(&area, "...w....");
  assert_written_rearm(&area, "...w....");
  /* Past a hole and past a mapping that is not registered. */
  ck_assert(gcrt_tracker_disarm(low_of(&area), high_of(&area)));
  assert_written(&area, "ww.w.www");
  ck_assert(gcrt_tracker_add(low_of(&area), high_of(&area)));
  arm(&area);
  assert_written(&area, "........");
  *at(&area, 3) = 1;
  assert_written(&area, "...w....");
}
END_TEST

START_TEST(memory_that_moved_is_tracked_where_it_is_added_again) {
  START_OR_SKIP();
  struct area area = area_new(PAGES), target = {map_at(NULL, PAGES), PAGES};
  arm(&area);
  size_t size = PAGES * page_bytes;
  ck_assert_ptr_eq(mremap(area.start, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, target.start), target.start);
  assert_written_rearm(&area, "........");
  ck_assert(gcrt_tracker_add(low_of(&target), high_of(&target)));
  arm(&target);
  *at(&target, 4) = 1;
  assert_written(&target, "....w...");
}
END_TEST

START_TEST(what_cannot_be_registered_is_refused) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  ck_assert(gcrt_tracker_add(low_of(&area), high_of(&area))); /* again */
  ck_assert(!gcrt_tracker_add(low_of(&area), low_of(&area)));
  ck_assert(!gcrt_tracker_add(high_of(&area), low_of(&area)));
  ck_assert(!gcrt_tracker_add(low_of(&area) + 8, high_of(&area)));
  ck_assert_int_eq(munmap(area.start, PAGES * page_bytes), 0);
  ck_assert(!gcrt_tracker_add(low_of(&area), high_of(&area)));
  ck_assert(gcrt_tracker_disarm(low_of(&area), high_of(&area))); /* nothing is left to disarm */
}
END_TEST

/* --- threads at once --------------------------------------------------------------------------------------------- */

/* Who looks at the reported pages only has seen everything in the end. */
START_TEST(no_write_falls_between_scans) {
  START_OR_SKIP();
  struct area area = area_new(RACE_PAGES);
  memset(area.start, 0, RACE_PAGES * page_bytes);
  arm(&area);
  struct race race = {&gcrt_uffd_tracker, low_of(&area), page_bytes, .writers = 2, .rounds = 400};
  race_run(&race);
}
END_TEST

/* --- fork -------------------------------------------------------------------------------------------------------- */

static bool matches(const struct area *area, bool rearm, const char *expected) {
  return strcmp(pages_written(area, rearm), expected) == 0;
}

static int child_that_forgets(void *argument) {
  struct area *area = argument;
  char reason[128];
  struct found found = {.area = area};
  gcrt_tracker_after_fork();
  if (gcrt_tracker_intact()) return 1;
  if (gcrt_tracker_arm(low_of(area), high_of(area))) return 2;
  if (gcrt_tracker_written(low_of(area), high_of(area), false, note, &found)) return 3;
  *at(area, 0) = 7;
  if (!gcrt_tracker_start(reason, sizeof reason)) return 4;
  if (!matches(area, true, "wwwwwwww") || !matches(area, true, "wwwwwwww")) return 5; /* not registered */
  if (!gcrt_tracker_add(low_of(area), high_of(area)) || !gcrt_tracker_arm(low_of(area), high_of(area))) return 6;
  *at(area, 1) = 7;
  return matches(area, true, ".w......") ? 0 : 7;
}

/* A fork that nobody told the tracker of. */
static int child_that_checks(void *argument) {
  struct area *area = argument;
  char reason[128];
  if (gcrt_tracker_intact()) return 1;
  if (!gcrt_tracker_check(reason, sizeof reason) || !gcrt_tracker_intact()) return 2;
  if (!matches(area, true, "wwwwwwww")) return 3;
  *at(area, 2) = 7;
  return matches(area, true, "..w.....") ? 0 : 4;
}

START_TEST(a_child_of_fork_has_nothing_of_its_parents) {
  START_OR_SKIP();
  int (*const children[])(void *) = {child_that_forgets, child_that_checks};
  struct area area = area_new(PAGES);
  for (size_t i = 0; i < sizeof children / sizeof *children; i++) {
    arm(&area);
    *at(&area, 5) = 1;
    struct test_child child = test_child_fork(children[i], &area, NULL);
    test_assert_exited(&child, 0);
    test_child_free(&child);
    ck_assert(gcrt_tracker_intact());
    assert_written_rearm(&area, ".....w..");
    *at(&area, 6) = 1;
    assert_written(&area, "......w.");
  }
}
END_TEST

START_TEST(kind_says_whether_it_is_open) {
  START_OR_SKIP();
  struct area area = area_new(PAGES);
  struct gcrt_tracker_stats stats;
  arm(&area);
  gcrt_tracker_get_stats(&stats);
  ck_assert_int_eq(stats.kind, GCRT_TRACKER_UFFD);
  ck_assert_uint_ge(stats.ranges, 1);
  gcrt_tracker_after_fork();
  gcrt_tracker_get_stats(&stats);
  ck_assert_int_eq(stats.kind, GCRT_TRACKER_NONE);
  ck_assert_uint_eq(stats.ranges, 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/tracker");
  TCase *tc = test_case(suite, "written", 60);
  tcase_add_test(tc, pages_read_as_written_until_they_are_armed);
  tcase_add_test(tc, reading_is_not_writing);
  tcase_add_test(tc, arming_forgets_and_may_be_of_a_part);
  tcase_add_test(tc, a_scan_arms_again_what_it_reports);
  tcase_add_test(tc, disarmed_pages_read_as_written);
  tcase_add_test(tc, system_calls_write_into_armed_pages);
  tcase_add_test(tc, writes_of_other_threads_are_seen);
  tcase_add_test(tc, every_run_is_reported_once);
  tcase_add_test(tc, kind_says_whether_it_is_open);
  tc = test_case(suite, "memory", 60);
  tcase_add_test(tc, memory_that_was_never_touched_is_tracked_once_it_is);
  tcase_add_test(tc, memory_that_was_given_back_is_not_lost_sight_of);
  tcase_add_test(tc, a_reservation_stays_registered_when_parts_are_committed);
  tcase_add_test(tc, variables_of_the_program_and_its_libraries_are_tracked);
  tcase_add_test(tc, holes_and_new_mappings_in_a_range);
  tcase_add_test(tc, memory_that_moved_is_tracked_where_it_is_added_again);
  tcase_add_test(tc, what_cannot_be_registered_is_refused);
  tc = test_case(suite, "threads and fork", 60);
  tcase_add_test(tc, no_write_falls_between_scans);
  tcase_add_test(tc, a_child_of_fork_has_nothing_of_its_parents);
  return suite;
}

TEST_MAIN(make_suite)
