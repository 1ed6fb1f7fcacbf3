/* No transfer is cut short by a collection: a call that has transferred a part when a handler runs returns with that
 * part, so the thread must not be signalled.
 *
 * A thread transfers more than the kernel takes at once while the first thread collects; what the call returns
 * decides. */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SIZE = 1 << 20, LARGE = 32 << 20 };
static char block[SIZE];
static char *large;
static int pipe_ends[2], pair[2], from, to;
static struct iovec part = {block, SIZE};

static ssize_t do_write(void) { return write(pipe_ends[1], block, SIZE); }
static ssize_t do_writev(void) { return writev(pipe_ends[1], &part, 1); }
static ssize_t do_pwritev2(void) { return pwritev2(pipe_ends[1], &part, 1, -1, 0); }
static ssize_t do_pwritev64v2(void) { return pwritev64v2(pipe_ends[1], &part, 1, -1, 0); }
static ssize_t do_sendfile(void) { return sendfile(pair[1], from, NULL, SIZE); }
static ssize_t do_sendfile64(void) { return sendfile64(pair[1], from, NULL, SIZE); }
static ssize_t do_send(void) { return send(pair[1], block, SIZE, MSG_NOSIGNAL); }
static ssize_t do_recv(void) { return recv(pair[0], block, SIZE, MSG_WAITALL); }
static ssize_t do_getrandom(void) { return getrandom(large, LARGE - 1, 0); }
static ssize_t do_copy_file_range(void) { return copy_file_range(from, NULL, to, NULL, LARGE, 0); }
static ssize_t do_fallocate(void) { return fallocate(to, 0, 0, LARGE) == 0 ? LARGE : -1; }
static ssize_t do_fallocate64(void) { return fallocate64(to, 0, 0, LARGE) == 0 ? LARGE : -1; }
static ssize_t do_posix_fallocate(void) { return (errno = posix_fallocate(to, 0, LARGE)) == 0 ? LARGE : -1; }
static ssize_t do_posix_fallocate64(void) { return (errno = posix_fallocate64(to, 0, LARGE)) == 0 ? LARGE : -1; }

static const struct row {
  const char *name;
  ssize_t (*run)(void);
  ssize_t expected;
  int *other; /* where the other end takes the rest from; NULL: the call needs nobody */
} rows[] = {
    {"write", do_write, SIZE, &pipe_ends[0]},
    {"writev", do_writev, SIZE, &pipe_ends[0]},
    {"pwritev2", do_pwritev2, SIZE, &pipe_ends[0]},
    {"pwritev64v2", do_pwritev64v2, SIZE, &pipe_ends[0]},
    {"sendfile", do_sendfile, SIZE, &pair[0]},
    {"sendfile64", do_sendfile64, SIZE, &pair[0]},
    {"send", do_send, SIZE, &pair[0]},
    {"recv with MSG_WAITALL", do_recv, SIZE, &pair[1]},
    {"getrandom", do_getrandom, LARGE - 1, NULL},
    {"copy_file_range", do_copy_file_range, LARGE, NULL},
    {"fallocate", do_fallocate, LARGE, NULL},
    {"fallocate64", do_fallocate64, LARGE, NULL},
    {"posix_fallocate", do_posix_fallocate, LARGE, NULL},
    {"posix_fallocate64", do_posix_fallocate64, LARGE, NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

static pid_t tid;
static int ended, error;
static ssize_t result;

static void *run_row(void *arg) {
  const struct row *row = arg;
  __atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
  result = row->run();
  error = errno;
  __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
  return NULL;
}

static bool has_ended(void) { return __atomic_load_n(&ended, __ATOMIC_ACQUIRE); }

/* Gives or takes a little at a time, and collects in between. */
static void serve(const struct row *row) {
  char little[16384] = {0};
  int other = *row->other;
  fcntl(other, F_SETFL, O_NONBLOCK);
  while (!has_ended()) {
    ssize_t moved = row->run == do_recv ? write(other, little, sizeof little) : read(other, little, sizeof little);
    ck_assert(moved > 0 || errno == EAGAIN);
    gc_collect();
  }
}

START_TEST(collections_cut_nothing_short) {
  const struct row *row = &rows[_i];
  ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  from = memfd_create("from", MFD_CLOEXEC);
  to = memfd_create("to", MFD_CLOEXEC);
  large = malloc(LARGE);
  ck_assert(from >= 0 && to >= 0 && large != NULL && ftruncate(from, LARGE) == 0);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, run_row, (void *)row), 0);
  while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE)) sched_yield();
  if (row->other) {
    ck_assert_msg(system_wait_asleep(tid), "%s: never slept", row->name);
    for (int i = 0; i < 5; i++) gc_collect();
    ck_assert_msg(!has_ended(), "%s: returned %zd of %zd", row->name, result, row->expected);
    serve(row);
  }
  while (!has_ended()) gc_collect();
  pthread_join(thread, NULL);
  ck_assert_msg(result == row->expected, "%s: returned %zd of %zd, error %d (%s)", row->name, result, row->expected,
                error, strerror(error));
  free(large);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "eintr-parts", 30);
  tcase_add_loop_test(tc, collections_cut_nothing_short, 0, ROWS);
  return suite;
}
TEST_MAIN(make_suite)
