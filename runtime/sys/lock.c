/* The futex and the lock's slow paths.
 *
 * The kernel's futex word has 32 bits, a gcrt_word has as many as a pointer: on little-endian machines its low half
 * stands at its own address. System calls are made with syscall(), which is no cancellation point and is not
 * interposed. Any layer may call this file, also from a signal handler. */
#include "sys/lock.h"
#include "base/bits.h"
#include "base/report.h"
#include "sys/registers.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the futex word is the low half of a gcrt_word");

/* Critical sections of the library are short: a holder that runs is done before a sleeper would be asleep. */
enum { SPINS = 60 };

bool gcrt_futex_wait(gcrt_word *word, uint32_t expected, int64_t timeout_ns) {
  int saved = errno;
  struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
  long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &timeout, NULL, 0UL);
  bool timed_out = result < 0 && errno == ETIMEDOUT;
  errno = saved;
  return !timed_out;
}

void gcrt_futex_wake(gcrt_word *word, int count) {
  int saved = errno;
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0UL);
  errno = saved;
}

void gcrt_lock_slow(struct gcrt_lock *lock) {
  for (int i = 0; i < SPINS; i++) {
    size_t state = gcrt_load(&lock->state);
    if (state == 0 && gcrt_cas_acquire(&lock->state, 0, 1)) return;
    if (state == 2) break;
    gcrt_cpu_relax();
  }
  /* Whoever may have slept takes the lock as 2: others may sleep still, and one wake too many costs less than a lost
   * one. */
  for (;;) {
    size_t state = gcrt_load(&lock->state);
    if (state == 0) {
      if (gcrt_cas_acquire(&lock->state, 0, 2)) return;
    } else if (state == 2 || gcrt_cas(&lock->state, 1, 2)) {
      gcrt_futex_wait(&lock->state, 2, -1);
    }
  }
}

void gcrt_unlock(struct gcrt_lock *lock) {
  if (GCRT_LIKELY(gcrt_cas_full(&lock->state, 1, 0))) return;
  GCRT_CHECK(gcrt_load(&lock->state) == 2);
  gcrt_store_release(&lock->state, 0);
  gcrt_futex_wake(&lock->state, 1);
}
