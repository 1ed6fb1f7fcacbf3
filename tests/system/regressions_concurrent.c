/* Bugs of concurrent collections that were found, each by its name. Each case is a fresh process with such collections
 * (busy.h). The moment of the bug is made likely, not certain: nothing here can make a correct library fail. */
#include "busy.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- objects whose only pointers are words of an array, always other ones --- */

/* So many that most stay where they are for as long as a collection lasts. */
enum { OBJECTS = 4000, OBJECT_BYTES = 1000 };

struct field {
  void *volatile *words; /* as the program sees them */
  uint64_t count;
  uint64_t at[OBJECTS];
  uint64_t tag[OBJECTS]; /* of what each holds */
  struct test_random random;
};

static SYSTEM_NOINLINE void put_new(struct field *field, uint64_t i, uint64_t to) {
  void *object = gc_alloc(OBJECT_BYTES);
  TEST_REQUIRE(object != NULL);
  test_pattern_write(object, OBJECT_BYTES, ++field->tag[i]);
  field->words[to] = object;
  field->at[i] = to;
}

static void fill(struct field *field) {
  field->random = test_random_stream(1);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    field->tag[i] = i << 32;
    put_new(field, i, i * (field->count / OBJECTS));
  }
}

/* An object goes elsewhere, or another one that is new takes its place there. */
static SYSTEM_NOINLINE void change_one(struct field *field) {
  uint64_t i = test_random_below(&field->random, OBJECTS), to = test_random_below(&field->random, field->count);
  if (field->words[to]) return;
  void *p = field->words[field->at[i]];
  TEST_REQUIRE(gc_base(p) == p && test_pattern_bad(p, OBJECT_BYTES, field->tag[i]) == OBJECT_BYTES,
               "object %llu was lost at %p", (unsigned long long)i, p);
  field->words[field->at[i]] = NULL;
  if (test_random_once_in(&field->random, 4)) {
    field->words[to] = p;
    field->at[i] = to;
  } else {
    put_new(field, i, to);
  }
}

static void change_for(struct field *field, unsigned collections) {
  for (unsigned last = busy_collections() + collections; busy_collections() < last;) change_one(field);
}

/* --- roots --- */

/* A part of a range of variables was registered as well. When it came to be scanned, its pages were taken for not
 * written, although the program had written there since the whole range was scanned; and the program removed the
 * registration before the part was scanned to its end. Here the part is all but the ends. */
enum { WORDS = SYSTEM_SANITIZED ? 1 << 20 : 4 << 20 };
static void *words[WORDS];
static int toggling;

static void *register_and_remove(void *unused) {
  struct test_random random = test_random_stream(2);
  while (__atomic_load_n(&toggling, __ATOMIC_ACQUIRE)) {
    TEST_REQUIRE(gc_add_roots(words + 1, words + WORDS - 1) == 0);
    usleep((useconds_t)test_random_below(&random, 30000));
    TEST_REQUIRE(gc_remove_roots(words + 1, words + WORDS - 1) == 0);
    usleep((useconds_t)test_random_below(&random, 2000));
  }
  return unused;
}

/* Little else is to be marked. */
static int child_overlapping(int argc, char **argv) {
  (void)argc, (void)argv;
  static struct field field = {.words = words, .count = WORDS};
  pthread_t thread;
  busy_start(4);
  fill(&field);
  toggling = 1;
  TEST_REQUIRE(pthread_create(&thread, NULL, register_and_remove, NULL) == 0);
  change_for(&field, 60);
  __atomic_store_n(&toggling, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  busy_stop();
  return 0;
}

/* A registered range that is mapped twice was looked after in the view that was registered only: what the program wrote
 * through the other was not seen. */
enum { SHARED_BYTES = 8 << 20 };

static int child_shared(int argc, char **argv) {
  (void)argc, (void)argv;
  int fd = memfd_create("shared", MFD_CLOEXEC);
  TEST_REQUIRE(fd >= 0 && ftruncate(fd, SHARED_BYTES) == 0);
  void **view = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  void **other = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  TEST_REQUIRE(view != MAP_FAILED && other != MAP_FAILED);
  TEST_REQUIRE(gc_add_roots(view, view + SHARED_BYTES / sizeof *view) == 0);
  static struct field field = {.count = SHARED_BYTES / sizeof(void *)};
  field.words = other;
  busy_start(32);
  fill(&field);
  change_for(&field, 15);
  busy_stop();
  return 0;
}

/* --- the end of the process --- */

/* The last thread ended the markers' threads while a collection used them: what told them to end was gone when they
 * looked. The moment is somewhere in a collection that nobody waits for: argv[1] is how long after its beginning, in
 * thousandths of the time that building the heap took. Whenever a slice of the large array is scanned, there is work
 * for all markers. */
static int child_last(int argc, char **argv) {
  enum { LISTS = 256, LENGTH = SYSTEM_SANITIZED ? 400 : 1000 };
  uint64_t part = argc > 1 ? strtoul(argv[1], NULL, 10) : 500;
  uint64_t begin = now_ns();
  gc_set_percent(-1);
  for (size_t i = 0; i < LENGTH; i++)
    for (size_t list = 0; list < LISTS; list++) {
      void **node = gc_alloc(64), **head = (void **)&words[list * (WORDS / LISTS)];
      TEST_REQUIRE(node != NULL);
      *node = *head;
      *head = node;
    }
  uint64_t end = now_ns() + (now_ns() - begin) * part / 1000;
  gc_set_percent(100);
  for (int i = 0; i < 200; i++) TEST_REQUIRE(gc_alloc(64) != NULL);
  while (now_ns() < end) {
  }
  pthread_exit(NULL);
}

/* --- fork --- */

/* Until a collection waits for the lock of the loader's list, which the thread that forks here holds. */
static int fork_in_callback(struct dl_phdr_info *info, size_t size, void *unused) {
  (void)info, (void)size, (void)unused;
  usleep(100000);
  pid_t child = fork();
  if (child == 0) _exit(0);
  int status;
  TEST_REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0, "status %x", status);
  return 1;
}

static int child_fork_in_callback(int argc, char **argv) {
  (void)argc, (void)argv;
  busy_start(24);
  TEST_REQUIRE(dl_iterate_phdr(fork_in_callback, NULL) == 1);
  busy_wait(2);
  busy_stop();
  return 0;
}

static const struct test_child_entry children[] = {
    BUSY_CHILD,           {"overlapping", child_overlapping},           {"shared", child_shared},
    {"last", child_last}, {"fork-in-callback", child_fork_in_callback}, {NULL, NULL},
};

/* With one more setting, or NULL. */
static void run(const char *name, const char *argument, const char *setting) {
  struct test_child_options options = busy_options(false);
  const char *environment[8] = {setting};
  size_t n = setting != NULL;
  for (size_t i = 0; options.environment[i]; i++) environment[n++] = options.environment[i];
  options.environment = environment;
  options.timeout_seconds = 60;
  struct test_child child = test_child_exec_self(name, (const char *[]){argument, NULL}, &options);
  ck_assert_msg(!child.timed_out, "%s %s hangs; %s", name, argument ? argument : "", test_child_text(&child));
  test_assert_exited(&child, 0);
  test_child_free(&child);
}

#define SKIP_WITHOUT_TRACKER()                                                                                         \
  do {                                                                                                                 \
    const char *unavailable = busy_unavailable();                                                                      \
    if (unavailable) TEST_SKIP("%s", unavailable);                                                                     \
  } while (0)

START_TEST(part_of_a_range_made_the_range_seem_not_written) {
  SKIP_WITHOUT_TRACKER();
  run("overlapping", NULL, NULL);
}
END_TEST

START_TEST(range_that_is_mapped_twice_was_written_unseen) {
  SKIP_WITHOUT_TRACKER();
  run("shared", NULL, NULL);
}
END_TEST

START_TEST(process_whose_last_thread_ended_in_a_collection_went_on) {
  enum { RUNS = 30, MOMENTS = 500 }; /* early ones */
  SKIP_WITHOUT_TRACKER();
  struct test_random random = test_random_stream(3);
  for (size_t i = 0; i < RUNS; i++) {
    char part[32];
    size_t moment = i * MOMENTS / RUNS + test_random_below(&random, MOMENTS / RUNS);
    snprintf(part, sizeof part, "%zu", moment);
    run("last", part, "GCRT_MARKERS=8");
  }
}
END_TEST

START_TEST(fork_in_a_callback_of_the_loaders_list_waited_for_ever) {
  SKIP_WITHOUT_TRACKER();
  run("fork-in-callback", NULL, NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("regressions");
  TCase *tests = test_case(suite, "concurrent", 120);
  tcase_add_test(tests, part_of_a_range_made_the_range_seem_not_written);
  tcase_add_test(tests, range_that_is_mapped_twice_was_written_unseen);
  tcase_add_test(tests, process_whose_last_thread_ended_in_a_collection_went_on);
  tcase_add_test(tests, fork_in_a_callback_of_the_loaders_list_waited_for_ever);
  return suite;
}

TEST_MAIN_CHILDREN(make_suite, children)
