/* Writable data of the program and of a library that comes and goes. */
#include "sys/loader.h"

#include "support/support.h"

#include <dlfcn.h>
#include <pthread.h>

static uintptr_t own_data[8] = {1};
static uintptr_t own_zero[8];
/* Needs relocation in a position-independent program, and is read-only afterwards: it is in PT_GNU_RELRO. */
static uintptr_t *const own_constant[8] = {own_data, own_zero, own_data, own_zero, own_data};

enum { RANGES_MAX = 512 };

struct ranges {
  size_t count;
  struct gcrt_range at[RANGES_MAX];
};

static void collect(void *argument, struct gcrt_range range) {
  struct ranges *ranges = argument;
  TEST_REQUIRE(ranges->count < RANGES_MAX);
  ranges->at[ranges->count++] = range;
}

static void collect_all(void *argument) { gcrt_loader_data(collect, argument); }

static struct ranges current(void) {
  struct ranges ranges = {0};
  gcrt_loader_call(collect_all, &ranges);
  ck_assert_uint_gt(ranges.count, 0);
  return ranges;
}

/* How many ranges hold the whole of [start, start + size). */
static unsigned holders(const struct ranges *ranges, const void *start, size_t size) {
  unsigned count = 0;
  for (size_t i = 0; i < ranges->count; i++)
    count += ranges->at[i].start <= (uintptr_t)start && (uintptr_t)start + size <= ranges->at[i].end;
  return count;
}

static bool touches(const struct ranges *ranges, const void *start, size_t size) {
  for (size_t i = 0; i < ranges->count; i++)
    if (ranges->at[i].start < (uintptr_t)start + size && (uintptr_t)start < ranges->at[i].end) return true;
  return false;
}

START_TEST(ranges_are_words_and_apart) {
  struct ranges ranges = current();
  for (size_t i = 0; i < ranges.count; i++) {
    ck_assert_uint_lt(ranges.at[i].start, ranges.at[i].end);
    ck_assert_uint_eq(ranges.at[i].start % sizeof(void *), 0);
    ck_assert_uint_eq(ranges.at[i].end % sizeof(void *), 0);
    for (size_t j = 0; j < i; j++)
      ck_assert(ranges.at[i].end <= ranges.at[j].start || ranges.at[j].end <= ranges.at[i].start);
  }
}
END_TEST

static uintptr_t sum;

static void read_all(void *argument, struct gcrt_range range) {
  (void)argument;
  for (uintptr_t at = range.start; at < range.end; at += 4096) sum += *(const volatile unsigned char *)at;
}

static void read_each(void *argument) { gcrt_loader_data(read_all, argument); }

START_TEST(every_range_can_be_read) {
#if defined(__SANITIZE_ADDRESS__)
  TEST_SKIP("AddressSanitizer guards what lies between variables");
#endif
  gcrt_loader_call(read_each, NULL);
}
END_TEST

START_TEST(own_variables_are_in_one_range) {
  struct ranges ranges = current();
  ck_assert_uint_eq(holders(&ranges, own_data, sizeof own_data), 1);
  ck_assert_uint_eq(holders(&ranges, own_zero, sizeof own_zero), 1);
}
END_TEST

START_TEST(constants_and_code_are_in_none) {
  struct ranges ranges = current();
  const void *volatile constant = own_constant;
  ck_assert(!touches(&ranges, (const void *)constant, sizeof own_constant));
  ck_assert(!touches(&ranges, "literal", 8));
  ck_assert(!touches(&ranges, (const void *)(uintptr_t)current, 1));
  int local = 0;
  ck_assert(!touches(&ranges, &local, sizeof local));
}
END_TEST

START_TEST(the_c_librarys_variables_are_in_a_range) {
  struct ranges ranges = current();
  const void *environment = dlsym(RTLD_DEFAULT, "environ");
  ck_assert_ptr_nonnull(environment);
  ck_assert_uint_eq(holders(&ranges, environment, sizeof(void *)), 1);
}
END_TEST

static void *open_module(void) {
  void *handle = dlopen(MODULE_FOLDER "/unit_module.so", RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(handle != NULL, "%s", dlerror());
  return handle;
}

START_TEST(a_library_comes_and_goes) {
  struct ranges before = current();
  for (int round = 0; round < 3; round++) {
    void *handle = open_module();
    const void *data = dlsym(handle, "module_data"), *zero = dlsym(handle, "module_zero");
    const void *constant = dlsym(handle, "module_constant");
    ck_assert(data && zero && constant);
    struct ranges loaded = current();
    ck_assert_uint_eq(holders(&loaded, data, 4 * sizeof(void *)), 1);
    ck_assert_uint_eq(holders(&loaded, zero, 4 * sizeof(void *)), 1);
    ck_assert(!touches(&loaded, constant, 2 * sizeof(void *)));
    ck_assert(!touches(&before, data, 4 * sizeof(void *)));
    ck_assert_int_eq(dlclose(handle), 0);
    if (dlopen(MODULE_FOLDER "/unit_module.so", RTLD_NOW | RTLD_NOLOAD))
      TEST_SKIP("the loader keeps libraries that are closed");
    struct ranges after = current();
    ck_assert(!touches(&after, data, 4 * sizeof(void *)));
  }
}
END_TEST

static void nothing(void *argument) { (void)argument; }

static void call_again(void *argument) {
  gcrt_loader_call(nothing, NULL);
  gcrt_loader_call(collect_all, argument);
}

START_TEST(calls_nest) {
  struct ranges ranges = {0};
  gcrt_loader_call(call_again, &ranges);
  ck_assert_uint_eq(holders(&ranges, own_data, sizeof own_data), 1);
}
END_TEST

START_TEST(what_is_excluded_is_left_out) {
  static char block[4096];
  static uintptr_t alone[4];
  ck_assert_uint_eq((uintptr_t)block % 8, 0);
  gcrt_loader_exclude(block + 1024, block + 2048);
  gcrt_loader_exclude(block + 2048, block + 2049);
  gcrt_loader_exclude(block + 3001, block + 3002);
  gcrt_loader_exclude(alone, alone + 4);
  struct ranges ranges = current();
  ck_assert_uint_eq(holders(&ranges, block, 1024), 1);
  ck_assert(!touches(&ranges, block + 1024, 1024 + 8)); /* only whole words are visited */
  ck_assert_uint_eq(holders(&ranges, block + 2056, 3000 - 2056), 1);
  ck_assert(!touches(&ranges, block + 3000, 8));
  ck_assert_uint_eq(holders(&ranges, block + 3008, 4096 - 3008), 1);
  ck_assert(!touches(&ranges, alone, sizeof alone));
  ck_assert_uint_eq(holders(&ranges, own_data, sizeof own_data), 1);
}
END_TEST

struct segments {
  size_t count, modules[64], sizes[64];
};

static void collect_segment(void *argument, size_t module, size_t size) {
  struct segments *segments = argument;
  TEST_REQUIRE(segments->count < 64);
  segments->modules[segments->count] = module;
  segments->sizes[segments->count++] = size;
}

static void collect_segments(void *argument) { gcrt_loader_tls(collect_segment, argument); }

static struct segments current_segments(void) {
  struct segments segments = {0};
  gcrt_loader_call(collect_segments, &segments);
  return segments;
}

static __thread volatile uintptr_t own_tls[100];

START_TEST(thread_local_segments_come_and_go) {
  own_tls[0] = 1;
  struct segments before = current_segments();
  ck_assert_uint_ge(before.count, 2); /* the C library's and this program's, which is the first module */
  for (size_t i = 0; i < before.count; i++) {
    ck_assert_uint_gt(before.modules[i], 0);
    if (before.modules[i] == 1) ck_assert_uint_ge(before.sizes[i], sizeof own_tls);
    for (size_t j = 0; j < i; j++) ck_assert_uint_ne(before.modules[i], before.modules[j]);
  }
  void *handle = open_module();
  struct segments loaded = current_segments();
  ck_assert_uint_eq(loaded.count, before.count + 1);
  size_t found = 0;
  for (size_t i = 0; i < loaded.count; i++) found += loaded.sizes[i] == 16 * sizeof(uintptr_t);
  ck_assert_uint_ge(found, 1);
  ck_assert_int_eq(dlclose(handle), 0);
  if (dlopen(MODULE_FOLDER "/unit_module.so", RTLD_NOW | RTLD_NOLOAD))
    TEST_SKIP("the loader keeps libraries that are closed");
  ck_assert_uint_eq(current_segments().count, before.count);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/loader");
  TCase *tc = test_case(suite, "data", 60);
  tcase_add_test(tc, ranges_are_words_and_apart);
  tcase_add_test(tc, every_range_can_be_read);
  tcase_add_test(tc, own_variables_are_in_one_range);
  tcase_add_test(tc, constants_and_code_are_in_none);
  tcase_add_test(tc, the_c_librarys_variables_are_in_a_range);
  tcase_add_test(tc, a_library_comes_and_goes);
  tcase_add_test(tc, calls_nest);
  tcase_add_test(tc, what_is_excluded_is_left_out);
  tcase_add_test(tc, thread_local_segments_come_and_go);
  return suite;
}

TEST_MAIN(make_suite)
