/* Bugs that were found, each by its name. What a suite of its own covers (torture finds races) is not here again. */
#include "system.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

/* Markers are threads that never ended, so the C library waited for them after the last thread of the program. */
static int main_ends_by_pthread_exit(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static void *volatile live[64];
  for (size_t i = 0; i < 64; i++) live[i] = gc_alloc(256 * 1024);
  for (int i = 0; i < 3; i++) gc_collect();
  TEST_REQUIRE(live[63] != NULL);
  puts("collected");
  fflush(stdout);
  pthread_exit(NULL);
}

START_TEST(markers_do_not_keep_a_process_whose_main_ended) {
  static const char *const environment[] = {"GCRT_MARKERS=4", NULL};
  struct test_child_options options = {.environment = environment, .timeout_seconds = 30};
  struct test_child child = test_child_exec_self("main-ends", NULL, &options);
  ck_assert_msg(!child.timed_out, "%s", test_child_text(&child));
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "collected");
  test_child_free(&child);
}
END_TEST

START_TEST(remove_roots_with_end_null_removed_any_range) {
  static void *words[8];
  ck_assert_int_eq(gc_add_roots(words, words + 8), 0);
  errno = 0;
  ck_assert_int_eq(gc_remove_roots(words, NULL), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(gc_remove_roots(words, words + 8), 0);
}
END_TEST

START_TEST(unused_cell_of_a_window_was_an_object) {
  enum { SIZE = 5000 }; /* of which nothing else allocates */
  char *p = gc_alloc_noscan(SIZE);
  ck_assert_ptr_eq(gc_base(p), p);
  size_t step = gc_usable_size(p) + 1;
  for (size_t i = 1; i < 4; i++) {
    ck_assert_ptr_null(gc_base(p + i * step));
    ck_assert_uint_eq(gc_usable_size(p + i * step), 0);
  }
}
END_TEST

/* The part of main's stack below an array on it, from where the coroutine was entered, was not searched. */
static ucontext_t main_context, context;
static struct system_set on_main;

static void collect_on_the_array(void) {
  system_collect();
  system_collect();
  TEST_REQUIRE(system_set_intact(&on_main), "what is on the stack below the coroutine's was lost");
}

static SYSTEM_NOINLINE void enter_from_below(void) {
  void *volatile pointers[SYSTEM_SET];
  system_set_make(&on_main, 48, gc_alloc, NULL, NULL);
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(on_main.hidden[i]);
  ck_assert_int_eq(swapcontext(&main_context, &context), 0);
  for (size_t i = 0; i < SYSTEM_SET; i++) TEST_REQUIRE(gc_base(pointers[i]) == pointers[i]);
}

START_TEST(frames_below_a_coroutine_on_the_own_stack_were_lost) {
  char stack[128 * 1024] __attribute__((aligned(16)));
  gc_set_percent(-1);
  ck_assert_int_eq(gc_stack_register(stack, stack + sizeof stack), 0);
  ck_assert_int_eq(getcontext(&context), 0);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = sizeof stack;
  context.uc_link = &main_context;
  makecontext(&context, collect_on_the_array, 0);
  enter_from_below();
  ck_assert_int_eq(gc_stack_unregister(stack), 0);
}
END_TEST

/* A handler that ran during the stop moved a pointer past the marker. */
enum { CELLS = 512 };
static void **holders[2];
static volatile sig_atomic_t moves;

static void move_pointers(int signal) {
  (void)signal;
  void **from = holders[moves % 2];
  void **to = holders[(moves + 1) % 2];
  for (size_t i = 0; i < CELLS; i++) {
    to[i] = from[i];
    from[i] = NULL;
  }
  moves++;
}

START_TEST(handler_in_a_stop_hid_objects) {
  for (size_t h = 0; h < 2; h++) holders[h] = gc_alloc(CELLS * sizeof(void *));
  for (size_t i = 0; i < CELLS; i++) {
    uintptr_t *object = gc_alloc(64);
    object[1] = i;
    holders[0][i] = object;
  }
  struct sigaction action = {.sa_handler = move_pointers, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, 300}, {0, 300}};
  setitimer(ITIMER_REAL, &timer, NULL);
  for (int round = 0; round < 1500; round++) {
    gc_collect();
    for (int i = 0; i < 100; i++) {
      uintptr_t *garbage = gc_alloc(64);
      garbage[1] = UINTPTR_MAX;
    }
  }
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  void **last = holders[moves % 2];
  for (size_t i = 0; i < CELLS; i++) {
    uintptr_t *object = last[i];
    TEST_REQUIRE(gc_base(object) == object && object[1] == i, "object %zu was lost after %d moves", i, (int)moves);
  }
}
END_TEST

/* RLIMIT_DATA counts the tables, and the library gave up instead of taking smaller ones. */
static int allocates(int argc, char **argv) {
  (void)argc;
  (void)argv;
  for (int i = 0; i < 100000; i++) TEST_REQUIRE(gc_alloc(64) != NULL);
  return 0;
}

static int limits_data(void *unused) {
  (void)unused;
  struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return 2;
  struct test_child child = test_child_exec_self("allocates", NULL, NULL);
  if (!test_child_exited(&child, 0)) fprintf(stderr, "%s\n", test_child_text(&child));
  return test_child_exited(&child, 0) ? 0 : 1;
}

START_TEST(data_limit_kept_programs_from_starting) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  TEST_SKIP("the sanitizer's own tables exceed the limit");
#endif
  struct test_child child = test_child_fork(limits_data, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}
END_TEST

/* While a handler runs on it, a stack with SS_AUTODISARM is none to sigaltstack: it was "not known". */
static atomic_int in_handler, collected;

static void wait_on_alternate_stack(int signal) {
  (void)signal;
  atomic_store(&in_handler, 1);
  while (!atomic_load(&collected)) sched_yield();
}

static void *collect_meanwhile(void *unused) {
  while (!atomic_load(&in_handler)) sched_yield();
  for (int i = 0; i < 3; i++) gc_collect();
  atomic_store(&collected, 1);
  return unused;
}

START_TEST(disarmed_alternate_stack_was_not_known) {
  static char memory[256 * 1024] __attribute__((aligned(16)));
  const int autodisarm = (int)(1U << 31);
  stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory, .ss_flags = autodisarm};
  if (sigaltstack(&stack, NULL) != 0) TEST_SKIP("this kernel knows no SS_AUTODISARM");
  struct sigaction action = {.sa_handler = wait_on_alternate_stack, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, collect_meanwhile, NULL), 0);
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  void *volatile pointers[SYSTEM_SET];
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(set.hidden[i]);
  raise(SIGUSR1);
  ck_assert(system_set_intact(&set));
  for (size_t i = 0; i < SYSTEM_SET; i++) TEST_REQUIRE(gc_base(pointers[i]) == pointers[i]);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* A thread was stopped again on its way out of the stop before, and never ran an instruction. */
static atomic_size_t turns;
static atomic_int turning_ends;

static void *take_turns(void *unused) {
  while (!atomic_load(&turning_ends)) atomic_fetch_add(&turns, 1);
  return unused;
}

START_TEST(collecting_in_a_loop_starved_the_others) {
  enum { WANTED = 1000, ATTEMPTS = 20000 };
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, take_turns, NULL), 0);
  while (atomic_load(&turns) == 0) sched_yield();
  size_t progressed = 0;
  int collections = 0;
  for (; progressed < WANTED && collections < ATTEMPTS; collections++) {
    size_t before = atomic_load(&turns);
    gc_collect();
    progressed += atomic_load(&turns) != before;
  }
  atomic_store(&turning_ends, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_msg(progressed == WANTED, "another thread ran between %zu of %d collections", progressed, collections);
}
END_TEST

/* What the initial thread gave to pthread_exit was no root until somebody joined it. */
static pthread_t initial_thread;
enum { RESULT = 0x5ee7 };

static void *join_the_initial_thread(void *unused) {
  (void)unused;
  while (system_metrics().threads != 1) sched_yield();
  for (int i = 0; i < 2; i++) {
    system_collect();
    for (int k = 0; k < 1000; k++) TEST_REQUIRE(gc_alloc(5000) != NULL);
  }
  void *result = NULL;
  TEST_REQUIRE(pthread_join(initial_thread, &result) == 0);
  TEST_REQUIRE(gc_base(result) == result && *(int *)result == RESULT, "the result was lost");
  for (int i = 0; i < 2; i++) system_collect();
  puts("joined");
  fflush(stdout);
  _exit(0);
}

static int initial_thread_gives_a_result(int argc, char **argv) {
  (void)argc;
  (void)argv;
  pthread_t thread;
  initial_thread = pthread_self();
  int *result = gc_alloc(5000);
  TEST_REQUIRE(result && pthread_create(&thread, NULL, join_the_initial_thread, NULL) == 0);
  *result = RESULT;
  pthread_exit(result);
}

START_TEST(result_of_the_initial_thread_was_lost) {
  struct test_child child = test_child_exec_self("initial-result", NULL, NULL);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "joined");
  test_child_free(&child);
}
END_TEST

/* Values of keys that the C library keeps in malloc memory were roots only if the thread was known when it set them. */
static struct system_set kept_by_keys;
static struct system_event values_set = SYSTEM_EVENT_INITIALIZER, values_used = SYSTEM_EVENT_INITIALIZER;

static void *sets_values_before_it_is_known(void *keys) {
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    TEST_REQUIRE(pthread_setspecific(((pthread_key_t *)keys)[i], test_reveal(kept_by_keys.hidden[i])) == 0);
  }
  test_clear_stack();
  TEST_REQUIRE(gc_thread_register() == 0);
  system_event_post(&values_set);
  system_event_wait(&values_used, 1);
  return NULL;
}

START_TEST(values_set_before_a_thread_was_known_were_lost) {
  system_pthread_create_fn *create = system_libc_pthread_create();
  if (!create) TEST_SKIP("no libc.so.6 to take pthread_create from");
  if (SYSTEM_SANITIZED) TEST_SKIP("the sanitizer must see every pthread_create");
  gc_set_percent(-1);
  static pthread_key_t keys[SYSTEM_SET];
  for (size_t i = 0; i < SYSTEM_SET; i++) ck_assert_int_eq(pthread_key_create(&keys[i], NULL), 0);
  system_set_make(&kept_by_keys, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(create(&thread, NULL, sets_values_before_it_is_known, keys), 0);
  system_event_wait(&values_set, 1);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_intact(&kept_by_keys));
  system_event_post(&values_used);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* Each registration searched all before it. A million of them took minutes. */
enum { MANY = 1000000, WORD = sizeof(void *) };

START_TEST(registering_was_quadratic) {
  gc_set_percent(-1);
  char *memory = mmap(NULL, (size_t)MANY * WORD, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ck_assert_ptr_ne(memory, MAP_FAILED);
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < MANY; i++) {
      char *at = memory + i * WORD;
      TEST_REQUIRE((round ? gc_add_roots(at, at + WORD) : gc_stack_register(at, at + WORD)) == 0);
    }
    gc_collect();
    for (size_t i = 0; i < MANY; i++) {
      char *at = memory + (i % 2 ? i : MANY - 2 - i) * WORD;
      TEST_REQUIRE((round ? gc_remove_roots(at, at + WORD) : gc_stack_unregister(at)) == 0, "%zu", i);
    }
    ck_assert_int_eq(round ? gc_remove_roots(memory, memory + WORD) : gc_stack_unregister(memory), -1);
    ck_assert_int_eq(errno, ENOENT);
  }
}
END_TEST

START_TEST(range_registered_a_million_times) {
  static void *words[8];
  for (size_t i = 0; i < MANY; i++) TEST_REQUIRE(gc_add_roots(words, words + 8) == 0);
  for (size_t i = 0; i < MANY; i++) TEST_REQUIRE(gc_remove_roots(words, words + 8) == 0);
  ck_assert_int_eq(gc_remove_roots(words, words + 8), -1);
  ck_assert_int_eq(errno, ENOENT);
}
END_TEST

/* The list of all roots grew inside the stop, and the library gave up when it could not. */
static int registers_until_memory_ends(int argc, char **argv) {
  (void)argc;
  (void)argv;
  static void *words[1 << 20];
  void *volatile object = gc_alloc(64);
  /* Room for the table, which is doubled, and no more than that. */
  struct rlimit limit = {0, 0};
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (!file || fscanf(file, "%lu", &pages) != 1) return 2;
  fclose(file);
  limit.rlim_cur = limit.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)14 << 20);
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
  size_t added = 0;
  errno = 0;
  while (added < 1 << 20 && gc_add_roots(&words[added], &words[added] + 1) == 0) added++;
  TEST_REQUIRE(added < 1 << 20 && errno == ENOMEM, "%zu, errno %d", added, errno);
  words[added - 1] = gc_alloc(64);
  gc_collect();
  TEST_REQUIRE(gc_base(words[added - 1]) == words[added - 1] && gc_base(object) == object);
  puts("collected");
  return 0;
}

START_TEST(memory_for_the_list_of_roots_was_asked_for_in_the_stop) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  TEST_SKIP("the sanitizer's own tables exceed the limit");
#endif
  static const char *const environment[] = {"GCRT_MARKERS=1", NULL};
  struct test_child_options options = {.environment = environment};
  struct test_child child = test_child_exec_self("until-memory-ends", NULL, &options);
  test_assert_exited(&child, 0);
  test_assert_out_has(&child, "collected");
  test_child_free(&child);
}
END_TEST

/* A destructor that ran behind the library's in the last round, and allocated, made its thread known for ever; so did
 * one that was the first of its thread to allocate, in any round but the first. A later stop looked for the thread. */
static pthread_key_t rounds_key;
static __thread int round_of_destructors;
static int first_to_allocate;

static void allocate_in_rounds(void *value) {
  if (++round_of_destructors >= first_to_allocate) TEST_REQUIRE(gc_alloc(64) != NULL);
  if (round_of_destructors < PTHREAD_DESTRUCTOR_ITERATIONS) pthread_setspecific(rounds_key, value);
}

static void *with_destructors(void *value) {
  pthread_setspecific(rounds_key, value);
  return NULL;
}

START_TEST(last_destructor_left_a_thread_behind) {
  if (_i % 2 && SYSTEM_SANITIZED) TEST_SKIP("the sanitizer must see every pthread_create");
  first_to_allocate = _i / 2 + 1;
  ck_assert_int_eq(pthread_key_create(&rounds_key, allocate_in_rounds), 0);
  system_pthread_create_fn *create = _i % 2 ? system_libc_pthread_create() : pthread_create;
  if (!create) TEST_SKIP("no libc.so.6 to take pthread_create from");
  for (int i = 0; i < 3; i++) {
    pthread_t thread;
    ck_assert_int_eq(create(&thread, NULL, with_destructors, &rounds_key), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(system_metrics().threads, 1);
  }
}
END_TEST

/* The new thread may free the memory that its handle was written to: it was read after that. */
static void *unmaps_its_handle(void *handle) {
  munmap(handle, sizeof(pthread_t));
  return NULL;
}

START_TEST(handle_was_read_when_it_was_gone) {
  pthread_attr_t detached;
  ck_assert_int_eq(pthread_attr_init(&detached), 0);
  ck_assert_int_eq(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED), 0);
  for (int i = 0; i < 5000; i++) {
    pthread_t *handle = mmap(NULL, sizeof *handle, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TEST_REQUIRE(handle != MAP_FAILED);
    void *volatile same = handle; /* the compiler warns of an argument that is two */
    while (pthread_create(handle, &detached, unmaps_its_handle, same) != 0) sched_yield();
  }
}
END_TEST

/* A pthread_join that was cancelled kept its claim on the other thread's record, and so its result, for ever. */
enum { JOINED = 16 };
static pthread_t joined_threads[JOINED];
static uintptr_t hidden_results[JOINED];
static struct system_event may_end = SYSTEM_EVENT_INITIALIZER;

static void *ends_with_a_result(void *number) {
  system_event_wait(&may_end, 1);
  void *result = gc_alloc(5000);
  hidden_results[(size_t)number] = ~(uintptr_t)result;
  return result;
}

static void *joins(void *number) {
  pthread_join(joined_threads[(size_t)number], NULL);
  return NULL;
}

START_TEST(cancelled_join_kept_the_result) {
  for (size_t i = 0; i < JOINED; i++) {
    pthread_t joiner;
    ck_assert_int_eq(pthread_create(&joined_threads[i], NULL, ends_with_a_result, (void *)i), 0);
    ck_assert_int_eq(pthread_create(&joiner, NULL, joins, (void *)i), 0);
    ck_assert_int_eq(pthread_cancel(joiner), 0);
    ck_assert_int_eq(pthread_join(joiner, NULL), 0);
  }
  system_event_post(&may_end);
  for (size_t i = 0; i < JOINED; i++) ck_assert_int_eq(pthread_join(joined_threads[i], NULL), 0);
  test_clear_stack();
  for (int i = 0; i < 2; i++) system_collect();
  size_t alive = 0;
  for (size_t i = 0; i < JOINED; i++) alive += gc_base((void *)~hidden_results[i]) != NULL;
  /* A stale word on the stack may hold one or another. */
  ck_assert_uint_le(alive, JOINED / 4);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("regressions");
  TCase *tests = test_case(suite, "regressions", 60);
  tcase_add_test(tests, markers_do_not_keep_a_process_whose_main_ended);
  tcase_add_test(tests, remove_roots_with_end_null_removed_any_range);
  tcase_add_test(tests, unused_cell_of_a_window_was_an_object);
  tcase_add_test(tests, frames_below_a_coroutine_on_the_own_stack_were_lost);
  tcase_add_test(tests, handler_in_a_stop_hid_objects);
  tcase_add_test(tests, data_limit_kept_programs_from_starting);
  tcase_add_test(tests, disarmed_alternate_stack_was_not_known);
  tcase_add_test(tests, collecting_in_a_loop_starved_the_others);
  tcase_add_loop_test(tests, last_destructor_left_a_thread_behind, 0, 2 * PTHREAD_DESTRUCTOR_ITERATIONS);
  tcase_add_test(tests, handle_was_read_when_it_was_gone);
  tcase_add_test(tests, cancelled_join_kept_the_result);
  tcase_add_test(tests, result_of_the_initial_thread_was_lost);
  tcase_add_test(tests, values_set_before_a_thread_was_known_were_lost);
  tcase_add_test(tests, registering_was_quadratic);
  tcase_add_test(tests, range_registered_a_million_times);
  tcase_add_test(tests, memory_for_the_list_of_roots_was_asked_for_in_the_stop);
  return suite;
}

static const struct test_child_entry children[] = {{"main-ends", main_ends_by_pthread_exit},
                                                   {"allocates", allocates},
                                                   {"initial-result", initial_thread_gives_a_result},
                                                   {"until-memory-ends", registers_until_memory_ends},
                                                   {NULL, NULL}};

TEST_MAIN_CHILDREN(make_suite, children)
