/* All roots of the moment, as an array of ranges.
 *
 * Called with the world stopped, the loader's lock held (so that no library comes or goes, and no thread-local block is
 * being made elsewhere) and the root set's lock held. Memory for the list is taken before, under that lock: by whoever
 * makes a thread known or registers something, and gets ENOMEM if there is none. One array for all was chosen over
 * visiting as one marks, so that markers can share the work.
 *
 * A stack is searched from the stack pointer of the thread that runs on it. A thread may run on its own stack, on an
 * alternate signal stack, or on a registered one: whatever it left behind on its own stack then counts as well. Of
 * registered stacks there may be very many, so the threads' stack pointers are sorted, and looked up for each stack. */
#include "world/roots.h"

#include "base/report.h"
#include "sys/memory.h"
#include "sys/proc.h"
#include "sys/tls.h"
#include "world/thread.h"

#include <limits.h>
#include <string.h>

struct module {
  size_t id, size;
};

/* The stack pointer of a thread, below the alternate stack it may run on. */
struct runner {
  uintptr_t sp;
  bool registered; /* it is on a registered stack */
};

/* Roots of a thread, without its thread-local blocks: see add_thread. */
enum { ROOTS_OF_A_THREAD = 8 };
/* For what is loaded after the last look. */
enum { SPARE_ROOTS = 1024, SPARE_MODULES = 256 };

struct array {
  void *items;
  size_t count, capacity;
};

static struct array roots;             /* of struct gcrt_root */
static struct array modules;           /* of struct module */
static struct array runners;           /* of struct runner, by address once all are there */
static size_t data_seen, modules_seen; /* when objects were last counted */

/* Room for `wanted` items of that size. What the array holds is kept. */
static bool make_room(struct array *array, size_t wanted, size_t item) {
  if (wanted <= array->capacity) return true;
  size_t old = array->capacity * item;
  size_t bytes = gcrt_align_up(gcrt_max(2 * old, wanted * item), gcrt_page_size());
  void *grown = gcrt_memory_map(bytes);
  if (!grown) return false;
  if (old) {
    memcpy(grown, array->items, array->count * item);
    gcrt_memory_unmap(array->items, old);
  }
  array->items = grown;
  array->capacity = bytes / item;
  return true;
}

bool gcrt_roots_room(size_t registered) {
  size_t threads = gcrt_load(&gcrt_world.records);
  size_t wanted = SPARE_ROOTS + 2 * data_seen + registered + threads * (ROOTS_OF_A_THREAD + 2 * modules_seen);
  return make_room(&roots, wanted, sizeof(struct gcrt_root)) &&
         make_room(&modules, SPARE_MODULES + 2 * modules_seen, sizeof(struct module)) &&
         make_room(&runners, threads, sizeof(struct runner));
}

bool gcrt_roots_room_for_threads(void) {
  gcrt_root_set_lock();
  bool room = gcrt_roots_room(gcrt_root_set_count());
  gcrt_root_set_unlock();
  return room;
}

static void count_data(void *count, struct gcrt_range range) {
  (void)range;
  ++*(size_t *)count;
}

static void count_module(void *count, size_t id, size_t size) {
  (void)id;
  (void)size;
  ++*(size_t *)count;
}

bool gcrt_roots_reserve(void) {
  size_t data = 0, with_tls = 0;
  gcrt_loader_data(count_data, &data);
  gcrt_loader_tls(count_module, &with_tls);
  gcrt_root_set_lock();
  data_seen = data;
  modules_seen = with_tls;
  bool room = gcrt_roots_room(gcrt_root_set_count());
  gcrt_root_set_unlock();
  return room;
}

/* Inside the stop. Only objects that were loaded since they were counted can make it ask for memory. */
static void *next(struct array *array, size_t item) {
  if (!make_room(array, array->count + 1, item)) {
    gcrt_fatal("no memory for the list of roots (%zu bytes)", (array->count + 1) * item);
  }
  return (char *)array->items + array->count++ * item;
}

static void add(uintptr_t start, uintptr_t end, enum gcrt_root_kind kind) {
  start = gcrt_align_up(start, GCRT_WORD_BYTES);
  end = gcrt_align_down(end, GCRT_WORD_BYTES);
  if (start >= end) return;
  struct gcrt_root *root = next(&roots, sizeof *root);
  *root = (struct gcrt_root){{start, end}, kind};
}

static bool inside(uintptr_t address, uintptr_t low, uintptr_t high) { return address - low < high - low; }

/* The first runner at or above the address; the number of runners if there is none. */
static size_t first_from(uintptr_t address) {
  const struct runner *items = runners.items;
  size_t low = 0, high = runners.count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (items[middle].sp < address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Whether sp, which is a runner's if there are registered stacks, is on one of them. */
static bool registered(uintptr_t sp) {
  const struct runner *items = runners.items;
  size_t at = first_from(sp);
  return at < runners.count && items[at].sp == sp && items[at].registered;
}

/* Lets the item at `root` sink in a heap of n items, the largest on top. */
static void sink(struct runner *items, size_t root, size_t n) {
  for (size_t child; (child = 2 * root + 1) < n; root = child) {
    if (child + 1 < n && items[child + 1].sp > items[child].sp) child++;
    if (items[root].sp >= items[child].sp) return;
    struct runner sunk = items[root];
    items[root] = items[child];
    items[child] = sunk;
  }
}

/* Heap sort: qsort may call malloc. */
static void sort_runners(void) {
  struct runner *items = runners.items;
  for (size_t i = runners.count / 2; i-- > 0;) sink(items, i, runners.count);
  for (size_t n = runners.count; n > 1; n--) {
    struct runner largest = items[0];
    items[0] = items[n - 1];
    items[n - 1] = largest;
    sink(items, 0, n - 1);
  }
}

static void find_runner(const struct gcrt_thread *thread) {
  if (!thread->started || gcrt_load(&thread->state) == GCRT_ENDED) return;
  uintptr_t sp = thread->registers.sp;
  if (thread->interrupted_sp && inside(sp, thread->alternate.low, thread->alternate.high)) sp = thread->interrupted_sp;
  struct runner *runner = next(&runners, sizeof *runner);
  *runner = (struct runner){sp, false};
}

static void find_runners(void) {
  for (const struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) find_runner(t);
  sort_runners();
}

/* Where the stack is in use, as far as is known: from the lowest stack pointer on it, or from its low end. */
static uintptr_t low_of(const struct gcrt_range *stack) {
  const struct runner *items = runners.items;
  size_t first = first_from(stack->start);
  return first < runners.count && items[first].sp < stack->end ? items[first].sp : stack->start;
}

/* Each from the stack pointer of the thread that runs on it, or from its low end if none does. Before the threads' own
 * stacks, which depend on it who runs on another. */
static void add_registered_stacks(void) {
  size_t slots;
  const struct gcrt_registered *stacks = gcrt_root_stacks(&slots);
  if (slots) find_runners();
  struct runner *items = runners.items;
  for (size_t i = 0; i < slots; i++) {
    const struct gcrt_range *stack = &stacks[i].range;
    if (!stacks[i].times) continue;
    add(low_of(stack), stack->end, GCRT_ROOT_STACK);
    for (size_t r = first_from(stack->start); r < runners.count && items[r].sp < stack->end; r++)
      items[r].registered = true;
  }
}

/* From sp to the top of the stack around it. False: no stack that belongs to the thread. Registered stacks are left to
 * add_registered_stacks. */
static bool add_from(const struct gcrt_thread *thread, uintptr_t sp) {
  if (inside(sp, thread->stack.low, thread->stack.high)) {
    add(sp, thread->stack.high, GCRT_ROOT_STACK);
    return true;
  }
  return registered(sp);
}

/* All of the thread's own stack that is mapped. */
static void add_whole(const struct gcrt_thread *thread) {
  /* Only the initial thread's stack grows; all others are mapped from end to end. */
  uintptr_t low = thread->stack.low;
  if (thread->tid == gcrt_process_id()) low = gcrt_stack_mapped_low(low, thread->stack.high);
  if (low >= thread->stack.high)
    gcrt_fatal("thread %d: its stack cannot be read, and it runs on another one", thread->tid);
  add(low, thread->stack.high, GCRT_ROOT_STACK);
}

/* Whether sp is on the initial stack, below the limit that held at the start: the program raised RLIMIT_STACK. */
static bool initial_stack_grew(const struct gcrt_thread *thread, uintptr_t sp) {
  if (thread->tid != gcrt_process_id() || sp >= thread->stack.high) return false;
  return gcrt_stack_mapped_low(sp, thread->stack.high) <= sp;
}

static void add_stacks(const struct gcrt_thread *thread) {
  uintptr_t sp = thread->registers.sp;
  /* Its own last, as an alternate or a registered stack may be an array on it. */
  if (inside(sp, thread->alternate.low, thread->alternate.high)) {
    add(sp, thread->alternate.high, GCRT_ROOT_STACK);
    if (!thread->interrupted_sp || !add_from(thread, thread->interrupted_sp) || registered(thread->interrupted_sp)) {
      add_whole(thread);
    }
  } else if (registered(sp)) {
    add_whole(thread);
  } else if (inside(sp, thread->stack.low, thread->stack.high) || initial_stack_grew(thread, sp)) {
    add(sp, thread->stack.high, GCRT_ROOT_STACK);
  } else {
    gcrt_fatal("thread %d runs on a stack that is not known (stack pointer %p): see gc_stack_register", thread->tid,
               (void *)sp);
  }
}

static void add_module(void *unused, size_t id, size_t size) {
  (void)unused;
  if (size == 0) return;
  struct module *module = next(&modules, sizeof *module);
  *module = (struct module){id, size};
}

static void add_thread_local(const struct gcrt_thread *thread) {
  const struct module *module = modules.items;
  for (size_t i = 0; i < modules.count; i++) {
    struct gcrt_range block = gcrt_tls_block(thread->tls, module[i].id, module[i].size);
    /* Static blocks of all but the main thread lie at the top of its stack, above every stack pointer. */
    if (!inside(block.start, thread->stack.low, thread->stack.high)) add(block.start, block.end, GCRT_ROOT_GLOBAL);
  }
  struct gcrt_range control = gcrt_tls_control_block(thread->tls);
  if (!inside(control.start, thread->stack.low, thread->stack.high)) {
    add(control.start, control.end, GCRT_ROOT_GLOBAL);
  }
}

/* Of one thread, while others run: who runs on which registered stack is not known, so these are left to whoever looks
 * at all of them. */
static void add_stacks_of_one(const struct gcrt_thread *thread) {
  uintptr_t sp = thread->registers.sp;
  if (inside(sp, thread->alternate.low, thread->alternate.high)) {
    add(sp, thread->alternate.high, GCRT_ROOT_STACK);
    sp = thread->interrupted_sp;
  }
  if (inside(sp, thread->stack.low, thread->stack.high) || initial_stack_grew(thread, sp)) {
    add(sp, thread->stack.high, GCRT_ROOT_STACK);
  } else {
    add_whole(thread);
  }
}

static void add_thread(const struct gcrt_thread *thread, void (*add_its_stacks)(const struct gcrt_thread *)) {
  add((uintptr_t)thread->roots, (uintptr_t)(thread->roots + GCRT_COUNT(thread->roots)), GCRT_ROOT_GLOBAL);
  if (!thread->started || gcrt_load(&thread->state) == GCRT_ENDED) return;
  const uintptr_t *values = thread->registers.values;
  add((uintptr_t)values, (uintptr_t)(values + thread->registers.count), GCRT_ROOT_STACK);
  add(thread->frame.low, thread->frame.high, GCRT_ROOT_STACK);
  add_its_stacks(thread);
  add_thread_local(thread);
  if (thread->specific) {
    add((uintptr_t)thread->specific, (uintptr_t)(thread->specific + PTHREAD_KEYS_MAX), GCRT_ROOT_GLOBAL);
  }
}

static void add_data(void *unused, struct gcrt_range range) {
  (void)unused;
  add(range.start, range.end, GCRT_ROOT_DATA);
}

struct gcrt_root *gcrt_roots_collect(size_t *count) {
  roots.count = modules.count = runners.count = 0;
  gcrt_loader_tls(add_module, NULL);
  gcrt_loader_data(add_data, NULL);
  modules_seen = modules.count;
  data_seen = roots.count;
  add_registered_stacks();
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) add_thread(t, add_stacks);
  size_t slots;
  const struct gcrt_registered *ranges = gcrt_root_ranges(&slots);
  for (size_t i = 0; i < slots; i++) {
    if (ranges[i].times) add(ranges[i].range.start, ranges[i].range.end, GCRT_ROOT_ADDED);
  }
  *count = roots.count;
  return roots.items;
}

void gcrt_roots_look_at_modules(void) {
  modules.count = runners.count = 0;
  gcrt_loader_tls(add_module, NULL);
}

const struct gcrt_root *gcrt_roots_of_thread(const struct gcrt_thread *thread, size_t *count) {
  roots.count = 0;
  find_runner(thread);
  add_thread(thread, add_stacks_of_one);
  *count = roots.count;
  return roots.items;
}

struct shared {
  void (*visit)(void *argument, struct gcrt_root root);
  void *argument;
};

static void visit_data(void *argument, struct gcrt_range range) {
  const struct shared *shared = argument;
  struct gcrt_root root = {{gcrt_align_up(range.start, GCRT_WORD_BYTES), gcrt_align_down(range.end, GCRT_WORD_BYTES)},
                           GCRT_ROOT_DATA};
  if (root.range.start < root.range.end) shared->visit(shared->argument, root);
}

/* The table may change between two looks: what is overlooked is found in the stop. */
static void visit_registered(const struct shared *shared, const struct gcrt_registered *(*table)(size_t *),
                             enum gcrt_root_kind kind) {
  size_t slots = SIZE_MAX;
  for (size_t i = 0; i < slots; i++) {
    gcrt_root_set_lock();
    const struct gcrt_registered *items = table(&slots);
    if (i < slots && items[i].times) {
      struct gcrt_root root = {items[i].range, kind};
      if (kind == GCRT_ROOT_STACK) root.range.start = gcrt_align_up(low_of(&items[i].range), GCRT_WORD_BYTES);
      shared->visit(shared->argument, root);
    }
    gcrt_root_set_unlock();
  }
}

void gcrt_roots_visit_shared(void (*visit)(void *argument, struct gcrt_root root), void *argument) {
  struct shared shared = {visit, argument};
  gcrt_root_set_lock();
  sort_runners();
  gcrt_root_set_unlock();
  gcrt_loader_data(visit_data, &shared);
  visit_registered(&shared, gcrt_root_ranges, GCRT_ROOT_ADDED);
  visit_registered(&shared, gcrt_root_stacks, GCRT_ROOT_STACK);
}
