/* Clearing of what a call left behind on the stack and in registers.
 *
 * A conservative collector keeps what a dead stack slot still points to. A test that wants to see an object collected,
 * or that wants a loss to show, calls this first; nothing here can make a correct collector fail. The depth covers the
 * frames of the tests' own functions; deeper ones (of the C library) may survive. */
#include "stack.h"

#include <string.h>

__attribute__((noinline)) void test_clear_stack(void) {
  volatile char below[8192];
  memset((char *)below, 0, sizeof below);
  __asm__ volatile("" : : "r"(below) : "memory");
#if defined(__x86_64__)
  __asm__ volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; xor %%esi, %%esi; xor %%edi, %%edi;"
                   "xor %%r8d, %%r8d; xor %%r9d, %%r9d; xor %%r10d, %%r10d; xor %%r11d, %%r11d;"
                   "pxor %%xmm0, %%xmm0; pxor %%xmm1, %%xmm1; pxor %%xmm2, %%xmm2; pxor %%xmm3, %%xmm3"
                   :
                   :
                   : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "cc");
#elif defined(__aarch64__)
  __asm__ volatile("mov x0, xzr; mov x1, xzr; mov x2, xzr; mov x3, xzr; mov x4, xzr; mov x5, xzr; mov x6, xzr;"
                   "mov x7, xzr; mov x8, xzr; mov x9, xzr; mov x10, xzr; mov x11, xzr; mov x12, xzr; mov x13, xzr;"
                   "mov x14, xzr; mov x15, xzr"
                   :
                   :
                   : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
                     "x15");
#endif
}
