/* The processor time that a control group allows, and how many processors are counted on. */
#include "sys/cgroup.h"
#include "sys/proc.h"

#include "cgroup_fixture.h"

static void processors_are(uint64_t expected) {
  const char *reason = NULL;
  uint64_t found = gcrt_cgroup_processors(root, &reason);
  check(found, reason, expected, "");
}

static void no_quota(const char *why) {
  const char *reason = NULL;
  uint64_t found = gcrt_cgroup_processors(root, &reason);
  check(found, reason, NONE, why);
}

START_TEST(processors_of_version_2) {
  static const struct {
    const char *text;
    uint64_t processors;
  } cases[] = {{"100000 100000\n", 1}, {"100001 100000\n", 2},   {"50000 100000\n", 1},
               {"1000 1000000\n", 1},  {"250000 100000\n", 3},   {"800000 50000\n", 16},
               {"1 1000000\n", 1},     {"6400000 100000\n", 64}, {"0 100000\n", 1}};
  put_v2();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    put(V2_GROUP "cpu.max", cases[i].text);
    processors_are(cases[i].processors);
  }
  put(V2_SLICE "cpu.max", "200000 100000\n");
  put(V2_GROUP "cpu.max", "max 100000\n");
  processors_are(2);
  put(V2_GROUP "cpu.max", "300000 100000\n");
  processors_are(2);
  drop(V2_SLICE "cpu.max");
  processors_are(3);
  put(V2_GROUP "cpu.max", "max 100000\n");
  no_quota(NOT_LIMITED);
  static const char *const bad[] = {"",       "\n",          "100000\n",     "100000 \n", "x 100000\n",   "100000 0\n",
                                    "100000", "100000 1x\n", "100000 max\n", "1 2 3\n",   "100000 100000"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    put(V2_GROUP "cpu.max", bad[i]);
    no_quota(NOT_A_NUMBER);
  }
}
END_TEST

START_TEST(processors_of_version_1) {
  put_hybrid();
  put(V1_CPU "cpu.cfs_quota_us", "-1\n");
  put(V1_CPU "cpu.cfs_period_us", "100000\n");
  no_quota(NOT_LIMITED);
  put(V1_CPU "cpu.cfs_quota_us", "150000\n");
  processors_are(2);
  put("sys/fs/cgroup/cpu,cpuacct/system.slice/cpu.cfs_quota_us", "100000\n");
  put("sys/fs/cgroup/cpu,cpuacct/system.slice/cpu.cfs_period_us", "100000\n");
  processors_are(1);
  drop("sys/fs/cgroup/cpu,cpuacct/system.slice/cpu.cfs_period_us");
  processors_are(2);
  put(V1_CPU "cpu.cfs_quota_us", "-2\n");
  no_quota(NOT_A_NUMBER);
  put(V1_CPU "cpu.cfs_quota_us", "100000\n");
  put(V1_CPU "cpu.cfs_period_us", "0\n");
  no_quota(NOT_A_NUMBER);
}
END_TEST

START_TEST(no_descriptor_stays_open) {
  put_hybrid();
  int before = lowest_free_descriptor();
  put(V1_CPU "cpu.cfs_quota_us", "1000\n");
  no_quota(NOT_READABLE);
  put("sys/fs/cgroup/unified/system.slice/app/cpu.max", "100 x\n");
  no_quota(NOT_A_NUMBER);
  ck_assert_int_eq(lowest_free_descriptor(), before);
}
END_TEST

START_TEST(processors_that_are_counted_on) {
  const char *reason;
  unsigned before = gcrt_cpu_count();
  ck_assert_uint_le(before, gcrt_cgroup_processors("", &reason));
  put_v2();
  put(V2_GROUP "cpu.max", "50000 100000\n");
  gcrt_cpu_count_refresh(root);
  ck_assert_uint_eq(gcrt_cpu_count(), 1);
  put(V2_GROUP "cpu.max", "max 100000\n");
  ck_assert_uint_eq(gcrt_cpu_count(), 1); /* until it is asked again */
  gcrt_cpu_count_refresh(root);
  unsigned all = gcrt_cpu_count();
  ck_assert_uint_ge(all, before);
  put(V2_GROUP "cpu.max", "819200000 100000\n");
  errno = ERANGE;
  gcrt_cpu_count_refresh(root);
  ck_assert_uint_eq(gcrt_cpu_count(), all);
  ck_assert_int_eq(errno, ERANGE);
}
END_TEST

/* The machine's own: whatever it is, the answer has a form. */
START_TEST(this_machine_has_an_answer) {
  const char *reason = NULL;
  uint64_t processors = gcrt_cgroup_processors("", &reason);
  ck_assert_int_eq(processors == NONE, *reason != '\0');
  ck_assert_uint_ge(processors, 1);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/cgroup processors");
  TCase *tc = test_case(suite, "processors", 20);
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, processors_of_version_2);
  tcase_add_test(tc, processors_of_version_1);
  tcase_add_test(tc, no_descriptor_stays_open);
  tcase_add_test(tc, processors_that_are_counted_on);
  tcase_add_test(tc, this_machine_has_an_answer);
  return suite;
}

TEST_MAIN(make_suite)
