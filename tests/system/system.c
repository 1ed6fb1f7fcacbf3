/* Sets of objects, threads and balances for the system tests; see system.h.
 *
 * No lock but that of an event. Why sets are made on a thread that ends: a pointer left in a dead frame of the test
 * would keep its object alive and the test would prove nothing. */
#include "system.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t next_tag = 0x5e7a000000000001u;

SYSTEM_NOINLINE void system_set_make_here(struct system_set *set, size_t size, system_allocate_fn *allocate,
                                          void (*place)(size_t i, void *object, void *arg), void *arg) {
  set->size = size;
  set->tag = __atomic_fetch_add(&next_tag, 1000, __ATOMIC_RELAXED);
  int percent = gc_set_percent(-1);
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    void *object = allocate(size);
    TEST_REQUIRE(object != NULL, "%zu bytes", size);
    test_pattern_write(object, size, set->tag + i);
    set->hidden[i] = test_hide(object);
    if (place) place(i, object, arg);
  }
  gc_set_percent(percent);
  test_clear_stack();
}

struct make_request {
  struct system_set *set;
  size_t size;
  system_allocate_fn *allocate;
  void (*place)(size_t, void *, void *);
  void *arg;
};

static void *make_on_thread(void *arg) {
  struct make_request *r = arg;
  system_set_make_here(r->set, r->size, r->allocate, r->place, r->arg);
  return NULL;
}

void system_set_make(struct system_set *set, size_t size, system_allocate_fn *allocate,
                     void (*place)(size_t i, void *object, void *arg), void *arg) {
  struct make_request request = {set, size, allocate, place, arg};
  system_on_thread(make_on_thread, &request);
}

void system_place_in_array(size_t i, void *object, void *array) { ((void **)array)[i] = object; }

SYSTEM_NOINLINE size_t system_set_live(const struct system_set *set) {
  size_t live = 0;
  for (size_t i = 0; i < SYSTEM_SET; i++) {
    void *p = test_reveal(set->hidden[i]);
    live += gc_base(p) == p;
  }
  test_clear_stack();
  return live;
}

SYSTEM_NOINLINE bool system_set_intact(const struct system_set *set) {
  bool intact = system_set_live(set) == SYSTEM_SET;
  for (size_t i = 0; intact && i < SYSTEM_SET; i++)
    intact = test_pattern_bad(test_reveal(set->hidden[i]), set->size, set->tag + i) == set->size;
  test_clear_stack();
  return intact;
}

bool system_set_dead(const struct system_set *set) { return system_set_live(set) <= SYSTEM_SET / 4; }

void system_collect(void) {
  test_clear_stack();
  gc_collect();
}

void system_on_thread(void *(*fn)(void *), void *arg) {
  pthread_t thread;
  int error = pthread_create(&thread, NULL, fn, arg);
  TEST_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  error = pthread_join(thread, NULL);
  TEST_REQUIRE(error == 0, "pthread_join: %s", strerror(error));
}

system_pthread_create_fn *system_libc_pthread_create(void) {
  void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  return libc ? (system_pthread_create_fn *)(uintptr_t)dlsym(libc, "pthread_create") : NULL;
}

static char thread_state(pid_t tid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  const char *end = strrchr(text, ')');
  return end && end[1] ? end[2] : 0;
}

bool system_wait_asleep(pid_t tid) {
  for (int i = 0; i < 4000; i++) {
    char state = thread_state(tid);
    if (state == 'S' || state == 'D') return true;
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
  }
  return false;
}

struct runtime_metrics system_metrics(void) {
  struct runtime_metrics m;
  memset(&m, 0xa5, sizeof m);
  TEST_REQUIRE(runtime_metrics_read(&m) == 0);
  return m;
}

const char *system_unbalanced(const struct runtime_metrics *m) {
  if (m->heap_sys != m->heap_inuse + m->heap_idle) return "heap_sys == heap_inuse + heap_idle";
  if (m->mallocs - m->frees != m->heap_objects) return "mallocs - frees == heap_objects";
  if (m->sys != m->heap_sys + m->mspan_sys + m->mcache_sys + m->buckhash_sys + m->gc_sys + m->other_sys)
    return "sys == sum of all ..._sys";
  if (m->alloc != m->heap_alloc) return "alloc == heap_alloc";
  if (m->heap_alloc > m->heap_inuse) return "heap_alloc <= heap_inuse";
  if (m->heap_released > m->heap_idle) return "heap_released <= heap_idle";
  if (m->heap_released != m->heap_sys + m->released_total - m->reacquired_total)
    return "heap_released == heap_sys + released_total - reacquired_total";
  if (m->heap_unreleased > m->heap_idle - m->heap_released) return "heap_unreleased <= heap_idle - heap_released";
  if (m->mspan_inuse > m->mspan_sys) return "mspan_inuse <= mspan_sys";
  if (m->mcache_inuse > m->mcache_sys) return "mcache_inuse <= mcache_sys";
  if (m->total_alloc < m->heap_alloc) return "total_alloc >= heap_alloc";
  if (m->num_forced_gc > m->num_gc) return "num_forced_gc <= num_gc";
  if (m->num_concurrent_gc > m->num_gc) return "num_concurrent_gc <= num_gc";
  if (m->dirty_rounds < m->num_concurrent_gc) return "dirty_rounds >= num_concurrent_gc";
  if (m->pause_max_ns > m->pause_total_ns) return "pause_max_ns <= pause_total_ns";
  if (m->stopping_total_ns > m->pause_total_ns) return "stopping_total_ns <= pause_total_ns";
  uint64_t mallocs = 0, frees = 0, bytes = 0;
  for (size_t i = 1; i < RUNTIME_METRICS_SIZE_CLASSES; i++) {
    mallocs += m->by_size[i].mallocs;
    frees += m->by_size[i].frees;
    bytes += (m->by_size[i].mallocs - m->by_size[i].frees) * m->by_size[i].size;
    if (m->by_size[i].frees > m->by_size[i].mallocs) return "by_size: frees <= mallocs";
  }
  if (mallocs > m->mallocs || frees > m->frees) return "sum of by_size <= all";
  if (mallocs == m->mallocs && frees == m->frees && bytes != m->heap_alloc) return "sum of by_size bytes == heap_alloc";
  return bytes > m->heap_alloc ? "sum of by_size bytes <= heap_alloc" : NULL;
}

bool system_uffd_refused(const struct test_child *child) {
  return test_child_signalled(child, SIGABRT) && strstr(child->err, "GCRT_TRACKER=uffd: ") != NULL;
}

uint32_t system_collections(void) { return system_metrics().num_gc; }

void system_event_post(struct system_event *event) {
  pthread_mutex_lock(&event->lock);
  event->count++;
  pthread_cond_broadcast(&event->changed);
  pthread_mutex_unlock(&event->lock);
}

void system_event_wait(struct system_event *event, unsigned count) {
  pthread_mutex_lock(&event->lock);
  while (event->count < count) pthread_cond_wait(&event->changed, &event->lock);
  pthread_mutex_unlock(&event->lock);
}
