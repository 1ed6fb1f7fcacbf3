/* Interposed calls that take a set of signals: to block them, to wait for them, to read them from a descriptor.
 *
 * A set that means "every signal" must not hold the stop signal: blocked, the thread would not stop; waited for, the
 * signal would be consumed (the kernel takes it off the queue for sigwait and signalfd before a handler sees it). It is
 * taken out of the set, silently, as the C library does with its own two signals. signal(7): the waiting calls among
 * them fail with EINTR after any handler, SA_RESTART or not, so they are parked.
 *
 * So is SIGSEGV while the library answers faults (faults.h).
 *
 * Not here: sigblock, sigsetmask and the mask form of sigpause take 32 bits, and the stop signal is 34 or above; a
 * program that blocks SIGSEGV by them cannot have faults answered. Functions that restore a mask (siglongjmp,
 * setcontext) restore one without the stop signal, because nothing could block it before; a ucontext_t whose mask the
 * program fills by hand is out of reach.
 *
 * Any thread may call them, in handlers too, as far as the C library allows it; no locks. */
#include "world/interpose_call.h"
#include "world/signals.h"

#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>

int pthread_attr_setsigmask_np(pthread_attr_t *, const sigset_t *);

GCRT_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
  sigset_t copy;
  return gcrt_real(sigprocmask)(how, how == SIG_UNBLOCK ? set : gcrt_signals_allowed(set, &copy), old);
}

GCRT_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
  sigset_t copy;
  return gcrt_real(pthread_sigmask)(how, how == SIG_UNBLOCK ? set : gcrt_signals_allowed(set, &copy), old);
}

/* Every other signal goes on to the mask; the stop signal is a signal like any other to the caller: success. */
GCRT_EXPORT int sighold(int number) {
  sigset_t one;
  sigemptyset(&one);
  if (sigaddset(&one, number) < 0) return -1;
  return sigprocmask(SIG_BLOCK, &one, NULL);
}

GCRT_EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attributes, const sigset_t *set) {
  if (!gcrt_real(pthread_attr_setsigmask_np)) return ENOSYS;
  sigset_t copy;
  return gcrt_real(pthread_attr_setsigmask_np)(attributes, gcrt_signals_allowed(set, &copy));
}

GCRT_EXPORT int signalfd(int file, const sigset_t *set, int flags) {
  sigset_t copy;
  return gcrt_real(signalfd)(file, gcrt_signals_allowed(set, &copy), flags);
}

GCRT_EXPORT int sigsuspend(const sigset_t *mask) {
  sigset_t copy;
  mask = gcrt_signals_allowed(mask, &copy);
  GCRT_PARKED_CALL(int, gcrt_real(sigsuspend)(mask));
}
GCRT_ALSO_CALLED(__sigsuspend, sigsuspend);

/* X/Open's sigpause takes a signal, the mask without it is waited with; the thread's mask never has the stop signal.
 * <signal.h> gives X/Open's the name of the BSD one, which stays in the C library under its own. */
GCRT_EXPORT int __xpg_sigpause(int number) {
  if (!gcrt_real(__xpg_sigpause)) {
    errno = ENOSYS;
    return -1;
  }
  GCRT_PARKED_CALL(int, gcrt_real(__xpg_sigpause)(number));
}

GCRT_EXPORT int gcrt_bsd_sigpause(int mask) __asm__("sigpause");
int gcrt_bsd_sigpause(int mask) {
  __typeof__(&gcrt_bsd_sigpause) real = gcrt_real_function(GCRT_REAL_sigpause);
  if (!real) {
    errno = ENOSYS;
    return -1;
  }
  GCRT_PARKED_CALL(int, real(mask));
}

/* Either form, by the second argument. */
GCRT_EXPORT int __sigpause(int number_or_mask, int is_number);
int __sigpause(int number_or_mask, int is_number) {
  if (!gcrt_real(__sigpause)) {
    errno = ENOSYS;
    return -1;
  }
  GCRT_PARKED_CALL(int, gcrt_real(__sigpause)(number_or_mask, is_number));
}

GCRT_EXPORT int sigwait(const sigset_t *set, int *number) {
  sigset_t copy;
  set = gcrt_signals_allowed(set, &copy);
  GCRT_KEEP(number);
  GCRT_PARKED_CALL(int, gcrt_real(sigwait)(set, number));
}

GCRT_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
  sigset_t copy;
  set = gcrt_signals_allowed(set, &copy);
  GCRT_KEEP(info);
  GCRT_PARKED_CALL(int, gcrt_real(sigwaitinfo)(set, info));
}

GCRT_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
  sigset_t copy;
  set = gcrt_signals_allowed(set, &copy);
  if (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0) return gcrt_real(sigtimedwait)(set, info, timeout);
  GCRT_KEEP(info);
  GCRT_KEEP(timeout);
  GCRT_PARKED_CALL(int, gcrt_real(sigtimedwait)(set, info, timeout));
}
