/* Signals, past the interposed functions.
 *
 * The mask functions are raw system calls, because the C library's own ones leave out the two signals it uses itself
 * (cancellation and setuid): a thread that must not be interrupted must not be cancelled asynchronously either. The
 * installation goes through the C library's sigaction, which knows the return trampoline of the processor.
 *
 * Async-signal-safe, no locks. */
#include "sys/signal.h"

#include "sys/real.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's signal set: 64 signals on all supported processors, the first word of a sigset_t. */
enum { KERNEL_SET_BYTES = sizeof(uint64_t) };

bool gcrt_signal_install(int signal, void (*handler)(int, siginfo_t *, void *)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  memset(&action.sa_mask, 0xff, sizeof action.sa_mask); /* sigfillset leaves the C library's own two out */
  return gcrt_real(sigaction)(signal, &action, NULL) == 0;
}

/* What "all" leaves out. Written before there is a second thread that could ask. */
static uint64_t never_blocked;

void gcrt_signal_never_block(int signal) { never_blocked |= UINT64_C(1) << (signal - 1); }

void gcrt_signal_block_all(sigset_t *old) {
  const uint64_t all = ~never_blocked;
  sigemptyset(old);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, (size_t)KERNEL_SET_BYTES);
}

void gcrt_signal_restore(const sigset_t *old) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, (size_t)KERNEL_SET_BYTES);
}

void gcrt_signal_unblock(int signal) {
  const uint64_t one = UINT64_C(1) << (signal - 1);
  syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &one, NULL, (size_t)KERNEL_SET_BYTES);
}
