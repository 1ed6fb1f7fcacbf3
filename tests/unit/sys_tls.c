/* Thread-local blocks of the calling and of other threads, of the program and of a loaded library. */
#include "sys/tls.h"
#include "base/bits.h"

#include "support/support.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static __thread uintptr_t own_tls[100];

struct search {
  void *self;
  uintptr_t address;
  struct gcrt_range found;
  size_t module, count;
};

static void look(void *argument, size_t module, size_t size) {
  struct search *search = argument;
  struct gcrt_range range = gcrt_tls_block(search->self, module, size);
  ck_assert(range.start <= range.end && range.end - range.start <= size);
  ck_assert(range.start % sizeof(void *) == 0 && range.end % sizeof(void *) == 0);
  if (search->address < range.start || search->address >= range.end) return;
  search->found = range;
  search->module = module;
  search->count++;
}

static void look_everywhere(void *argument) { gcrt_loader_tls(look, argument); }

/* The block of a thread that holds the address. */
static struct search search_block(void *self, const void *address) {
  struct search search = {.self = self, .address = (uintptr_t)address};
  gcrt_loader_call(look_everywhere, &search);
  return search;
}

static bool in_control_block(void *self, const void *start, size_t size) {
  struct gcrt_range range = gcrt_tls_control_block(self);
  return range.start <= (uintptr_t)start && (uintptr_t)start + size <= range.end;
}

/* Loaders put small variables of libraries into static storage where they can, and then tell no block. */
static void assert_found(void *self, const void *start, size_t size) {
  struct search search = search_block(self, start);
  ck_assert_uint_le(search.count, 1);
  if (search.count == 1)
    ck_assert_uint_ge(search.found.end, (uintptr_t)start + size);
  else
    ck_assert(in_control_block(self, start, size));
}

typedef uintptr_t *module_function(void);

static void *open_module(const char *path, module_function **tls) {
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(handle != NULL, "%s", dlerror());
  *(void **)(void *)tls = dlsym(handle, "module_tls");
  ck_assert(*tls != NULL);
  return handle;
}

#define SMALL_MODULE MODULE_FOLDER "/unit_module.so"
#define STATIC_MODULE MODULE_FOLDER "/unit_module_static.so"
#define LARGE_MODULE MODULE_FOLDER "/unit_module_large.so"

START_TEST(the_programs_own_block) {
  gcrt_tls_init();
  own_tls[0] = 1;
  assert_found(gcrt_tls_self(), own_tls, sizeof own_tls);
  ck_assert_uint_eq(search_block(gcrt_tls_self(), &own_tls[0]).module, 1);
  int local = 0;
  ck_assert_uint_eq(search_block(gcrt_tls_self(), &local).count, 0);
}
END_TEST

START_TEST(a_loaded_librarys_block) {
  gcrt_tls_init();
  module_function *tls;
  open_module(SMALL_MODULE, &tls);
  assert_found(gcrt_tls_self(), tls(), 16 * sizeof(uintptr_t));
  module_function *large;
  open_module(LARGE_MODULE, &large);
  large()[262143] = 1;
  assert_found(gcrt_tls_self(), large(), 262144 * sizeof(uintptr_t));
  assert_found(gcrt_tls_self(), tls(), 16 * sizeof(uintptr_t));
}
END_TEST

START_TEST(a_module_that_does_not_exist_has_no_block) {
  static const size_t modules[] = {0, 1000, 1000000, SIZE_MAX / 16, SIZE_MAX};
  for (size_t i = 0; i < GCRT_COUNT(modules); i++) {
    struct gcrt_range range = gcrt_tls_block(gcrt_tls_self(), modules[i], 64);
    ck_assert(range.start == 0 && range.end == 0);
  }
}
END_TEST

struct other {
  pthread_barrier_t barrier;
  module_function *tls;
  void *self;
  uintptr_t *own, *module;
  pthread_key_t key;
  void *specific;
};

static void *other_thread(void *arg) {
  struct other *other = arg;
  other->self = gcrt_tls_self();
  other->own = own_tls;
  if (other->specific) pthread_setspecific(other->key, other->specific);
  pthread_barrier_wait(&other->barrier); /* the module's block is not there yet */
  pthread_barrier_wait(&other->barrier);
  other->module = other->tls ? other->tls() : NULL;
  pthread_barrier_wait(&other->barrier); /* now it is */
  pthread_barrier_wait(&other->barrier);
  return NULL;
}

START_TEST(another_threads_blocks) {
  gcrt_tls_init();
  struct other other = {0};
  pthread_t thread;
  void *handle = open_module(SMALL_MODULE, &other.tls);
  ck_assert_ptr_nonnull(handle);
  pthread_barrier_init(&other.barrier, NULL, 2);
  ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
  pthread_barrier_wait(&other.barrier);
  ck_assert_ptr_ne(other.self, gcrt_tls_self());
  assert_found(other.self, other.own, sizeof own_tls);
  ck_assert_uint_eq(search_block(gcrt_tls_self(), other.own).count, 0);
  pthread_barrier_wait(&other.barrier);
  pthread_barrier_wait(&other.barrier);
  ck_assert_ptr_ne(other.module, other.tls());
  assert_found(other.self, other.module, 16 * sizeof(uintptr_t));
  ck_assert_uint_eq(search_block(gcrt_tls_self(), other.module).count, 0);
  pthread_barrier_wait(&other.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

GCRT_READS_FOREIGN_MEMORY static size_t occurrences(struct gcrt_range range, uintptr_t inverted) {
  size_t count = 0;
  for (uintptr_t at = range.start; at < range.end; at += sizeof at)
    count += ~*(const volatile uintptr_t *)at == inverted;
  return count;
}

START_TEST(specific_values_are_in_the_control_block) {
  gcrt_tls_init();
  struct other other = {.specific = malloc(16)};
  void *own = malloc(16);
  pthread_t thread;
  ck_assert_int_eq(pthread_key_create(&other.key, NULL), 0);
  ck_assert_uint_lt(other.key, 32);
  ck_assert_int_eq(pthread_setspecific(other.key, own), 0);
  pthread_barrier_init(&other.barrier, NULL, 2);
  ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
  pthread_barrier_wait(&other.barrier);
  struct gcrt_range here = gcrt_tls_control_block(gcrt_tls_self()), there = gcrt_tls_control_block(other.self);
  ck_assert_uint_eq(occurrences(here, test_hide(own)), 1);
  ck_assert_uint_eq(occurrences(there, test_hide(other.specific)), 1);
  ck_assert_uint_eq(occurrences(here, test_hide(other.specific)), 0);
  ck_assert_int_eq(pthread_setspecific(other.key, NULL), 0);
  ck_assert_uint_eq(occurrences(here, test_hide(own)), 0);
  for (int i = 0; i < 3; i++) pthread_barrier_wait(&other.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  free(own);
  free(other.specific);
}
END_TEST

static void assert_in_control_block(void *self, const void *start, size_t size) {
  ck_assert(in_control_block(self, start, size));
  occurrences(gcrt_tls_control_block(self), 0); /* all of it can be read */
}

START_TEST(static_storage_of_a_library_loaded_later_is_in_the_control_block) {
  gcrt_tls_init();
  if (!dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info")) TEST_SKIP("the loader does not tell the size of static storage");
  struct other other = {0};
  pthread_t thread;
  open_module(STATIC_MODULE, &other.tls);
  assert_in_control_block(gcrt_tls_self(), other.tls(), 16 * sizeof(uintptr_t));
  pthread_barrier_init(&other.barrier, NULL, 2);
  ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
  for (int i = 0; i < 3; i++) pthread_barrier_wait(&other.barrier);
  assert_in_control_block(other.self, other.module, 16 * sizeof(uintptr_t));
  pthread_barrier_wait(&other.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* A thread that used a small module's block, which is gone, while a large module has taken its number. False: it has
 * not. */
static bool read_stale_block(void) {
  struct other other = {0};
  pthread_t thread;
  void *handle = open_module(SMALL_MODULE, &other.tls);
  pthread_barrier_init(&other.barrier, NULL, 2);
  ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &other), 0);
  for (int i = 0; i < 3; i++) pthread_barrier_wait(&other.barrier);
  size_t module = search_block(other.self, other.module).module;
  ck_assert_int_eq(dlclose(handle), 0);
  module_function *large;
  open_module(LARGE_MODULE, &large);
  size_t words = 262144;
  bool reused = search_block(gcrt_tls_self(), large()).module == module;
  if (reused) {
    struct gcrt_range range = gcrt_tls_block(other.self, module, words * sizeof(uintptr_t));
    ck_assert_uint_le(range.end - range.start, words * sizeof(uintptr_t));
    occurrences(range, 0); /* reads all of it */
  }
  pthread_barrier_wait(&other.barrier);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  return reused;
}

START_TEST(a_stale_block_is_read_no_further_than_it_can_be) {
  if (!read_stale_block()) TEST_SKIP("the loader gave the second library another module number");
}
END_TEST

/* The initial thread has no memory any more once it is a zombie. */
static void wait_until_main_has_ended(void) {
  char state = 0;
  while (state != 'Z') {
    FILE *file = fopen("/proc/self/stat", "r");
    TEST_REQUIRE(file && fscanf(file, "%*d %*s %c", &state) == 1);
    fclose(file);
    sched_yield();
  }
}

static void *read_after_main(void *unused) {
  (void)unused;
  wait_until_main_has_ended();
  _exit(read_stale_block() ? 0 : 77);
}

static int end_main(void *unused) {
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, read_after_main, unused) == 0);
  pthread_exit(NULL);
}

START_TEST(nor_when_the_initial_thread_has_ended) {
  struct test_child child = test_child_fork(end_main, NULL, NULL);
  if (test_child_exited(&child, 77)) TEST_SKIP("the loader gave the second library another module number");
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/tls");
  TCase *tc = test_case(suite, "blocks", 60);
  tcase_add_test(tc, the_programs_own_block);
  tcase_add_test(tc, a_loaded_librarys_block);
  tcase_add_test(tc, a_module_that_does_not_exist_has_no_block);
  tcase_add_test(tc, another_threads_blocks);
  tcase_add_test(tc, specific_values_are_in_the_control_block);
  tcase_add_test(tc, static_storage_of_a_library_loaded_later_is_in_the_control_block);
  tcase_add_test(tc, a_stale_block_is_read_no_further_than_it_can_be);
  tcase_add_test(tc, nor_when_the_initial_thread_has_ended);
  return suite;
}

TEST_MAIN(make_suite)
