/* The write tracker by page protection: what is done to the memory (sys/protection.c) together with what is done to
 * SIGSEGV (interpose_signal.c). See sys/tracker.h for what a tracker promises.
 *
 * The signal stays the library's until the process ends: a page may be armed for as long as that, in a child that was
 * made without fork's handlers. For those whom sys/tracker.h names; start and check call the C library's sigaction and
 * take the lock behind the interposed one. A thread that waits for faults, as userfaultfd has it, cannot do this: the
 * kernel tells nobody but the thread that writes. */
#include "world/faults.h"
#include "base/report.h"
#include "sys/memory.h"
#include "sys/protection.h"
#include "sys/signal.h"
#include "world/signals.h"

#include <signal.h>

static void note(void *argument, uintptr_t low, uintptr_t high) {
  size_t *bytes = argument;
  *bytes += high - low;
}

/* What an emulator or a sandbox may lack: that a fault has an address and a code, and that the write goes on. */
static const char *probe(uintptr_t low, size_t page) {
  uintptr_t high = low + 2 * page;
  size_t bytes = 0;
  if (!gcrt_protection_add(low, high)) return "no memory for its table";
  if (!gcrt_protection_arm(low, high)) return "mprotect is refused";
  (void)gcrt_protection_written(low, high, false, note, &bytes);
  if (bytes != 0) return "pages that were not written";
  *(volatile char *)(low + page) = 1;
  (void)gcrt_protection_written(low, high, false, note, &bytes);
  return bytes == page ? NULL : "a page that was written";
}

static bool start(char *reason, size_t size) {
  static bool started;
  if (started) return true;
  if (!gcrt_faults_take()) {
    gcrt_format(reason, size, "SIGSEGV cannot be handled");
    return false;
  }
  gcrt_signal_never_block(gcrt_fault_signal);
  /* Whoever started this process may have had every signal blocked. */
  gcrt_signal_unblock(gcrt_fault_signal);
  size_t page = gcrt_page_size();
  char *pages = gcrt_memory_map(2 * page);
  const char *failed = pages ? probe((uintptr_t)pages, page) : "no memory for it";
  gcrt_protection_remove();
  if (pages) gcrt_memory_unmap(pages, 2 * page);
  if (failed) gcrt_format(reason, size, "write tracking fails its probe: %s", failed);
  started = !failed;
  return started;
}

static bool check(char *reason, size_t size) {
  if (gcrt_faults_take()) return true;
  gcrt_format(reason, size, "SIGSEGV was taken away by a child that is not fork's");
  return false;
}

/* A handler that the program installed past the library lets no write pass unseen: it gets the fault instead. */
static bool intact(void) { return true; }

const struct gcrt_tracker gcrt_mprotect_tracker = {
    start,
    gcrt_protection_add,
    check,
    intact,
    gcrt_protection_arm,
    gcrt_protection_written,
    gcrt_protection_disarm,
    gcrt_protection_after_fork,
};
