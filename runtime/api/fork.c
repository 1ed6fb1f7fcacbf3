/* fork: the child goes on with the forking thread alone.
 *
 * The handlers hold every lock of the library over the fork, so that the child finds all structures whole; then it
 * forgets the other threads and takes their caches apart. Only a window that was being exchanged in that moment is
 * found half done: its cells stay taken until the child's first collection. Handlers of pthread_atfork run in the
 * forking thread; those registered later than ours run outside of ours in prepare. */
#include "api/api.h"
#include "base/report.h"
#include "cycle/cycle.h"
#include "objects/pool.h"
#include "observe/observe.h"

#include <pthread.h>

static void prepare(void) {
  gcrt_cycle_fork_prepare();
  gcrt_pools_fork_prepare();
}

static void parent(void) {
  gcrt_pools_fork_parent();
  gcrt_cycle_fork_parent();
}

static void child(void) {
  /* First: ending the records of the other threads asks for it. */
  gcrt_pools_fork_child();
  gcrt_cycle_fork_child();
  gcrt_metrics_after_fork();
  gcrt_oom_after_fork();
}

void gcrt_fork_init(void) {
  if (pthread_atfork(prepare, parent, child) != 0) {
    gcrt_fatal("no memory for the handlers of fork");
  }
}
