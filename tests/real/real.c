/* The test of a real library on gc_alloc.
 *
 * The driver's work runs in two fresh processes: on the collector, where nothing is ever freed, and on the C library,
 * the ordinary way. The outputs must be equal byte for byte. The collected one reports its metrics on standard error:
 * it must have collected, and its heap must have stayed far below what was allocated, or the frees that are left out
 * would have shown. */
#include "real.h"
#include "support.h"

#include <gcrt.h>
#include <inttypes.h>
#include <stdio.h>

enum { TIMEOUT = 200, LEAST_ALLOCATED = 64 << 20, LEAST_RATIO = 4 };

#define REPORT "real: %" SCNu32 " collections, %" SCNu64 " bytes allocated, %" SCNu64 " bytes of heap\n"

static int run(int argc, char **argv) {
  struct runtime_metrics m;
  bool collected = argc > 1 && strcmp(argv[1], "collected") == 0;
  int status = real_program.run(collected);
  runtime_metrics_read(&m);
  fprintf(stderr, REPORT, m.num_gc, m.total_alloc, m.heap_sys);
  return status;
}

/* ThreadSanitizer's variables count for the goal, like the program's. */
#if defined(__SANITIZE_THREAD__)
enum { SANITIZERS_ROOTS = 64 << 20 };
#else
enum { SANITIZERS_ROOTS = 0 };
#endif

static struct test_child run_child(const char *allocator, const char *const *environment) {
  struct test_child_options options = {.environment = environment, .timeout_seconds = TIMEOUT};
  return test_child_exec_self("run", (const char *const[]){allocator, NULL}, &options);
}

static size_t first_difference(const struct test_child *a, const struct test_child *b) {
  size_t at = 0;
  while (at < a->out_size && at < b->out_size && a->out[at] == b->out[at]) at++;
  return at;
}

static void check_report(const struct test_child *child) {
  uint32_t cycles;
  uint64_t allocated;
  uint64_t heap;
  const char *report = strstr(child->err, "real: ");
  ck_assert_msg(report != NULL && sscanf(report, REPORT, &cycles, &allocated, &heap) == 3, "no report; %s",
                test_child_text(child));
  printf("  %s: %" PRIu32 " collections, %" PRIu64 " MiB allocated, %" PRIu64 " MiB of heap at most\n",
         real_program.name, cycles, allocated >> 20, heap >> 20);
  fflush(stdout);
  ck_assert_msg(cycles > 0, "%s never collected", real_program.name);
  ck_assert_msg(allocated >= LEAST_ALLOCATED, "only %" PRIu64 " bytes were allocated: this shows nothing", allocated);
  ck_assert_msg(heap <= allocated / LEAST_RATIO + SANITIZERS_ROOTS,
                "the heap grew to %" PRIu64 " bytes, %" PRIu64 " were allocated", heap, allocated);
}

static void compare(const char *const *environment) {
  static const char *const plain[] = {"GCRT_STRESS", "GCRT_DEBUG", NULL};
  struct test_child libc = run_child("libc", plain);
  struct test_child collected = run_child("collected", environment);
  test_assert_exited(&libc, 0);
  test_assert_exited(&collected, 0);
  ck_assert_uint_gt(libc.out_size, 1000);
  size_t at = first_difference(&libc, &collected);
  ck_assert_msg(at == libc.out_size && at == collected.out_size,
                "the outputs differ at byte %zu of %zu and %zu: \"%.60s\" on libc, \"%.60s\" collected", at,
                libc.out_size, collected.out_size, libc.out + at, collected.out + at);
  check_report(&collected);
  test_child_free(&libc);
  test_child_free(&collected);
}

START_TEST(output_is_equal) { compare(NULL); }
END_TEST

START_TEST(output_is_equal_under_stress) {
  compare((const char *const[]){"GCRT_STRESS=5003", "GCRT_DEBUG=clobberfree=1", NULL});
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create(real_program.name);
  TCase *tc = test_case(suite, "collected", 2 * TIMEOUT);
  tcase_add_test(tc, output_is_equal);
  tcase_add_test(tc, output_is_equal_under_stress);
  return suite;
}

static const struct test_child_entry children[] = {{"run", run}, {NULL, NULL}};

TEST_MAIN_CHILDREN(make_suite, children)
