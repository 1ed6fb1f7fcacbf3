/* States of threads: parking, critical sections and stops, against each other. */
#include "world/park.h"
#include "world/roots.h"
#include "world/thread.h"

#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <errno.h>

enum { THREADS = 4, STOPS = 300 };

static gcrt_word moves[THREADS], stop_now, in_section;

static void stop_world(void) {
  gcrt_lock(&gcrt_world.lock);
  gcrt_world_stop();
}

static void resume_world(void) {
  gcrt_world_resume();
  gcrt_unlock(&gcrt_world.lock);
}

/* Moves its counter as a mutator, now and then in a critical section or after a short park. */
static void *mutator(void *argument) {
  gcrt_word *mine = argument;
  while (!gcrt_load(&stop_now)) {
    for (unsigned i = 0; i < 100; i++) gcrt_store(mine, gcrt_load(mine) + 1);
    gcrt_gate_enter(gcrt_self);
    gcrt_add_full(&in_section, 1);
    sched_yield();
    gcrt_add_full(&in_section, (size_t)-1);
    gcrt_gate_exit(gcrt_self);
    GCRT_PARK_SCOPE(park);
    sched_yield();
  }
  return NULL;
}

START_TEST(nothing_moves_in_a_stop) {
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, mutator, (void *)&moves[i]), 0);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    while (gcrt_load(&moves[i]) == 0) sched_yield();
  }
  for (unsigned i = 0; i < STOPS; i++) {
    size_t before[THREADS];
    stop_world();
    TEST_REQUIRE(gcrt_load(&in_section) == 0, "a thread was stopped in a critical section");
    for (unsigned t = 0; t < THREADS; t++) before[t] = gcrt_load(&moves[t]);
    for (unsigned y = 0; y < 5; y++) sched_yield();
    for (unsigned t = 0; t < THREADS; t++) TEST_REQUIRE(gcrt_load(&moves[t]) == before[t], "thread %u moved", t);
    resume_world();
    sched_yield();
  }
  gcrt_store(&stop_now, 1);
  for (unsigned i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static gcrt_word parked, go_on;

static void *parked_until_told(void *unused) {
  (void)unused;
  GCRT_PARK_SCOPE(park);
  gcrt_store_full(&parked, 1);
  while (!gcrt_load(&go_on)) sched_yield();
  return NULL;
}

/* The stop must not wait for it, and it must not leave its park before the resume. */
START_TEST(parked_thread_is_not_waited_for) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, parked_until_told, NULL), 0);
  while (!gcrt_load(&parked)) sched_yield();
  stop_world();
  gcrt_store(&go_on, 1);
  for (unsigned i = 0; i < 50; i++) sched_yield();
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
    size_t state = gcrt_load(&t->state);
    if (t != gcrt_self && t->started) TEST_REQUIRE(state == GCRT_HELD || state == GCRT_AWAITED, "state %zu", state);
  }
  resume_world();
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(parks_nest) {
  struct gcrt_registers registers;
  struct gcrt_park outer, inner;
  gcrt_registers_save(&registers);
  gcrt_park_enter(&outer, &registers);
  ck_assert_uint_eq(gcrt_load(&gcrt_self->state), GCRT_PARKED);
  gcrt_park_enter(&inner, &registers);
  gcrt_park_leave(&inner);
  ck_assert_uint_eq(gcrt_load(&gcrt_self->state), GCRT_PARKED);
  gcrt_park_leave(&outer);
  ck_assert_uint_eq(gcrt_load(&gcrt_self->state), GCRT_RUNNING);
}
END_TEST

START_TEST(critical_section_does_not_park) {
  struct gcrt_registers registers;
  struct gcrt_park park;
  gcrt_registers_save(&registers);
  gcrt_gate_enter(gcrt_self);
  gcrt_park_enter(&park, &registers);
  ck_assert_uint_eq(gcrt_load(&gcrt_self->state), GCRT_RUNNING);
  gcrt_park_leave(&park);
  gcrt_gate_exit(gcrt_self);
}
END_TEST

/* A pthread_t may be given to a new thread as soon as the old one is joined, while the record of the old one still
 * carries it: another join must not take that record for its own. */
START_TEST(claimed_record_is_not_found_again) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, parked_until_told, NULL), 0);
  struct gcrt_thread *record = gcrt_thread_claim(thread);
  ck_assert_ptr_nonnull(record);
  ck_assert_ptr_null(gcrt_thread_claim(thread));
  gcrt_thread_settle(record, false);
  ck_assert_ptr_eq(gcrt_thread_claim(thread), record);
  gcrt_thread_settle(record, false);
  gcrt_store(&go_on, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_ptr_null(gcrt_thread_claim(thread));
}
END_TEST

START_TEST(root_set_keeps_what_was_added) {
  size_t count;
  enum { RANGES = 5000 };
  for (uintptr_t i = 1; i <= RANGES; i++) TEST_REQUIRE(gcrt_root_add(i * 64, i * 64 + 32) == 0);
  for (uintptr_t i = 1; i <= RANGES; i += 2) TEST_REQUIRE(gcrt_root_remove(i * 64, i * 64 + 32) == 0);
  ck_assert_uint_eq(gcrt_root_set_count(), RANGES / 2);
  const struct gcrt_registered *ranges = gcrt_root_ranges(&count);
  uintptr_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += ranges[i].times ? ranges[i].range.start / 64 : 0;
  ck_assert_uint_eq(sum, RANGES / 2 * (RANGES / 2 + 1));
  ck_assert_int_eq(gcrt_root_remove(64, 96), ENOENT);
  ck_assert_int_eq(gcrt_stack_add(4096, 8192), 0);
  ck_assert_int_eq(gcrt_stack_add(4096, 8192), EEXIST);
  ck_assert_int_eq(gcrt_stack_remove(4096), 0);
  ck_assert_int_eq(gcrt_stack_remove(4096), ENOENT);
  for (uintptr_t i = 2; i <= RANGES; i += 2) TEST_REQUIRE(gcrt_root_remove(i * 64, i * 64 + 32) == 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("world");
  TCase *tests = test_case(suite, "park", 30);
  tcase_add_test(tests, nothing_moves_in_a_stop);
  tcase_add_test(tests, parked_thread_is_not_waited_for);
  tcase_add_test(tests, parks_nest);
  tcase_add_test(tests, critical_section_does_not_park);
  tcase_add_test(tests, claimed_record_is_not_found_again);
  tcase_add_test(tests, root_set_keeps_what_was_added);
  return suite;
}

TEST_MAIN(make_suite)
