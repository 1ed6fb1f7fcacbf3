/* The registers of the calling thread and of an interrupted context. */
#ifndef GCRT_SYS_REGISTERS_H
#define GCRT_SYS_REGISTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GCRT_REGISTERS_MAX = 96, GCRT_RED_ZONE = 128 };

/* At a call: the registers a callee must preserve; all others are dead or saved by the caller. Of an interrupted
 * context: all that can hold a pointer. */
struct gcrt_registers {
  uintptr_t sp;
  size_t count;
  uintptr_t values[GCRT_REGISTERS_MAX];
};

/* Callee-saved registers and the stack pointer of the caller of the function that calls it (always inlined: the frame
 * it reads belongs to the calling function). Inlined so that no register is reused in between. */
static inline __attribute__((always_inline)) void gcrt_registers_save(struct gcrt_registers *r) {
#if defined(__x86_64__)
  __asm__ volatile("movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%r12, 16(%0)\n\tmovq %%r13, 24(%0)\n\t"
                   "movq %%r14, 32(%0)\n\tmovq %%r15, 40(%0)"
                   :
                   : "r"(r->values)
                   : "memory");
  r->count = 6;
  __asm__ volatile("movq %%rsp, %0" : "=r"(r->sp));
  r->sp -= GCRT_RED_ZONE;
#elif defined(__aarch64__)
  __asm__ volatile("stp x19, x20, [%0]\n\tstp x21, x22, [%0, 16]\n\tstp x23, x24, [%0, 32]\n\t"
                   "stp x25, x26, [%0, 48]\n\tstp x27, x28, [%0, 64]\n\tstp x29, x30, [%0, 80]"
                   :
                   : "r"(r->values)
                   : "memory");
  r->count = 12;
  __asm__ volatile("mov %0, sp" : "=r"(r->sp));
#else
#error "this processor is not supported: add its registers here"
#endif
}

/* All integer registers and the stack pointer (below the red zone) of an interrupted context (a ucontext_t).
 * Vector registers are in the record, too: compilers put two pointers into one before they store both.
 * Async-signal-safe. */
void gcrt_registers_of_context(struct gcrt_registers *r, const void *context);

/* The memory in which the kernel saved an interrupted context: all registers, also those that no ucontext_t names (wide
 * vectors, in the middle of a copy). [*low, *high), for the handler to search. Async-signal-safe. */
void gcrt_frame_of_context(uintptr_t *low, uintptr_t *high, const void *context);

/* Whether the context was interrupted by a fault (SIGSEGV) because it writes, and not because it reads or runs what is
 * there. Where the kernel does not say: true. Async-signal-safe. */
bool gcrt_fault_is_write(const void *context);

/* A hint that the thread spins. */
static inline void gcrt_cpu_relax(void) {
#if defined(__x86_64__)
  __asm__ volatile("pause");
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
