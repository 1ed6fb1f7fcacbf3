/* Stack bounds of the initial thread, of others, on supplied stacks and under other limits; alternate signal stacks;
 * the mapped part of a range. */
#include "sys/stack.h"
#include "base/bits.h"
#include "sys/memory.h"

#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool holds(const struct gcrt_bounds *bounds, uintptr_t address) {
  return bounds->low <= address && address < bounds->high;
}

static uintptr_t frame(void) { return (uintptr_t)__builtin_frame_address(0); }

/* A frame some KiB deeper. */
static GCRT_NOINLINE uintptr_t deep_frame(unsigned depth) {
  volatile char block[1024];
  block[0] = (char)depth;
  uintptr_t result = depth ? deep_frame(depth - 1) : frame();
  return block[0] == (char)depth ? result : 0;
}

START_TEST(the_initial_thread_has_bounds) {
  struct gcrt_bounds bounds;
  errno = ERANGE;
  ck_assert(gcrt_stack_bounds(&bounds));
  ck_assert_int_eq(errno, ERANGE);
  ck_assert(holds(&bounds, frame()));
  ck_assert(holds(&bounds, deep_frame(100)));
  /* The kernel puts the environment's text above the first frame. */
  ck_assert(bounds.high > (uintptr_t)__builtin_frame_address(0));
  ck_assert_uint_eq(bounds.high % gcrt_page_size(), 0);
  ck_assert_uint_eq(bounds.low % gcrt_page_size(), 0);
  struct rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  if (limit.rlim_cur != RLIM_INFINITY)
    ck_assert_uint_le(bounds.high - bounds.low, gcrt_align_up(limit.rlim_cur, 65536));
}
END_TEST

struct result {
  struct gcrt_bounds bounds;
  bool known;
  uintptr_t frame, deep, local_tls, self;
};

static __thread int tls_variable;

static void *ask(void *arg) {
  struct result *result = arg;
  result->known = gcrt_stack_bounds(&result->bounds);
  result->frame = frame();
  result->deep = deep_frame(16);
  result->local_tls = (uintptr_t)&tls_variable;
  result->self = (uintptr_t)pthread_self();
  return NULL;
}

static struct result ask_in_thread(pthread_attr_t *attributes) {
  struct result result;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, attributes, ask, &result), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert(result.known);
  ck_assert(holds(&result.bounds, result.frame));
  ck_assert(holds(&result.bounds, result.deep));
  /* Static thread-local variables and the control block are at its upper end. */
  ck_assert(holds(&result.bounds, result.local_tls));
  ck_assert(holds(&result.bounds, result.self));
  ck_assert(!holds(&result.bounds, frame()));
  return result;
}

START_TEST(a_thread_has_bounds) { ask_in_thread(NULL); }
END_TEST

START_TEST(a_stack_size_is_respected) {
  pthread_attr_t attributes;
  size_t size = 1 << 20;
  pthread_attr_init(&attributes);
  ck_assert_int_eq(pthread_attr_setstacksize(&attributes, size), 0);
  struct result result = ask_in_thread(&attributes);
  ck_assert_uint_le(result.bounds.high - result.bounds.low, size + 65536);
  pthread_attr_destroy(&attributes);
}
END_TEST

START_TEST(a_supplied_stack_has_its_bounds) {
  pthread_attr_t attributes;
  size_t size = 1 << 20;
  char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(stack, MAP_FAILED);
  pthread_attr_init(&attributes);
  ck_assert_int_eq(pthread_attr_setstack(&attributes, stack, size), 0);
  struct result result = ask_in_thread(&attributes);
  ck_assert_uint_eq(result.bounds.low, (uintptr_t)stack);
  ck_assert_uint_eq(result.bounds.high, (uintptr_t)stack + size);
  pthread_attr_destroy(&attributes);
}
END_TEST

static int after_fork(void *arg) {
  struct result result;
  struct gcrt_bounds *parent = arg;
  ask(&result);
  if (!result.known || !holds(&result.bounds, result.frame)) return 1;
  return result.bounds.low == parent->low && result.bounds.high == parent->high ? 0 : 2;
}

/* In the child its id is the process's, but its stack is a thread's. */
static void *fork_in_thread(void *arg) {
  struct gcrt_bounds own;
  (void)arg;
  TEST_REQUIRE(gcrt_stack_bounds(&own));
  pid_t pid = fork();
  if (pid == 0) _exit(after_fork(&own));
  int status;
  TEST_REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
  TEST_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
  return NULL;
}

START_TEST(a_child_forked_by_a_thread_keeps_that_threads_bounds) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static int print_bounds(int argc, char **argv) {
  (void)argc, (void)argv;
  struct gcrt_bounds bounds;
  if (!gcrt_stack_bounds(&bounds)) return 1;
  if (!holds(&bounds, frame()) || !holds(&bounds, deep_frame(100))) return 2;
  if (!holds(&bounds, (uintptr_t)argv)) return 3;
  if (!holds(&bounds, (uintptr_t)environ[0])) return 4;
  printf("%lu\n", (unsigned long)(bounds.high - bounds.low));
  return 0;
}

/* Starts the program anew under a limit, which the kernel lays the address space out by. */
static int limit_and_exec(int argc, char **argv) {
  (void)argc;
  struct rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  limit.rlim_cur = strcmp(argv[1], "unlimited") == 0 ? RLIM_INFINITY : strtoul(argv[1], NULL, 10);
  if (setrlimit(RLIMIT_STACK, &limit) != 0) return 77;
  execl("/proc/self/exe", test_program(), "--child", "print", (char *)NULL);
  return 5;
}

static unsigned long bytes_under_limit(const char *limit) {
  const char *arguments[] = {limit, NULL};
  struct test_child child = test_child_exec_self("limit", arguments, NULL);
  unsigned long bytes = 0;
  if (!test_child_exited(&child, 77)) {
    test_assert_exited(&child, 0);
    bytes = strtoul(child.out, NULL, 10);
    ck_assert_uint_gt(bytes, 0);
  }
  test_child_free(&child);
  return bytes;
}

START_TEST(an_unlimited_stack_has_bounds) {
  unsigned long bytes = bytes_under_limit("unlimited");
  if (bytes == 0) TEST_SKIP("the hard limit on the stack is finite");
  ck_assert_uint_gt(bytes, 8 << 20);
}
END_TEST

START_TEST(a_small_limit_is_followed) {
  unsigned long bytes = bytes_under_limit("1048576");
  ck_assert_uint_gt(bytes, 0);
  ck_assert_uint_le(bytes, 1 << 20);
}
END_TEST

/* As seen with an empty directory in the place of /proc. */
static int bounds_without_proc(void *arg) {
  const struct gcrt_bounds *with = arg;
  struct gcrt_bounds bounds;
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
  if (mount("none", "/proc", "tmpfs", 0, NULL) != 0) return 77;
  if (access("/proc/self/maps", F_OK) == 0) return 10;
  if (!gcrt_stack_bounds(&bounds)) return 11;
  if (bounds.high != with->high) return 12;
  if (!holds(&bounds, frame()) || !holds(&bounds, deep_frame(100))) return 13;
  if (!holds(&bounds, (uintptr_t)environ[0])) return 14;
  if (bounds.low < with->low || bounds.low % gcrt_page_size() != 0) return 15;
  ask_in_thread(NULL);
  return 0;
}

START_TEST(there_are_bounds_without_proc) {
  struct gcrt_bounds bounds;
  ck_assert(gcrt_stack_bounds(&bounds));
  struct test_child child = test_child_fork(bounds_without_proc, &bounds, NULL);
  if (test_child_exited(&child, 77)) TEST_SKIP("/proc cannot be hidden from a process here");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

START_TEST(the_alternate_stack_is_told) {
  stack_t none = {.ss_flags = SS_DISABLE};
  ck_assert_int_eq(sigaltstack(&none, NULL), 0);
  struct gcrt_bounds bounds = gcrt_stack_alternate();
  ck_assert(bounds.low == 0 && bounds.high == 0);
  static char memory[65536];
  stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
  ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
  bounds = gcrt_stack_alternate();
  ck_assert_uint_eq(bounds.low, (uintptr_t)memory);
  ck_assert_uint_eq(bounds.high, (uintptr_t)memory + sizeof memory);
  ck_assert_int_eq(sigaltstack(&none, NULL), 0);
}
END_TEST

START_TEST(the_mapped_part_of_a_range_is_found) {
  size_t page = gcrt_page_size();
  char *start = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(start, MAP_FAILED);
  uintptr_t low = (uintptr_t)start, high = low + 16 * page;
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, high), low);
  /* Another protection is another mapping, but no gap as long as it can be read. */
  ck_assert_int_eq(mprotect(start + 12 * page, page, PROT_READ), 0);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, high), low);
  ck_assert_int_eq(mprotect(start + 4 * page, page, PROT_NONE), 0);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, high), low + 5 * page);
  ck_assert_int_eq(munmap(start + 8 * page, page), 0);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, high), low + 9 * page);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low + 10 * page, high), low + 10 * page);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, low + 8 * page), low + 5 * page);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, low + 9 * page), low + 9 * page);
  ck_assert_uint_eq(gcrt_stack_mapped_low(low, low + 5 * page), low + 5 * page);
}
END_TEST

START_TEST(the_stack_in_use_is_mapped) {
  struct gcrt_bounds bounds;
  ck_assert(gcrt_stack_bounds(&bounds));
  uintptr_t mapped = gcrt_stack_mapped_low(bounds.low, bounds.high);
  ck_assert_uint_ge(mapped, bounds.low);
  ck_assert_uint_le(mapped, frame());
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/stack");
  TCase *tc = test_case(suite, "bounds", 60);
  tcase_add_test(tc, the_initial_thread_has_bounds);
  tcase_add_test(tc, a_thread_has_bounds);
  tcase_add_test(tc, a_stack_size_is_respected);
  tcase_add_test(tc, a_supplied_stack_has_its_bounds);
  tcase_add_test(tc, a_child_forked_by_a_thread_keeps_that_threads_bounds);
  tcase_add_test(tc, an_unlimited_stack_has_bounds);
  tcase_add_test(tc, a_small_limit_is_followed);
  tcase_add_test(tc, there_are_bounds_without_proc);
  tc = test_case(suite, "other", 20);
  tcase_add_test(tc, the_alternate_stack_is_told);
  tcase_add_test(tc, the_mapped_part_of_a_range_is_found);
  tcase_add_test(tc, the_stack_in_use_is_mapped);
  return suite;
}

static const struct test_child_entry children[] = {{"print", print_bounds}, {"limit", limit_and_exec}, {NULL, NULL}};
TEST_MAIN_CHILDREN(make_suite, children)
