/* A tree of files as systems and containers show their control groups, in a folder that ends with the test. */
#ifndef GCRT_TESTS_CGROUP_FIXTURE_H
#define GCRT_TESTS_CGROUP_FIXTURE_H

#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define NONE UINT64_MAX

static char root[] = "/tmp/gcrt-cgroup-XXXXXX";

static inline int delete_one(const char *path, const struct stat *status, int type, struct FTW *where) {
  (void)status, (void)type, (void)where;
  return remove(path);
}

static inline void setup(void) { ck_assert_ptr_nonnull(mkdtemp(root)); }
static inline void teardown(void) { ck_assert_int_eq(nftw(root, delete_one, 8, FTW_DEPTH | FTW_PHYS), 0); }

static inline void full_path(char *full, size_t size, const char *path) {
  ck_assert_int_lt(snprintf(full, size, "%s/%s", root, path), (int)size);
}

static inline void put_bytes(const char *path, const void *bytes, size_t size) {
  char full[PATH_MAX];
  full_path(full, sizeof full, path);
  for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
    *slash = '\0';
    ck_assert(mkdir(full, 0755) == 0 || errno == EEXIST);
  }
  int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
  close(fd);
}

static inline void put(const char *path, const char *text) { put_bytes(path, text, strlen(text)); }

static inline void drop(const char *path) {
  char full[PATH_MAX];
  full_path(full, sizeof full, path);
  ck_assert_int_eq(unlink(full), 0);
}

static inline void put_groups(const char *text) { put("proc/thread-self/cgroup", text); }
static inline void put_mounts(const char *text) { put("proc/thread-self/mountinfo", text); }

static inline void check(uint64_t found, const char *reason, uint64_t expected, const char *why) {
  ck_assert_msg(found == expected, "%" PRIu64 " (%s)", found, reason);
  ck_assert_str_eq(reason, why);
}

#define NOT_LIMITED "the group has no limit"
#define NOT_MOUNTED "the process's group is not mounted"
#define NOT_READABLE "the group's files cannot be read"
#define NOT_A_NUMBER "the group's limit is not a number"
#define TOO_LONG "a path is too long"

static inline int lowest_free_descriptor(void) {
  int fd = dup(STDERR_FILENO);
  ck_assert_int_ge(fd, 0);
  close(fd);
  return fd;
}

/* As systemd mounts version 2. */
static inline void put_v2(void) {
  put_groups("0::/user.slice/app.service\n");
  put_mounts(
      "22 27 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
      "28 22 0:25 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
      "29 22 0:26 / /sys/fs/pstore rw shared:10 - pstore pstore rw\n");
}
#define V2_SLICE "sys/fs/cgroup/user.slice/"
#define V2_GROUP "sys/fs/cgroup/user.slice/app.service/"

/* As distributions mounted version 1, with a hierarchy of version 2 beside it that has no controllers. */
static inline void put_hybrid(void) {
  put_groups("12:cpuset:/\n11:cpu,cpuacct:/system.slice/app\n10:memory:/system.slice/app\n"
             "1:name=systemd:/elsewhere\n0::/system.slice/app\n");
  put_mounts("31 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
             "32 31 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n"
             "33 31 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
             "34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n"
             "35 31 0:31 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory\n");
}
#define V1_SLICE "sys/fs/cgroup/memory/system.slice/"
#define V1_GROUP "sys/fs/cgroup/memory/system.slice/app/"
#define V1_CPU "sys/fs/cgroup/cpu,cpuacct/system.slice/app/"
#define V1_UNLIMITED "9223372036854771712\n"

#endif
