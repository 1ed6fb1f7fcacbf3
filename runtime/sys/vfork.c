/* The library's vfork, in assembler.
 *
 * The child of vfork runs on its parent's stack and returns from vfork first, so whatever a C function had in its frame
 * would be overwritten when the parent returns. Here all that the parent needs is in registers during the system call:
 * the return address and the result of gcrt_vfork_enter. The child leaves by a jump where a return would take an entry
 * off a shadow stack that it shares with its parent.
 *
 * Any thread may call it. */
#include "sys/vfork.h"

#if defined(__x86_64__)

__asm__(".pushsection .text\n"
        ".globl vfork\n"
        ".type vfork, @function\n"
        "vfork:\n"
        ".cfi_startproc\n"
        "  endbr64\n"
        "  pushq %r15\n"
        "  pushq %r14\n"
        "  pushq %r13\n"
        "  pushq %r12\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  subq $8, %rsp\n" /* calls want 16 bytes of alignment */
        ".cfi_adjust_cfa_offset 56\n"
        "  leaq 8(%rsp), %rdi\n"
        "  movl $6, %esi\n"
        "  leaq 64(%rsp), %rdx\n"
        "  call gcrt_vfork_enter\n"
        "  addq $56, %rsp\n"
        ".cfi_adjust_cfa_offset -56\n"
        "  movq %rax, %rsi\n"
        "  popq %rdi\n" /* the return address: its slot is the child's until it is gone */
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_register %rip, %rdi\n"
        "  movl $58, %eax\n"
        "  syscall\n"
        "  testq %rax, %rax\n"
        "  jz 1f\n"
        "  pushq %rdi\n"
        "  movq %rax, %rdi\n"
        "  jmp gcrt_vfork_leave\n"
        "1:\n"
        "  notrack jmpq *%rdi\n"
        ".cfi_endproc\n"
        ".size vfork, .-vfork\n"
        ".popsection\n");

#elif defined(__aarch64__)

/* clone(CLONE_VM | CLONE_VFORK | SIGCHLD, 0): there is no system call of the name. */
__asm__(".pushsection .text\n"
        ".globl vfork\n"
        ".type vfork, %function\n"
        "vfork:\n"
        ".cfi_startproc\n"
        "  hint 34\n" /* bti c */
        "  stp x29, x30, [sp, #-96]!\n"
        ".cfi_adjust_cfa_offset 96\n"
        ".cfi_rel_offset x29, 0\n"
        ".cfi_rel_offset x30, 8\n"
        "  stp x19, x20, [sp, #16]\n"
        "  stp x21, x22, [sp, #32]\n"
        "  stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]\n"
        "  stp x27, x28, [sp, #80]\n"
        "  mov x0, sp\n"
        "  mov x1, #12\n"
        "  add x2, sp, #96\n"
        "  bl gcrt_vfork_enter\n"
        "  mov x9, x0\n"
        "  ldp x29, x30, [sp], #96\n"
        ".cfi_adjust_cfa_offset -96\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        "  mov x0, #0x4111\n"
        "  mov x1, #0\n"
        "  mov x2, #0\n"
        "  mov x3, #0\n"
        "  mov x4, #0\n"
        "  mov x8, #220\n"
        "  svc #0\n"
        "  cbz x0, 1f\n"
        "  mov x1, x9\n"
        "  b gcrt_vfork_leave\n"
        "1:\n"
        "  ret\n"
        ".cfi_endproc\n"
        ".size vfork, .-vfork\n"
        ".popsection\n");

#else
#error "this processor is not supported: add its vfork here"
#endif
