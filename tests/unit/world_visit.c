/* Threads that are visited one by one: each once, while it does not run, whatever it was doing; and the roots of a
 * thread that a visit reads. */
#include "sys/loader.h"
#include "world/park.h"
#include "world/roots.h"
#include "world/thread.h"

#include "support/support.h"

#include <pthread.h>
#include <sched.h>

enum { RUNNING = 3, PARKED = 2, INSIDE = 2, THREADS = RUNNING + PARKED + INSIDE, VISITS = 30 };

enum activity { RUNS, IS_PARKED, IS_INSIDE };

struct subject {
  enum activity activity;
  gcrt_word ready;  /* does what it is to do */
  gcrt_word moves;  /* steps it has taken */
  gcrt_word inside; /* a critical section */
  gcrt_word visits;
  pthread_t handle;
  struct gcrt_thread *record;
};
static struct subject subjects[THREADS];

static gcrt_word stop_now, leave_section;

static struct subject *subject_of(const struct gcrt_thread *record) {
  for (unsigned i = 0; i < THREADS; i++) {
    if (subjects[i].record == record) return &subjects[i];
  }
  return NULL;
}

static void step(struct subject *self) {
  gcrt_store(&self->moves, gcrt_load(&self->moves) + 1);
  gcrt_store_full(&self->ready, 1);
}

static void run(struct subject *self) {
  while (!gcrt_load(&stop_now)) step(self);
}

/* Parked for one visit after the other; a step between them shows that it goes on. */
static void park(struct subject *self) {
  while (!gcrt_load(&stop_now)) {
    step(self);
    GCRT_PARK_SCOPE(park);
    for (unsigned i = 0; i < 20; i++) sched_yield();
  }
}

/* As long as it is not told to leave, then in and out. */
static void stay_inside(struct subject *self) {
  do {
    gcrt_gate_enter(gcrt_self);
    gcrt_store_full(&self->inside, 1);
    step(self);
    while (!gcrt_load(&leave_section)) sched_yield();
    gcrt_store_full(&self->inside, 0);
    gcrt_gate_exit(gcrt_self);
  } while (!gcrt_load(&stop_now));
}

static void *live(void *argument) {
  struct subject *self = argument;
  self->record = gcrt_self;
  switch (self->activity) {
  case RUNS:
    run(self);
    break;
  case IS_PARKED:
    park(self);
    break;
  case IS_INSIDE:
    stay_inside(self);
    break;
  }
  return NULL;
}

static void start_threads(void) {
  for (unsigned i = 0; i < THREADS; i++) {
    subjects[i].activity = i < RUNNING ? RUNS : i < RUNNING + PARKED ? IS_PARKED : IS_INSIDE;
    TEST_REQUIRE(pthread_create(&subjects[i].handle, NULL, live, &subjects[i]) == 0);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    while (!gcrt_load_acquire(&subjects[i].ready)) sched_yield();
  }
}

static void end_threads(void) {
  gcrt_store(&stop_now, 1);
  for (unsigned i = 0; i < THREADS; i++) TEST_REQUIRE(pthread_join(subjects[i].handle, NULL) == 0);
}

/* It does not run now, and is in no critical section. */
static void look_at(struct gcrt_thread *record, void *unused) {
  (void)unused;
  struct subject *subject = subject_of(record);
  TEST_REQUIRE(subject != NULL, "a thread was visited that is none of the test's");
  size_t state = gcrt_load(&record->state);
  TEST_REQUIRE(state == GCRT_STOPPED || state == GCRT_HELD || state == GCRT_AWAITED, "state %zu", state);
  TEST_REQUIRE(!gcrt_load(&subject->inside), "it is in a critical section");
  size_t moves = gcrt_load(&subject->moves);
  for (unsigned i = 0; i < 20000; i++)
    TEST_REQUIRE(gcrt_load(&subject->moves) == moves, "thread %d moved", record->tid);
  gcrt_add_full(&subject->visits, 1);
}

static void visit_all(void (*visit)(struct gcrt_thread *, void *)) {
  gcrt_lock(&gcrt_world.lock);
  (void)gcrt_world_visit(visit, NULL);
  TEST_REQUIRE(gcrt_load(&gcrt_world.pending) == 0 && !gcrt_world.stopped);
  gcrt_unlock(&gcrt_world.lock);
}

/* All take a step that began after this was called. */
static void all_go_on(void) {
  for (unsigned i = 0; i < THREADS; i++) {
    size_t moves = gcrt_load(&subjects[i].moves);
    while (gcrt_load(&subjects[i].moves) - moves < 2) sched_yield();
  }
}

START_TEST(each_is_visited_once_while_it_does_not_run) {
  gcrt_store(&leave_section, 1);
  start_threads();
  for (size_t visit = 1; visit <= VISITS; visit++) {
    visit_all(look_at);
    for (unsigned i = 0; i < THREADS; i++) {
      size_t visits = gcrt_load(&subjects[i].visits);
      TEST_REQUIRE(visits == visit, "thread %u: %zu times in %zu visits", i, visits, visit);
    }
    if (visit % 10 == 0) all_go_on();
  }
  end_threads();
}
END_TEST

static unsigned not_inside;

static void all_others_before(struct gcrt_thread *record, void *unused) {
  look_at(record, unused);
  if (subject_of(record)->activity != IS_INSIDE) {
    TEST_REQUIRE(not_inside < RUNNING + PARKED);
    if (++not_inside == RUNNING + PARKED) gcrt_store_full(&leave_section, 1);
  } else {
    TEST_REQUIRE(gcrt_load(&leave_section), "a thread was visited inside a critical section");
  }
}

/* The visitor itself lets them out when it has come to all others: were it to wait for one of them before, it would
 * wait for ever. */
START_TEST(critical_section_is_left_first_and_nobody_waits_for_it) {
  start_threads();
  visit_all(all_others_before);
  for (unsigned i = 0; i < THREADS; i++) TEST_REQUIRE(gcrt_load(&subjects[i].visits) == 1, "thread %u", i);
  all_go_on();
  end_threads();
}
END_TEST

static gcrt_word gone_on;

/* Those that have been visited run while others are still to be. */
static void waits_for_the_one_before(struct gcrt_thread *record, void *unused) {
  static struct subject *before;
  static size_t moves;
  look_at(record, unused);
  struct subject *subject = subject_of(record);
  if (subject->activity == IS_INSIDE) return;
  if (before) {
    while (gcrt_load(&before->moves) == moves) sched_yield();
    gcrt_add(&gone_on, 1);
  }
  before = subject;
  moves = gcrt_load(&subject->moves);
}

START_TEST(visited_thread_goes_on_before_the_others_are_visited) {
  gcrt_store(&leave_section, 1);
  start_threads();
  visit_all(waits_for_the_one_before);
  ck_assert_uint_eq(gcrt_load(&gone_on), RUNNING + PARKED - 1);
  end_threads();
}
END_TEST

START_TEST(nobody_is_visited_where_there_is_one_thread) {
  visit_all(look_at);
  ck_assert_uint_eq(gcrt_load(&gcrt_self->state), GCRT_RUNNING);
}
END_TEST

/* --- roots --- */

enum place { ON_STACK, IN_PARK, THREAD_LOCAL, PLACES };

/* Written nowhere else in this form. */
static uintptr_t word_of(unsigned place) { return ~((uintptr_t)0x7e57a11 << 8 | place); }

static __thread uintptr_t volatile thread_local_word;
static gcrt_word holding, holders_end;
static struct gcrt_thread *holders[PLACES];
static unsigned found[PLACES]; /* bit p: the word of place p was among the roots of this thread */

static __attribute__((noinline)) void hold(unsigned place) {
  volatile uintptr_t held = 0;
  if (place == THREAD_LOCAL) {
    thread_local_word = word_of(place);
  } else {
    held = word_of(place);
  }
  gcrt_add_full(&holding, 1);
  while (!gcrt_load(&holders_end)) {
  }
  TEST_REQUIRE(place == THREAD_LOCAL || held == word_of(place));
}

static __attribute__((noinline)) void hold_parked(unsigned place) {
  volatile uintptr_t held = word_of(place);
  GCRT_PARK_SCOPE(park);
  gcrt_add_full(&holding, 1);
  while (!gcrt_load(&holders_end)) sched_yield();
  TEST_REQUIRE(held == word_of(place));
}

static void *holder(void *argument) {
  unsigned place = (unsigned)(uintptr_t)argument;
  holders[place] = gcrt_self;
  if (place == IN_PARK) {
    hold_parked(place);
  } else {
    hold(place);
  }
  return NULL;
}

static GCRT_READS_FOREIGN_MEMORY unsigned words_in(struct gcrt_range range) {
  unsigned bits = 0;
  for (uintptr_t at = range.start; at < range.end; at += sizeof(uintptr_t)) {
    uintptr_t value = ~*(const volatile uintptr_t *)at;
    unsigned place = value & 0xff;
    if (value >> 8 == 0x7e57a11 && place < PLACES) bits |= 1u << place;
  }
  return bits;
}

static void look_for_words(struct gcrt_thread *record, void *unused) {
  (void)unused;
  unsigned i = 0;
  while (i < PLACES && holders[i] != record) i++;
  TEST_REQUIRE(i < PLACES);
  size_t count;
  const struct gcrt_root *roots = gcrt_roots_of_thread(record, &count);
  for (size_t n = 0; n < count; n++) found[i] |= words_in(roots[n].range);
}

static void look_at_roots(void *unused) {
  (void)unused;
  gcrt_lock(&gcrt_world.lock);
  TEST_REQUIRE(gcrt_roots_reserve());
  gcrt_roots_look_at_modules();
  (void)gcrt_world_visit(look_for_words, NULL);
  gcrt_unlock(&gcrt_world.lock);
}

/* And not that of another thread. */
START_TEST(what_only_its_stack_holds_is_among_the_roots_of_a_thread) {
  pthread_t threads[PLACES];
  for (unsigned i = 0; i < PLACES; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, holder, (void *)(uintptr_t)i), 0);
  }
  while (gcrt_load_acquire(&holding) < PLACES) sched_yield();
  for (unsigned round = 0; round < 10; round++) {
    for (unsigned i = 0; i < PLACES; i++) found[i] = 0;
    gcrt_loader_call(look_at_roots, NULL);
    for (unsigned i = 0; i < PLACES; i++) TEST_REQUIRE(found[i] == 1u << i, "thread %u: words %x", i, found[i]);
  }
  gcrt_store(&holders_end, 1);
  for (unsigned i = 0; i < PLACES; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("world");
  TCase *tests = test_case(suite, "visit", 30);
  tcase_add_test(tests, each_is_visited_once_while_it_does_not_run);
  tcase_add_test(tests, critical_section_is_left_first_and_nobody_waits_for_it);
  tcase_add_test(tests, visited_thread_goes_on_before_the_others_are_visited);
  tcase_add_test(tests, nobody_is_visited_where_there_is_one_thread);
  tcase_add_test(tests, what_only_its_stack_holds_is_among_the_roots_of_a_thread);
  return suite;
}

TEST_MAIN(make_suite)
