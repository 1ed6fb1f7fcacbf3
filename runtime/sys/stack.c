/* Stack bounds of the calling thread.
 *
 * For the initial thread the mapping that holds __libc_stack_end tells the upper end; pthread_getattr_np would tell the
 * same through stdio and malloc. Below, it may grow to RLIMIT_STACK or to the next mapping, whichever comes first.
 * Without /proc the name of the executed file tells the upper end, as the kernel puts it above all else, and of what
 * lies below only that the kernel keeps some room free. All other threads are asked for through pthread_getattr_np,
 * which knows stacks that the program supplied; a thread that forked keeps its stack and is told apart by where its
 * frames are, not by its id. That allocates with malloc, which ThreadSanitizer's runtime cannot stand in a thread that
 * it does not know yet: there the mapping that holds the control block tells. No lock. */
#include "sys/stack.h"
#include "base/bits.h"
#include "sys/maps.h"
#include "sys/memory.h"
#include "sys/proc.h"
#include "sys/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* Set by the dynamic loader (or the start code of a static program) to the first frame of the initial thread. */
extern void *__libc_stack_end;

/* The least that Linux keeps free of mappings below the initial stack, whatever its limit. */
#define ROOM_TO_GROW ((uintptr_t)128 << 20)

/* The mapping that holds address, and where the one before it ends. */
static bool find_mapping(uintptr_t address, struct gcrt_mapping *found, uintptr_t *before) {
  struct gcrt_reader maps;
  if (!gcrt_maps_open(&maps)) return false;
  bool holds = false;
  *before = 0;
  while (!holds && gcrt_maps_next(&maps, found)) {
    holds = address >= found->start && address < found->end;
    if (!holds) *before = found->end;
  }
  gcrt_maps_close(&maps);
  return holds;
}

/* RLIMIT_STACK, at most `most`. */
static uintptr_t stack_limit(uintptr_t most) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return most;
  return (uintptr_t)gcrt_min(limit.rlim_cur, most);
}

/* The initial stack without the list of mappings. */
static void guess_initial(struct gcrt_bounds *bounds) {
  size_t page = gcrt_page_size();
  uintptr_t first = (uintptr_t)__libc_stack_end;
  const char *name = (const char *)getauxval(AT_EXECFN); /* NOLINT(performance-no-int-to-ptr) */
  bounds->high = gcrt_align_up(first + 1, page);
  if ((uintptr_t)name >= first) bounds->high = gcrt_align_up((uintptr_t)name + strlen(name) + 1, page);
  bounds->low = gcrt_align_up(bounds->high - stack_limit(ROOM_TO_GROW), page);
}

/* Whether the calling thread runs on the initial thread's stack; its bounds if so. */
static bool initial_bounds(uintptr_t frame, struct gcrt_bounds *bounds) {
  struct gcrt_mapping stack;
  uintptr_t before;
  if (find_mapping((uintptr_t)__libc_stack_end, &stack, &before)) {
    bounds->high = stack.end;
    bounds->low = gcrt_align_up(stack.end - stack_limit(stack.end - before), gcrt_page_size());
    /* The limit may have been lowered since the stack grew. */
    bounds->low = gcrt_min(bounds->low, stack.start);
  } else {
    guess_initial(bounds);
  }
  return frame >= bounds->low && frame < bounds->high;
}

/* The bounds of a thread that is not the initial one. */
static bool thread_bounds(struct gcrt_bounds *bounds) {
  if (GCRT_TSAN_BUILD) {
    bounds->high = gcrt_align_up(gcrt_tls_control_block(gcrt_tls_self()).end, gcrt_page_size());
    bounds->low = gcrt_stack_mapped_low(0, bounds->high);
    return bounds->low < bounds->high;
  }
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return false;
  void *low;
  size_t size;
  bool known = pthread_attr_getstack(&attributes, &low, &size) == 0 && size != 0;
  if (known) {
    bounds->low = (uintptr_t)low;
    bounds->high = (uintptr_t)low + size;
  }
  (void)pthread_attr_destroy(&attributes);
  return known;
}

bool gcrt_stack_bounds(struct gcrt_bounds *bounds) {
  int saved = errno;
  bounds->low = bounds->high = 0;
  uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
  /* Only the initial thread, or the only one of a forked child, can be there; the others need not read the maps. */
  bool known = gcrt_thread_id() == gcrt_process_id() && initial_bounds(frame, bounds);
  if (!known) known = thread_bounds(bounds);
  errno = saved;
  return known;
}

struct gcrt_bounds gcrt_stack_alternate(void) {
  int saved = errno;
  stack_t stack;
  struct gcrt_bounds bounds = {0, 0};
  if (syscall(SYS_sigaltstack, NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) {
    bounds.low = (uintptr_t)stack.ss_sp;
    bounds.high = bounds.low + stack.ss_size;
  }
  errno = saved;
  return bounds;
}

struct gcrt_bounds gcrt_stack_of_context(const void *context) {
  const stack_t *stack = &((const ucontext_t *)context)->uc_stack;
  if (stack->ss_flags & SS_DISABLE) return (struct gcrt_bounds){0, 0};
  return (struct gcrt_bounds){(uintptr_t)stack->ss_sp, (uintptr_t)stack->ss_sp + stack->ss_size};
}

/* By the list of mappings, which is not always to be had. */
static uintptr_t mapped_low_by_maps(uintptr_t low, uintptr_t high) {
  struct gcrt_reader maps;
  uintptr_t run_start = 0, run_end = 0;
  if (!gcrt_maps_open(&maps)) return high;
  struct gcrt_mapping mapping;
  while (gcrt_maps_next(&maps, &mapping) && mapping.start < high) {
    if (!mapping.readable) continue; /* leaves a gap, so the run starts anew */
    if (mapping.start != run_end) run_start = mapping.start;
    run_end = mapping.end;
  }
  gcrt_maps_close(&maps);
  return run_end >= high ? gcrt_max(run_start, low) : high;
}

/* By reading a byte of each page through the kernel, which a system-call filter may refuse; high: it does. */
static uintptr_t mapped_low_by_reading(uintptr_t low, uintptr_t high) {
  size_t page = gcrt_page_size();
  uintptr_t at = gcrt_align_up(high, page);
  while (at > low) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(at - page), 1};
    /* Any thread names the memory, and the initial one may have ended: then the process number names none. syscall()
     * passes on whole words: an int's upper half would be whatever was there. */
    if (syscall(SYS_process_vm_readv, syscall(SYS_gettid), &here, 1UL, &there, 1UL, 0UL) != 1) {
      if (errno == EFAULT) break;
      return high;
    }
    at -= page;
  }
  return gcrt_min(gcrt_max(at, low), high);
}

uintptr_t gcrt_stack_mapped_low(uintptr_t low, uintptr_t high) {
  int saved = errno;
  uintptr_t result = mapped_low_by_reading(low, high);
  if (result == high) result = mapped_low_by_maps(low, high);
  errno = saved;
  return result;
}
