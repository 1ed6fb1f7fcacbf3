/* Misuse of gc_free and gc_realloc ends the program with one line that names the call and the value, and abort().
 *
 * Each case is a process of its own. It prints the value it is about to pass; the parent then looks for exactly that
 * value in the message. */
#include "system.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void announce(const void *p) {
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  printf("%p\n", p);
  fflush(stdout);
}

static void *on_the_stack(void) {
  void **cell = __builtin_alloca(sizeof *cell);
  __asm__ volatile("" : "+r"(cell));
  return cell;
}

static char static_memory[64];

/* The pointer for a case: made so that it is no start of a live object. */
static void *bad_pointer(const char *what) {
  if (strcmp(what, "malloc") == 0) return malloc(64);
  if (strcmp(what, "static") == 0) return static_memory;
  if (strcmp(what, "stack") == 0) return on_the_stack();
  if (strcmp(what, "one") == 0) return (void *)1;
  if (strcmp(what, "mmap") == 0) return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (strcmp(what, "code") == 0) return (void *)(uintptr_t)&bad_pointer;
  if (strcmp(what, "unused-reservation") == 0) return (char *)gc_alloc(64) + ((size_t)64 << 20);
  if (strcmp(what, "interior-byte") == 0) return (char *)gc_alloc(64) + 1;
  if (strcmp(what, "interior-word") == 0) return (char *)gc_alloc(64) + 16;
  if (strcmp(what, "interior-large") == 0) return (char *)gc_alloc(1 << 20) + 65536;
  if (strcmp(what, "interior-noscan") == 0) return (char *)gc_alloc_noscan(3000) + 2999;
  if (strcmp(what, "interior-uncollectable") == 0) return (char *)gc_alloc_uncollectable(100) + 8;
  void *p = NULL;
  if (strcmp(what, "freed") == 0)
    p = gc_alloc(64);
  else if (strcmp(what, "freed-noscan") == 0)
    p = gc_alloc_noscan(500);
  else if (strcmp(what, "freed-uncollectable") == 0)
    p = gc_alloc_uncollectable(64);
  else if (strcmp(what, "freed-large") == 0)
    p = gc_alloc(1 << 20);
  if (p == NULL) abort();
  gc_free(p);
  return p;
}

static const char *const pointers[] = {"malloc",
                                       "static",
                                       "stack",
                                       "one",
                                       "mmap",
                                       "code",
                                       "interior-byte",
                                       "interior-word",
                                       "interior-large",
                                       "interior-noscan",
                                       "freed",
                                       "interior-uncollectable",
                                       "freed-noscan",
                                       "freed-large",
                                       "freed-uncollectable",
                                       "unused-reservation"};
enum { POINTERS = sizeof pointers / sizeof *pointers };

static int child_free(int argc, char **argv) {
  (void)argc;
  void *p = bad_pointer(argv[1]);
  announce(p);
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wfree-nonheap-object"
#endif
  gc_free(p);
#pragma GCC diagnostic pop
  return 0;
}

static int child_realloc(int argc, char **argv) {
  (void)argc;
  void *p = bad_pointer(argv[1]);
  announce(p);
  void *q = gc_realloc(p, 1000);
  printf("came back with %p\n", q);
  return 0;
}

/* An object that the collector has freed is no live object either. */
static SYSTEM_NOINLINE uintptr_t unreachable(void) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  for (int i = 0; i < 3; i++) system_collect();
  for (size_t i = 0; i < SYSTEM_SET; i++)
    if (gc_base(test_reveal(set.hidden[i])) == NULL) return set.hidden[i];
  abort();
}

static int child_free_collected(int argc, char **argv) {
  (void)argc, (void)argv;
  void *p = test_reveal(unreachable());
  announce(p);
  gc_free(p);
  return 0;
}

static void *free_it(void *p) {
  gc_free(p);
  return NULL;
}

static int child_free_twice_other_thread(int argc, char **argv) {
  (void)argc, (void)argv;
  void *p = gc_alloc(200);
  announce(p);
  system_on_thread(free_it, p);
  gc_free(p);
  return 0;
}

static const struct test_child_entry children[] = {
    {"free", child_free},
    {"realloc", child_realloc},
    {"free-collected", child_free_collected},
    {"free-twice-other-thread", child_free_twice_other_thread},
    {NULL, NULL},
};

static void check_message(const char *child_name, const char *argument, const char *call) {
  const char *arguments[] = {argument, NULL};
  struct test_child child = test_child_exec_self(child_name, argument ? arguments : NULL,
                                                 &(struct test_child_options){.timeout_seconds = 20});
  test_assert_signalled(&child, SIGABRT);
  char expected[100];
  snprintf(expected, sizeof expected, "gcrt: %s(%.*s", call, (int)strcspn(child.out, "\n"), child.out);
  test_assert_err_has(&child, expected);
  const char *line = strstr(child.err, expected), *end = strchr(line, '\n');
  ck_assert_msg(line == child.err && end != NULL && end[1] == 0, "should be one line: %s", test_child_text(&child));
  ck_assert_msg(end - line > (long)strlen(expected) + 8, "should say why: %s", child.err);
  test_child_free(&child);
}

START_TEST(bad_free_aborts) { check_message("free", pointers[_i], "gc_free"); }
END_TEST

START_TEST(bad_realloc_aborts) { check_message("realloc", pointers[_i], "gc_realloc"); }
END_TEST

START_TEST(free_of_a_collected_object_aborts) { check_message("free-collected", NULL, "gc_free"); }
END_TEST

START_TEST(double_free_by_two_threads_aborts) { check_message("free-twice-other-thread", NULL, "gc_free"); }
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "misuse", 30);
  tcase_add_loop_test(tc, bad_free_aborts, 0, POINTERS);
  tcase_add_loop_test(tc, bad_realloc_aborts, 0, POINTERS);
  tcase_add_test(tc, free_of_a_collected_object_aborts);
  tcase_add_test(tc, double_free_by_two_threads_aborts);
  return suite;
}
TEST_MAIN_CHILDREN(make_suite, children)
