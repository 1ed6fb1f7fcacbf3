/* The write tracker by page protection: what it reports, with few mappings too, that no write of several threads is
 * lost, and where faults go that are not its own. */
#include "heap/heap.h"
#include "sys/memory.h"
#include "sys/protection.h"
#include "world/faults.h"

#include "support/support.h"
#include "tracker_race.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 8, MANY_PAGES = 2048 };

static const struct gcrt_tracker *const tracker = &gcrt_mprotect_tracker;
static size_t page_bytes;

struct area {
  char *start;
  size_t pages;
};

static uintptr_t low_of(const struct area *area) { return (uintptr_t)area->start; }
static uintptr_t high_of(const struct area *area) { return (uintptr_t)area->start + area->pages * page_bytes; }
static volatile char *at(const struct area *area, size_t page) { return area->start + page * page_bytes; }

/* Memory between two pages that nobody may use, behind the same number that the tracker never armed. */
static struct area area_new(size_t pages) {
  char reason[128];
  ck_assert_msg(tracker->start(reason, sizeof reason), "%s", reason);
  gcrt_protection_remove(); /* the heap's, under GCRT_TRACKER=mprotect */
  page_bytes = gcrt_page_size();
  size_t bytes = (2 * pages + 2) * page_bytes;
  char *start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert(start != MAP_FAILED);
  struct area area = {start + page_bytes, pages};
  ck_assert_int_eq(mprotect(area.start, pages * page_bytes, PROT_READ | PROT_WRITE), 0);
  memset(area.start, 1, pages * page_bytes);
  ck_assert(tracker->add(low_of(&area), high_of(&area) + pages * page_bytes));
  return area;
}

static void arm(const struct area *area) { ck_assert(tracker->arm(low_of(area), high_of(area))); }

struct found {
  const struct area *area;
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
  ck_assert(tracker->written(low_of(area), high_of(area), rearm, note, &found));
  return found.text;
}

#define assert_written(area, expected) ck_assert_str_eq(pages_written((area), false), (expected))
#define assert_written_rearm(area, expected) ck_assert_str_eq(pages_written((area), true), (expected))

START_TEST(reports_what_was_written_since_it_was_armed) {
  struct area area = area_new(PAGES);
  assert_written(&area, "wwwwwwww");
  arm(&area);
  assert_written(&area, "........");
  *at(&area, 2) = 1; /* the value it had */
  at(&area, 5)[page_bytes - 1] = 2;
  assert_written(&area, "..w..w..");
  assert_written_rearm(&area, "..w..w..");
  assert_written(&area, "........");
  *at(&area, 5) = 3;
  *at(&area, 6) = 3;
  assert_written_rearm(&area, ".....ww.");
  struct area part = {area.start + 2 * page_bytes, 3};
  ck_assert(tracker->disarm(low_of(&part), high_of(&part)));
  assert_written(&area, "..www...");
  *at(&area, 3) = 1;
  arm(&part);
  assert_written(&area, "........");
  ck_assert(tracker->disarm(low_of(&area), high_of(&area)));
  assert_written(&area, "wwwwwwww");
}
END_TEST

START_TEST(reading_is_not_writing) {
  struct area area = area_new(PAGES);
  arm(&area);
  unsigned sum = 0;
  for (size_t i = 0; i < PAGES; i++) sum += (unsigned)*at(&area, i);
  ck_assert_uint_eq(sum, PAGES);
  assert_written(&area, "........");
}
END_TEST

/* The limit of this tracker. If a system call succeeds one day, its write must be reported. */
START_TEST(system_calls_do_not_write_into_armed_pages) {
  struct area area = area_new(PAGES);
  int fds[2];
  ck_assert_int_eq(pipe(fds), 0);
  ck_assert_int_eq(write(fds[1], "pipe", 4), 4);
  arm(&area);
  ck_assert_int_eq(read(fds[0], area.start, 4), -1);
  ck_assert_int_eq(errno, EFAULT);
  assert_written(&area, "........");
  gcrt_protection_lift(low_of(&area), low_of(&area) + page_bytes);
  assert_written(&area, "w.......");
  ck_assert_int_eq(write(fds[1], "pipe", 4), 4);
  ck_assert_int_gt(read(fds[0], area.start, 4), 0);
}
END_TEST

START_TEST(errno_is_kept) {
  struct area area = area_new(PAGES);
  arm(&area);
  errno = 4711;
  *at(&area, 0) = 1;
  ck_assert_int_eq(errno, 4711);
  assert_written(&area, "w.......");
}
END_TEST

/* Mappings of the process that lie in the area. */
static size_t mappings_of(const struct area *area) {
  FILE *maps = fopen("/proc/self/maps", "r");
  ck_assert(maps != NULL);
  size_t count = 0;
  unsigned long low, high;
  while (fscanf(maps, "%lx-%lx%*[^\n]", &low, &high) == 2) count += low < high_of(area) && high > low_of(area);
  fclose(maps);
  return count;
}

/* Every second page is written: what is not told apart any longer counts as written, and what was written always
 * does. */
START_TEST(mappings_are_limited) {
  static const size_t limits[] = {65530, 4096, 256, 16, 0};
  static const size_t most[] = {MANY_PAGES, 2048, 128, 16, 3};
  struct area area = area_new(MANY_PAGES);
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    gcrt_protection_limit(limits[i]);
    for (int round = 0; round < 3; round++) {
      arm(&area);
      ck_assert_uint_eq(mappings_of(&area), 1);
      for (size_t page = 0; page < MANY_PAGES; page += 2) *at(&area, page) = (char)page;
      size_t mappings = mappings_of(&area);
      ck_assert_msg(mappings <= most[i], "%zu mappings with a limit of %zu", mappings, limits[i]);
      const char *written = pages_written(&area, false);
      for (size_t page = 0; page < MANY_PAGES; page += 2) ck_assert_int_eq(written[page], 'w');
      if (i == 0) ck_assert_int_eq(written[1], '.');
    }
  }
}
END_TEST

/* Pages written one after the other are one mapping: there is no need to lift more than was written. */
START_TEST(neighbours_cost_nothing) {
  struct area area = area_new(MANY_PAGES);
  gcrt_protection_limit(64);
  for (int round = 0; round < 3; round++) {
    arm(&area);
    for (size_t page = 100; page < 1000; page++) *at(&area, page) = 2;
    for (size_t page = 1500; page >= 1400; page--) *at(&area, page) = 2;
    ck_assert_uint_eq(mappings_of(&area), 5);
    const char *written = pages_written(&area, false);
    for (size_t page = 0; page < MANY_PAGES; page++) {
      bool expected = (page >= 100 && page < 1000) || (page >= 1400 && page <= 1500);
      TEST_REQUIRE(written[page] == (expected ? 'w' : '.'), "page %zu: %c", page, written[page]);
    }
  }
}
END_TEST

/* The kernel has no more mappings to give: a lift that needs one is refused. */
START_TEST(the_kernel_may_refuse) {
  enum { FILLER = 200000 };
  struct area area = area_new(MANY_PAGES);
  arm(&area);
  ck_assert(tracker->disarm(low_of(&area), high_of(&area)));
  arm(&area);
  /* Every second page of it is a mapping. */
  char *filler = mmap(NULL, FILLER * page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ck_assert(filler != MAP_FAILED);
  size_t filled = 0;
  while (filled < FILLER && mprotect(filler + filled * page_bytes, page_bytes, PROT_NONE) == 0) filled += 2;
  if (filled >= FILLER) TEST_SKIP("vm.max_map_count is above %d", FILLER);
  for (size_t page = 0; page < MANY_PAGES; page += 3) *at(&area, page) = 2;
  const char *written = pages_written(&area, false);
  for (size_t page = 0; page < MANY_PAGES; page += 3) TEST_REQUIRE(written[page] == 'w');
  TEST_REQUIRE(munmap(filler, FILLER * page_bytes) == 0);
  arm(&area);
  *at(&area, 0) = 2;
  TEST_REQUIRE(strncmp(pages_written(&area, false), "w..", 3) == 0);
}
END_TEST

/* A chunk may be freed and handed out again between the moment it was seen to be worth arming and the beginning of
 * marking. */
START_TEST(chunks_of_the_heap_are_handed_out_writable) {
  char reason[128];
  bool zeroed;
  TEST_REQUIRE(tracker->start(reason, sizeof reason), "%s", reason);
  TEST_REQUIRE(tracker->add(gcrt_heap.base, gcrt_heap.base + gcrt_heap.reserved));
  page_bytes = gcrt_page_size();
  size_t first = gcrt_pages_take(1, 1, &zeroed);
  TEST_REQUIRE(first != SIZE_MAX);
  struct area area = {(char *)gcrt_chunk_address(first), PAGES};
  arm(&area);
  assert_written(&area, "........");
  gcrt_pages_give(first, 1, false);
  TEST_REQUIRE(gcrt_pages_take(1, 1, &zeroed) == first);
  assert_written(&area, "wwwwwwww");
  int fds[2];
  TEST_REQUIRE(pipe(fds) == 0 && write(fds[1], "pipe", 4) == 4 && read(fds[0], area.start, 4) == 4);
}
END_TEST

/* --- several threads --------------------------------------------------------------------------------------------- */

/* Who looks at the reported pages only has seen everything in the end; with few mappings, too. */
START_TEST(no_write_falls_between_scans) {
  struct area area = area_new(RACE_PAGES);
  if (_i == 1) gcrt_protection_limit(16);
  memset(area.start, 0, RACE_PAGES * page_bytes);
  arm(&area);
  struct race race = {tracker, low_of(&area), page_bytes, .writers = 3, .rounds = 120};
  race_run(&race);
}
END_TEST

/* --- fork -------------------------------------------------------------------------------------------------------- */

START_TEST(a_child_writes_on_its_own) {
  struct area area = area_new(PAGES);
  arm(&area);
  *at(&area, 1) = 2;
  pid_t child = fork();
  if (child == 0) {
    if (_i == 1) tracker->after_fork();
    bool inherited = strcmp(pages_written(&area, false), _i == 1 ? "wwwwwwww" : ".w......") == 0;
    *at(&area, 3) = 2;
    arm(&area);
    *at(&area, 5) = 2;
    _exit(inherited && strcmp(pages_written(&area, false), ".....w..") == 0 ? 0 : 1);
  }
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  assert_written(&area, ".w......");
}
END_TEST

/* --- faults of the program's ------------------------------------------------------------------------------------- */

static sigjmp_buf back;
static volatile sig_atomic_t handled, had_code;
static void *volatile had_address;

static void on_fault(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  handled++;
  had_code = info->si_code;
  had_address = info->si_addr;
  siglongjmp(back, 1);
}

/* Where the program's handler is called: for what is outside, what was never armed, code, and what the program has
 * protected itself. */
static void fault(const struct area *area, int where) {
  if (where == 0) area->start[-1] = 1;
  if (where == 1) area->start[area->pages * page_bytes] = 1;
  if (where == 2) (void)*(volatile char *)(area->start - 1);
  if (where == 3) ((void (*)(void))(uintptr_t)area->start)();
  if (where == 4 && mprotect(area->start + 6 * page_bytes, page_bytes, PROT_NONE) == 0) (void)*at(area, 6);
}

START_TEST(other_faults_are_the_programs) {
  struct area area = area_new(PAGES);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
  ck_assert_int_eq(sigaction(SIGSEGV, &action, &old), 0);
  ck_assert(old.sa_handler == SIG_DFL || (old.sa_flags & SA_SIGINFO)); /* AddressSanitizer has one */
  ck_assert_int_eq(sigaction(SIGSEGV, NULL, &old), 0);
  ck_assert(old.sa_sigaction == on_fault && !(old.sa_flags & (SA_ONSTACK | SA_NODEFER)));
  for (int round = 0; round < 3; round++) {
    arm(&area);
    if (sigsetjmp(back, 1) == 0) {
      fault(&area, _i);
      ck_abort_msg("nothing has faulted");
    }
    ck_assert_int_eq(handled, round + 1);
    *at(&area, 4) = 1; /* the tracker goes on */
    assert_written(&area, "....w...");
    ck_assert_int_eq(handled, round + 1);
  }
}
END_TEST

/* Past the interposed functions: check finds it, and puts the tracker before it. */
START_TEST(a_handler_from_elsewhere_is_passed_on_to) {
  struct area area = area_new(PAGES);
  struct {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
  } action;
  struct sigaction given = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
  /* The C library's own return trampoline comes with what it installed. */
  ck_assert_int_eq(syscall(SYS_rt_sigaction, SIGSEGV, NULL, &action, 8), 0);
  action.handler = on_fault;
  action.mask = 0;
  ck_assert_int_eq(syscall(SYS_rt_sigaction, SIGSEGV, &action, NULL, 8), 0);
  char reason[128];
  ck_assert_msg(tracker->check(reason, sizeof reason), "%s", reason);
  arm(&area);
  *at(&area, 4) = 1;
  assert_written(&area, "....w...");
  ck_assert_int_eq(handled, 0);
  if (sigsetjmp(back, 1) == 0) fault(&area, 0);
  ck_assert_int_eq(handled, 1);
  ck_assert_int_eq(sigaction(SIGSEGV, &given, &old), 0);
  ck_assert(old.sa_sigaction == on_fault);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/protection");
  TCase *pages = test_case(suite, "pages", 60);
  tcase_add_test(pages, reports_what_was_written_since_it_was_armed);
  tcase_add_test(pages, reading_is_not_writing);
  tcase_add_test(pages, system_calls_do_not_write_into_armed_pages);
  tcase_add_test(pages, errno_is_kept);
  tcase_add_test(pages, mappings_are_limited);
  tcase_add_test(pages, neighbours_cost_nothing);
  tcase_add_test(pages, the_kernel_may_refuse);
  tcase_add_test(pages, chunks_of_the_heap_are_handed_out_writable);
  tcase_add_loop_test(pages, no_write_falls_between_scans, 0, 2);
  tcase_add_loop_test(pages, a_child_writes_on_its_own, 0, 2);
  tcase_add_loop_test(pages, other_faults_are_the_programs, 0, 5);
  tcase_add_test(pages, a_handler_from_elsewhere_is_passed_on_to);
  return suite;
}
TEST_MAIN(make_suite)
