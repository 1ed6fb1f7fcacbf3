/* The registry of mutators: every thread whose stack is a root and whose running a collection must stop.
 *
 * States of a thread, and who moves it:
 *
 *   RUNNING ──stopper──▶ SIGNALLED ──its handler──▶ STOPPED ──stopper──▶ RUNNING
 *                            └─its handler, in a critical section─▶ DEFERRED ──itself, at the end of it──▶ STOPPED
 *   RUNNING ◀──itself──▶ PARKED ◀──stopper──▶ HELD ──itself, leaving the park──▶ AWAITED ──stopper──▶ PARKED
 *   RUNNING ──its end──▶ ENDED
 *
 * Invariants:
 *  - A stop moves every thread but the caller's to STOPPED, HELD or AWAITED, or finds it ENDED; only then it counts as
 *    done. In these states `registers` holds the thread's registers, and nothing below registers.sp is in use. A visit
 *    moves each thread there as well, but lets it go on before the others have come.
 *  - A thread is signalled only after RUNNING → SIGNALLED, and it cannot park before its handler has run: so no system
 *    call made in a park is ever interrupted by the stop signal.
 *  - `busy` is written by the thread alone. While it is not 0 the thread is not stopped, so a stop finds no lock of the
 *    heap taken and no window half exchanged.
 *  - The list is under gcrt_world.lock, which a stop holds from its first signal to its last wake-up: a thread that
 *    holds it is not stopped. */
#ifndef GCRT_WORLD_THREAD_H
#define GCRT_WORLD_THREAD_H

#include "base/atomics.h"
#include "base/bits.h"
#include "sys/lock.h"
#include "sys/registers.h"
#include "sys/stack.h"

#include <pthread.h>

struct gcrt_cache;

/* What a thread remembers of an address. */
struct gcrt_memo {
  const void *key;
  void *value;
};
enum { GCRT_MEMOS = 8 };

enum gcrt_thread_state {
  GCRT_RUNNING,
  GCRT_SIGNALLED,
  GCRT_DEFERRED,
  GCRT_STOPPED,
  GCRT_PARKED,
  GCRT_HELD,
  GCRT_AWAITED,
  GCRT_ENDED, /* kept for what pthread_join will return */
};

struct gcrt_thread {
  gcrt_word state;
  gcrt_word busy;
  struct gcrt_cache *cache; /* opaque here; the world calls gcrt_world_hooks to end it */
  size_t stress;            /* allocations until the next collection that GCRT_STRESS asks for */
  size_t number;            /* a small one, of no two threads at a time; given by the layers above, 0: none yet */
  size_t memo_life;         /* of the memos, by whoever writes them: another one than today's, they mean nothing */
  struct gcrt_memo memos[GCRT_MEMOS]; /* the thread's own, for the layers above. Keep nothing alive */

  struct gcrt_registers registers;
  struct gcrt_bounds frame; /* of the stop signal, where the kernel saved all other registers; empty if none */
  size_t stops;             /* how often a stop has written `registers` */
  uintptr_t interrupted_sp; /* of the frame under a handler of the program that runs on an alternate stack, or 0 */
  struct gcrt_bounds handler_stack; /* the alternate stack that handler began on; it may be disarmed meanwhile */
  struct gcrt_bounds stack;         /* its own; empty before it runs */
  struct gcrt_bounds alternate;     /* read when it stops, as a program may change it at any time */
  void *tls;                        /* thread control block */
  int tid;
  pthread_t handle;
  bool started; /* its registers are published when it stops; before, its argument is all it has */
  bool explicit_registration;
  bool in_oom_handler;  /* the program's handler for want of memory runs */
  bool to_visit;        /* by the visit that is under way; of the thread that makes it */
  bool named;           /* handle is valid */
  bool creating;        /* the creator's pthread_create has not returned: it still refers to this record */
  bool detached;        /* nobody will ask for the result */
  bool claimed;         /* a pthread_join or pthread_detach of it is under way */
  unsigned exit_rounds; /* rounds of key destructors still to let pass */

  void *roots[2];      /* the argument before it runs, the result after it ended */
  uintptr_t *specific; /* values of the keys that the C library keeps in malloc memory, or NULL */
  struct gcrt_thread *next, *previous;
};

struct gcrt_world {
  struct gcrt_lock lock;
  struct gcrt_thread *threads;
  gcrt_word records;  /* threads in the list; written under the lock */
  size_t count;       /* threads that are not ENDED */
  gcrt_word pending;  /* signalled threads that have not stopped yet */
  gcrt_word visiting; /* whoever stops wakes the one who waits for all */
  gcrt_word resuming; /* threads that were resumed and have not been scheduled since */
  gcrt_word resumed;  /* ns of the monotonic clock: when threads were resumed last; 0: nobody had to be */
  bool stopped;
};

extern struct gcrt_world gcrt_world;

/* The calling thread's record, NULL if it is not known. */
extern __thread struct gcrt_thread *gcrt_self __attribute__((tls_model("initial-exec")));

/* What the world must tell the heap: it does not know it. Set once at initialisation. */
struct gcrt_world_hooks {
  void (*end)(struct gcrt_thread *thread); /* the thread ends: take its cache apart. Under gcrt_world.lock */
  void (*last)(void); /* the last thread ended: those of the library would keep the process. Under gcrt_world.lock */
};
extern struct gcrt_world_hooks gcrt_world_hooks;

/* registry.c */
/* Prepares the registry and makes the calling thread the first one. */
void gcrt_world_init(void);
/* Makes the calling thread known; NULL with errno ENOMEM. What it was before (NULL or known) does not matter. */
struct gcrt_thread *gcrt_thread_attach(void);
/* A record for a thread that will run, listed as parked with its argument as a root; NULL: no memory. */
struct gcrt_thread *gcrt_thread_announce(void *argument, bool detached);
/* The announced thread runs: called by itself, first of all. */
void gcrt_thread_started(struct gcrt_thread *thread);
/* The announced thread was made, and here is its handle, as long as the thread has not run: then the memory may be
 * gone.
 */
void gcrt_thread_created(struct gcrt_thread *thread, const pthread_t *handle);
/* The announced thread could not be made. */
void gcrt_thread_withdraw(struct gcrt_thread *thread);
/* The calling thread ends, or leaves the library's sight. */
void gcrt_thread_detach_self(void);
/* Before a join: the record of a thread that may still be joined, NULL if there is none. It is claimed, as the handle
 * may belong to another thread the moment the join is done, while this record still carries it. */
struct gcrt_thread *gcrt_thread_claim(pthread_t handle);
/* After it: with `done`, nobody will ask for the result again; otherwise the thread can still be joined. */
void gcrt_thread_settle(struct gcrt_thread *thread, bool done);
/* In a forked child: only the calling thread is left. */
void gcrt_world_after_fork(void);
/* Records the value of a key of pthread_setspecific of the calling thread. False: no memory. */
bool gcrt_thread_specific(unsigned key, uintptr_t value);

/* stop.c */
/* Stops every known thread except the caller. The caller holds gcrt_world.lock. Returns the ns it took. */
uint64_t gcrt_world_stop(void);
void gcrt_world_resume(void);
/* Calls visit(thread, argument) for every thread in the list but the caller's, while the thread does not run, and lets
 * it go on at once: no thread waits for another. When this returns, each has been outside of critical sections and has
 * seen what was stored before. The caller holds gcrt_world.lock. Returns the ns that one thread was kept at most, once
 * it had stopped and was come to. */
uint64_t gcrt_world_visit(void (*visit)(struct gcrt_thread *thread, void *argument), void *argument);
/* Before a stop that no allocation by other threads brought about: waits until the threads of the last stop have run,
 * each for about so long, but no longer than 10 ms for their being scheduled at all. Without it, a thread that collects
 * in a loop would stop all others again before they execute an instruction. */
void gcrt_world_let_run(uint64_t ns);
/* The calling thread runs again after so many stops that resumed it. */
void gcrt_thread_resumed(size_t times);
/* PARKED → RUNNING, after a stop that holds the thread. */
void gcrt_thread_unpark(struct gcrt_thread *thread);
extern int gcrt_stop_signal; /* 0 before initialisation */
void gcrt_stop_init(int signal, int64_t timeout_ms);
/* The calling thread stops itself, at the end of a critical section in which the signal came. */
void gcrt_stop_deferred(struct gcrt_thread *thread);

/* The alternate signal stack that the calling thread, whose record it is, runs on with this stack pointer. */
GCRT_INLINE struct gcrt_bounds gcrt_thread_alternate(const struct gcrt_thread *thread, uintptr_t sp) {
  struct gcrt_bounds now = gcrt_stack_alternate();
  struct gcrt_bounds begun = thread->handler_stack;
  bool in_now = sp - now.low < now.high - now.low;
  return !in_now && sp - begun.low < begun.high - begun.low ? begun : now;
}

/* Critical sections: the calling thread is not stopped inside. They nest, and are short. */
GCRT_INLINE void gcrt_gate_enter(struct gcrt_thread *thread) {
  gcrt_store(&thread->busy, gcrt_load(&thread->busy) + 1);
  gcrt_signal_fence();
}

/* The same where it is known that the thread is in none: by a public function that no critical section calls. The count
 * is not read, which in the shortest sections would be waited for. */
GCRT_INLINE void gcrt_gate_enter_first(struct gcrt_thread *thread) {
  gcrt_store(&thread->busy, 1);
  gcrt_signal_fence();
}

/* True: the thread has to stop itself, at once. */
GCRT_INLINE bool gcrt_gate_leave_last(struct gcrt_thread *thread) {
  gcrt_signal_fence();
  gcrt_store(&thread->busy, 0);
  gcrt_signal_fence();
  return gcrt_load(&thread->state) == GCRT_DEFERRED;
}

GCRT_INLINE void gcrt_gate_exit_last(struct gcrt_thread *thread) {
  if (GCRT_UNLIKELY(gcrt_gate_leave_last(thread))) gcrt_stop_deferred(thread);
}

GCRT_INLINE void gcrt_gate_exit(struct gcrt_thread *thread) {
  gcrt_signal_fence();
  size_t left = gcrt_load(&thread->busy) - 1;
  gcrt_store(&thread->busy, left);
  gcrt_signal_fence();
  if (GCRT_UNLIKELY(left == 0 && gcrt_load(&thread->state) == GCRT_DEFERRED)) gcrt_stop_deferred(thread);
}

#endif
