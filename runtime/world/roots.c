/* All roots of the moment, as an array of ranges.
 *
 * Called with the world stopped, the loader's lock held (so that no library comes or goes, and no thread-local block is
 * being made elsewhere) and the root set's lock held. It allocates by mapping pages only. One array for all was chosen
 * over visiting as one marks, so that markers can share the work.
 *
 * A stack is searched from the stack pointer of the thread that runs on it. A thread may run on its own stack, on an
 * alternate signal stack, or on a registered one: whatever it left behind on its own stack then counts as well. */
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

static struct {
  struct gcrt_root *items;
  size_t count, capacity;
} roots;

static struct {
  struct module *items;
  size_t count, capacity;
} modules;

/* Doubles a mapped array. */
static void *grow(void *items, size_t *capacity, size_t item) {
  size_t old = *capacity * item;
  size_t bytes = old ? 2 * old : 16 * gcrt_page_size();
  void *grown = gcrt_memory_map(bytes);
  if (!grown) gcrt_fatal("no memory for the list of roots (%zu bytes)", bytes);
  if (old) {
    memcpy(grown, items, old);
    gcrt_memory_unmap(items, old);
  }
  *capacity = bytes / item;
  return grown;
}

static void add(uintptr_t start, uintptr_t end, enum gcrt_root_kind kind) {
  start = gcrt_align_up(start, GCRT_WORD_BYTES);
  end = gcrt_align_down(end, GCRT_WORD_BYTES);
  if (start >= end) return;
  if (roots.count == roots.capacity) roots.items = grow(roots.items, &roots.capacity, sizeof(struct gcrt_root));
  roots.items[roots.count++] = (struct gcrt_root){{start, end}, kind};
}

static bool inside(uintptr_t address, uintptr_t low, uintptr_t high) { return address - low < high - low; }

/* The registered stack around sp, or NULL. */
static const struct gcrt_range *registered(uintptr_t sp) {
  size_t count;
  const struct gcrt_range *stacks = gcrt_root_stacks(&count);
  for (size_t i = 0; i < count; i++) {
    if (inside(sp, stacks[i].start, stacks[i].end)) return &stacks[i];
  }
  return NULL;
}

/* From sp to the top of the stack around it. False: no stack that belongs to the thread. Registered stacks are left to
 * add_registered_stacks. */
static bool add_from(const struct gcrt_thread *thread, uintptr_t sp) {
  if (inside(sp, thread->stack.low, thread->stack.high)) {
    add(sp, thread->stack.high, GCRT_ROOT_STACK);
    return true;
  }
  return registered(sp) != NULL;
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

/* Each from the stack pointer of the thread that runs on it, or from its low end if none does. */
static void add_registered_stacks(void) {
  size_t count;
  const struct gcrt_range *stacks = gcrt_root_stacks(&count);
  for (size_t i = 0; i < count; i++) {
    uintptr_t start = stacks[i].start;
    for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) {
      if (!t->started || gcrt_load(&t->state) == GCRT_ENDED) continue;
      uintptr_t sp = t->registers.sp;
      bool alternate = inside(sp, t->alternate.low, t->alternate.high);
      if (alternate && t->interrupted_sp) sp = t->interrupted_sp;
      if (inside(sp, stacks[i].start, stacks[i].end)) start = sp;
    }
    add(start, stacks[i].end, GCRT_ROOT_STACK);
  }
}

static void add_module(void *unused, size_t id, size_t size) {
  (void)unused;
  if (size == 0) return;
  if (modules.count == modules.capacity) {
    modules.items = grow(modules.items, &modules.capacity, sizeof(struct module));
  }
  modules.items[modules.count++] = (struct module){id, size};
}

static void add_thread_local(const struct gcrt_thread *thread) {
  for (size_t i = 0; i < modules.count; i++) {
    struct gcrt_range block = gcrt_tls_block(thread->tls, modules.items[i].id, modules.items[i].size);
    /* Static blocks of all but the main thread lie at the top of its stack, above every stack pointer. */
    if (!inside(block.start, thread->stack.low, thread->stack.high)) add(block.start, block.end, GCRT_ROOT_GLOBAL);
  }
  struct gcrt_range control = gcrt_tls_control_block(thread->tls);
  if (!inside(control.start, thread->stack.low, thread->stack.high)) {
    add(control.start, control.end, GCRT_ROOT_GLOBAL);
  }
}

static void add_thread(const struct gcrt_thread *thread) {
  add((uintptr_t)thread->roots, (uintptr_t)(thread->roots + GCRT_COUNT(thread->roots)), GCRT_ROOT_GLOBAL);
  if (!thread->started || gcrt_load(&thread->state) == GCRT_ENDED) return;
  const uintptr_t *values = thread->registers.values;
  add((uintptr_t)values, (uintptr_t)(values + thread->registers.count), GCRT_ROOT_STACK);
  add(thread->frame.low, thread->frame.high, GCRT_ROOT_STACK);
  add_stacks(thread);
  add_thread_local(thread);
  if (thread->specific) {
    add((uintptr_t)thread->specific, (uintptr_t)(thread->specific + PTHREAD_KEYS_MAX), GCRT_ROOT_GLOBAL);
  }
}

static void add_data(void *unused, struct gcrt_range range) {
  (void)unused;
  add(range.start, range.end, GCRT_ROOT_GLOBAL);
}

const struct gcrt_root *gcrt_roots_collect(size_t *count) {
  roots.count = 0;
  modules.count = 0;
  gcrt_loader_tls(add_module, NULL);
  gcrt_loader_data(add_data, NULL);
  for (struct gcrt_thread *t = gcrt_world.threads; t; t = t->next) add_thread(t);
  add_registered_stacks();
  size_t ranges;
  const struct gcrt_range *range = gcrt_root_ranges(&ranges);
  for (size_t i = 0; i < ranges; i++) add(range[i].start, range[i].end, GCRT_ROOT_GLOBAL);
  *count = roots.count;
  return roots.items;
}
