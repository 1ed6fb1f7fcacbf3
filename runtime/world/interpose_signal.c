/* Interposed calls that install handlers.
 *
 * signal(7): a handler of the program may interrupt a parked call at any time, and it may allocate, store pointers and
 * never return (siglongjmp). So the thread must not count as stopped while it runs. The kernel gets a trampoline in
 * place of the handler, which unparks, calls the handler and parks again. The program sees its own handlers only.
 *
 * The table has two slots per signal and the kernel's disposition says which one counts, by which of two trampolines is
 * installed. An installation writes the free slot and then lets the kernel switch handler, flags and mask in one step:
 * a signal that arrives anywhere in between finds a handler with the flags and the mask it was installed with. A slot
 * is one word, so a handler is read whole.
 *
 * A child of vfork has a disposition of its own in the kernel and shares the table with its parent: there handlers are
 * installed as they are, without trampoline, and nothing is written. So it is in a child of _Fork or clone. A child of
 * fork owns its copy of the table.
 *
 * SIGSEGV, while the library answers faults of its own (faults.h): the kernel's disposition is always one of the
 * trampolines, with flags of the library's, and a slot may hold SIG_DFL or SIG_IGN as well. A fault that is not the
 * library's goes on as the program's disposition says, at its place: by default it is repeated under the default
 * action. Three things differ: the handler runs on the alternate stack if the thread has one, SIGSEGV is not blocked
 * meanwhile (the handler may write to tracked memory), and a program started by exec finds it at its default.
 *
 * Any thread may call them, in handlers, too. The lock is taken with every signal blocked; nothing is called under it
 * but the kernel. It is the last in the lock order. The stop signal is refused, not shared: a handler of the program's
 * in its place would let threads run on while they are believed to stand. */
#include "base/report.h"
#include "sys/lock.h"
#include "sys/proc.h"
#include "sys/protection.h"
#include "sys/signal.h"
#include "world/faults.h"
#include "world/interpose_call.h"
#include "world/signals.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

/* In a slot: the handler takes three arguments (SA_SIGINFO); and of the fault signal, whose disposition in the kernel
 * is the library's, the other flags that the program gave. No address of user space has the uppermost bits. */
#define THREE_ARGUMENTS ((uintptr_t)1 << 63)
#define RESETS ((uintptr_t)1 << 62)       /* SA_RESETHAND */
#define NEVER_DEFERS ((uintptr_t)1 << 61) /* SA_NODEFER */
#define ALTERNATE ((uintptr_t)1 << 60)    /* SA_ONSTACK */
#define HANDLER (ALTERNATE - 1)

struct disposition {
  gcrt_word slots[2];
  unsigned current; /* the slot of the last installation; under the lock */
};

static struct disposition dispositions[_NSIG];
static struct gcrt_lock dispositions_lock;
static gcrt_word owner_process; /* the process the table belongs to */
static gcrt_word
    fault_masks[2];            /* of the fault signal's slots: the masks that the program gave; the kernel's is full */
static gcrt_word interrupting; /* bit n - 1: siginterrupt asked that signal n does not restart calls */

static void after_fork(void) {
  gcrt_store(&owner_process, (size_t)gcrt_process_id());
  gcrt_lock_reset(&dispositions_lock);
}

__attribute__((constructor)) static void record_process(void) {
  after_fork();
  pthread_atfork(NULL, NULL, after_fork);
}

/* False in a child that has not come from fork. */
static bool owns_table(void) {
  size_t self = (size_t)gcrt_process_id();
  size_t owner = gcrt_load(&owner_process);
  return owner == self || (owner == 0 && gcrt_cas(&owner_process, 0, self));
}

/* What the default action is about: the kernel acts when the handler has returned, on what faults again, or on the
 * signal sent once more. */
static void die_of(int number, bool sent) {
  struct sigaction deadly;
  memset(&deadly, 0, sizeof deadly);
  deadly.sa_handler = SIG_DFL;
  gcrt_real(sigaction)(number, &deadly, NULL);
  if (sent) gcrt_thread_signal(gcrt_thread_id(), number);
}

/* A fault signal that is not the library's business. True: the program's handler is to run; otherwise all is done that
 * the program's disposition asks for. */
static bool is_for_handler(unsigned slot, int number, const siginfo_t *info, ucontext_t *context) {
  gcrt_word *place = &dispositions[number].slots[slot];
  uintptr_t word = gcrt_load_acquire(place);
  bool sent = info->si_code <= 0; /* by kill and its kin: nothing has faulted */
  /* Inside the library, where no handler of the program's may run: later, when the signals are open again. */
  bool inside = gcrt_stop_signal != 0 && sigismember(&context->uc_sigmask, gcrt_stop_signal) == 1;
  if (inside && sent) {
    sigaddset(&context->uc_sigmask, number);
    gcrt_thread_signal(gcrt_thread_id(), number);
    return false;
  }
  if ((word & HANDLER) == (uintptr_t)SIG_IGN && sent) return false;
  if (inside || (word & HANDLER) <= (uintptr_t)SIG_IGN) {
    die_of(number, sent);
    return false;
  }
  if (word & RESETS) (void)gcrt_cas_full(place, word, (uintptr_t)SIG_DFL | (word & ~HANDLER));
  return true;
}

/* The mask that the kernel would have given the program's handler, but for the signal itself. */
static void set_fault_mask(unsigned slot, const ucontext_t *context) {
  uint64_t interrupted;
  sigset_t mask;
  sigemptyset(&mask);
  memcpy(&interrupted, &context->uc_sigmask, sizeof interrupted);
  interrupted |= gcrt_load(&fault_masks[slot]);
  memcpy(&mask, &interrupted, sizeof interrupted);
  gcrt_signals_take_out(&mask);
  gcrt_signal_restore(&mask);
}

static void run_handler(unsigned slot, int number, siginfo_t *info, void *context) {
  uintptr_t handler = gcrt_load_acquire(&dispositions[number].slots[slot]);
  bool fault = number == gcrt_fault_signal;
  struct gcrt_unpark unpark;
  int error = errno;
  if (fault) {
    bool answered = gcrt_protection_fault(info, context) || !is_for_handler(slot, number, info, context);
    errno = error;
    if (answered) return;
  }
  gcrt_unpark_enter(&unpark, context);
  if (fault) set_fault_mask(slot, context);
  errno = error;
  if (handler & THREE_ARGUMENTS)
    ((void (*)(int, siginfo_t *, void *))(handler & HANDLER))(number, info, context);
  else
    ((void (*)(int))(handler & HANDLER))(number);
  error = errno;
  gcrt_unpark_leave(&unpark);
  errno = error;
  /* The handler may have filled the mask that its return restores. */
  gcrt_signals_take_out(&((ucontext_t *)context)->uc_sigmask);
}

static void trampoline_0(int number, siginfo_t *info, void *context) { run_handler(0, number, info, context); }
static void trampoline_1(int number, siginfo_t *info, void *context) { run_handler(1, number, info, context); }

static void (*const trampolines[2])(int, siginfo_t *, void *) = {trampoline_0, trampoline_1};

/* The slot of a disposition with a trampoline, -1 for any other. */
static int slot_of(const struct sigaction *action) {
  if (!(action->sa_flags & SA_SIGINFO)) return -1;
  for (int slot = 0; slot < 2; slot++)
    if (action->sa_sigaction == trampolines[slot]) return slot;
  return -1;
}

/* Whether it goes behind a trampoline: SIG_DFL, SIG_IGN and other constants are no functions, but of the fault signal
 * all do. A trampoline comes from a program that read the disposition past this library and gives it back. */
static bool is_wrapped(int number, const struct sigaction *action) {
  uintptr_t value = (uintptr_t)action->sa_handler;
  if (slot_of(action) >= 0) return false;
  return number == gcrt_fault_signal || (value > (uintptr_t)SIG_HOLD && value < THREE_ARGUMENTS);
}

/* Puts the program's own handler in the place of the trampoline. */
static void show_handler(int number, struct sigaction *action) {
  int slot = slot_of(action);
  if (slot < 0) return;
  uintptr_t handler = gcrt_load_acquire(&dispositions[number].slots[slot]);
  if (handler & THREE_ARGUMENTS) {
    action->sa_sigaction = (void (*)(int, siginfo_t *, void *))(handler & HANDLER);
  } else {
    action->sa_handler = (void (*)(int))(handler & HANDLER);
    action->sa_flags &= ~SA_SIGINFO;
  }
  if (number != gcrt_fault_signal) return;
  action->sa_flags &= ~SA_ONSTACK;
  if (handler & RESETS) action->sa_flags |= (int)SA_RESETHAND;
  if (handler & NEVER_DEFERS) action->sa_flags |= SA_NODEFER;
  if (handler & ALTERNATE) action->sa_flags |= SA_ONSTACK;
  uint64_t mask = gcrt_load(&fault_masks[slot]);
  sigemptyset(&action->sa_mask);
  memcpy(&action->sa_mask, &mask, sizeof mask);
}

/* The stop signal, as the program sees it: it has the default action, and to set that again changes nothing. Loops that
 * reset every signal are common; they are not refused. */
static int change_stop_signal(const char *call, int number, const struct sigaction *action, struct sigaction *old) {
  if (action && (action->sa_flags & SA_SIGINFO || action->sa_handler != SIG_DFL)) {
    gcrt_warn("%s(%d): refused, as this signal stops threads for collections; GCRT_SIGNAL chooses another one", call,
              number);
    errno = EINVAL;
    return -1;
  }
  if (old) {
    memset(old, 0, sizeof *old);
    old->sa_handler = SIG_DFL;
  }
  return 0;
}

typedef int sigaction_function(int number, const struct sigaction *action, struct sigaction *old);

/* The fault signal's handler is not reset, runs on the alternate stack if there is one, and blocks every signal, until
 * it knows that the fault is not the library's. Remembers what the program asked for instead. */
static uintptr_t take_fault_flags(unsigned slot, const struct sigaction *action, struct sigaction *wrapped) {
  uint64_t mask;
  memcpy(&mask, &action->sa_mask, sizeof mask);
  gcrt_store(&fault_masks[slot], mask);
  wrapped->sa_flags = (action->sa_flags & ~((int)SA_RESETHAND | SA_NODEFER)) | SA_ONSTACK;
  memset(&wrapped->sa_mask, 0xff, sizeof wrapped->sa_mask);
  return (action->sa_flags & (int)SA_RESETHAND ? RESETS : 0) | (action->sa_flags & SA_NODEFER ? NEVER_DEFERS : 0) |
         (action->sa_flags & SA_ONSTACK ? ALTERNATE : 0);
}

/* Installs a handler of the program behind the trampoline of the free slot. Under the lock. */
static int switch_handler(sigaction_function *real, int number, const struct sigaction *action, struct sigaction *old) {
  struct disposition *disposition = &dispositions[number];
  unsigned slot = !disposition->current;
  struct sigaction wrapped = *action;
  uintptr_t handler = (uintptr_t)action->sa_handler;
  if (action->sa_flags & SA_SIGINFO) handler = (uintptr_t)action->sa_sigaction | THREE_ARGUMENTS;
  if (number == gcrt_fault_signal) handler |= take_fault_flags(slot, action, &wrapped);
  gcrt_store_release(&disposition->slots[slot], handler);
  wrapped.sa_sigaction = trampolines[slot];
  wrapped.sa_flags |= SA_SIGINFO;
  int result = real(number, &wrapped, old);
  if (result == 0) disposition->current = slot;
  return result;
}

/* A program that resets every signal in a child made without fork's handlers, before it calls exec, does not mean the
 * faults of the memory that it shares. */
static bool is_reset_of_faults(int number, const struct sigaction *action) {
  return action && number == gcrt_fault_signal && !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_DFL;
}

/* sigaction for all that follows; `call` is named in messages. */
static int change(const char *call, int number, const struct sigaction *action, struct sigaction *old) {
  sigaction_function *real = gcrt_real(sigaction); /* looked up outside the lock: it may take the loader's */
  if (number < 1 || number >= _NSIG) return real(number, action, old);
  if (number == gcrt_stop_signal) return change_stop_signal(call, number, action, old);
  struct sigaction allowed, before;
  if (action) {
    allowed = *action;
    gcrt_signals_take_out(&allowed.sa_mask);
    if (number == gcrt_fault_signal) show_handler(number, &allowed);
  }
  int result;
  if (owns_table()) {
    sigset_t mask;
    gcrt_signal_block_all(&mask);
    gcrt_lock(&dispositions_lock);
    if (action && is_wrapped(number, &allowed))
      result = switch_handler(real, number, &allowed, &before);
    else
      result = real(number, action ? &allowed : NULL, &before);
    if (result == 0) show_handler(number, &before);
    gcrt_unlock(&dispositions_lock);
    gcrt_signal_restore(&mask);
  } else {
    result = real(number, action && !is_reset_of_faults(number, action) ? &allowed : NULL, &before);
    if (result == 0) show_handler(number, &before);
  }
  if (result == 0 && old) *old = before;
  return result;
}

bool gcrt_faults_take(void) {
  sigaction_function *real = gcrt_real(sigaction);
  struct sigaction before;
  if (!owns_table()) return gcrt_fault_signal != 0 && real(SIGSEGV, NULL, &before) == 0 && slot_of(&before) >= 0;
  sigset_t mask;
  gcrt_signal_block_all(&mask);
  gcrt_lock(&dispositions_lock);
  bool taken = real(SIGSEGV, NULL, &before) == 0;
  if (taken && (gcrt_fault_signal == 0 || slot_of(&before) < 0)) {
    show_handler(SIGSEGV, &before);
    gcrt_signals_take_out(&before.sa_mask);
    gcrt_fault_signal = SIGSEGV;
    taken = switch_handler(real, SIGSEGV, &before, NULL) == 0;
  }
  gcrt_unlock(&dispositions_lock);
  gcrt_signal_restore(&mask);
  return taken;
}

GCRT_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  return change("sigaction", number, action, old);
}

/* The public other name that old programs were linked with. */
GCRT_EXPORT int __sigaction(int number, const struct sigaction *action, struct sigaction *old);
int __sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  return change("sigaction", number, action, old);
}

static __sighandler_t set_handler(const char *call, int number, __sighandler_t handler, int flags, bool blocks_itself) {
  struct sigaction action, old = {0};
  if (handler == SIG_ERR || number < 1 || number >= _NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (blocks_itself) sigaddset(&action.sa_mask, number);
  return change(call, number, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static __sighandler_t bsd_set_handler(const char *call, int number, __sighandler_t handler) {
  bool interrupts = number >= 1 && number < _NSIG && (gcrt_load(&interrupting) >> (number - 1) & 1);
  return set_handler(call, number, handler, interrupts ? 0 : SA_RESTART, true);
}

GCRT_EXPORT __sighandler_t signal(int number, __sighandler_t handler) {
  return bsd_set_handler("signal", number, handler);
}

GCRT_EXPORT __sighandler_t ssignal(int number, __sighandler_t handler) {
  return bsd_set_handler("ssignal", number, handler);
}

GCRT_EXPORT __sighandler_t bsd_signal(int number, __sighandler_t handler);
__sighandler_t bsd_signal(int number, __sighandler_t handler) { return bsd_set_handler("bsd_signal", number, handler); }

GCRT_EXPORT __sighandler_t __sysv_signal(int number, __sighandler_t handler) {
  return set_handler("sysv_signal", number, handler, SA_RESETHAND | SA_NODEFER, false);
}

GCRT_EXPORT __sighandler_t sysv_signal(int number, __sighandler_t handler) {
  return set_handler("sysv_signal", number, handler, SA_RESETHAND | SA_NODEFER, false);
}

GCRT_EXPORT int siginterrupt(int number, int interrupt) {
  struct sigaction action = {0};
  if (change("siginterrupt", number, NULL, &action) < 0) return -1;
  size_t bit = (size_t)1 << (number - 1);
  if (interrupt) {
    gcrt_set_bits(&interrupting, bit);
    action.sa_flags &= ~SA_RESTART;
  } else {
    gcrt_clear_bits(&interrupting, bit);
    action.sa_flags |= SA_RESTART;
  }
  return change("siginterrupt", number, &action, NULL);
}

GCRT_EXPORT int sigignore(int number) {
  return set_handler("sigignore", number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

/* X/Open's: SIG_HOLD blocks the signal, anything else unblocks it; the old value is SIG_HOLD if it was blocked. */
GCRT_EXPORT __sighandler_t sigset(int number, __sighandler_t handler) {
  sigset_t one, before;
  struct sigaction old = {0};
  sigemptyset(&one);
  if (sigaddset(&one, number) < 0) return SIG_ERR;
  if (handler == SIG_HOLD) {
    if (change("sigset", number, NULL, &old) < 0 || sigprocmask(SIG_BLOCK, &one, &before) < 0) return SIG_ERR;
  } else {
    old.sa_handler = set_handler("sigset", number, handler, 0, false);
    if (old.sa_handler == SIG_ERR || sigprocmask(SIG_UNBLOCK, &one, &before) < 0) return SIG_ERR;
  }
  return sigismember(&before, number) == 1 ? SIG_HOLD : old.sa_handler;
}
