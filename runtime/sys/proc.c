/* The process and its threads.
 *
 * System calls go through syscall(): the C library's wrappers of open, read and the like are cancellation points and
 * interposed by this very library. No lock. gcrt_thread_start hands its record over on the starter's stack and waits
 * until the new thread has read it, as the heap may not be allocated from where threads are started. */
#include "sys/proc.h"
#include "base/bits.h"
#include "base/report.h"
#include "sys/cgroup.h"
#include "sys/lock.h"
#include "sys/memory.h"
#include "sys/real.h"
#include "sys/signal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  /* The C library's signal for setuid and its kin, which waits until every thread has answered. */
  SIGNAL_SETXID = 33,
  THREAD_STACK = 256 * 1024,
  CPU_SET_WORDS = 128, /* 8192 processors, the most Linux can be built for */
};

int gcrt_process_id(void) { return (int)syscall(SYS_getpid); }
int gcrt_thread_id(void) { return (int)syscall(SYS_gettid); }

bool gcrt_thread_signal(int tid, int signal) {
  int saved = errno;
  bool sent = syscall(SYS_tgkill, gcrt_process_id(), tid, signal) == 0;
  errno = saved;
  return sent;
}

bool gcrt_thread_exists(int tid) { return gcrt_thread_signal(tid, 0); }

/* Reads at most size bytes of the file; -1 on failure. errno is kept. */
static long read_file(const char *path, char *buffer, size_t size) {
  int saved = errno;
  long length = -1, fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    length = syscall(SYS_read, fd, buffer, size);
    (void)syscall(SYS_close, fd);
  }
  errno = saved;
  return length;
}

void gcrt_thread_describe(int tid, char *buffer, size_t size) {
  char path[48], text[128];
  gcrt_format(path, sizeof path, "/proc/self/task/%d/stat", tid);
  long length = read_file(path, text, sizeof text - 1);
  gcrt_format(buffer, size, "unknown");
  if (length <= 0) return;
  text[length] = '\0';
  /* "TID (NAME) STATE ...", where NAME may hold parentheses. */
  char *name = strchr(text, '('), *end = strrchr(text, ')');
  if (!name || !end || end <= name || end[1] != ' ') return;
  *end = '\0';
  gcrt_format(buffer, size, "%s, state %c", name + 1, end[2]);
}

/* Processors whose time the control group allows; 0: it has not been asked yet. */
static gcrt_word allowed;

void gcrt_cpu_count_refresh(const char *root) {
  int saved = errno;
  const char *reason;
  gcrt_store(&allowed, gcrt_cgroup_processors(root, &reason));
  errno = saved;
}

unsigned gcrt_cpu_count(void) {
  if (gcrt_load(&allowed) == 0) gcrt_cpu_count_refresh("");
  int saved = errno;
  uint64_t set[CPU_SET_WORDS];
  long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, set);
  errno = saved;
  unsigned count = 0;
  for (long i = 0; i < bytes / (long)sizeof set[0]; i++) count += gcrt_popcount(set[i]);
  return (unsigned)gcrt_min(count ? count : 1, gcrt_load(&allowed));
}

long gcrt_thread_preemptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

/* The second of the numbers that the file begins with; 0 if it cannot be read. */
static uint64_t second_number(const char *path) {
  char text[64];
  long length = read_file(path, text, sizeof text - 1);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char *at = strchr(text, ' ');
  uint64_t number = 0;
  for (at = at ? at + 1 : text + length; *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
  return number;
}

/* "RAN WAITED SLICES" */
uint64_t gcrt_thread_waited(void) { return second_number("/proc/thread-self/schedstat"); }

/* "TOTAL RESIDENT SHARED", in pages */
uint64_t gcrt_process_resident(void) { return second_number("/proc/self/statm") * gcrt_page_size(); }

void gcrt_thread_yield(void) { (void)syscall(SYS_sched_yield); }

void gcrt_write_error(const char *text, size_t length) {
  int saved = errno;
  while (length) {
    long written = syscall(SYS_write, STDERR_FILENO, text, length);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    text += written;
    length -= (size_t)written;
  }
  errno = saved;
}

struct start {
  void (*body)(void *);
  void *argument;
  char name[16];
  gcrt_word read; /* set once the new thread needs the record no more */
};

/* AddressSanitizer does not know threads that are made past its interposer. The C library may give them the stack of
 * one that it did know, and that a fork has ended: what it had poisoned there is still poisoned. */
#if GCRT_ASAN_BUILD
enum { STACK_IN_USE = 512 * 1024 };
void __asan_unpoison_memory_region(const volatile void *start, size_t size);
GCRT_READS_FOREIGN_MEMORY static void take_stack(void) {
  char *here = __builtin_frame_address(0);
  __asan_unpoison_memory_region(here - STACK_IN_USE, STACK_IN_USE);
}
#else
static void take_stack(void) {}
#endif

GCRT_READS_FOREIGN_MEMORY static void *run(void *record) {
  take_stack();
  struct start *start = record;
  void (*body)(void *) = start->body;
  void *argument = start->argument;
  (void)prctl(PR_SET_NAME, start->name);
  /* The starter may free its frame, and with it the word, as soon as it sees the 1; a wake of an address that is no
   * futex any more does nothing. */
  gcrt_store_release(&start->read, 1);
  gcrt_futex_wake(&start->read, 1);
  gcrt_signal_unblock(SIGNAL_SETXID);
  body(argument);
  return NULL;
}

static bool create(struct start *start, size_t stack_size) {
  pthread_t thread;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  bool created = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                 (stack_size == 0 || pthread_attr_setstacksize(&attributes, stack_size) == 0) &&
                 gcrt_real(pthread_create)(&thread, &attributes, run, start) == 0;
  (void)pthread_attr_destroy(&attributes);
  return created;
}

static bool start_thread(void (*body)(void *), void *argument, const char *name, bool small) {
  struct start start = {.body = body, .argument = argument};
  gcrt_format(start.name, sizeof start.name, "%s", name);
  sigset_t old;
  /* A thread inherits the mask of the one that creates it: no signal of the program's can land in it. */
  gcrt_signal_block_all(&old);
  /* Static thread-local variables live on the stack: a program with many needs the default size. */
  bool sanitized = GCRT_TSAN_BUILD || GCRT_ASAN_BUILD;
  bool created = (small && !sanitized && create(&start, THREAD_STACK)) || create(&start, 0);
  /* With signals still blocked: a handler that leaves by siglongjmp would take the record away. */
  while (created && !gcrt_load_acquire(&start.read)) gcrt_futex_wait(&start.read, 0, -1);
  gcrt_signal_restore(&old);
  return created;
}

bool gcrt_thread_start(void (*body)(void *), void *argument, const char *name) {
  return start_thread(body, argument, name, true);
}

bool gcrt_thread_start_for_program(void (*body)(void *), void *argument, const char *name) {
  return start_thread(body, argument, name, false);
}
