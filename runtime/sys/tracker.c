/* The write tracker: userfaultfd with asynchronous write protection, read by PAGEMAP_SCAN (Linux 6.7; aarch64 6.10).
 *
 * The first write to an armed page faults, the kernel lifts the protection by itself and lets the writer go on: no
 * thread has to answer, and a system call that writes into an armed page works like any other. PAGEMAP_SCAN reads which
 * pages are not protected and protects them again in one step per page, so no write falls between. mprotect with
 * SIGSEGV fails system calls with EFAULT and needs the program's handler; userfaultfd with a thread that answers costs
 * ten times as much a fault; soft-dirty bits can be cleared for the whole process only, and by any process.
 *
 * Invariants: `uffd` and `pagemap` are -1 or were opened by the process `pid`; `ranges` is sorted, without overlaps,
 * and holds all that was registered. Called by cycle and, for fork, by api. No lock: tracker.h says which calls
 * exclude each other; the counter is atomic. Everything is async-signal-safe but not reentrant.
 *
 * Descriptors. Programs close what they do not know, and open files of their own under the same numbers. Ours are
 * moved up, out of the way of loops over low numbers, and recognised: a userfaultfd has an inode of its own, and the
 * pagemap file, whose inode is the same for everyone who opens it, has a file position that nobody else would set.
 * Three races are left. A thread that closes every descriptor in the microseconds between opening and moving up can
 * have its next file moved or closed by us. Between the check and a call, a descriptor can be closed and its number
 * taken by another file: the request numbers mean nothing to any file but a pagemap or userfaultfd, so a foreign file
 * answers with an error; a pagemap of another process that comes to this very number would be read as ours until
 * gcrt_tracker_intact says so. And a thread that has a table of descriptors of its own (unshare(CLONE_FILES)) may have
 * other files under our numbers than the thread that checked. */
#include "sys/tracker.h"
#include "base/atomics.h"
#include "base/bits.h"
#include "base/report.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The kernel's interface, of which the installed headers may know only a part. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#define FEATURE_WP_ASYNC (UINT64_C(1) << 15)

struct scan_region {
  uint64_t start, end, categories;
};

/* struct pm_scan_arg */
struct scan {
  uint64_t size, flags, start, end;
  uint64_t walk_end; /* out: how far it came */
  uint64_t regions, regions_length, pages_max;
  uint64_t inverted, mask, any_of, reported;
};
_Static_assert(sizeof(struct scan) == 96, "part of the request's number");

#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct scan)

enum { SCAN_ARMS = 1 << 0 };                              /* PM_SCAN_WP_MATCHING */
enum { PAGE_REGISTERED = 1 << 0, PAGE_WRITTEN = 1 << 1 }; /* PAGE_IS_WPALLOWED, PAGE_IS_WRITTEN */

enum {
  REGIONS = 256, /* 6 KiB of stack */
  /* The highest number to move a descriptor to, whatever the limit: the kernel's table of descriptors is as long as the
   * highest number, and fork copies it. */
  DESCRIPTOR_HIGHEST = 8192,
  DESCRIPTORS_BELOW_LIMIT = 8,
  DESCRIPTOR_LOWEST = 3,
};

struct identity {
  uint64_t device, inode, position;
};

struct range {
  uintptr_t start, end;
};

static struct {
  int uffd, pagemap;
  int pid; /* 0: not started */
  struct identity uffd_is, pagemap_is;
  struct range *ranges;
  size_t count, capacity;
} tracker = {.uffd = -1, .pagemap = -1};

static gcrt_word reopened;

/* strerror may load translations, which allocates. */
static const char *error_text(int error) {
  switch (error) {
  case EPERM:
    return "Operation not permitted";
  case EACCES:
    return "Permission denied";
  case ENOENT:
    return "No such file or directory";
  case ENOSYS:
    return "Function not implemented";
  case EINVAL:
    return "Invalid argument";
  case ENOTTY:
    return "Inappropriate ioctl for device";
  case EBUSY:
    return "Device or resource busy";
  case EMFILE:
    return "Too many open files";
  case ENFILE:
    return "Too many open files in system";
  case ENODEV:
    return "No such device";
  case ENOMEM:
    return "Cannot allocate memory";
  case ESRCH:
    return "No such process";
  case EBADF:
    return "Bad file descriptor";
  default:
    return NULL;
  }
}

static bool fail(char *reason, size_t size, const char *what, int error) {
  const char *text = error_text(error);
  if (text) {
    gcrt_format(reason, size, "%s: %s", what, text);
  } else {
    gcrt_format(reason, size, "%s: error %d", what, error);
  }
  return false;
}

static long control(int fd, unsigned long request, void *argument) { return syscall(SYS_ioctl, fd, request, argument); }

static void close_descriptor(long fd) { (void)syscall(SYS_close, fd); }

/* --- descriptors ------------------------------------------------------------------------------------------------- */

static bool identify(int fd, struct identity *identity) {
  struct stat status;
  if (fd < 0 || syscall(SYS_fstat, fd, &status) != 0) return false;
  long position = syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (position < 0) return false;
  *identity = (struct identity){status.st_dev, status.st_ino, (uint64_t)position};
  return true;
}

static bool is_ours(int fd, const struct identity *identity) {
  struct identity now;
  return identify(fd, &now) && now.device == identity->device && now.inode == identity->inode &&
         now.position == identity->position;
}

/* The same file under a high number, or under any that is not for standard streams; -1 and errno if there is none. */
static int move_up(long fd) {
  struct rlimit limit;
  long from = DESCRIPTOR_HIGHEST;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTOR_HIGHEST) from = (long)limit.rlim_cur;
  from -= DESCRIPTORS_BELOW_LIMIT;
  long moved = -1;
  for (; moved < 0 && from > DESCRIPTOR_LOWEST; from /= 2) moved = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
  if (moved < 0) moved = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, DESCRIPTOR_LOWEST);
  int error = errno;
  close_descriptor(fd);
  errno = error;
  return (int)moved;
}

static void close_ours(int *fd, const struct identity *identity) {
  if (is_ours(*fd, identity)) close_descriptor(*fd);
  *fd = -1;
}

static long open_by_device(int flags) {
  long device = syscall(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) return -1;
  long fd = syscall(SYS_ioctl, device, USERFAULTFD_IOC_NEW, flags);
  close_descriptor(device);
  return fd;
}

static bool open_uffd(char *reason, size_t size) {
  int flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
  long fd = syscall(SYS_userfaultfd, flags);
  if (fd < 0) {
    int error = errno;
    fd = open_by_device(flags);
    if (fd < 0) return fail(reason, size, "userfaultfd", error);
  }
  tracker.uffd = move_up(fd);
  if (tracker.uffd < 0) return fail(reason, size, "userfaultfd", errno);
  struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED};
  if (control(tracker.uffd, UFFDIO_API, &api) != 0) {
    int error = errno;
    close_descriptor(tracker.uffd);
    tracker.uffd = -1;
    return fail(reason, size, "userfaultfd without asynchronous write protection", error);
  }
  /* Another thread may be closing every descriptor. */
  if (identify(tracker.uffd, &tracker.uffd_is)) return true;
  int error = errno;
  tracker.uffd = -1;
  return fail(reason, size, "userfaultfd", error);
}

static bool open_pagemap(char *reason, size_t size) {
  static const char path[] = "/proc/thread-self/pagemap";
  long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(reason, size, path, errno);
  tracker.pagemap = move_up(fd);
  if (tracker.pagemap < 0) return fail(reason, size, path, errno);
  uint64_t mark = (gcrt_clock_realtime() ^ (uintptr_t)&fd) * UINT64_C(0x9e3779b97f4a7c15) >> 2;
  if (syscall(SYS_lseek, tracker.pagemap, mark, SEEK_SET) < 0 || !identify(tracker.pagemap, &tracker.pagemap_is)) {
    int error = errno;
    close_descriptor(tracker.pagemap);
    tracker.pagemap = -1;
    return fail(reason, size, path, error);
  }
  return true;
}

static void close_all(void) {
  close_ours(&tracker.uffd, &tracker.uffd_is);
  close_ours(&tracker.pagemap, &tracker.pagemap_is);
}

/* --- registered ranges ------------------------------------------------------------------------------------------- */

/* 0 or an error number. */
static int register_range(uintptr_t start, uintptr_t end) {
  struct uffdio_register request = {.range = {start, end - start}, .mode = UFFDIO_REGISTER_MODE_WP};
  while (control(tracker.uffd, UFFDIO_REGISTER, &request) != 0) {
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
  return 0;
}

static bool grow(void) {
  size_t capacity = gcrt_max(tracker.capacity * 2, gcrt_page_size() / sizeof(struct range));
  struct range *ranges = gcrt_memory_map(capacity * sizeof *ranges), *old = tracker.ranges;
  if (!ranges) return false;
  if (old) memcpy(ranges, old, tracker.count * sizeof *ranges);
  tracker.ranges = ranges;
  if (old) gcrt_memory_unmap(old, tracker.capacity * sizeof *old);
  tracker.capacity = capacity;
  return true;
}

/* Enters a range in its place, as one with those that it overlaps or touches. */
static bool remember(uintptr_t start, uintptr_t end) {
  if (tracker.count == tracker.capacity && !grow()) return false;
  size_t first = 0, above = tracker.count;
  while (first < above) {
    size_t middle = first + (above - first) / 2;
    if (tracker.ranges[middle].end < start) {
      first = middle + 1;
    } else {
      above = middle;
    }
  }
  size_t next = first;
  for (; next < tracker.count && tracker.ranges[next].start <= end; next++) {
    start = gcrt_min(start, tracker.ranges[next].start);
    end = gcrt_max(end, tracker.ranges[next].end);
  }
  memmove(&tracker.ranges[first + 1], &tracker.ranges[next], (tracker.count - next) * sizeof *tracker.ranges);
  tracker.ranges[first] = (struct range){start, end};
  tracker.count = tracker.count - (next - first) + 1;
  return true;
}

bool gcrt_tracker_add(uintptr_t start, uintptr_t end) {
  if (start >= end || register_range(start, end) != 0) return false;
  return remember(start, end);
}

/* With a new userfaultfd: what it had is nobody's now. Ranges that were unmapped since, or are of a kind that cannot be
 * registered, are forgotten. */
static bool register_all(char *reason, size_t size) {
  size_t kept = 0;
  int refused = 0;
  for (size_t i = 0; i < tracker.count; i++) {
    int error = register_range(tracker.ranges[i].start, tracker.ranges[i].end);
    if (error == EINVAL || error == EPERM) continue;
    if (error) refused = error;
    tracker.ranges[kept++] = tracker.ranges[i];
  }
  tracker.count = kept;
  return refused ? fail(reason, size, "userfaultfd, registering again", refused) : true;
}

/* --- scanning ---------------------------------------------------------------------------------------------------- */

/* The number of regions that were filled in, or -1. */
static long scan_step(struct scan *scan) {
  for (;;) {
    long count = control(tracker.pagemap, PAGEMAP_SCAN_REQUEST, scan);
    if (count >= 0 || (errno != EINTR && errno != EAGAIN)) return count;
    /* What was armed before the interruption, and would have been reported, is lost. */
    if (scan->regions && (scan->flags & SCAN_ARMS)) return -1;
  }
}

/* Reports pages whose categories, some of them inverted, are all those of the mask. */
static bool scan_range(struct scan what, uintptr_t end, void (*found)(void *, uintptr_t, uintptr_t), void *argument) {
  struct scan_region regions[REGIONS];
  while (what.start < end) {
    struct scan scan = what;
    scan.size = sizeof scan;
    scan.end = end;
    scan.regions = (uintptr_t)regions;
    scan.regions_length = REGIONS;
    scan.reported = PAGE_WRITTEN;
    long count = scan_step(&scan);
    if (count < 0 || scan.walk_end <= what.start) return false;
    for (long i = 0; i < count; i++) found(argument, regions[i].start, regions[i].end);
    what.start = scan.walk_end;
  }
  return true;
}

bool gcrt_tracker_written(uintptr_t start, uintptr_t end, bool rearm,
                          void (*found)(void *argument, uintptr_t low, uintptr_t high), void *argument) {
  struct scan scan = {.start = start, .mask = PAGE_WRITTEN, .flags = rearm ? SCAN_ARMS : 0};
  if (!scan_range(scan, end, found, argument)) return false;
  if (!rearm) return true;
  /* A scan that arms leaves out mappings that are not registered. Looking for those passes over the others in one
   * step each. */
  scan = (struct scan){.start = start, .mask = PAGE_WRITTEN | PAGE_REGISTERED, .inverted = PAGE_REGISTERED};
  return scan_range(scan, end, found, argument);
}

bool gcrt_tracker_arm(uintptr_t start, uintptr_t end) {
  while (start < end) {
    struct scan scan = {
        .size = sizeof scan, .start = start, .end = end, .mask = PAGE_WRITTEN, .reported = PAGE_WRITTEN};
    scan.flags = SCAN_ARMS;
    if (scan_step(&scan) < 0 || scan.walk_end <= start) return false;
    start = scan.walk_end;
  }
  return true;
}

static bool unprotect(uintptr_t start, uintptr_t end) {
  struct uffdio_writeprotect request = {.range = {start, end - start}};
  while (control(tracker.uffd, UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EINTR && errno != EAGAIN) return false;
  }
  return true;
}

static void unprotect_run(void *argument, uintptr_t low, uintptr_t high) {
  bool *done = argument;
  if (!unprotect(low, high)) *done = false;
}

/* The request stops at the first mapping that is not registered: then each part that is gets one of its own. */
bool gcrt_tracker_disarm(uintptr_t start, uintptr_t end) {
  if (unprotect(start, end)) return true;
  if (errno != ENOENT) return false;
  bool done = true;
  struct scan registered = {.start = start, .mask = PAGE_REGISTERED};
  return scan_range(registered, end, unprotect_run, &done) && done;
}

/* --- starting and checking --------------------------------------------------------------------------------------- */

enum { PROBE_PAGES = 4 };

struct probe {
  uintptr_t base;
  unsigned pages; /* bit set of those found */
};

static void note(void *argument, uintptr_t low, uintptr_t high) {
  struct probe *probe = argument;
  for (; low < high; low += gcrt_page_size()) probe->pages |= 1U << ((low - probe->base) / gcrt_page_size());
}

/* The pages that read as written, and arms them; ~0 if it is refused. */
static unsigned probe_written(uintptr_t base) {
  struct probe probe = {.base = base};
  bool done = gcrt_tracker_written(base, base + PROBE_PAGES * gcrt_page_size(), true, note, &probe);
  return done ? probe.pages : ~0U;
}

/* Tries it on pages of its own: one with memory, one that gets it by a write, one by a system call, one never. A kernel
 * that has the interface may still lack it for its processor, or for its own writes. */
static const char *probe(char *pages) {
  uintptr_t base = (uintptr_t)pages;
  size_t page = gcrt_page_size();
  *(volatile char *)pages = 1;
  int error = register_range(base, base + PROBE_PAGES * page);
  if (error) return "registering";
  if (!gcrt_tracker_arm(base, base + PROBE_PAGES * page)) return "arming by PAGEMAP_SCAN";
  errno = 0;
  if (probe_written(base) != 0) return "pages that were not written";
  ((volatile char *)pages)[page] = 1;
  if (probe_written(base) != 1U << 1) return "a page that was written";
  if (syscall(SYS_uname, (struct utsname *)(pages + 2 * page)) != 0) return "a system call into an armed page";
  *(volatile char *)pages = 2;
  if (probe_written(base) != (1U << 0 | 1U << 2)) return "a page that a system call wrote";
  if (!gcrt_tracker_disarm(base, base + PROBE_PAGES * page)) return "disarming";
  return NULL;
}

static bool probe_all(char *reason, size_t size) {
  char *pages = gcrt_memory_map(PROBE_PAGES * gcrt_page_size());
  if (!pages) return fail(reason, size, "the tracker's probe", ENOMEM);
  const char *failed = probe(pages);
  int error = errno;
  gcrt_memory_unmap(pages, PROBE_PAGES * gcrt_page_size());
  if (!failed) return true;
  if (error) return fail(reason, size, failed, error);
  gcrt_format(reason, size, "write tracking fails its probe: %s", failed);
  return false;
}

bool gcrt_tracker_start(char *reason, size_t size) {
  if (tracker.pid) return gcrt_tracker_check(reason, size);
  if (open_uffd(reason, size) && open_pagemap(reason, size) && probe_all(reason, size)) {
    tracker.pid = gcrt_process_id();
    return true;
  }
  close_all();
  return false;
}

bool gcrt_tracker_intact(void) {
  return tracker.pid == gcrt_process_id() && is_ours(tracker.pagemap, &tracker.pagemap_is) &&
         is_ours(tracker.uffd, &tracker.uffd_is);
}

bool gcrt_tracker_check(char *reason, size_t size) {
  if (!tracker.pid) return fail(reason, size, "the write tracker was not started", EINVAL);
  if (gcrt_tracker_intact()) return true;
  gcrt_add(&reopened, 1);
  if (tracker.pid != gcrt_process_id()) {
    close_all();
    tracker.pid = gcrt_process_id();
  }
  if (!is_ours(tracker.uffd, &tracker.uffd_is)) {
    tracker.uffd = -1;
    if (!open_uffd(reason, size)) return false;
    if (!register_all(reason, size)) {
      /* Half of it would pass for whole at the next check. */
      close_ours(&tracker.uffd, &tracker.uffd_is);
      return false;
    }
  }
  if (is_ours(tracker.pagemap, &tracker.pagemap_is)) return true;
  tracker.pagemap = -1;
  return open_pagemap(reason, size);
}

void gcrt_tracker_after_fork(void) {
  close_all();
  tracker.pid = 0;
  /* Another thread of the parent may have been in the middle of a change: the table is left behind. */
  tracker.ranges = NULL;
  tracker.count = tracker.capacity = 0;
}

void gcrt_tracker_get_stats(struct gcrt_tracker_stats *stats) {
  *stats = (struct gcrt_tracker_stats){
      .kind = tracker.pid ? GCRT_TRACKER_UFFD : GCRT_TRACKER_NONE,
      .reopened = gcrt_load(&reopened),
      .ranges = tracker.count,
  };
}

const struct gcrt_tracker gcrt_uffd_tracker = {
    gcrt_tracker_start, gcrt_tracker_add,     gcrt_tracker_check,  gcrt_tracker_intact,
    gcrt_tracker_arm,   gcrt_tracker_written, gcrt_tracker_disarm, gcrt_tracker_after_fork,
};
