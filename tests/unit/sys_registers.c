/* Saved registers: a value that lives in a register of the caller is in the record or on the stack above the recorded
 * stack pointer, and one in any register of an interrupted context is in the record. */
#include "sys/registers.h"
#include "base/bits.h"

#include "support/support.h"

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PRESERVED "rbx"
#else
#define PRESERVED "x19"
#endif

/* A value that stands nowhere in memory as such: kept inverted. */
static uintptr_t hidden(unsigned n) { return test_hide((void *)(uintptr_t)(0x5a5a1234abcd0000U + n)); }

static bool in_record(const struct gcrt_registers *r, uintptr_t inverted) {
  for (size_t i = 0; i < r->count; i++)
    if (~r->values[i] == inverted) return true;
  return false;
}

GCRT_READS_FOREIGN_MEMORY static bool on_stack(uintptr_t from, uintptr_t to, uintptr_t inverted) {
  for (uintptr_t at = gcrt_align_up(from, GCRT_WORD_BYTES); at < to; at += GCRT_WORD_BYTES)
    if (~*(const volatile uintptr_t *)at == inverted) return true;
  return false;
}

struct seen {
  struct gcrt_registers registers;
  bool found;
  uintptr_t frame;
};

static GCRT_NOINLINE void look(struct seen *seen, uintptr_t inverted, uintptr_t caller_frame) {
  gcrt_registers_save(&seen->registers);
  seen->frame = (uintptr_t)__builtin_frame_address(0);
  seen->found = in_record(&seen->registers, inverted) || on_stack(seen->registers.sp, caller_frame, inverted);
}

static GCRT_NOINLINE void call_with_value(struct seen *seen, uintptr_t inverted) {
  register uintptr_t value __asm__(PRESERVED) = ~inverted;
  __asm__ volatile("" : "+r"(value));
  look(seen, inverted, (uintptr_t)__builtin_frame_address(0));
  __asm__ volatile("" : "+r"(value));
}

START_TEST(a_preserved_register_is_found) {
  struct seen seen;
  for (unsigned n = 0; n < 16; n++) {
    call_with_value(&seen, hidden(n));
    ck_assert_msg(seen.found, "value %u is lost", n);
    ck_assert_uint_gt(seen.registers.count, 0);
    ck_assert_uint_le(seen.registers.count, GCRT_REGISTERS_MAX);
  }
}
END_TEST

START_TEST(the_stack_pointer_is_below_the_frame) {
  struct seen seen;
  call_with_value(&seen, hidden(0));
  ck_assert_uint_le(seen.registers.sp, seen.frame);
  ck_assert_uint_lt(seen.frame - seen.registers.sp, 65536);
}
END_TEST

static struct gcrt_registers interrupted;
static uintptr_t handler_frame;

static void handler(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  gcrt_registers_of_context(&interrupted, context);
  handler_frame = (uintptr_t)__builtin_frame_address(0);
}

/* Puts values into registers and sends the signal from assembly, so that the kernel interrupts with them in place. */
static GCRT_NOINLINE void signal_with_values(uintptr_t a, uintptr_t b, uintptr_t c) {
#if defined(__x86_64__)
  long result = SYS_tgkill;
  __asm__ volatile("notq %[a]\n\tnotq %[b]\n\tnotq %[c]\n\t"
                   "movq %[a], %%r13\n\tmovq %[b], %%xmm5\n\tmovq %[c], %%xmm6\n\tpslldq $8, %%xmm6\n\t"
                   "xorl %k[a], %k[a]\n\txorl %k[b], %k[b]\n\txorl %k[c], %k[c]\n\tsyscall"
                   : "+a"(result), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c)
                   : "D"(getpid()), "S"((long)syscall(SYS_gettid)), "d"(SIGUSR1)
                   : "r13", "xmm5", "xmm6", "rcx", "r11", "memory");
  ck_assert_int_eq(result, 0);
#else
  register long x0 __asm__("x0") = getpid();
  register long x1 __asm__("x1") = syscall(SYS_gettid);
  register long x2 __asm__("x2") = SIGUSR1;
  register long x8 __asm__("x8") = SYS_tgkill;
  __asm__ volatile("mvn x21, %[a]\n\tmvn %[b], %[b]\n\tmvn %[c], %[c]\n\tfmov d5, %[b]\n\tfmov v16.d[1], %[c]\n\t"
                   "mov %[b], xzr\n\tmov %[c], xzr\n\tsvc 0"
                   : "+r"(x0), [b] "+&r"(b), [c] "+&r"(c)
                   : "r"(x1), "r"(x2), "r"(x8), [a] "r"(a)
                   : "x21", "v5", "v16", "memory");
  ck_assert_int_eq(x0, 0);
#endif
}

static void install(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

START_TEST(registers_of_an_interrupted_context_are_found) {
  if (GCRT_TSAN_BUILD) TEST_SKIP("ThreadSanitizer calls handlers later, from another place");
  install();
  for (unsigned n = 0; n < 4; n++) {
    signal_with_values(hidden(n), hidden(n + 10), hidden(n + 20));
    ck_assert_msg(in_record(&interrupted, hidden(n)), "integer register");
    ck_assert_msg(in_record(&interrupted, hidden(n + 10)), "vector register, low half");
    ck_assert_msg(in_record(&interrupted, hidden(n + 20)), "vector register, high half");
    ck_assert_msg(!in_record(&interrupted, hidden(n + 30)), "a value that was nowhere");
  }
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  ck_assert_uint_gt(interrupted.sp, handler_frame);
  ck_assert_uint_lt(interrupted.sp, here);
}
END_TEST

START_TEST(upper_halves_of_wide_registers_are_found) {
#if defined(__x86_64__)
  if (GCRT_TSAN_BUILD) TEST_SKIP("ThreadSanitizer calls handlers later, from another place");
  if (!__builtin_cpu_supports("avx")) TEST_SKIP("the processor has no 256-bit registers");
  install();
  uintptr_t inverted = hidden(40);
  long result = SYS_tgkill;
  __asm__ volatile("notq %[a]\n\tvmovq %[a], %%xmm7\n\tvpslldq $8, %%xmm7, %%xmm7\n\t"
                   "vinsertf128 $1, %%xmm7, %%ymm9, %%ymm9\n\tvpxor %%xmm7, %%xmm7, %%xmm7\n\t"
                   "xorl %k[a], %k[a]\n\tsyscall\n\tvzeroupper"
                   : "+a"(result), [a] "+r"(inverted)
                   : "D"(getpid()), "S"((long)syscall(SYS_gettid)), "d"(SIGUSR1)
                   : "xmm7", "xmm9", "rcx", "r11", "memory");
  ck_assert_int_eq(result, 0);
  ck_assert(in_record(&interrupted, hidden(40)));
#else
  TEST_SKIP("this processor's vector registers have 128 bits");
#endif
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("sys/registers");
  TCase *tc = test_case(suite, "registers", 20);
  tcase_add_test(tc, a_preserved_register_is_found);
  tcase_add_test(tc, the_stack_pointer_is_below_the_frame);
  tcase_add_test(tc, registers_of_an_interrupted_context_are_found);
  tcase_add_test(tc, upper_halves_of_wide_registers_are_found);
  return suite;
}

TEST_MAIN(make_suite)
