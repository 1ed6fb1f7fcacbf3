/* A futex and the locks made of it.
 *
 * The library's locks must neither allocate nor be cancellation points, be usable with all signals blocked, and be
 * reset in a forked child: pthread_mutex_t promises none of it. Lock order is listed in docs/design/README.md. */
#ifndef GCRT_SYS_LOCK_H
#define GCRT_SYS_LOCK_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

/* Sleeps while the low 32 bits of *word equal `expected`, at most timeout_ns (negative: for ever). May wake for no
 * reason; false after a time-out. errno is kept. Async-signal-safe. */
bool gcrt_futex_wait(gcrt_word *word, uint32_t expected, int64_t timeout_ns);
/* Wakes up to `count` sleepers. errno is kept. Async-signal-safe. */
void gcrt_futex_wake(gcrt_word *word, int count);

/* 0 free, 1 held, 2 held and somebody may sleep. Zero-initialised is free. Not recursive. */
struct gcrt_lock {
  gcrt_word state;
};

void gcrt_lock_slow(struct gcrt_lock *lock);

static inline bool gcrt_lock_try(struct gcrt_lock *lock) { return gcrt_cas_acquire(&lock->state, 0, 1); }

static inline void gcrt_lock(struct gcrt_lock *lock) {
  if (!gcrt_lock_try(lock)) gcrt_lock_slow(lock);
}

void gcrt_unlock(struct gcrt_lock *lock);

/* In a forked child: the lock is free, whoever held it is gone. */
static inline void gcrt_lock_reset(struct gcrt_lock *lock) { gcrt_store(&lock->state, 0); }

#endif
