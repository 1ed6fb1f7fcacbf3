/* Surroundings that take the write tracker away: closed and reused descriptors, daemons, seccomp, no /proc from the
 * start or later, no privileges, no descriptors left. The heap must stay whole, files of the program's untouched, and
 * GCRT_TRACKER=uffd must end with its reason where it cannot have what it asks for. Each case is a fresh process. */
#include "busy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST = 3, LAST = 9000, FILES = 8 };

/* --- descriptors --- */

static const char content[] = "the program's own";

struct file {
  int fd;
  struct stat status;
};

/* Numbers that are open and none of the program's: the tracker's. */
static size_t find_foreign(int *fds, size_t most) {
  size_t count = 0;
  for (int fd = FIRST; fd < LAST && count < most; fd++)
    if (fcntl(fd, F_GETFD) >= 0) fds[count++] = fd;
  return count;
}

static void put_file(struct file *file, int number) {
  int fd = memfd_create("own", 0);
  TEST_REQUIRE(fd >= 0 && write(fd, content, sizeof content) == sizeof content && lseek(fd, 5, SEEK_SET) == 5);
  if (fd != number) TEST_REQUIRE(dup2(fd, number) == number && close(fd) == 0);
  file->fd = number;
  TEST_REQUIRE(fstat(number, &file->status) == 0);
}

static void check_file(const struct file *file) {
  struct stat now;
  char text[sizeof content];
  TEST_REQUIRE(fstat(file->fd, &now) == 0, "descriptor %d was closed", file->fd);
  TEST_REQUIRE(now.st_ino == file->status.st_ino && now.st_size == (off_t)sizeof content);
  TEST_REQUIRE(lseek(file->fd, 0, SEEK_CUR) == 5, "the position of descriptor %d was changed", file->fd);
  TEST_REQUIRE(pread(file->fd, text, sizeof text, 0) == sizeof text && memcmp(text, content, sizeof text) == 0);
}

/* A child that closes its parent's tracker looks at what it closes. */
static void fork_and_check(const struct file *files, size_t count) {
  pid_t child = fork();
  if (child == 0) {
    for (size_t i = 0; i < count; i++) check_file(&files[i]);
    _exit(0);
  }
  int status;
  TEST_REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0, "status %x", status);
}

/* Closes everything, or puts its own files over the tracker's descriptors, while the heap is marked. */
static int child_descriptors(int argc, char **argv) {
  (void)argc;
  bool over = strcmp(argv[1], "over") == 0;
  busy_start(48);
  for (int round = 0; round < 12; round++) {
    int foreign[FILES];
    struct file files[FILES];
    size_t count = find_foreign(foreign, FILES);
    TEST_REQUIRE(count >= 2 && busy_descriptors() == 2, "%zu descriptors, %zu of a tracker", count, busy_descriptors());
    if (!over) TEST_REQUIRE(syscall(SYS_close_range, FIRST, ~0u, 0) == 0);
    for (size_t i = 0; i < count; i++) put_file(&files[i], foreign[i]);
    if (over) fork_and_check(files, count);
    /* The second one begins by opening what it lacks. */
    busy_wait(2);
    for (size_t i = 0; i < count; i++) check_file(&files[i]);
    for (size_t i = 0; i < count; i++) close(files[i].fd);
    if (round % 5 == 0) busy_check();
  }
  busy_stop();
  return 0;
}

/* Forks twice, leaves the session and closes everything, as daemons do. */
static int child_daemon(int argc, char **argv) {
  (void)argc, (void)argv;
  TEST_REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  busy_start(16);
  pid_t first = fork();
  if (first == 0) {
    setsid();
    if (fork() != 0) _exit(0);
    busy_forget_thread();
    alarm(60);
    TEST_REQUIRE(busy_descriptors() == 0, "%zu descriptors of the parent's tracker", busy_descriptors());
    TEST_REQUIRE(syscall(SYS_close_range, FIRST, ~0u, 0) == 0);
    struct file file;
    put_file(&file, open("/dev/null", O_RDWR));
    busy_check();
    for (int i = 0; i < 5; i++) {
      gc_collect();
      check_file(&file);
    }
    busy_check();
    _exit(0);
  }
  int status;
  for (int i = 0; i < 2; i++) TEST_REQUIRE(wait(&status) > 0 && status == 0, "status %x", status);
  busy_stop();
  return 0;
}

/* --- what is denied --- */

static void install(struct sock_filter *filter, size_t length) {
  struct sock_fprog program = {(unsigned short)length, filter};
  TEST_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  TEST_REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "%s", strerror(errno));
}

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* As Docker's default filter; its containers have no /dev/userfaultfd either. */
static void deny_userfaultfd(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, USERFAULTFD_IOC_NEW, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  install(filter, sizeof filter / sizeof *filter);
}

/* No file can be opened, so nothing of /proc; a program cannot be started either. */
static void deny_proc(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOENT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  install(filter, sizeof filter / sizeof *filter);
}

/* An empty directory in the place of /proc, for this process and those it becomes. False: not allowed here. */
static bool hide_proc(void) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", "/proc", "tmpfs", 0, NULL) == 0;
}

/* The loader looks for libraries relative to the program, whose path it has from /proc, or from this variable. */
static void tell_origin(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s", test_program());
  *strrchr(path, '/') = '\0';
  setenv("LD_ORIGIN_PATH", path, 1);
}

enum { NOT_ALLOWED = 77 };

/* The loader needs one descriptor, the tracker two. */
static void deny_descriptors(void) {
  TEST_REQUIRE(syscall(SYS_close_range, FIRST, ~0u, 0) == 0);
  TEST_REQUIRE(setrlimit(RLIMIT_NOFILE, &(struct rlimit){FIRST + 1, FIRST + 1}) == 0);
}

static int child_live(int argc, char **argv) {
  (void)argc, (void)argv;
  busy_start(64);
  busy_wait(5);
  busy_stop();
  printf("lived on\n");
  return 0;
}

/* Started with GCRT_TRACKER=auto, as the library starts here as well, and looks for the tracker
 * later; argv[2] is for the program that is executed. */
static int child_deny(int argc, char **argv) {
  setenv("GCRT_TRACKER", argv[2], 1);
  bool sandbox = strcmp(argv[1], "sandbox") == 0;
  tell_origin();
  if ((sandbox || strcmp(argv[1], "no-proc") == 0) && !hide_proc()) return NOT_ALLOWED;
  if (sandbox || strcmp(argv[1], "userfaultfd") == 0) deny_userfaultfd();
  if (strcmp(argv[1], "proc") == 0) {
    deny_proc();
    return child_live(argc, argv);
  }
  if (strcmp(argv[1], "descriptors") == 0) deny_descriptors();
  execl(test_program(), test_program(), "--child", "live", (char *)NULL);
  return 1;
}

/* The tracker may be there already when the privileges go. */
static int child_drop(int argc, char **argv) {
  (void)argc;
  bool early = strcmp(argv[1], "early") == 0;
  if (!early) busy_start(64);
  if (geteuid() == 0) TEST_REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
  TEST_REQUIRE(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  if (early) busy_start(64);
  busy_wait(5);
  busy_stop();
  printf("lived on\n");
  return 0;
}

/* Threads are refused, also to who began as root. Collections become long, and are in one stop, with a reason. */
static int child_alone(int argc, char **argv) {
  (void)argc, (void)argv;
  if (geteuid() == 0) TEST_REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
  TEST_REQUIRE(setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}) == 0);
  static void **list;
  const char *reason, *tracker;
  for (size_t i = 0; i < 2000000 && (i < 400000 || *reason == '\0'); i++) {
    void **node = gc_alloc(64);
    node[0] = list;
    list = node;
    tracker = runtime_metrics_tracker(&reason);
  }
  printf("%s, %s\n", tracker, reason);
  fflush(stdout);
  TEST_REQUIRE(system_metrics().num_concurrent_gc == 0);
  _exit(0);
}

static const struct test_child_entry children[] = {
    BUSY_CHILD,
    {"descriptors", child_descriptors},
    {"daemon", child_daemon},
    {"live", child_live},
    {"deny", child_deny},
    {"drop", child_drop},
    {"alone", child_alone},
    {NULL, NULL},
};

static const char *const descriptor_cases[][3] = {
    {"descriptors", "closed", NULL}, {"descriptors", "over", NULL}, {"daemon", NULL}};

START_TEST(descriptors_are_the_programs) {
  const char *unavailable = test_writes_fault() ? "the tracker mprotect has no descriptors" : busy_unavailable();
  if (unavailable) TEST_SKIP("%s", unavailable);
  busy_run(descriptor_cases[_i], false, NULL);
}
END_TEST

static const struct denial {
  const char *what, *reason;
} denials[] = {
    {"userfaultfd", "GCRT_TRACKER=uffd: userfaultfd: Operation not permitted"},
    {"descriptors", ": Too many open files"},
    {"proc", NULL},
    {"no-proc", NULL},
    {"sandbox", NULL},
};

static const struct test_child_options in_auto = {
    .environment = (const char *const[]){"GCRT_TRACKER=auto", "GCRT_STRESS", NULL}, .timeout_seconds = 60};

START_TEST(auto_does_without) {
  if (SYSTEM_SANITIZED && (strcmp(denials[_i].what, "no-proc") == 0 || strcmp(denials[_i].what, "sandbox") == 0))
    TEST_SKIP("the sanitizer cannot do without /proc");
  const char *arguments[] = {denials[_i].what, "auto", NULL};
  struct test_child child = test_child_exec_self("deny", arguments, &in_auto);
  if (test_child_exited(&child, NOT_ALLOWED)) TEST_SKIP("/proc cannot be hidden from a process here");
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "lived on");
  test_child_free(&child);
}
END_TEST

/* Where userfaultfd does not work anyway, another reason may come first. */
START_TEST(uffd_says_why) {
  const char *unavailable = _i == 0 ? NULL : busy_unavailable();
  if (unavailable) TEST_SKIP("%s", unavailable);
  const char *arguments[] = {denials[_i].what, "uffd", NULL};
  struct test_child child = test_child_exec_self("deny", arguments, &in_auto);
  test_assert_signalled(&child, SIGABRT);
  test_assert_err_has(&child, denials[_i].reason);
  test_child_free(&child);
}
END_TEST

static const char *const trackers[] = {"none", "explicit", "mprotect"};

START_TEST(starts_without_proc) {
  const char *arguments[] = {"no-proc", trackers[_i], NULL};
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer cannot do without /proc");
  struct test_child child = test_child_exec_self("deny", arguments, &in_auto);
  if (test_child_exited(&child, NOT_ALLOWED)) TEST_SKIP("/proc cannot be hidden from a process here");
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "lived on");
  test_child_free(&child);
}
END_TEST

static const char *const drops[][2] = {
    {"early", "GCRT_TRACKER=auto"}, {"late", "GCRT_TRACKER=auto"}, {"late", "GCRT_TRACKER=uffd"}};

START_TEST(privileges_are_dropped) {
  const char *unavailable = _i < 2 ? NULL : busy_unavailable();
  if (unavailable) TEST_SKIP("%s", unavailable);
  struct test_child child = test_child_exec_self(
      "drop", (const char *[]){drops[_i][0], NULL},
      &(struct test_child_options){.environment = (const char *[]){drops[_i][1], "GCRT_STRESS", NULL}});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "lived on");
  test_child_free(&child);
}
END_TEST

START_TEST(no_thread_is_a_reason) {
  const char *setting = _i == 0 ? "GCRT_TRACKER=auto" : "GCRT_TRACKER=mprotect";
  struct test_child child = test_child_exec_self(
      "alone", NULL,
      &(struct test_child_options){
          .environment = (const char *[]){setting, "GCRT_STRESS", "GCRT_DEBUG=gctrace=1", "GCRT_GOGC=100", NULL}});
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "none, the background thread cannot be started: ");
  test_assert_err_has(&child, "none: the background thread cannot be started: ");
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "tracker", 120);
  tcase_add_loop_test(tc, descriptors_are_the_programs, 0, sizeof descriptor_cases / sizeof *descriptor_cases);
  tcase_add_loop_test(tc, auto_does_without, 0, sizeof denials / sizeof *denials);
  tcase_add_loop_test(tc, starts_without_proc, 0, sizeof trackers / sizeof *trackers);
  tcase_add_loop_test(tc, uffd_says_why, 0, 2);
  tcase_add_loop_test(tc, no_thread_is_a_reason, 0, 2);
  tcase_add_loop_test(tc, privileges_are_dropped, 0, sizeof drops / sizeof *drops);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
