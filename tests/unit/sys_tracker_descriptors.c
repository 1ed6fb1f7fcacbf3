/* The write tracker's descriptors: where they are put, that they are found again or replaced when the program closed
 * them, that files of the program's under their numbers stay untouched, and what it says where it is not to be had. */
#include "sys/tracker.h"
#include "sys/memory.h"

#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Every test works in a child of its own, whose descriptors it may close: what the library's constructor or Check has
 * open is out of the way, and standard error still tells what failed. */
enum { PAGES = 4, DESCRIPTORS = 16384, FIRST = 3 };

static char reason[160];

static bool tracker_works(void) {
  bool works = gcrt_tracker_start(reason, sizeof reason);
  ck_assert_msg(works || !strstr(reason, "fails its probe"), "%s", reason);
  return works;
}

static void run(int (*fn)(void *), void *argument) {
  struct test_child child = test_child_fork(fn, argument, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static void close_all(void) {
  for (int fd = FIRST; fd < DESCRIPTORS; fd++) (void)syscall(SYS_close, fd);
}

/* The descriptors above those that are open in an empty child: the tracker's. */
struct ours {
  int count, fds[8];
};

static struct ours find_ours(void) {
  struct ours ours = {0};
  for (int fd = FIRST; fd < DESCRIPTORS; fd++) {
    if (!is_open(fd)) continue;
    TEST_REQUIRE(ours.count < 8);
    ours.fds[ours.count++] = fd;
  }
  return ours;
}

/* A child without descriptors and without a tracker, then with one and nothing else open. */
static struct ours start_afresh(void) {
  gcrt_tracker_after_fork();
  close_all();
  TEST_REQUIRE(gcrt_tracker_start(reason, sizeof reason), "%s", reason);
  struct ours ours = find_ours();
  TEST_REQUIRE(ours.count == 2, "%d descriptors", ours.count);
  return ours;
}

struct area {
  uintptr_t low, high;
};

static struct area area_new(void) {
  size_t size = PAGES * gcrt_page_size();
  char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TEST_REQUIRE(start != MAP_FAILED);
  memset(start, 1, size);
  return (struct area){(uintptr_t)start, (uintptr_t)start + size};
}

static struct area area_armed(void) {
  struct area area = area_new();
  TEST_REQUIRE(gcrt_tracker_add(area.low, area.high) && gcrt_tracker_arm(area.low, area.high));
  return area;
}

static void write_page(struct area area, unsigned page) { *(volatile char *)(area.low + page * gcrt_page_size()) = 2; }

struct pages {
  uintptr_t base;
  unsigned found;
};

static void note(void *argument, uintptr_t low, uintptr_t high) {
  struct pages *pages = argument;
  for (; low < high; low += gcrt_page_size()) pages->found |= 1U << ((low - pages->base) / gcrt_page_size());
}

/* A bit for each page; armed again. */
static unsigned written(struct area area) {
  struct pages pages = {area.low, 0};
  TEST_REQUIRE(gcrt_tracker_written(area.low, area.high, true, note, &pages));
  return pages.found;
}

enum { ALL = (1 << PAGES) - 1 };

static void assert_tracks(struct area area) {
  (void)written(area);
  TEST_REQUIRE(written(area) == 0);
  write_page(area, 2);
  TEST_REQUIRE(written(area) == 1U << 2);
}

/* --- a file of the program's under a number of ours -------------------------------------------------------------- */

static const char content[] = "the program's own";

struct foreign {
  int fd;
  struct stat status;
  off_t position;
};

static int open_content(void) {
  int fd = (int)syscall(SYS_memfd_create, "foreign", 0);
  TEST_REQUIRE(fd >= 0 && write(fd, content, sizeof content) == sizeof content && lseek(fd, 4, SEEK_SET) == 4);
  return fd;
}

static int open_pagemap(void) { return open("/proc/thread-self/pagemap", O_RDONLY); }
static int open_uffd(void) { return (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY); }

static struct foreign put_there(int (*open_file)(void), int number) {
  int fd = open_file();
  TEST_REQUIRE(fd >= 0 && dup2(fd, number) == number && close(fd) == 0);
  struct foreign foreign = {.fd = number, .position = lseek(number, 0, SEEK_CUR)};
  TEST_REQUIRE(fstat(number, &foreign.status) == 0);
  return foreign;
}

static void assert_untouched(const struct foreign *foreign) {
  struct stat now;
  TEST_REQUIRE(fstat(foreign->fd, &now) == 0);
  TEST_REQUIRE(now.st_ino == foreign->status.st_ino && now.st_dev == foreign->status.st_dev);
  TEST_REQUIRE(now.st_size == foreign->status.st_size && lseek(foreign->fd, 0, SEEK_CUR) == foreign->position);
  TEST_REQUIRE(!(fcntl(foreign->fd, F_GETFD) & FD_CLOEXEC));
}

static void assert_content(const struct foreign *foreign) {
  char text[sizeof content + 1];
  TEST_REQUIRE(pread(foreign->fd, text, sizeof text, 0) == sizeof content &&
               memcmp(text, content, sizeof content) == 0);
}

/* --- where they are ---------------------------------------------------------------------------------------------- */

static void limit_descriptors(rlim_t soft) {
  struct rlimit limit;
  TEST_REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = soft;
  TEST_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static int high_numbers(void *argument) {
  (void)argument;
  struct ours ours = start_afresh();
  struct rlimit limit;
  TEST_REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  for (int i = 0; i < ours.count; i++) {
    TEST_REQUIRE(fcntl(ours.fds[i], F_GETFD) == FD_CLOEXEC);
    TEST_REQUIRE(ours.fds[i] >= 1000 || (rlim_t)ours.fds[i] + 8 >= limit.rlim_cur, "%d", ours.fds[i]);
  }
  gcrt_tracker_after_fork();
  TEST_REQUIRE(find_ours().count == 0);

  limit_descriptors(64);
  ours = start_afresh();
  for (int i = 0; i < ours.count; i++) TEST_REQUIRE(ours.fds[i] >= 56 && ours.fds[i] < 64, "%d", ours.fds[i]);
  return 0;
}

/* Numbers from `taken` on are in use, and the standard streams are closed, which must not come to be ours. */
struct crowd {
  int taken, lowest; /* what the tracker may then take: from here on */
  bool starts;
};

static const struct crowd crowds[] = {{56, 28, true}, {28, 14, true}, {5, 3, true}, {4, 3, false}, {3, 3, false}};

static int crowded(void *argument) {
  const struct crowd *crowd = argument;
  gcrt_tracker_after_fork();
  close_all();
  limit_descriptors(64);
  for (int fd = crowd->taken; fd < 64; fd++) TEST_REQUIRE(dup2(2, fd) == fd);
  for (int fd = 0; fd < FIRST; fd++) close(fd);
  bool started = gcrt_tracker_start(reason, sizeof reason);
  int below = 0, from_there = 0;
  for (int fd = 0; fd < crowd->taken; fd++) *(fd < crowd->lowest ? &below : &from_there) += is_open(fd);
  dup2(63, 2);
  TEST_REQUIRE(started == crowd->starts, "%s", reason);
  TEST_REQUIRE(below == 0 && from_there == (started ? 2 : 0), "%d %d", below, from_there);
  if (started) assert_tracks(area_armed());
  return 0;
}

static int no_number_left(void *argument) {
  (void)argument;
  gcrt_tracker_after_fork();
  close_all();
  limit_descriptors(4); /* one is free: too few for two */
  TEST_REQUIRE(!gcrt_tracker_start(reason, sizeof reason));
  TEST_REQUIRE(strcmp(reason, "userfaultfd: Too many open files") == 0, "%s", reason);
  TEST_REQUIRE(find_ours().count == 0);
  limit_descriptors(64);
  TEST_REQUIRE(gcrt_tracker_start(reason, sizeof reason), "%s", reason);
  return 0;
}

START_TEST(descriptors_are_out_of_the_way) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  run(high_numbers, NULL);
  for (size_t i = 0; i < sizeof crowds / sizeof *crowds; i++) {
    struct crowd crowd = crowds[i];
    run(crowded, &crowd);
  }
  run(no_number_left, NULL);
}
END_TEST

/* --- what the program does to them ------------------------------------------------------------------------------- */

static int all_closed(void *argument) {
  (void)argument;
  start_afresh();
  struct area area = area_armed(), gone = area_armed();
  TEST_REQUIRE(gcrt_tracker_intact() && munmap((void *)gone.low, gone.high - gone.low) == 0);
  close_all();
  write_page(area, 1); /* does not hang, though nobody protects it any more */
  TEST_REQUIRE(!gcrt_tracker_intact());
  struct pages pages = {area.low, 0};
  TEST_REQUIRE(!gcrt_tracker_written(area.low, area.high, true, note, &pages));
  TEST_REQUIRE(!gcrt_tracker_arm(area.low, area.high));
  TEST_REQUIRE(gcrt_tracker_check(reason, sizeof reason), "%s", reason);
  TEST_REQUIRE(gcrt_tracker_intact() && find_ours().count == 2);
  TEST_REQUIRE(gcrt_tracker_check(reason, sizeof reason), "%s", reason);
  struct gcrt_tracker_stats stats;
  gcrt_tracker_get_stats(&stats);
  TEST_REQUIRE(stats.reopened == 1);
  TEST_REQUIRE(written(area) == ALL);
  assert_tracks(area);
  return 0;
}

enum { MANY = 2000 };

struct many {
  uintptr_t base;
  bool armed[MANY];
};

static void clear(void *argument, uintptr_t low, uintptr_t high) {
  struct many *many = argument;
  for (; low < high; low += gcrt_page_size()) many->armed[(low - many->base) / gcrt_page_size()] = false;
}

static unsigned count_runs(const bool *added) {
  unsigned runs = added[0];
  for (size_t i = 1; i < MANY; i++) runs += added[i] && !added[i - 1];
  return runs;
}

/* Ranges of all sorts, in any order: each page that was added is registered again, and no other. */
static int many_ranges(void *argument) {
  (void)argument;
  start_afresh();
  struct test_random random = test_random_stream(1);
  size_t page = gcrt_page_size();
  char *start = mmap(NULL, MANY * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TEST_REQUIRE(start != MAP_FAILED);
  memset(start, 1, MANY * page);
  bool added[MANY] = {false};
  for (int i = 0; i < MANY; i++) {
    size_t first = test_random_below(&random, MANY), count = test_random_once_in(&random, 50) ? 9 : 1;
    if (first + count > MANY || (count == 1 && first % 2)) continue; /* a page apart, mostly */
    TEST_REQUIRE(gcrt_tracker_add((uintptr_t)start + first * page, (uintptr_t)start + (first + count) * page));
    memset(added + first, true, count);
  }
  struct gcrt_tracker_stats stats;
  gcrt_tracker_get_stats(&stats);
  TEST_REQUIRE(stats.ranges == count_runs(added), "%d", (int)stats.ranges);
  close_all();
  TEST_REQUIRE(gcrt_tracker_check(reason, sizeof reason), "%s", reason);
  struct many many = {.base = (uintptr_t)start};
  memset(many.armed, true, sizeof many.armed);
  TEST_REQUIRE(gcrt_tracker_arm(many.base, many.base + MANY * page));
  TEST_REQUIRE(gcrt_tracker_written(many.base, many.base + MANY * page, false, clear, &many));
  TEST_REQUIRE(memcmp(many.armed, added, sizeof added) == 0);
  return 0;
}

static int (*const foreign_files[])(void) = {open_content, open_pagemap, open_uffd};

/* Both numbers are files of the program's own. */
static int both_taken(void *argument) {
  int (*open_file)(void) = foreign_files[*(size_t *)argument];
  struct ours ours = start_afresh();
  struct area area = area_armed();
  close_all();
  struct foreign foreign[2] = {put_there(open_file, ours.fds[0]), put_there(open_file, ours.fds[1])};
  TEST_REQUIRE(!gcrt_tracker_intact());
  if (open_file == open_content) TEST_REQUIRE(!gcrt_tracker_arm(area.low, area.high));
  TEST_REQUIRE(gcrt_tracker_check(reason, sizeof reason), "%s", reason);
  TEST_REQUIRE(find_ours().count == 4);
  TEST_REQUIRE(written(area) == ALL);
  assert_tracks(area);
  for (int i = 0; i < 2; i++) {
    assert_untouched(&foreign[i]);
    if (open_file == open_content) assert_content(&foreign[i]);
  }
  return 0;
}

/* A child of fork closes what is its parent's, but no file that the parent put there. */
static int both_taken_then_fork(void *argument) {
  int (*open_file)(void) = foreign_files[*(size_t *)argument];
  struct ours ours = start_afresh();
  close_all();
  struct foreign foreign[2] = {put_there(open_file, ours.fds[0]), put_there(open_file, ours.fds[1])};
  gcrt_tracker_after_fork();
  for (int i = 0; i < 2; i++) assert_untouched(&foreign[i]);
  TEST_REQUIRE(find_ours().count == 2);
  return 0;
}

/* One of the two: the lower is the userfaultfd, as it is opened first. */
static int one_taken(void *argument) {
  size_t which = *(size_t *)argument;
  struct ours ours = start_afresh();
  struct area area = area_armed();
  struct foreign foreign = put_there(open_content, ours.fds[which]);
  write_page(area, 3);
  TEST_REQUIRE(!gcrt_tracker_intact());
  TEST_REQUIRE(gcrt_tracker_check(reason, sizeof reason), "%s", reason);
  TEST_REQUIRE(find_ours().count == 3);
  /* Without the pagemap nothing is lost: the protection was the userfaultfd's. */
  TEST_REQUIRE(written(area) == (which == 0 ? ALL : 1U << 3));
  assert_tracks(area);
  assert_untouched(&foreign);
  assert_content(&foreign);
  return 0;
}

START_TEST(closed_descriptors_are_opened_again) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  run(all_closed, NULL);
  run(many_ranges, NULL);
}
END_TEST

START_TEST(foreign_files_under_our_numbers_stay_untouched) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  size_t kinds = sizeof foreign_files / sizeof *foreign_files;
  for (size_t i = 0; i < kinds; i++) {
    int fd = foreign_files[i]();
    if (fd < 0) continue; /* userfaultfd may be open to us by its device only */
    close(fd);
    run(both_taken, &i);
    run(both_taken_then_fork, &i);
  }
  for (size_t i = 0; i < 2; i++) run(one_taken, &i);
}
END_TEST

static int foreign_userfaultfd(void *argument) {
  (void)argument;
  start_afresh();
  struct area area = area_new();
  int fd = open_uffd();
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register request = {.range = {area.low, area.high - area.low}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  TEST_REQUIRE(ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &request) == 0);
  TEST_REQUIRE(!gcrt_tracker_add(area.low, area.high));
  TEST_REQUIRE(close(fd) == 0);
  TEST_REQUIRE(gcrt_tracker_add(area.low, area.high));
  assert_tracks(area);
  return 0;
}

START_TEST(memory_of_another_userfaultfd_is_refused) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  int fd = open_uffd();
  if (fd < 0) TEST_SKIP("userfaultfd: %s", strerror(errno));
  close(fd);
  run(foreign_userfaultfd, NULL);
}
END_TEST

/* --- where it cannot be had -------------------------------------------------------------------------------------- */

struct denial {
  int call;
  uint32_t request; /* of an ioctl; 0 any */
  int error;
};

/* What containers do: the call fails with the error. */
static void deny(const struct denial *denial) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denial->call, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | (denial->request ? BPF_JEQ : BPF_JGE) | BPF_K, denial->request, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)denial->error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  TEST_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  TEST_REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "%s", strerror(errno));
}

struct refusal {
  struct denial denials[2];
  const char *reason;
  bool needs_kernel; /* the refusal comes behind calls that must succeed */
};

#define PAGEMAP_SCAN_REQUEST 0xc0606610U

static const struct refusal refusals[] = {
    {{{SYS_userfaultfd, 0, EPERM}, {SYS_openat, 0, EACCES}}, "userfaultfd: Operation not permitted", false},
    {{{SYS_userfaultfd, 0, ENOSYS}, {SYS_openat, 0, ENOENT}}, "userfaultfd: Function not implemented", false},
    {{{SYS_userfaultfd, 0, 123}, {SYS_openat, 0, ENOENT}}, "userfaultfd: error 123", false},
    {{{SYS_openat, 0, ENOENT}}, "/proc/thread-self/pagemap: No such file or directory", true},
    {{{SYS_openat, 0, EACCES}}, "/proc/thread-self/pagemap: Permission denied", true},
    {{{SYS_ioctl, (uint32_t)UFFDIO_API, EINVAL}},
     "userfaultfd without asynchronous write protection: Invalid argument",
     true},
    {{{SYS_ioctl, (uint32_t)UFFDIO_REGISTER, EINVAL}}, "registering: Invalid argument", true},
    {{{SYS_ioctl, PAGEMAP_SCAN_REQUEST, ENOTTY}}, "arming by PAGEMAP_SCAN: Inappropriate ioctl for device", true},
    {{{SYS_ioctl, (uint32_t)UFFDIO_WRITEPROTECT, EPERM}}, "disarming: Operation not permitted", true},
    {{{SYS_uname, 0, EFAULT}}, "a system call into an armed page: error 14", true},
};

static void deny_all(const struct refusal *refusal) {
  for (size_t i = 0; i < 2; i++)
    if (refusal->denials[i].error) deny(&refusal->denials[i]);
}

static int refused_from_the_start(void *argument) {
  const struct refusal *refusal = argument;
  gcrt_tracker_after_fork();
  close_all();
  deny_all(refusal);
  TEST_REQUIRE(!gcrt_tracker_start(reason, sizeof reason));
  TEST_REQUIRE(strcmp(reason, refusal->reason) == 0, "%s", reason);
  TEST_REQUIRE(find_ours().count == 0);
  TEST_REQUIRE(!gcrt_tracker_check(reason, sizeof reason) && !gcrt_tracker_intact());
  struct area area = area_new();
  TEST_REQUIRE(!gcrt_tracker_add(area.low, area.high) && !gcrt_tracker_arm(area.low, area.high));
  char small[8];
  TEST_REQUIRE(!gcrt_tracker_start(small, sizeof small));
  TEST_REQUIRE(strlen(small) == sizeof small - 1 && strncmp(small, refusal->reason, strlen(small)) == 0);
  return 0;
}

START_TEST(a_refusal_has_its_reason) {
  bool works = tracker_works();
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    struct refusal refusal = refusals[i];
    if (works || !refusal.needs_kernel) run(refused_from_the_start, &refusal);
  }
}
END_TEST

static const struct refusal later[] = {
    {{{SYS_userfaultfd, 0, EPERM}, {SYS_openat, 0, EACCES}}, "userfaultfd: Operation not permitted", true},
    {{{SYS_ioctl, (uint32_t)UFFDIO_REGISTER, EBUSY}}, "userfaultfd, registering again: Device or resource busy", true},
    {{{SYS_openat, 0, EACCES}}, "/proc/thread-self/pagemap: Permission denied", true},
};

/* It worked, then the descriptors were closed and the way to new ones as well. */
static int refused_later(void *argument) {
  const struct refusal *refusal = argument;
  struct ours ours = start_afresh();
  struct area area = area_armed();
  close_all();
  struct foreign foreign[2] = {put_there(open_content, ours.fds[0]), put_there(open_content, ours.fds[1])};
  deny_all(refusal);
  for (int i = 0; i < 2; i++) {
    TEST_REQUIRE(!gcrt_tracker_check(reason, sizeof reason));
    TEST_REQUIRE(strcmp(reason, refusal->reason) == 0, "%s", reason);
    TEST_REQUIRE(!gcrt_tracker_intact());
  }
  struct pages pages = {area.low, 0};
  TEST_REQUIRE(!gcrt_tracker_written(area.low, area.high, false, note, &pages) && pages.found == 0);
  for (int i = 0; i < 2; i++) {
    assert_untouched(&foreign[i]);
    assert_content(&foreign[i]);
  }
  return 0;
}

START_TEST(a_check_that_fails_says_so_each_time) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
    struct refusal refusal = later[i];
    run(refused_later, &refusal);
  }
}
END_TEST

/* Docker's default: no system call, but the device where the file system has it. */
static int by_device(void *argument) {
  (void)argument;
  deny(&(struct denial){SYS_userfaultfd, 0, EPERM});
  start_afresh();
  assert_tracks(area_armed());
  return 0;
}

START_TEST(the_device_does_where_the_call_is_refused) {
  if (!tracker_works()) TEST_SKIP("%s", reason);
  int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (fd < 0) TEST_SKIP("/dev/userfaultfd: %s", strerror(errno));
  close(fd);
  run(by_device, NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/tracker: descriptors");
  TCase *tc = test_case(suite, "numbers", 60);
  tcase_add_test(tc, descriptors_are_out_of_the_way);
  tcase_add_test(tc, closed_descriptors_are_opened_again);
  tcase_add_test(tc, foreign_files_under_our_numbers_stay_untouched);
  tcase_add_test(tc, memory_of_another_userfaultfd_is_refused);
  tc = test_case(suite, "refusals", 60);
  tcase_add_test(tc, a_refusal_has_its_reason);
  tcase_add_test(tc, a_check_that_fails_says_so_each_time);
  tcase_add_test(tc, the_device_does_where_the_call_is_refused);
  return suite;
}

TEST_MAIN(make_suite)
