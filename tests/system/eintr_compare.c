/* How often a waiting call fails with EINTR because another thread collects: the same loop on libgcrt and on bdwgc.
 *
 * A program, not a test. It is compiled twice: with COMPARE_BDWGC for bdwgc, and without for libgcrt, which then also
 * runs the other where its path is given as the first argument. One row a call: waits made, how many returned EINTR. */
#ifdef COMPARE_BDWGC
#define GC_THREADS
#include <gc.h>
#define NAME "bdwgc"
#define START() GC_INIT()
#define COLLECT() GC_gcollect()
#define ALLOCATE(n) GC_MALLOC(n)
#else
#include <gcrt.h>
#define NAME "libgcrt"
#define START() gc_init()
#define COLLECT() gc_collect()
#define ALLOCATE(n) gc_alloc(n)
#endif

#include "waits.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { WAITS = 10, MOST = 64 };

static struct row {
  const struct wait_call *call;
  struct wait_room room;
  pthread_t thread;
  int interrupted, made;
} rows[MOST];
static int running;

static void *run_row(void *arg) {
  struct row *row = arg;
  void *volatile object = ALLOCATE(64);
  (void)object;
  for (; row->made < WAITS; row->made++) row->interrupted += row->call->run(&row->room).error == EINTR;
  __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
  return NULL;
}

int main(int argc, char **argv) {
  START();
  int count = 0;
  for (int i = 0; i < wait_call_count && count < MOST; i++)
    if (wait_calls[i].timed) {
      rows[count].call = &wait_calls[i];
      wait_room_open(&rows[count++].room, 0.1);
    }
  running = count;
  for (int i = 0; i < count; i++)
    if (pthread_create(&rows[i].thread, NULL, run_row, &rows[i]) != 0) {
      fprintf(stderr, "cannot start a thread\n");
      return 1;
    }
  unsigned collections = 0;
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) > 0) {
    COLLECT();
    collections++;
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  }
  printf("%s: %u collections\n%-36s %6s %6s\n", NAME, collections, "call", "waits", "EINTR");
  for (int i = 0; i < count; i++) {
    pthread_join(rows[i].thread, NULL);
    printf("%-36s %6d %6d\n", rows[i].call->name, rows[i].made, rows[i].interrupted);
    wait_room_wake(&rows[i].room);
    wait_room_close(&rows[i].room);
  }
  fflush(stdout);
  if (argc > 1) {
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
  }
  return 0;
}
