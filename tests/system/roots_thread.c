/* What belongs to a thread and is a root: thread-local variables, pthread_setspecific and tss_set values, the argument
 * before the thread runs, the stack while the thread waits.
 *
 * "On the main thread" is the first thread of the test's process. */
#include "roots_library.h"
#include "system.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

static __thread void *tls_bss[SYSTEM_SET];
static __thread void *tls_data[SYSTEM_SET] = {(void *)1};

typedef void **array_fn(void);

static void *module;

static const char *module_path(void) { return getenv("GCRT_TEST_MODULE") ? getenv("GCRT_TEST_MODULE") : ROOTS_MODULE; }

/* The calling thread's array in each place. */
static void **tls_array(int which) {
  switch (which) {
  case 0:
    return tls_bss;
  case 1:
    return tls_data;
  case 2:
    return roots_library_tls_bss();
  case 3:
    return roots_library_tls_data();
  default: {
    const char *name = which == 4 ? "roots_library_tls_bss" : "roots_library_tls_data";
    array_fn *fn = (array_fn *)(uintptr_t)dlsym(module, name);
    TEST_REQUIRE(fn != NULL, "%s", dlerror());
    return fn();
  }
  }
}
enum { TLS_PLACES = 6 };

START_TEST(tls_of_the_main_thread) {
  module = dlopen(module_path(), RTLD_NOW);
  ck_assert_msg(module != NULL, "%s", dlerror());
  void **array = tls_array(_i);
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, array);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert(system_set_intact(&set));
  memset(array, 0, SYSTEM_SET * sizeof *array);
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

struct holder {
  int which;
  struct system_set set;
  struct system_event ready, go;
};

static void *hold_in_tls(void *arg) {
  struct holder *h = arg;
  void **array = tls_array(h->which);
  system_set_make_here(&h->set, 48, gc_alloc, system_place_in_array, array);
  system_event_post(&h->ready);
  system_event_wait(&h->go, 1);
  memset(array, 0, SYSTEM_SET * sizeof *array);
  system_event_post(&h->ready);
  system_event_wait(&h->go, 2);
  return NULL;
}

static void check_holder(void *(*fn)(void *), int which) {
  struct holder h = {which, {.size = 0}, SYSTEM_EVENT_INITIALIZER, SYSTEM_EVENT_INITIALIZER};
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, fn, &h), 0);
  system_event_wait(&h.ready, 1);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert_msg(system_set_intact(&h.set), "%zu of %d alive", system_set_live(&h.set), SYSTEM_SET);
  system_event_post(&h.go);
  system_event_wait(&h.ready, 2);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert_msg(system_set_dead(&h.set), "%zu of %d still alive", system_set_live(&h.set), SYSTEM_SET);
  system_event_post(&h.go);
  pthread_join(thread, NULL);
}

START_TEST(tls_of_another_thread) {
  module = dlopen(module_path(), RTLD_NOW);
  ck_assert_msg(module != NULL, "%s", dlerror());
  check_holder(hold_in_tls, _i);
}
END_TEST

/* Ends with the pointers in place. */
static void *leave_in_tls(void *arg) {
  struct holder *h = arg;
  system_set_make_here(&h->set, 48, gc_alloc, system_place_in_array, tls_array(h->which));
  return NULL;
}

START_TEST(tls_goes_with_its_thread) {
  struct holder h = {_i, {.size = 0}, SYSTEM_EVENT_INITIALIZER, SYSTEM_EVENT_INITIALIZER};
  module = dlopen(module_path(), RTLD_NOW);
  system_on_thread(leave_in_tls, &h);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&h.set));
}
END_TEST

static pthread_key_t keys[SYSTEM_SET];
static tss_t tss_keys[SYSTEM_SET];

static void set_specific(size_t i, void *object, void *unused) {
  (void)unused;
  TEST_REQUIRE(pthread_setspecific(keys[i], object) == 0);
}

static void set_tss(size_t i, void *object, void *unused) {
  (void)unused;
  TEST_REQUIRE(tss_set(tss_keys[i], object) == thrd_success);
}

static void make_keys(void) {
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    ck_assert_int_eq(pthread_key_create(&keys[i], NULL), 0);
    ck_assert_int_eq(tss_create(&tss_keys[i], NULL), thrd_success);
  }
}

static void clear_keys(void) {
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    pthread_setspecific(keys[i], NULL);
    tss_set(tss_keys[i], NULL);
  }
  test_clear_stack();
}

static void *hold_in_keys(void *arg) {
  struct holder *h = arg;
  system_set_make_here(&h->set, 48, gc_alloc, h->which ? set_tss : set_specific, NULL);
  system_event_post(&h->ready);
  system_event_wait(&h->go, 1);
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    void *value = h->which ? tss_get(tss_keys[i]) : pthread_getspecific(keys[i]);
    TEST_REQUIRE(value == test_reveal(h->set.hidden[i]), "key %zu", i);
  }
  clear_keys();
  system_event_post(&h->ready);
  system_event_wait(&h->go, 2);
  return NULL;
}

START_TEST(specific_values_of_the_main_thread) {
  make_keys();
  struct system_set set;
  system_set_make_here(&set, 48, gc_alloc, _i ? set_tss : set_specific, NULL);
  for (int i = 0; i < 3; i++) system_collect();
  ck_assert_msg(system_set_intact(&set), "%zu of %d alive", system_set_live(&set), SYSTEM_SET);
  clear_keys();
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

START_TEST(specific_values_of_another_thread) {
  make_keys();
  check_holder(hold_in_keys, _i);
}
END_TEST

struct argument {
  uint64_t check;
  void *more;
};

static int threads_ended;

static void *check_argument(void *arg) {
  struct argument *argument = arg, *inner = argument->more;
  gc_collect();
  TEST_REQUIRE(argument->check == 0xfeedface && inner->check == 0xcafef00d, "an argument was reclaimed");
  __atomic_fetch_add(&threads_ended, 1, __ATOMIC_RELAXED);
  return NULL;
}

static SYSTEM_NOINLINE pthread_t start_with_argument(void) {
  struct argument *argument = gc_alloc(sizeof *argument);
  argument->check = 0xfeedface;
  argument->more = gc_alloc(sizeof *argument);
  ((struct argument *)argument->more)->check = 0xcafef00d;
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, check_argument, argument) == 0);
  return thread;
}

START_TEST(argument_lives_before_the_thread_runs) {
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer keeps the argument in memory of its own until the thread runs");
  pthread_t threads[8];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 8; i++) {
      threads[i] = start_with_argument();
      test_clear_stack();
      if (i % 3 == 0) gc_collect();
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  }
  ck_assert_int_eq(threads_ended, 160);
}
END_TEST

static uintptr_t returned[SYSTEM_SET];

static void *return_object(void *arg) {
  struct argument *object = gc_alloc(sizeof *object);
  object->check = 0xba5eba11;
  returned[(size_t)arg] = test_hide(object);
  return object;
}

START_TEST(return_value_lives_until_joined) {
  pthread_t threads[SYSTEM_SET];
  for (size_t i = 0; i < SYSTEM_SET; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, return_object, (void *)i), 0);
  /* Joining one of many proves nothing of the others, so each is collected over after it has surely ended. */
  struct runtime_metrics m;
  for (int i = 0; i < 2000 && (m = system_metrics(), m.threads > 1); i++)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  for (int i = 0; i < 3; i++) system_collect();
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    void *value = NULL;
    ck_assert_int_eq(pthread_join(threads[i], &value), 0);
    ck_assert_ptr_eq(value, test_reveal(returned[i]));
    ck_assert_msg(gc_base(value) == value && ((struct argument *)value)->check == 0xba5eba11,
                  "the value returned by thread %zu was reclaimed", i);
  }
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tls = test_case(suite, "roots-tls", 20);
  tcase_add_loop_test(tls, tls_of_the_main_thread, 0, TLS_PLACES);
  tcase_add_loop_test(tls, tls_of_another_thread, 0, TLS_PLACES);
  tcase_add_loop_test(tls, tls_goes_with_its_thread, 0, TLS_PLACES);
  TCase *specific = test_case(suite, "roots-specific", 20);
  tcase_add_loop_test(specific, specific_values_of_the_main_thread, 0, 2);
  tcase_add_loop_test(specific, specific_values_of_another_thread, 0, 2);
  TCase *values = test_case(suite, "roots-arguments", 20);
  tcase_add_test(values, argument_lives_before_the_thread_runs);
  tcase_add_test(values, return_value_lives_until_joined);
  return suite;
}
TEST_MAIN(make_suite)
