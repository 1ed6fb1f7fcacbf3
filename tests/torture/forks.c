/* Children of a program whose threads allocate and collect all the time.
 *
 * fork may hit any moment: another thread inside the allocator, a collection that is stopping or marking, threads just
 * born. The child has one thread, the copy of the one that forked: it finds its own graph whole, the graphs of threads
 * that are gone too, allocates, collects, starts threads, and forks again. The parent must be none the worse. */
#include "node.h"

#include <sys/wait.h>
#include <unistd.h>

/* AddressSanitizer's allocator is copied by fork as it is, with the lock that another thread may hold. */
#ifdef __SANITIZE_ADDRESS__
enum { THREADS = 1 };
#else
enum { THREADS = 3 };
#endif
enum { CHILD_SECONDS = 60 };

static struct world *worlds[THREADS];

static void grow(struct world *w, struct test_random *r, unsigned steps) {
  for (unsigned i = 0; i < steps; i++) {
    struct node *n = node_new(w, r);
    struct node *old = world_pick(w, r);
    edge_set(&w->root[test_random_below(r, WORLD_ROOTS)], n, r);
    if (old != NULL && old->edges > 0) edge_set(&old->edge[test_random_below(r, old->edges)], n, r);
  }
}

static void *grow_in_thread(void *arg) {
  struct test_random r = test_random_stream(50);
  struct world *w = arg;
  grow(w, &r, 100);
  world_walk(w, &r, false);
  return NULL;
}

/* What the copy of the forking thread does. The worlds of the other threads may be in the middle of a change, so only
 * its own is walked; what the others' roots point to must merely still be there after the collections. */
static void live_on(struct world *own, struct test_random *r) {
  pthread_t thread;
  struct runtime_metrics m;
  alarm(CHILD_SECONDS);
  torture_check_metrics();
  world_walk(own, r, false);
  grow(own, r, 100);
  gc_collect();
  world_walk(own, r, false);
  torture_read_metrics(&m);
  TEST_REQUIRE(m.threads == 1, "the child of a fork knows %u threads", m.threads);
  TEST_REQUIRE(pthread_create(&thread, NULL, grow_in_thread, world_new(60)) == 0);
  grow(own, r, 50);
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  for (unsigned i = 0; i < THREADS; i++)
    for (unsigned j = 0; worlds[i] != NULL && j < WORLD_ROOTS; j++)
      if (worlds[i]->root[j].into != NULL)
        TEST_REQUIRE(gc_base(worlds[i]->root[j].into) != NULL, "lost: root %u of thread %u after a fork", j, i);
  torture_check_metrics();
}

static void check_child(pid_t pid) {
  int status;
  TEST_REQUIRE(waitpid(pid, &status, 0) == pid);
  TEST_REQUIRE(!WIFSIGNALED(status), "a forked child was killed by signal %d%s", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? ": it hangs" : "");
  TEST_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child ended with status %#x", status);
}

static _Noreturn void be_child(struct world *own, struct test_random *r) {
  live_on(own, r);
  pid_t pid = fork();
  TEST_REQUIRE(pid >= 0);
  if (pid == 0)
    live_on(own, r);
  else
    check_child(pid);
  _exit(0);
}

static void fork_and_mutate(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  struct world *own = world_new(worker->index);
  worlds[worker->index] = own;
  unsigned rounds = 0;
  do {
    grow(own, r, 60);
    if (test_random_once_in(r, 4)) gc_collect();
    if (worker->index == 0 || rounds++ % 16 == 0) {
      pid_t pid = fork();
      TEST_REQUIRE(pid >= 0);
      if (pid == 0) be_child(own, r);
      grow(own, r, 20);
      check_child(pid);
    }
    world_walk(own, r, false);
  } while (torture_continues(worker));
  worlds[worker->index] = NULL;
  world_walk(own, r, true);
}

START_TEST(children_collect) {
  struct torture_heap base = torture_heap_now();
  torture_run(THREADS, 1, fork_and_mutate, NULL);
  torture_heap_check(&base, 1000, 4 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("forks");
  TCase *tc = test_case(suite, "children", TORTURE_TIMEOUT);
  tcase_add_test(tc, children_collect);
  return suite;
}

TEST_MAIN(make_suite)
