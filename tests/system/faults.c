/* GCRT_TRACKER=mprotect: the tracker lives on SIGSEGV, and leaves to the program what is the program's: its handlers,
 * its crashes, its masks, its children. System calls cannot write into objects that are searched for pointers while the
 * heap is marked, and can into all others. Each case is a fresh process whose heap is always being marked. */
#include "busy.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEBIBYTES = 16, COLLECTIONS = 12, OBJECTS = 64, OBJECT_WORDS = 1000 };

extern char **environ;

static size_t *objects[OBJECTS]; /* on pages of their own, nearly */
static char *forbidden;

static void begin(void) {
  const char *reason;
  TEST_REQUIRE(strcmp(runtime_metrics_tracker(&reason), "mprotect") == 0 && strcmp(reason, "") == 0, "%s", reason);
  busy_start(MEBIBYTES);
  for (size_t i = 0; i < OBJECTS; i++) {
    objects[i] = gc_alloc(OBJECT_WORDS * sizeof *objects[i]);
    TEST_REQUIRE(objects[i] != NULL);
  }
  forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TEST_REQUIRE(forbidden != MAP_FAILED);
}

/* Calls it until so many collections have come and gone: most calls write to a page that is armed, or just was. */
static void while_marking(void (*body)(size_t *object, size_t round)) {
  unsigned first = busy_collections();
  for (size_t round = 0; busy_collections() - first < COLLECTIONS; round++) body(objects[round % OBJECTS], round);
}

/* --- handlers of the program's --- */

static __thread sigjmp_buf back;
static __thread int faults;
static size_t *volatile written_by_handler;

static void leave(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  TEST_REQUIRE(info->si_addr == forbidden && info->si_code == SEGV_ACCERR);
  faults++;
  written_by_handler[0]++;
  siglongjmp(back, 1);
}

static void mend(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  TEST_REQUIRE(info->si_addr == forbidden);
  faults++;
  written_by_handler[1]++;
  TEST_REQUIRE(mprotect(forbidden, 4096, PROT_READ | PROT_WRITE) == 0);
}

static void fault_and_write(size_t *object, size_t round) {
  (void)round;
  int before = faults;
  size_t value = object[2];
  written_by_handler = objects[(size_t)random() % OBJECTS];
  TEST_REQUIRE(mprotect(forbidden, 4096, PROT_NONE) == 0);
  if (sigsetjmp(back, 1) == 0) *(volatile char *)forbidden = 1;
  TEST_REQUIRE(faults == before + 1);
  object[2] = value + 1;
  TEST_REQUIRE(object[2] == value + 1);
}

static void run_with_handler(void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags}, old;
  sigaddset(&action.sa_mask, SIGUSR2);
  TEST_REQUIRE(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGSEGV, NULL, &old) == 0);
  TEST_REQUIRE(old.sa_sigaction == handler && sigismember(&old.sa_mask, SIGUSR2) == 1);
  TEST_REQUIRE((old.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER)) == (SA_SIGINFO | flags));
  while_marking(fault_and_write);
}

static int child_handlers(int argc, char **argv) {
  (void)argc, (void)argv;
  begin();
  run_with_handler(leave, 0);
  run_with_handler(mend, SA_NODEFER);
  char *memory = malloc(1 << 16);
  stack_t stack = {.ss_sp = memory, .ss_size = 1 << 16}, none = {.ss_flags = SS_DISABLE};
  TEST_REQUIRE(memory && sigaltstack(&stack, NULL) == 0);
  run_with_handler(leave, SA_ONSTACK);
  run_with_handler(mend, SA_ONSTACK);
  TEST_REQUIRE(sigaltstack(&none, NULL) == 0);
  free(memory);
  busy_stop();
  return 0;
}

/* --- crashes --- */

static void say_and_return(int number) {
  (void)number;
  static const char text[] = "handled\n";
  TEST_REQUIRE(write(STDOUT_FILENO, text, sizeof text - 1) == (ssize_t)(sizeof text - 1));
}

static void write_one(size_t *object, size_t round) { object[6] = round; }

static int child_crash(int argc, char **argv) {
  (void)argc;
  const char *how = argv[1];
  begin();
  while_marking(write_one);
  struct sigaction once = {.sa_handler = say_and_return, .sa_flags = (int)SA_RESETHAND}, old;
  if (strcmp(how, "ignored") == 0) TEST_REQUIRE(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
  if (strcmp(how, "once") == 0) TEST_REQUIRE(sigaction(SIGSEGV, &once, NULL) == 0);
  if (strcmp(how, "sent") == 0) raise(SIGSEGV);
  if (strcmp(how, "ignored") == 0) {
    raise(SIGSEGV);
    say_and_return(0);
  }
  if (strcmp(how, "once-sent") == 0) {
    TEST_REQUIRE(sigaction(SIGSEGV, &once, NULL) == 0);
    raise(SIGSEGV);
    TEST_REQUIRE(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
    raise(SIGSEGV);
  }
  *(volatile char *)forbidden = 1;
  return 0;
}

/* --- masks --- */

static volatile sig_atomic_t signalled;

static void write_with_all_blocked(int number) {
  (void)number;
  for (size_t i = 0; i < OBJECTS; i++) objects[i][3]++;
  signalled++;
}

static void *write_from_thread(void *argument) {
  ((size_t *)argument)[4]++;
  return argument;
}

/* The C library stores handle, result and number of the child, and blocks signals at times. */
static void write_through_the_library(size_t *object, size_t round) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGSEGV);
  TEST_REQUIRE(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0);
  object[5]++;
  if (round % 50 != 0) return;
  raise(SIGUSR1);
  pthread_t *handle = (pthread_t *)&object[10];
  void **result = (void **)&object[600];
  TEST_REQUIRE(pthread_create(handle, NULL, write_from_thread, object) == 0);
  TEST_REQUIRE(pthread_join(*handle, result) == 0 && *result == object);
  pid_t *child = (pid_t *)(void *)&object[900];
  char *arguments[] = {"true", NULL};
  if (round % 1000 != 0 || posix_spawnp(child, "true", NULL, NULL, arguments, environ) != 0) return;
  int status;
  TEST_REQUIRE(waitpid(*child, &status, 0) == *child && status == 0);
}

static int child_masks(int argc, char **argv) {
  (void)argc, (void)argv;
  begin();
  struct sigaction action = {.sa_handler = write_with_all_blocked};
  sigset_t set;
  sigfillset(&action.sa_mask);
  TEST_REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
  sigfillset(&set);
  TEST_REQUIRE(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  TEST_REQUIRE(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
  while_marking(write_through_the_library);
  TEST_REQUIRE(signalled > 0);
  busy_stop();
  return 0;
}

/* --- system calls --- */

static int ends[2];
static char *buffer; /* not searched for pointers */
static unsigned long refused;

static void read_into_objects(size_t *object, size_t round) {
  size_t value = round;
  TEST_REQUIRE(write(ends[1], &value, sizeof value) == sizeof value);
  TEST_REQUIRE(read(ends[0], buffer + round % 4096 * sizeof value, sizeof value) == sizeof value);
  TEST_REQUIRE(write(ends[1], &value, sizeof value) == sizeof value);
  ssize_t got = read(ends[0], object, sizeof value);
  if (got < 0) {
    TEST_REQUIRE(errno == EFAULT, "%s", strerror(errno));
    refused++;
    object[0] = 0; /* what the guide says: written by the program, the page takes what the kernel writes */
    got = read(ends[0], object, sizeof value);
  }
  /* It may have been armed again in between. */
  if (got < 0) {
    TEST_REQUIRE(errno == EFAULT && read(ends[0], buffer, sizeof value) == sizeof value);
    return;
  }
  TEST_REQUIRE(got == sizeof value && object[0] == value);
}

static int child_calls(int argc, char **argv) {
  (void)argc, (void)argv;
  begin();
  buffer = gc_alloc_noscan(4096 * sizeof(size_t));
  TEST_REQUIRE(buffer && pipe(ends) == 0);
  while_marking(read_into_objects);
  printf("%lu calls failed with EFAULT\n", refused);
  busy_stop();
  return 0;
}

/* --- children --- */

static SYSTEM_NOINLINE void reset_and_write(void) {
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  for (size_t i = 0; i < OBJECTS; i++) objects[i][8]++;
}

static void write_in_children(size_t *object, size_t round) {
  object[7]++;
  if (round % 200 != 0) return;
  size_t value = object[8];
  int status;
  pid_t child = fork();
  if (child == 0) {
    busy_forget_thread();
    alarm(60);
    for (size_t i = 0; i < OBJECTS; i++) objects[i][8]++;
    TEST_REQUIRE(object[8] == value + 1);
    gc_collect();
    for (size_t i = 0; i < OBJECTS; i++) objects[i][8]++;
    busy_check();
    _exit(0);
  }
  TEST_REQUIRE(waitpid(child, &status, 0) == child && status == 0, "status %x", (unsigned)status);
  TEST_REQUIRE(object[8] == value);
  child = vfork();
  if (child == 0) {
    reset_and_write();
    execlp("true", "true", (char *)NULL);
    _exit(1);
  }
  TEST_REQUIRE(waitpid(child, &status, 0) == child && status == 0, "status %x", (unsigned)status);
  TEST_REQUIRE(object[8] == value + 1);
}

static int child_children(int argc, char **argv) {
  (void)argc, (void)argv;
  begin();
  while_marking(write_in_children);
  busy_stop();
  return 0;
}

/* --- what is denied --- */

static int child_quiet(int argc, char **argv) {
  (void)argc, (void)argv;
  return 0;
}

/* Started under another tracker: the filter lasts, and the program that it starts finds SIGSEGV refused. */
static int child_deny(int argc, char **argv) {
  (void)argc, (void)argv;
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIGSEGV, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  TEST_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  TEST_REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "%s", strerror(errno));
  struct test_child_options options = {.environment = (const char *const[]){"GCRT_TRACKER=mprotect", NULL}};
  struct test_child child = test_child_exec_self("quiet", NULL, &options);
  TEST_REQUIRE(test_child_signalled(&child, SIGABRT), "%s", test_child_text(&child));
  TEST_REQUIRE(strstr(child.err, "GCRT_TRACKER=mprotect: SIGSEGV cannot be handled") != NULL, "%s", child.err);
  return 0;
}

/* --- cases --- */

static const struct test_child_entry children[] = {
    {"handlers", child_handlers}, {"crash", child_crash}, {"masks", child_masks}, {"calls", child_calls},
    {"children", child_children}, {"deny", child_deny},   {"quiet", child_quiet}, {NULL, NULL},
};

static const char *const plain[] = {"GCRT_TRACKER=mprotect", "GCRT_STRESS", NULL};
static const char *const checked[] = {"GCRT_TRACKER=mprotect", "GCRT_STRESS",
                                      "GCRT_DEBUG=checkmark=1,verify=1,clobberfree=1", NULL};

static struct test_child run(const char *name, const char *argument, const char *const *environment) {
  struct test_child_options options = {.environment = environment, .timeout_seconds = SYSTEM_SANITIZED ? 240 : 100};
  return test_child_exec_self(name, (const char *const[]){argument, NULL}, &options);
}

static const char *const names[] = {"handlers", "masks", "calls", "children"};

START_TEST(goes_unnoticed) {
  struct test_child child = run(names[_i / 2], NULL, _i % 2 ? checked : plain);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static const struct crash {
  const char *how;
  unsigned handled;
} crashes[] = {{"default", 0}, {"sent", 0}, {"ignored", 1}, {"once", 1}, {"once-sent", 1}};

START_TEST(a_crash_is_a_crash) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer reports a crash and exits");
  struct test_child child = run("crash", crashes[_i].how, plain);
  test_assert_signalled(&child, SIGSEGV);
  unsigned handled = 0;
  for (const char *at = child.out; (at = strstr(at, "handled")) != NULL; at++) handled++;
  ck_assert_msg(handled == crashes[_i].handled, "handled %u times; %s", handled, test_child_text(&child));
  test_child_free(&child);
}
END_TEST

START_TEST(says_why_it_does_not_work) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer wants SIGSEGV as well");
  struct test_child child = run("deny", NULL, (const char *const[]){"GCRT_TRACKER=none", NULL});
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "faults", 240);
  tcase_add_loop_test(tc, goes_unnoticed, 0, 2 * sizeof names / sizeof *names);
  tcase_add_loop_test(tc, a_crash_is_a_crash, 0, sizeof crashes / sizeof *crashes);
  tcase_add_test(tc, says_why_it_does_not_work);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
