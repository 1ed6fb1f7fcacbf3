/* Signals, past the interposed functions: these go to the kernel or to the C library's own definitions. */
#ifndef GCRT_SYS_SIGNAL_H
#define GCRT_SYS_SIGNAL_H

#include <signal.h>
#include <stdbool.h>

/* Installs handler for `signal` (SA_SIGINFO | SA_RESTART | SA_ONSTACK, every signal blocked while it runs), past all
 * interposition. False with errno on failure. */
bool gcrt_signal_install(int signal, void (*handler)(int, siginfo_t *, void *));

/* Blocks every signal of the calling thread, also those the C library keeps for itself; the old mask goes to *old.
 * Async-signal-safe. */
void gcrt_signal_block_all(sigset_t *old);
void gcrt_signal_restore(const sigset_t *old);

/* From now on gcrt_signal_block_all leaves this signal open: one by which the kernel tells of a fault, and which the
 * library answers. Blocked, it would end the process. */
void gcrt_signal_never_block(int signal);

/* Unblocks one signal in the calling thread. */
void gcrt_signal_unblock(int signal);

#endif
