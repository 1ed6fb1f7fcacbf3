/* busy_stops MODE THREADS OTHERS MILLION_STEPS: how long a collector needs to stop many threads on few processors.
 *
 * THREADS threads compute and allocate a little, all runnable all the time. OTHERS more do nothing but what MODE says,
 * until the first are done: calls in which no signal reaches a thread, or which take long.
 *
 *   0  run     no others
 *   1  fsync   write 64 KiB to a file of their own and have it put on the disk
 *   2  read    read such a file past the page cache, from the disk
 *   3  spawn   start /bin/true, wait for its end, and rest for 20 ms: what /bin/true takes of the processors would
 *              lengthen stops if another process had started it, too
 *   4  sleep   wait for a condition that seldom comes
 *
 * One more thread collects 200 times a second; with gcrt nobody else does. A stop ends when all threads go on; `reach`
 * is its first part, until the last of them has stopped. Each computing thread checks
 * what it keeps, and what they compute makes the checksum. */
#include "threads.h"

#include "stops.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

enum {
  RING = 64,
  STEPS_BETWEEN_ALLOCATIONS = 1000,
  INTERVAL_NS = 5000000,
  REST_NS = 20000000,
  BLOCK = 64 << 10,
  BLOCKS = 64
};

enum mode { RUN, FSYNC, READ, SPAWN, SLEEP, MODES };

struct object {
  struct object *next;
  uint64_t value, copy;
};

static atomic_bool over;
static atomic_uint computing;
static atomic_uint_fast64_t calls; /* that others have made */
static char directory[] = "busy_stops.XXXXXX";
extern char **environ;

static void fail(const char *what) {
  fprintf(stderr, "busy_stops: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* A ring of the last RING objects, each of which is read before it is dropped. */
static void *compute(void *arg) {
  struct work *w = arg;
  pthread_barrier_wait(w->start);
  struct object **ring = allocate(RING * sizeof *ring);
  memset(ring, 0, RING * sizeof *ring);
  uint64_t state = 88172645463325252u + w->thread, sum = 0;
  for (uint64_t i = 0; i < w->count / STEPS_BETWEEN_ALLOCATIONS; i++) {
    for (int step = 0; step < STEPS_BETWEEN_ALLOCATIONS; step++) sum += next_random(&state);
    struct object **slot = &ring[i % RING], *o = allocate(sizeof *o);
    if (*slot != NULL && (*slot)->value != (*slot)->copy) fail("an object is damaged");
    release(*slot);
    *o = (struct object){NULL, sum, sum};
    *slot = o;
  }
  w->checksum = sum;
  atomic_fetch_sub(&computing, 1);
  return ring;
}

static int open_file(uintptr_t number, int flags) {
  char path[64];
  snprintf(path, sizeof path, "%s/%zu", directory, (size_t)number);
  int fd = open(path, flags | O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) fail(path);
  return fd;
}

static void write_all(int fd, const char *block, off_t at) {
  if (pwrite(fd, block, BLOCK, at) != BLOCK) fail("pwrite");
}

static void *call_fsync(void *number) {
  static const char block[BLOCK];
  int fd = open_file((uintptr_t)number, 0);
  for (; !atomic_load(&over); atomic_fetch_add(&calls, 1)) {
    write_all(fd, block, 0);
    if (fsync(fd) != 0) fail("fsync");
  }
  close(fd);
  return NULL;
}

/* Where the file system knows no O_DIRECT the page cache is emptied instead. */
static void *call_read(void *number) {
  static _Alignas(4096) const char block[BLOCK];
  int fd = open_file((uintptr_t)number, 0);
  for (int i = 0; i < BLOCKS; i++) write_all(fd, block, (off_t)i * BLOCK);
  if (fsync(fd) != 0) fail("fsync");
  bool direct = fcntl(fd, F_SETFL, O_DIRECT) == 0;
  void *into = NULL;
  if (posix_memalign(&into, 4096, BLOCK) != 0) fail("posix_memalign");
  for (unsigned i = 0; !atomic_load(&over); i++, atomic_fetch_add(&calls, 1)) {
    if (!direct && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("posix_fadvise");
    if (pread(fd, into, BLOCK, (off_t)(i % BLOCKS) * BLOCK) != BLOCK) fail("pread");
  }
  free(into);
  close(fd);
  return NULL;
}

static void *call_spawn(void *number) {
  (void)number;
  char *arguments[] = {(char[]){"true"}, NULL};
  for (; !atomic_load(&over); atomic_fetch_add(&calls, 1)) {
    pid_t child;
    int status, error = posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ);
    if (error != 0 || waitpid(child, &status, 0) != child || status != 0) fail("/bin/true");
    nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
  }
  return NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void *call_sleep(void *number) {
  (void)number;
  pthread_mutex_lock(&mutex);
  for (; !atomic_load(&over); atomic_fetch_add(&calls, 1)) pthread_cond_wait(&condition, &mutex);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void *(*const calls_of[MODES])(void *) = {NULL, call_fsync, call_read, call_spawn, call_sleep};

/* Until all who compute are done. One reading for each collection, so that each has its own figure. */
static void *collect_all_the_time(void *arg) {
  (void)arg;
  stops_begin();
  for (uint64_t i = 1; atomic_load(&computing) > 0; i++) {
#if !ALLOCATOR_FREES
    collect();
#endif
    stops_read();
    if (i % 20 == 0) pthread_cond_broadcast(&condition);
    nanosleep(&(struct timespec){.tv_nsec = INTERVAL_NS}, NULL);
  }
  atomic_store(&over, true);
  pthread_mutex_lock(&mutex);
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument) {
  errno = pthread_create(thread, NULL, body, argument);
  if (errno != 0) fail("pthread_create");
}

int main(int argc, char **argv) {
  enum mode mode = (enum mode)argument(argc, argv, 1, "mode", RUN, RUN, MODES - 1);
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", MOST_THREADS, 1, MOST_THREADS);
  unsigned others = (unsigned)argument(argc, argv, 3, "others", 0, 0, MOST_THREADS);
  uint64_t steps = argument(argc, argv, 4, "million steps", 4000, 1, 1000000) * 1000000;
  allocator_start();
#if defined(BENCH_GCRT)
  gc_set_percent(-1); /* each reading is to find one collection, that of collect_all_the_time */
#endif
  /* Beside the program: /tmp may be in memory, and needs no disk then. */
  char *slash = strrchr(argv[0], '/');
  if (slash != NULL) *slash = '\0';
  if ((slash != NULL && chdir(argv[0]) != 0) || mkdtemp(directory) == NULL) fail(argv[0]);
  static pthread_t collecting, other[MOST_THREADS];
  atomic_store(&computing, threads);
  uint64_t began = now_ns();
  for (uintptr_t i = 0; mode != RUN && i < others; i++) start(&other[i], calls_of[mode], (void *)i);
  start(&collecting, collect_all_the_time, NULL);
  uint64_t checksum = run_threads(threads, 0, steps, compute);
  pthread_join(collecting, NULL);
  uint64_t wall = now_ns() - began;
  for (uintptr_t i = 0; mode != RUN && i < others; i++) {
    char path[64];
    pthread_join(other[i], NULL);
    snprintf(path, sizeof path, "%s/%zu", directory, (size_t)i);
    unlink(path);
  }
  rmdir(directory);
  report_histogram("stop", stops_found);
  report_histogram("reach", stops_reached);
  report_number("calls", atomic_load(&calls));
  report_run(wall, checksum);
  return 0;
}
