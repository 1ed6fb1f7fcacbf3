/* Stacks that the library does not know by itself: coroutines of ucontext on memory from mmap, gc_stack_register.
 *
 * A coroutine puts the only pointers to a set on its stack and switches away. The contexts are static, so that the
 * registers saved in them are roots as well. */
#include "system.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { STACK_BYTES = 128 << 10 };

static ucontext_t main_context, contexts[4];
static char *stacks[4];
static struct system_set sets[4];
static size_t running;
static void (*inside)(void);

static void make_stack(size_t i) {
  stacks[i] = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(stacks[i], MAP_FAILED);
}

/* Holds set `running` in its frame while control is elsewhere. */
static void body(void) {
  size_t self = running;
  void *volatile pointers[SYSTEM_SET];
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(sets[self].hidden[i]);
  test_clear_stack();
  if (inside) inside();
  swapcontext(&contexts[self], &main_context);
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    TEST_REQUIRE(pointers[i] == test_reveal(sets[self].hidden[i]));
    pointers[i] = NULL;
  }
  test_clear_stack();
  swapcontext(&contexts[self], &main_context);
}

static void start(size_t i) {
  getcontext(&contexts[i]);
  contexts[i].uc_stack.ss_sp = stacks[i];
  contexts[i].uc_stack.ss_size = STACK_BYTES;
  contexts[i].uc_link = &main_context;
  makecontext(&contexts[i], body, 0);
}

static void enter(size_t i) {
  running = i;
  swapcontext(&main_context, &contexts[i]);
}

static void *collect_thread(void *unused) {
  (void)unused;
  system_collect();
  return NULL;
}

static void collect_by_thread(void) { system_on_thread(collect_thread, NULL); }

/* While the coroutine runs, main's stack is not below its stack pointer: it must be searched as well. */
static struct system_set on_main;

static void check_while_inside(void (*collect)(void)) {
  TEST_REQUIRE(system_set_intact(&on_main) && system_set_intact(&sets[0]));
  for (int i = 0; i < 2; i++) {
    collect();
    TEST_REQUIRE(system_set_intact(&sets[0]), "what is on the running coroutine's stack was lost");
    TEST_REQUIRE(system_set_intact(&on_main), "what is on the thread's own stack was lost");
  }
}

static void collect_inside(void) { check_while_inside(gc_collect); }
static void collect_inside_by_thread(void) { check_while_inside(collect_by_thread); }

START_TEST(suspended_stacks_are_roots) {
  gc_set_percent(-1);
  for (size_t i = 0; i < 4; i++) {
    make_stack(i);
    ck_assert_int_eq(gc_stack_register(stacks[i], stacks[i] + STACK_BYTES), 0);
    system_set_make(&sets[i], 48, gc_alloc, NULL, NULL);
  }
  for (size_t i = 0; i < 4; i++) {
    start(i);
    enter(i);
  }
  for (int i = 0; i < 3; i++) (_i ? collect_by_thread : system_collect)();
  for (size_t i = 0; i < 4; i++) ck_assert_msg(system_set_intact(&sets[i]), "coroutine %zu", i);
  for (size_t i = 0; i < 2; i++) enter(i);
  for (size_t i = 2; i < 4; i++) ck_assert_int_eq(gc_stack_unregister(stacks[i]), 0);
  memset(&main_context, 0, sizeof main_context);
  memset(contexts, 0, sizeof contexts);
  for (int i = 0; i < 2; i++) system_collect();
  for (size_t i = 0; i < 4; i++) ck_assert_msg(system_set_dead(&sets[i]), "coroutine %zu", i);
}
END_TEST

static SYSTEM_NOINLINE void run_inside(void (*what)(void)) {
  void *volatile pointers[SYSTEM_SET];
  (void)pointers;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = test_reveal(on_main.hidden[i]);
  inside = what;
  test_clear_stack();
  start(0);
  enter(0);
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = NULL;
}

START_TEST(both_stacks_of_a_thread_inside_a_coroutine) {
  gc_set_percent(-1);
  make_stack(0);
  ck_assert_int_eq(gc_stack_register(stacks[0], stacks[0] + STACK_BYTES), 0);
  system_set_make(&sets[0], 48, gc_alloc, NULL, NULL);
  system_set_make(&on_main, 48, gc_alloc, NULL, NULL);
  run_inside(_i ? collect_inside_by_thread : collect_inside);
  enter(0);
  ck_assert_int_eq(gc_stack_unregister(stacks[0]), 0);
}
END_TEST

static struct system_event ready = SYSTEM_EVENT_INITIALIZER, go = SYSTEM_EVENT_INITIALIZER;

static void wait_inside(void) {
  system_event_post(&ready);
  system_event_wait(&go, 1);
}

static void *thread_in_coroutine(void *unused) {
  (void)unused;
  run_inside(wait_inside);
  enter(0);
  return NULL;
}

/* The same, for a thread that waits on a coroutine's stack while another collects. */
START_TEST(both_stacks_of_a_waiting_thread) {
  gc_set_percent(-1);
  make_stack(0);
  ck_assert_int_eq(gc_stack_register(stacks[0], stacks[0] + STACK_BYTES), 0);
  system_set_make(&sets[0], 48, gc_alloc, NULL, NULL);
  system_set_make(&on_main, 48, gc_alloc, NULL, NULL);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, thread_in_coroutine, NULL), 0);
  system_event_wait(&ready, 1);
  check_while_inside(system_collect);
  system_event_post(&go);
  pthread_join(thread, NULL);
}
END_TEST

static void allocate_inside(void) {
  void **list = NULL;
  for (int i = 0; i < 20000; i++) {
    void **node = gc_alloc(64);
    TEST_REQUIRE(node != NULL);
    node[0] = list;
    node[1] = (void *)(uintptr_t)(i + 1);
    list = node;
    if (i % 4000 == 0) gc_collect();
  }
  for (int i = 20000; i > 0; i--, list = list[0]) TEST_REQUIRE((uintptr_t)list[1] == (uintptr_t)i);
}

START_TEST(allocation_on_a_coroutine) {
  make_stack(0);
  ck_assert_int_eq(gc_stack_register(stacks[0], stacks[0] + STACK_BYTES), 0);
  system_set_make(&sets[0], 48, gc_alloc, NULL, NULL);
  system_set_make(&on_main, 48, gc_alloc, NULL, NULL);
  run_inside(allocate_inside);
  enter(0);
}
END_TEST

START_TEST(bounds_of_stacks) {
  static char bytes[4096];
  errno = 0;
  ck_assert_int_eq(gc_stack_register(bytes + 64, bytes), -1);
  ck_assert_int_eq(errno, EINVAL);
  errno = 0;
  ck_assert_int_eq(gc_stack_register(bytes, bytes), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(gc_stack_register(bytes, bytes + 4096), 0);
  errno = 0;
  ck_assert_int_eq(gc_stack_register(bytes, bytes + 4096), -1);
  ck_assert_int_eq(errno, EEXIST);
  gc_collect();
  ck_assert_int_eq(gc_stack_unregister(bytes), 0);
  errno = 0;
  ck_assert_int_eq(gc_stack_unregister(bytes), -1);
  ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(many_stacks) {
  enum { STACKS = 3000 };
  static char *many[STACKS];
  static struct system_set set;
  for (size_t i = 0; i < STACKS; i++) {
    many[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(many[i], MAP_FAILED);
    ck_assert_int_eq(gc_stack_register(many[i], many[i] + 4096), 0);
  }
  static uintptr_t where[SYSTEM_SET];
  gc_set_percent(-1);
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    where[i] = (uintptr_t)many[i * (STACKS / SYSTEM_SET)] + 2048;
    *(void **)where[i] = test_reveal(set.hidden[i]);
  }
  system_collect();
  ck_assert(system_set_intact(&set));
  for (size_t i = 0; i < STACKS; i++) {
    ck_assert_int_eq(gc_stack_unregister(many[i]), 0);
    munmap(many[i], 4096);
  }
  system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

/* Threads on stacks of their own among many: each stack is searched from the pointer of the thread that runs on it, and
 * only those that nobody runs on from their low end. */
enum { WALKERS = 6, AMONG = 400, FRAMES = 64 << 10 };

static struct walker {
  ucontext_t outside, within;
  char *stack;
  struct system_set on_stack, on_own, below;
} walkers[WALKERS];

static struct system_event walking = SYSTEM_EVENT_INITIALIZER, arrive = SYSTEM_EVENT_INITIALIZER;

static void walk(unsigned i) {
  struct walker *w = &walkers[i];
  void *volatile pointers[SYSTEM_SET];
  for (size_t k = 0; k < SYSTEM_SET; k++) {
    pointers[k] = test_reveal(w->on_stack.hidden[k]);
    ((void **)(void *)w->stack)[k] = test_reveal(w->below.hidden[k]);
  }
  system_event_post(&walking);
  system_event_wait(&arrive, 1);
  for (size_t k = 0; k < SYSTEM_SET; k++) TEST_REQUIRE(pointers[k] == test_reveal(w->on_stack.hidden[k]));
}

static SYSTEM_NOINLINE void walk_with(struct walker *w) {
  void *volatile pointers[SYSTEM_SET];
  for (size_t k = 0; k < SYSTEM_SET; k++) pointers[k] = test_reveal(w->on_own.hidden[k]);
  swapcontext(&w->outside, &w->within);
  for (size_t k = 0; k < SYSTEM_SET; k++) TEST_REQUIRE(pointers[k] == test_reveal(w->on_own.hidden[k]));
}

static void *walker_thread(void *walker) {
  struct walker *w = walker;
  getcontext(&w->within);
  w->within.uc_stack.ss_sp = w->stack;
  w->within.uc_stack.ss_size = FRAMES;
  w->within.uc_link = &w->outside;
  makecontext(&w->within, (void (*)(void))walk, 1, (unsigned)(w - walkers));
  walk_with(w);
  return NULL;
}

START_TEST(threads_on_stacks_among_many) {
  gc_set_percent(-1);
  char *memory = mmap(NULL, (size_t)AMONG * FRAMES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(memory, MAP_FAILED);
  for (size_t i = 0; i < AMONG; i++) {
    char *low = memory + i * 7 % AMONG * FRAMES;
    ck_assert_int_eq(gc_stack_register(low, low + FRAMES), 0);
  }
  pthread_t threads[WALKERS];
  for (size_t i = 0; i < WALKERS; i++) {
    struct walker *w = &walkers[i];
    w->stack = memory + (i * 5 + 1) % WALKERS * (AMONG / WALKERS) * FRAMES;
    system_set_make(&w->on_stack, 48, gc_alloc, NULL, NULL);
    system_set_make(&w->on_own, 48, gc_alloc, NULL, NULL);
    system_set_make(&w->below, 48, gc_alloc, NULL, NULL);
    ck_assert_int_eq(pthread_create(&threads[i], NULL, walker_thread, w), 0);
  }
  system_event_wait(&walking, WALKERS);
  for (int round = 0; round < 2; round++) system_collect();
  for (size_t i = 0; i < WALKERS; i++) {
    ck_assert_msg(system_set_intact(&walkers[i].on_stack), "what is on stack %zu was lost", i);
    ck_assert_msg(system_set_intact(&walkers[i].on_own), "what is on the own stack of thread %zu was lost", i);
    ck_assert_msg(system_set_dead(&walkers[i].below), "stack %zu was searched below its thread", i);
  }
  system_event_post(&arrive);
  for (size_t i = 0; i < WALKERS; i++) pthread_join(threads[i], NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "coroutines", 20);
  tcase_add_loop_test(tc, suspended_stacks_are_roots, 0, 2);
  tcase_add_loop_test(tc, both_stacks_of_a_thread_inside_a_coroutine, 0, 2);
  tcase_add_test(tc, both_stacks_of_a_waiting_thread);
  tcase_add_test(tc, allocation_on_a_coroutine);
  tcase_add_test(tc, bounds_of_stacks);
  tcase_add_test(tc, many_stacks);
  tcase_add_test(tc, threads_on_stacks_among_many);
  return suite;
}
TEST_MAIN(make_suite)
