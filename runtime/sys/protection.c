/* Write tracking by page protection: an armed page is read-only, its first write faults, and the handler of SIGSEGV
 * makes it writable again.
 *
 * For systems without asynchronous userfaultfd (tracker.c), which is better in each respect: here a fault costs a
 * signal and a change of mappings, and a system call that writes into an armed page fails with EFAULT, as the kernel
 * asks no handler.
 *
 * The table has a byte a page: ARMED, or else the number of threads that are lifting the page's protection just now,
 * and whether the page counts among `lifts`. A page that is not ARMED is written. Invariants:
 *  - An ARMED page is read-only, or whoever armed it is about to make it so and has reported nothing of it yet.
 *  - A page becomes ARMED only while nobody lifts it. So a thread that faulted long ago and comes late cannot make a
 *    page writable that was armed meanwhile: it counts itself in first, by which the page is written.
 *  - A page may be read-only and not ARMED (arming was refused half-way, or a lift was overtaken): its next write
 *    faults, is counted in and goes on.
 *  - Only what lies within [low, high) is ever made writable: all of it was armed, or lies between what was.
 *
 * A fork child may inherit counts of threads that it does not have: gcrt_protection_after_fork forgets them, and
 * without it these pages stay written for ever. No lock, as a thread could be interrupted, or forked away, while it
 * holds one.
 *
 * Mappings. The kernel joins neighbouring pages of equal protection to one mapping, and limits their number
 * (vm.max_map_count). A lifted page costs two if both its neighbours are armed. With a quarter of the limit used, 16
 * pages are lifted at once, and with half of it, as when the kernel refuses, all armed pages up to the next written
 * ones on either side: that makes three mappings one. If even this is refused, everything is lifted. A limit on data
 * (RLIMIT_DATA) may refuse that too, if others took what protected memory does not count: then the program ends.
 *
 * Called by world/faults.c, heap/pages.c and the handler of SIGSEGV. */
#include "sys/protection.h"
#include "base/atomics.h"
#include "base/bits.h"
#include "base/report.h"
#include "sys/memory.h"
#include "sys/proc.h"
#include "sys/registers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY SIZE_MAX

enum { ARMED = 0x80, COUNTED = 0x40, LIFTERS = 0x3f };
enum {
  BLOCK = 16,     /* pages */
  BATCH = 1024,   /* pages armed by one system call */
  LIMIT = 65530,  /* Linux's default */
  LIMIT_TEXT = 24 /* bytes */
};

static struct {
  uintptr_t start, end;
  unsigned shift;
  gcrt_byte *pages;
  gcrt_word low, high; /* the least and the last page that was ever armed, and one */
  gcrt_word lifts;     /* that cut a mapping in three, since the pages were armed; about */
  size_t lifts_single, lifts_most;
} table;

static size_t page_of(uintptr_t address) { return (address - table.start) >> table.shift; }
static uintptr_t address_of(size_t page) { return table.start + (page << table.shift); }
static size_t page_count(void) { return (table.end - table.start) >> table.shift; }

static bool protect(size_t first, size_t end, int protection) {
  return mprotect((void *)address_of(first), (end - first) << table.shift, protection) == 0;
}

/* --- lifting ----------------------------------------------------------------------------------------------------- */

/* From here on the page is written, and nobody arms it. `counts`: if it was armed, it is one of `lifts`. */
static void begin_lift(size_t page, bool counts) {
  gcrt_byte *state = &table.pages[page];
  for (;;) {
    unsigned char old = gcrt_load_byte(state), begun = (unsigned char)(old + 1);
    if ((old & LIFTERS) == LIFTERS) {
      gcrt_thread_yield();
      continue;
    }
    if (old == ARMED) begun = counts ? 1 | COUNTED : 1;
    if (!gcrt_cas_byte_full(state, old, begun)) continue;
    if (old == ARMED && counts) gcrt_add(&table.lifts, 1);
    return;
  }
}

static void end_lift(size_t page) {
  gcrt_byte *state = &table.pages[page];
  unsigned char old = gcrt_load_byte(state);
  while (!gcrt_cas_byte_full(state, old, (unsigned char)(old - 1))) old = gcrt_load_byte(state);
}

/* `counted`: the page that counts for all of them, NOBODY if none does. */
static bool lift(size_t first, size_t end, size_t counted) {
  for (size_t i = first; i < end; i++) begin_lift(i, i == counted);
  bool lifted = protect(first, end, PROT_READ | PROT_WRITE);
  for (size_t i = first; i < end; i++) end_lift(i);
  return lifted;
}

static bool lift_everything(void) {
  size_t low = gcrt_load(&table.low), high = gcrt_load(&table.high);
  return low >= high || lift(low, high, NOBODY);
}

/* All armed pages around one. Whatever lies beside them is another mapping, as a rule. */
static bool lift_run(size_t page) {
  size_t first = page, end = page + 1;
  size_t low = gcrt_load(&table.low), high = gcrt_load(&table.high);
  while (first > low && gcrt_load_byte(&table.pages[first - 1]) == ARMED) first--;
  while (end < high && gcrt_load_byte(&table.pages[end]) == ARMED) end++;
  return lift(first, end, NOBODY);
}

/* The page, if lifting these makes two mappings more: with a lifted neighbour they become part of its mapping. */
static size_t counted(size_t first, size_t end, size_t page) {
  bool below = first == 0 || gcrt_load_byte(&table.pages[first - 1]) == ARMED;
  bool above = end == page_count() || gcrt_load_byte(&table.pages[end]) == ARMED;
  return below && above ? page : NOBODY;
}

static bool lift_page(size_t page) { return lift(page, page + 1, counted(page, page + 1, page)); }

static bool lift_block(size_t page) {
  size_t first = gcrt_align_down(page, BLOCK);
  size_t end = gcrt_min(first + BLOCK, gcrt_load(&table.high));
  first = gcrt_max(first, gcrt_load(&table.low));
  return lift(first, end, counted(first, end, page));
}

bool gcrt_protection_fault(const siginfo_t *info, const void *context) {
  uintptr_t address = (uintptr_t)info->si_addr;
  if (!table.pages || info->si_code != SEGV_ACCERR || address - table.start >= table.end - table.start) return false;
  size_t page = page_of(address);
  if (page < gcrt_load(&table.low) || page >= gcrt_load(&table.high)) return false;
  /* Reading or running what is there faults for other reasons, which lifting would not mend. */
  if (!gcrt_fault_is_write(context)) return false;
  size_t lifts = gcrt_load(&table.lifts);
  if (lifts < table.lifts_single && lift_page(page)) return true;
  if (lifts < table.lifts_most && lift_block(page)) return true;
  if (lift_run(page) || lift_everything()) return true;
  gcrt_fatal("GCRT_TRACKER=mprotect: the page at %p cannot be made writable again: mprotect: error %d",
             (void *)address_of(page), errno);
}

/* --- arming ------------------------------------------------------------------------------------------------------ */

static bool bit_at(const uint64_t *set, size_t i) { return set[i / 64] >> (i % 64) & 1; }

/* Arms what is not, if nobody lifts it; the set says which pages were not. False: the kernel refused; then they stay
 * written. */
static bool arm_batch(size_t first, size_t end, uint64_t *written) {
  size_t low = end, high = first;
  for (size_t i = first; i < end; i++) {
    unsigned char old = gcrt_load_byte(&table.pages[i]);
    if (old == ARMED) continue;
    written[(i - first) / 64] |= UINT64_C(1) << ((i - first) % 64);
    if ((old & LIFTERS) || !gcrt_cas_byte_full(&table.pages[i], old, ARMED)) continue;
    if (old & COUNTED) gcrt_sub(&table.lifts, 1);
    low = gcrt_min(low, i);
    high = i + 1;
  }
  if (low >= high || protect(low, high, PROT_READ)) return true;
  for (size_t i = low; i < high; i++) {
    if (bit_at(written, i - first)) (void)gcrt_cas_byte_full(&table.pages[i], ARMED, 0);
  }
  return false;
}

static void look_at_batch(size_t first, size_t end, uint64_t *written) {
  for (size_t i = first; i < end; i++) {
    if (gcrt_load_byte(&table.pages[i]) != ARMED) written[(i - first) / 64] |= UINT64_C(1) << ((i - first) % 64);
  }
}

static void report(size_t first, size_t end, const uint64_t *written, void (*found)(void *, uintptr_t, uintptr_t),
                   void *argument) {
  for (size_t i = first; i < end; i++) {
    size_t low = i;
    while (i < end && bit_at(written, i - first)) i++;
    if (i > low) found(argument, address_of(low), address_of(i));
  }
}

/* The handler takes nothing for the tracker's that is outside. */
static void widen(size_t first, size_t end) {
  for (size_t old = gcrt_load(&table.low); first < old; old = gcrt_load(&table.low)) {
    if (gcrt_cas_full(&table.low, old, first)) break;
  }
  for (size_t old = gcrt_load(&table.high); end > old; old = gcrt_load(&table.high)) {
    if (gcrt_cas_full(&table.high, old, end)) break;
  }
}

bool gcrt_protection_arm(uintptr_t start, uintptr_t end) {
  bool armed = true;
  size_t last = page_of(end);
  widen(page_of(start), last);
  for (size_t at = page_of(start); at < last; at += BATCH) {
    uint64_t written[BATCH / 64] = {0};
    if (!arm_batch(at, gcrt_min(at + BATCH, last), written)) armed = false;
  }
  return armed;
}

bool gcrt_protection_written(uintptr_t start, uintptr_t end, bool rearm, void (*found)(void *, uintptr_t, uintptr_t),
                             void *argument) {
  size_t last = page_of(end);
  if (rearm) widen(page_of(start), last);
  for (size_t at = page_of(start); at < last; at += BATCH) {
    uint64_t written[BATCH / 64] = {0};
    size_t until = gcrt_min(at + BATCH, last);
    if (rearm) {
      (void)arm_batch(at, until, written);
    } else {
      look_at_batch(at, until, written);
    }
    /* What was armed is read-only before it is read. */
    gcrt_fence();
    report(at, until, written, found, argument);
  }
  return true;
}

/* Forgets that pages were lifted one by one: they are no longer cut off from others. */
static void uncount(size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    unsigned char old = gcrt_load_byte(&table.pages[i]);
    while (old & COUNTED) {
      if (gcrt_cas_byte_full(&table.pages[i], old, old & LIFTERS)) gcrt_sub(&table.lifts, 1);
      old = gcrt_load_byte(&table.pages[i]);
    }
  }
}

bool gcrt_protection_disarm(uintptr_t start, uintptr_t end) {
  size_t first = page_of(start), last = page_of(end);
  if (first >= last) return first == last;
  if (!lift(first, last, NOBODY) && !lift_everything()) return false;
  uncount(first, last);
  return true;
}

void gcrt_protection_lift(uintptr_t start, uintptr_t end) {
  if (!table.pages) return;
  size_t first = gcrt_max(page_of(start), gcrt_load(&table.low));
  size_t last = gcrt_min(page_of(end), gcrt_load(&table.high));
  if (first < last) (void)gcrt_protection_disarm(address_of(first), address_of(last));
}

/* --- the range --------------------------------------------------------------------------------------------------- */

void gcrt_protection_limit(size_t mappings) {
  /* A lift costs two mappings at most, and half of them are the program's. */
  table.lifts_most = mappings / 4;
  table.lifts_single = mappings / 8;
}

static size_t system_limit(void) {
  char text[LIMIT_TEXT];
  long file = syscall(SYS_openat, AT_FDCWD, "/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (file < 0) return LIMIT;
  long length = syscall(SYS_read, file, text, sizeof text);
  (void)syscall(SYS_close, file);
  size_t limit = 0;
  for (long i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++) limit = limit * 10 + (size_t)(text[i] - '0');
  return limit ? limit : LIMIT;
}

bool gcrt_protection_add(uintptr_t start, uintptr_t end) {
  if (table.pages) return start == table.start && end == table.end;
  size_t page = gcrt_page_size();
  if (start >= end || start % page != 0 || end % page != 0) return false;
  gcrt_byte *pages = gcrt_memory_map(gcrt_align_up((end - start) / page, page));
  if (!pages) return false;
  table.start = start;
  table.end = end;
  table.shift = gcrt_ctz(page);
  gcrt_store(&table.low, SIZE_MAX);
  gcrt_store(&table.high, 0);
  gcrt_store(&table.lifts, 0);
  gcrt_protection_limit(system_limit());
  table.pages = pages;
  return true;
}

void gcrt_protection_remove(void) {
  if (!table.pages) return;
  gcrt_protection_after_fork();
  size_t bytes = gcrt_align_up(page_count(), gcrt_page_size());
  gcrt_byte *pages = table.pages;
  table.pages = NULL;
  gcrt_memory_unmap((void *)pages, bytes);
}

void gcrt_protection_after_fork(void) {
  if (!table.pages || !lift_everything()) return;
  for (size_t i = gcrt_load(&table.low); i < gcrt_load(&table.high); i++) gcrt_store_byte(&table.pages[i], 0);
  gcrt_store(&table.lifts, 0);
}
