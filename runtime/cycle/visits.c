/* Roots, read while the program runs.
 *
 * A concurrent collection begins with what roots point to. It does not stop the world for that: each thread is stopped
 * by itself, for as long as reading its own stack takes, and goes on at once. Global variables, and what the program
 * registered, are read beside the program. None of it is the truth of one moment, and need not be: the last stop reads
 * all roots again, and what is found here only makes that one short. A second look, when marking is nearly done, finds
 * what has come since: a tree that hangs on a local variable alone is on no page that was marked and then written, and
 * the stop would have to mark it all.
 *
 * The first visit is the beginning of marking as well. gcrt_heap.marking is set before; a thread that frees a cell, or
 * takes a window apart, acts by what it reads there in the same critical section; and no object is marked before each
 * thread has been seen outside of one.
 *
 * For the thread that runs the collection, under the cycle's lock. */
#include "cycle/phases.h"

#include "heap/heap.h"
#include "mark/mark.h"

struct look {
  struct gcrt_cycle_report *report;
  bool first;
  bool done;
};

static void note_thread(struct gcrt_thread *thread, void *unused) {
  (void)unused;
  size_t count;
  const struct gcrt_root *roots = gcrt_roots_of_thread(thread, &count);
  for (size_t i = 0; i < count; i++) gcrt_mark_note(roots[i].range);
}

/* Stacks that the program registered are read once: there may be a hundred thousand, and those that run change, which
 * only the stop can tell. */
static void grey_shared(void *argument, struct gcrt_root root) {
  const struct look *look = argument;
  if (look->first ? gcrt_tracked_take(&root) : gcrt_tracked_would(&root)) return;
  if (look->first || root.kind != GCRT_ROOT_STACK) gcrt_mark_grey(&root, 1);
}

static void visit_threads(struct look *look) {
  gcrt_roots_look_at_modules();
  if (look->first) {
    gcrt_store_full(&gcrt_heap.marking, GCRT_MARKING_BEGINS);
    gcrt_pacer_mark(gcrt_load(&gcrt_heap.live), look->report->background);
  }
  uint64_t longest = gcrt_world_visit(note_thread, NULL);
  gcrt_store_full(&gcrt_heap.marking, GCRT_MARKING);
  look->report->visit_ns = gcrt_max(look->report->visit_ns, longest);
}

static void look_around(void *argument) {
  struct look *look = argument;
  gcrt_lock(&gcrt_world.lock);
  look->done = gcrt_roots_reserve();
  if (look->done) visit_threads(look);
  gcrt_unlock(&gcrt_world.lock);
  if (!look->done) return;
  gcrt_mark_grey_noted();
  if (look->first) gcrt_tracked_begin();
  gcrt_roots_visit_shared(grey_shared, look);
}

bool gcrt_visit_roots(struct gcrt_cycle_report *report, bool first) {
  struct look look = {.report = report, .first = first};
  gcrt_cycle_in_loader(look_around, &look);
  return look.done;
}
