/* Memory from the operating system: reserve, commit, release.
 *
 * The heap's reservation is PROT_NONE and not accounted; committing a part is mprotect, which, unlike a new mapping
 * over the old one, leaves what is committed already alone and is refused cleanly when a limit on data (RLIMIT_DATA,
 * cgroup or overcommit rules) is reached. No lock: the kernel's is enough. */
#include "sys/memory.h"
#include "base/atomics.h"
#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* Where reservations go: far from the addresses where the kernel, the program and the sanitizers put things, and with
 * high bits that small integers, text and IEEE numbers do not have. ThreadSanitizer keeps shadow memory for certain
 * addresses only, which the kernel's own choice is within. */
#if defined(__x86_64__)
#define HINT_LOW UINT64_C(0x640000000000)
#elif defined(__aarch64__)
#define HINT_LOW UINT64_C(0x740000000000)
#endif
#define HINT_SPREAD UINT64_C(0x080000000000)
enum { HINT_ATTEMPTS = GCRT_TSAN_BUILD ? 0 : 4 };

size_t gcrt_page_size(void) {
  static gcrt_word size;
  size_t known = gcrt_load(&size);
  if (GCRT_UNLIKELY(known == 0)) {
    known = (size_t)sysconf(_SC_PAGESIZE);
    gcrt_store(&size, known);
  }
  return known;
}

static uint64_t random_word(void) {
  uint64_t word = 0;
  /* Early in boot, or on a kernel without the call: the address of a local is randomised as well. */
  if (syscall(SYS_getrandom, &word, sizeof word, 1 /* GRND_NONBLOCK */) != (long)sizeof word)
    word = (uintptr_t)&word * UINT64_C(0x9e3779b97f4a7c15) >> 8;
  return word;
}

/* Shows the range under its name in /proc/self/maps; kernels without the feature refuse, which is no harm. */
static void name_range(void *start, size_t size, const char *name) {
  int saved = errno;
  (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)(uintptr_t)start, size, (unsigned long)(uintptr_t)name);
  errno = saved;
}

static void *map(void *hint, size_t size, int protection) {
  void *start = mmap(hint, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return start == MAP_FAILED ? NULL : start;
}

static bool is_aligned(const void *p, size_t alignment) { return ((uintptr_t)p & (alignment - 1)) == 0; }

static void *reserve_at_random(size_t size, size_t alignment) {
  for (int i = 0; i < HINT_ATTEMPTS; i++) {
    uintptr_t hint = gcrt_align_up(HINT_LOW + random_word() % HINT_SPREAD, alignment);
    void *start = map((void *)hint, size, PROT_NONE);
    if (!start) return NULL;
    if ((uintptr_t)start == hint) return start;
    gcrt_memory_unmap(start, size);
  }
  return NULL;
}

/* Wherever the kernel wants, cut to the alignment. */
static void *reserve_anywhere(size_t size, size_t alignment) {
  if (size > SIZE_MAX - alignment) return NULL;
  char *start = map(NULL, size + alignment, PROT_NONE);
  if (!start) return NULL;
  char *aligned = (char *)gcrt_align_up((uintptr_t)start, alignment);
  size_t before = (size_t)(aligned - start), after = alignment - before;
  if (before) gcrt_memory_unmap(start, before);
  if (after) gcrt_memory_unmap(aligned + size, after);
  return aligned;
}

void *gcrt_memory_reserve(size_t size, size_t alignment) {
  alignment = gcrt_max(alignment, gcrt_page_size());
  void *start = reserve_at_random(size, alignment);
  if (!start) start = map(NULL, size, PROT_NONE);
  if (start && !is_aligned(start, alignment)) {
    gcrt_memory_unmap(start, size);
    start = reserve_anywhere(size, alignment);
  }
  if (start) name_range(start, size, "gcrt heap");
  return start;
}

bool gcrt_memory_commit(void *start, size_t size) { return mprotect(start, size, PROT_READ | PROT_WRITE) == 0; }

void gcrt_memory_uncommit(void *start, size_t size) { (void)mprotect(start, size, PROT_NONE); }

bool gcrt_memory_try_release(void *start, size_t size, bool locked) {
  if (madvise(start, size, MADV_DONTNEED) == 0) return true;
  /* Refused for memory that mlockall holds: newer kernels have a call of its own for it. */
  return locked && madvise(start, size, MADV_DONTNEED_LOCKED) == 0;
}

void gcrt_memory_release(void *start, size_t size) {
  if (!gcrt_memory_try_release(start, size, true)) memset(start, 0, size);
}

bool gcrt_memory_release_lazily(void *start, size_t size) { return madvise(start, size, MADV_FREE) == 0; }

static void *map_tables(size_t size, int protection) {
  void *start = map(NULL, size, protection);
  if (start) name_range(start, size, "gcrt tables");
  return start;
}

void *gcrt_memory_reserve_tables(size_t size) { return map_tables(size, PROT_NONE); }
void *gcrt_memory_map(size_t size) { return map_tables(size, PROT_READ | PROT_WRITE); }

void gcrt_memory_unmap(void *start, size_t size) { (void)munmap(start, size); }

void gcrt_memory_huge(void *start, size_t size, bool wanted) {
  (void)madvise(start, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Bytes of address space in use; SIZE_MAX if the kernel does not tell. */
static size_t address_space_used(void) {
  char text[128];
  long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SIZE_MAX;
  long length = syscall(SYS_read, fd, text, sizeof text);
  (void)syscall(SYS_close, fd);
  size_t pages = 0;
  long i = 0;
  for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) pages = pages * 10 + (size_t)(text[i] - '0');
  return i > 0 ? pages * gcrt_page_size() : SIZE_MAX;
}

size_t gcrt_memory_address_space_left(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  size_t used = address_space_used();
  /* Without /proc the limit itself is the best that is known; the reservation is tried and made smaller. */
  if (used == SIZE_MAX) return limit.rlim_cur;
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}
