/* The memory limit of a control group, found in trees of files as systems and containers show them. */
#include "sys/cgroup.h"
#include "sys/memory.h"

#include "cgroup_fixture.h"

#include <sys/resource.h>

static void limit_is(uint64_t expected) {
  const char *reason = NULL;
  uint64_t found = gcrt_cgroup_memory_limit(root, &reason);
  check(found, reason, expected, "");
}

static void no_limit(const char *why) {
  const char *reason = NULL;
  uint64_t found = gcrt_cgroup_memory_limit(root, &reason);
  check(found, reason, NONE, why);
}

START_TEST(version_2) {
  put_v2();
  put(V2_GROUP "memory.max", "536870912\n");
  limit_is(512 * MIB);
  put(V2_GROUP "memory.max", "max\n");
  no_limit(NOT_LIMITED);
  put(V2_GROUP "memory.max", "0\n");
  limit_is(0);
}
END_TEST

START_TEST(a_limit_may_change) {
  put_v2();
  put(V2_GROUP "memory.max", "max\n");
  no_limit(NOT_LIMITED);
  put(V2_GROUP "memory.max", "1048576\n");
  limit_is(MIB);
  put(V2_GROUP "memory.max", "1099511627776\n");
  limit_is(MIB * MIB);
  drop(V2_GROUP "memory.max");
  no_limit(NOT_READABLE);
}
END_TEST

START_TEST(the_least_of_all_groups_above_counts) {
  put_v2();
  put(V2_GROUP "memory.max", "536870912\n");
  put(V2_SLICE "memory.max", "268435456\n");
  limit_is(256 * MIB);
  put(V2_SLICE "memory.max", "max\n");
  limit_is(512 * MIB);
  put("sys/fs/cgroup/memory.max", "1048576\n");
  limit_is(MIB);
  drop(V2_GROUP "memory.max");
  drop("sys/fs/cgroup/memory.max");
  put(V2_SLICE "memory.max", "2097152\n");
  limit_is(2 * MIB);
  put("sys/fs/memory.max", "1\n"); /* not below the mount */
  limit_is(2 * MIB);
  put(V2_GROUP "deeper/memory.max", "1\n");
  limit_is(2 * MIB);
}
END_TEST

START_TEST(throttling_counts_as_a_limit) {
  put_v2();
  put(V2_GROUP "memory.max", "536870912\n");
  put(V2_GROUP "memory.high", "268435456\n");
  limit_is(256 * MIB);
  put(V2_GROUP "memory.high", "max\n");
  limit_is(512 * MIB);
  put(V2_SLICE "memory.high", "1048576\n");
  limit_is(MIB);
}
END_TEST

START_TEST(version_1) {
  put_hybrid();
  put(V1_GROUP "memory.limit_in_bytes", "536870912\n");
  limit_is(512 * MIB);
  put(V1_SLICE "memory.limit_in_bytes", "268435456\n");
  limit_is(256 * MIB);
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED);
  limit_is(256 * MIB);
  put("sys/fs/cgroup/systemd/elsewhere/memory.limit_in_bytes", "1\n");
  put("sys/fs/cgroup/unified/system.slice/app/memory.limit_in_bytes", "1\n");
  put(V1_GROUP "memory.max", "1\n");
  limit_is(256 * MIB);
}
END_TEST

START_TEST(version_1_without_a_limit_shows_a_huge_number) {
  static const char *const numbers[] = {V1_UNLIMITED,
                                        "9223372036854710272\n",
                                        "9223372036854775807\n",
                                        "18446744073709551615\n",
                                        "99999999999999999999999\n",
                                        "4611686018427387904\n"};
  put_hybrid();
  put(V1_GROUP "memory.limit_in_bytes", numbers[_i]);
  no_limit(NOT_LIMITED);
}
END_TEST

START_TEST(version_1_sums_up_what_cannot_be_seen) {
  put_hybrid();
  put(V1_GROUP "memory.limit_in_bytes", V1_UNLIMITED);
  put(V1_GROUP "memory.stat", "cache 9494528\nrss 7815168\nhierarchical_memory_limit 134217728\n"
                              "hierarchical_memsw_limit 1048576\ntotal_cache 1\n");
  limit_is(128 * MIB);
  put(V1_SLICE "memory.limit_in_bytes", "1048576\n"); /* as in a hierarchy where groups do not limit those below */
  limit_is(128 * MIB);
  put(V1_GROUP "memory.stat", "hierarchical_memory_limit " V1_UNLIMITED);
  no_limit(NOT_LIMITED);
  /* Not there, or not in its form: the limits are looked at one by one. */
  static const char *const other[] = {"",
                                      "hierarchical_memory_limit\n",
                                      "hierarchical_memory_limit",
                                      "hierarchical_memory_limit \n",
                                      "hierarchical_memory_limit 12x\n",
                                      "hierarchical_memory_limit 12",
                                      "hierarchical_memory_limits 12\n",
                                      "a hierarchical_memory_limit 12\n",
                                      "hierarchical_memsw_limit 12\ntotal_cache 1\n"};
  for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
    put(V1_GROUP "memory.stat", other[i]);
    limit_is(MIB);
  }
}
END_TEST

START_TEST(a_long_file_is_read_to_its_end) {
  put_hybrid();
  static char text[40000];
  size_t length = 0;
  while (length < 35000)
    length +=
        (size_t)snprintf(text + length, sizeof text - length, "a_field_with_a_long_name_%zu %zu\n", length, length);
  snprintf(text + length, sizeof text - length, "hierarchical_memory_limit 1048576\n");
  put(V1_GROUP "memory.stat", text);
  limit_is(MIB);
}
END_TEST

START_TEST(both_versions_may_limit) {
  put_hybrid();
  put(V1_GROUP "memory.limit_in_bytes", "536870912\n");
  put("sys/fs/cgroup/unified/system.slice/app/memory.max", "268435456\n");
  limit_is(256 * MIB);
  put(V1_GROUP "memory.limit_in_bytes", "1048576\n");
  limit_is(MIB);
  drop(V1_GROUP "memory.limit_in_bytes");
  limit_is(256 * MIB);
}
END_TEST

/* What is mounted is not the hierarchy's root: a container without a namespace for groups. */
START_TEST(a_container_sees_its_own_group_alone) {
  put_groups("4:memory:/docker/0123abcd\n0::/docker/0123abcd/init\n");
  put_mounts("700 699 0:31 /docker/0123abcd /sys/fs/cgroup/memory ro - cgroup memory rw,memory\n"
             "701 699 0:32 /docker/0123abcd /sys/fs/cgroup/unified ro - cgroup2 cgroup rw\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  limit_is(512 * MIB);
  put("sys/fs/cgroup/unified/memory.max", "268435456\n");
  put("sys/fs/cgroup/unified/init/memory.max", "max\n");
  limit_is(256 * MIB);
  put("sys/fs/cgroup/unified/init/memory.max", "1048576\n");
  limit_is(MIB);
}
END_TEST

/* The name of the mounted group, that of the process's, and the folder below the mount point that is the latter. */
static const struct {
  const char *above, *group, *folder;
} names[] = {
    {"/", "/", ""},
    {"/", "/a", "a/"},
    {"/", "/a/b c:d", "a/b c:d/"},
    {"/a", "/a", ""},
    {"/a", "/a/b/c", "b/c/"},
    {"/a", "/ab", NULL},
    {"/a/b", "/a", NULL},
    {"/a", "/", NULL},
    /* Outside of the namespace's root. */
    {"/", "/..", NULL},
    {"/", "/../a", NULL},
    {"/..", "/..", ""},
    {"/..", "/../a", "a/"},
    {"/..", "/../../a", NULL},
    {"/../a", "/../a/b", "b/"},
    {"/../a", "/../ab", NULL},
    {"/../a", "/a", NULL},
    {"/a", "/../a", NULL},
    /* Above it: the way down has no names, but the mounted group limits, too. */
    {"/..", "/", ""},
    {"/../..", "/a", ""},
    {"/../..", "/../a", ""},
    {"/../../x", "/../a", NULL},
    /* Names that begin with two dots are names. */
    {"/", "/..a", "..a/"},
    {"/..a", "/..a/...", ".../"},
    {"/", "/...", ".../"},
    /* Removed: what limited it still does. */
    {"/", "/a/gone (deleted)", "a/"},
};

START_TEST(groups_are_named_from_the_mounted_one) {
  char text[256];
  snprintf(text, sizeof text, "3:cpu:/\n0::%s\n", names[_i].group);
  put_groups(text);
  snprintf(text, sizeof text, "40 30 0:30 %s /cg rw - cgroup2 none rw\n", names[_i].above);
  put_mounts(text);
  put("cg/other", "");
  if (!names[_i].folder) {
    put("cg/memory.max", "1048576\n");
    put("cg/a/memory.max", "1048576\n");
    put("memory.max", "1048576\n");
    no_limit(NOT_MOUNTED);
    return;
  }
  snprintf(text, sizeof text, "cg/%smemory.max", names[_i].folder);
  put(text, "1048576\n");
  limit_is(MIB);
}
END_TEST

START_TEST(names_in_mountinfo_are_escaped) {
  put_groups("0::/a b\\c\t/d\n");
  put_mounts("40 30 0:30 /a\\040b\\134c\\011 /mnt/the\\040groups\\043 rw - cgroup2 none\\040 rw\n");
  put("mnt/the groups#/d/memory.max", "1048576\n");
  limit_is(MIB);
  put_mounts("40 30 0:30 /a\\04 /mnt/x rw - cgroup2 none rw\n");
  no_limit(NOT_MOUNTED);
  put_mounts("40 30 0:30 /a\\");
  no_limit(NOT_MOUNTED);
}
END_TEST

START_TEST(any_of_several_mounts_may_show_the_limit) {
  put_groups("0::/a/b\n");
  put_mounts("1 0 0:1 / / rw - ext4 /dev/vda rw\n"
             "2 1 0:2 /a/b /first rw - cgroup2 none rw\n"
             "3 1 0:3 /x /second rw - cgroup2 none rw\n"
             "4 1 0:4 / /third rw,relatime shared:1 master:2 propagate_from:3 unbindable - cgroup2 none rw\n"
             "5 1 0:5 / /fourth rw - cgroup none rw,memory,cgroup2\n"
             "6 1 0:6 / /fifth rw - tmpfs cgroup2 rw\n");
  put("first/memory.max", "536870912\n");
  put("second/memory.max", "1\n");
  put("second/a/b/memory.max", "1\n");
  put("third/memory.max", "max\n");
  put("third/a/memory.max", "268435456\n");
  put("third/a/b/memory.max", "536870912\n");
  put("fourth/memory.max", "1\n");
  put("fifth/memory.max", "1\n");
  limit_is(256 * MIB);
  drop("first/memory.max");
  limit_is(256 * MIB);
}
END_TEST

START_TEST(a_hierarchy_may_be_mounted_at_the_root) {
  put_groups("0::/a\n");
  put_mounts("1 0 0:1 / / rw - cgroup2 none rw\n");
  put("a/memory.max", "1048576\n");
  limit_is(MIB);
  put("memory.max", "4096\n");
  limit_is(4096);
}
END_TEST

START_TEST(other_controllers_are_not_meant) {
  put_groups("3:cpu,memory_x:/a\n2:name=memory:/a\n1:xmemory:/a\n4:mem:/a\n");
  put_mounts("1 0 0:1 / /cg rw - cgroup none rw,memory\n");
  put("cg/a/memory.limit_in_bytes", "1\n");
  no_limit("the process is in no group that could limit it");
  put_groups("3:cpu,memory,pids:/a\n");
  limit_is(1);
  put_mounts("1 0 0:1 / /cg rw - cgroup none rw,memory_x,name=memory,mem,xmemory\n");
  no_limit(NOT_MOUNTED);
  put_mounts("1 0 0:1 / /cg rw - cgroup none memory\n");
  limit_is(1);
}
END_TEST

START_TEST(a_zero_byte_ends_no_name) {
  static const char groups[] = "3:memory\0:/a\n4:memory\0,cpu:/a\n5:\0:/a\n";
  put_bytes("proc/thread-self/cgroup", groups, sizeof groups - 1);
  put_mounts("1 0 0:1 / /cg rw - cgroup none rw,memory\n2 0 0:2 / /cg rw - cgroup2 none rw\n");
  put("cg/a/memory.limit_in_bytes", "1\n");
  put("cg/a/memory.max", "1\n");
  no_limit("the process is in no group that could limit it");
  static const char mounts[] =
      "1 0 0:1 / /cg rw - cgroup none rw,memory\0\n2 0 0:2 / /cg rw - cgroup none memory\0,rw\n";
  put_groups("3:memory:/a\n");
  put_bytes("proc/thread-self/mountinfo", mounts, sizeof mounts - 1);
  no_limit(NOT_MOUNTED);
}
END_TEST

START_TEST(malformed_numbers_are_passed_over) {
  static const char *const bad[] = {"",     "\n",    " 1\n", "x\n",    "1x\n", "0x10\n", "1 \n",
                                    "-2\n", "-1x\n", "ma\n", "maxi\n", "+1\n", "1.5\n",  "1"};
  put_v2();
  put(V2_GROUP "memory.max", bad[_i]);
  no_limit(NOT_A_NUMBER);
  put(V2_SLICE "memory.max", "1048576\n");
  limit_is(MIB);
}
END_TEST

START_TEST(bytes_that_are_no_text_are_passed_over) {
  put_v2();
  char noise[5000];
  struct test_random random = test_random_stream((uint64_t)_i);
  for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)test_random_next(&random);
  put_bytes(V2_GROUP "memory.max", noise, sizeof noise);
  no_limit(NOT_A_NUMBER);
  put_bytes("proc/thread-self/mountinfo", noise, sizeof noise);
  no_limit(NOT_MOUNTED);
  put_bytes("proc/thread-self/cgroup", noise, sizeof noise);
  const char *reason = "";
  ck_assert_uint_eq(gcrt_cgroup_memory_limit(root, &reason), NONE);
  ck_assert_str_ne(reason, "");
}
END_TEST

START_TEST(what_is_missing_is_told) {
  no_limit("/proc/thread-self/cgroup cannot be read");
  put_groups("");
  no_limit("the process is in no group that could limit it");
  put_groups("1:name=systemd:/\n");
  no_limit("the process is in no group that could limit it");
  put_groups("0::/a\n");
  no_limit("/proc/thread-self/mountinfo cannot be read");
  put_mounts("");
  no_limit(NOT_MOUNTED);
  put_mounts("1 0 0:1 / /cg\n1 0\n\n1 0 0:1 / /cg rw - cgroup2\n2 0 0:1 / /cg rw - cgroup2 none");
  no_limit(NOT_MOUNTED);
  put_mounts("1 0 0:1 / /cg rw - cgroup2 none rw\n");
  no_limit(NOT_READABLE);
  put("cg/a/memory.max/is a folder", "");
  no_limit(NOT_A_NUMBER);
  put("cg/a/memory.high", "4096\n");
  limit_is(4096);
}
END_TEST

/* A line of mountinfo of any length is no matter, a path that the kernel would not take is. */
START_TEST(long_paths_are_refused) {
  static char text[40000], name[12000];
  memset(name, 'x', sizeof name - 1);
  put_groups("0::/a\n");
  put("cg/a/memory.max", "1048576\n");
  static const char good[] = "1 0 0:1 / /cg rw - cgroup2 none rw\n";
  snprintf(text, sizeof text, "9 0 0:9 /%s /%s rw,%s - overlay %s rw,lowerdir=%s\n%s", "o", "o", name, name, name,
           good);
  put_mounts(text);
  limit_is(MIB);
  snprintf(text, sizeof text, "1 0 0:1 / /%s rw - cgroup2 none rw\n%s", name, good);
  put_mounts(text);
  limit_is(MIB);
  snprintf(text, sizeof text, "1 0 0:1 / /%s rw - cgroup2 none rw\n", name);
  put_mounts(text);
  no_limit(TOO_LONG);
  snprintf(text, sizeof text, "1 0 0:1 /%s /cg rw - cgroup2 none rw\n", name);
  put_mounts(text);
  no_limit(TOO_LONG);
  snprintf(text, sizeof text, "0::/%s\n", name);
  put_groups(text);
  put_mounts(good);
  no_limit(TOO_LONG);
  snprintf(text, sizeof text, "0::/%.4000s/%.3000s\n", name, name);
  put_groups(text);
  snprintf(text, sizeof text, "1 0 0:1 /%.4000s /cg rw - cgroup2 none rw\n", name);
  put("cg/memory.max", "1\n");
  put_mounts(text);
  no_limit(TOO_LONG);
  /* Each fits, all together do not. */
  name[2500] = '\0';
  snprintf(text, sizeof text, "0::/%s\n", name);
  put_groups(text);
  snprintf(text, sizeof text, "1 0 0:1 / /%s rw - cgroup2 none rw\n", name);
  put_mounts(text);
  no_limit(TOO_LONG);
  const char *reason;
  ck_assert_uint_eq(gcrt_cgroup_memory_limit(text, &reason), NONE);
  memset(text, '/', sizeof text - 1);
  ck_assert_uint_eq(gcrt_cgroup_memory_limit(text, &reason), NONE);
  ck_assert_str_eq(reason, TOO_LONG);
}
END_TEST

START_TEST(no_descriptor_stays_open) {
  put_hybrid();
  put(V1_GROUP "memory.stat", "hierarchical_memory_limit 1x\n");
  put(V1_GROUP "memory.limit_in_bytes", "1048576\n");
  put("sys/fs/cgroup/unified/system.slice/app/memory.max", "x\n");
  int before = lowest_free_descriptor();
  limit_is(MIB);
  ck_assert_int_eq(lowest_free_descriptor(), before);
  /* And without one to spare there is no limit, as without the files. */
  struct rlimit old;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
  struct rlimit limit = {.rlim_cur = (rlim_t)before, .rlim_max = old.rlim_max};
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  no_limit("/proc/thread-self/cgroup cannot be read");
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
}
END_TEST

/* The machine's own: whatever it is, the answer has a form. */
START_TEST(this_machine_has_an_answer) {
  const char *reason = NULL;
  uint64_t bytes = gcrt_cgroup_memory_limit("", &reason);
  ck_assert_int_eq(bytes == NONE, *reason != '\0');
  ck_assert_uint_gt(bytes, gcrt_page_size());
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/cgroup");
  TCase *tc = test_case(suite, "memory", 20);
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, version_2);
  tcase_add_test(tc, a_limit_may_change);
  tcase_add_test(tc, the_least_of_all_groups_above_counts);
  tcase_add_test(tc, throttling_counts_as_a_limit);
  tcase_add_test(tc, version_1);
  tcase_add_loop_test(tc, version_1_without_a_limit_shows_a_huge_number, 0, 6);
  tcase_add_test(tc, version_1_sums_up_what_cannot_be_seen);
  tcase_add_test(tc, a_long_file_is_read_to_its_end);
  tcase_add_test(tc, both_versions_may_limit);
  tcase_add_test(tc, a_container_sees_its_own_group_alone);
  tcase_add_loop_test(tc, groups_are_named_from_the_mounted_one, 0, sizeof names / sizeof *names);
  tcase_add_test(tc, names_in_mountinfo_are_escaped);
  tcase_add_test(tc, any_of_several_mounts_may_show_the_limit);
  tcase_add_test(tc, a_hierarchy_may_be_mounted_at_the_root);
  tcase_add_test(tc, other_controllers_are_not_meant);
  tcase_add_test(tc, a_zero_byte_ends_no_name);
  tcase_add_loop_test(tc, malformed_numbers_are_passed_over, 0, 14);
  tcase_add_loop_test(tc, bytes_that_are_no_text_are_passed_over, 0, 20);
  tcase_add_test(tc, what_is_missing_is_told);
  tcase_add_test(tc, long_paths_are_refused);
  tcase_add_test(tc, no_descriptor_stays_open);
  tcase_add_test(tc, this_machine_has_an_answer);
  return suite;
}

TEST_MAIN(make_suite)
