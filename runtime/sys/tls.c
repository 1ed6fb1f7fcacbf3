/* Thread-local blocks of any thread, found through the dtv, the vector of block addresses that hangs on every thread
 * control block.
 *
 * __tls_get_addr knows only the calling thread, and letting every thread tell its own blocks would need a handler that
 * enters the loader. The vector is read while its thread stands still, perhaps in the middle of growing it: everything
 * read is checked before it is used, and where the vector makes no sense, blocks at a fixed distance from the control
 * block (static thread-local storage) are found by that distance, which is the same in every thread.
 *
 * A block of a module that is gone stays in the vector until its thread next uses thread-local storage; its number may
 * meanwhile belong to a larger module. So blocks that were allocated by themselves are read only as far as they can
 * be. No lock; the caller holds the loader's. */
#include "sys/tls.h"
#include "base/bits.h"
#include "sys/memory.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  RECORD_DEFAULT = 2304, /* bytes of the C library's record of a thread, where it does not tell */
  RECORD_MIN = 512,
  RECORD_MAX = 65536,
  MODULES_MAX = 1 << 20,
};

#if defined(__x86_64__)
enum { DTV_AT = 8 };
#elif defined(__aarch64__)
enum { DTV_AT = 0 };
#endif

/* vector[0].value is a generation, vector[-1].value the number of entries. */
struct entry {
  uintptr_t value;
  uintptr_t to_free; /* of a block that was allocated by itself; 0 for static thread-local storage */
};

#define UNALLOCATED UINTPTR_MAX

/* What lies on either side of the control block: the record and static thread-local storage. */
#if defined(__x86_64__)
static size_t bytes_below = 0, bytes_above = RECORD_DEFAULT;
#elif defined(__aarch64__)
static size_t bytes_below = RECORD_DEFAULT, bytes_above = 0;
#endif

void gcrt_tls_init(void) {
  const uint32_t *told = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
  bool known = told && *told >= RECORD_MIN && *told <= RECORD_MAX;
  size_t record = known ? gcrt_align_up(*told, GCRT_WORD_BYTES) : RECORD_DEFAULT;
  void (*static_info)(size_t * size, size_t * alignment);
  *(void **)(void *)&static_info = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
  size_t size = 0, alignment = 0;
  if (static_info && known) static_info(&size, &alignment);
  size = gcrt_align_down(size, GCRT_WORD_BYTES);
#if defined(__x86_64__)
  bytes_above = record;
  bytes_below = size > record ? size - record : 0; /* the size counts the record in, which lies above */
#elif defined(__aarch64__)
  bytes_below = record;
  bytes_above = size;
#endif
}

void *gcrt_tls_self(void) {
  void *self;
#if defined(__x86_64__)
  __asm__("movq %%fs:0, %0" : "=r"(self));
#elif defined(__aarch64__)
  __asm__("mrs %0, tpidr_el0" : "=r"(self));
#endif
  return self;
}

/* The entry of a module in a thread's vector; NULL if there is none or the vector makes no sense, which *broken tells.
 */
GCRT_READS_FOREIGN_MEMORY static const struct entry *find_entry(const char *self, size_t module, bool *broken) {
  *broken = true;
  uintptr_t vector = *(const uintptr_t *)(const void *)(self + DTV_AT);
  if (vector < sizeof(struct entry) || vector % GCRT_WORD_BYTES != 0) return NULL;
  const struct entry *entries = (const struct entry *)vector;
  uintptr_t slots = entries[-1].value;
  if (slots == 0 || slots > MODULES_MAX) return NULL;
  *broken = false;
  return module <= slots ? &entries[module] : NULL;
}

GCRT_READS_FOREIGN_MEMORY static bool is_allocated(const struct entry *entry) {
  return entry && entry->value != 0 && entry->value != UNALLOCATED;
}

/* The end of what can be read from start on; end if the kernel does not say. */
static uintptr_t readable_end(uintptr_t start, uintptr_t end) {
  int saved = errno;
  size_t page = gcrt_page_size();
  for (uintptr_t at = start; at < end; at = gcrt_align_down(at, page) + page) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)at, 1};
    /* Any thread names the memory, and the initial one may have ended: then the process number names none. syscall()
     * passes on whole words: an int's upper half would be whatever was there. */
    long got = syscall(SYS_process_vm_readv, syscall(SYS_gettid), &here, 1UL, &there, 1UL, 0UL);
    if (got == 1) continue;
    if (errno == EFAULT) end = at;
    break;
  }
  errno = saved;
  return end;
}

static struct gcrt_range whole_words(uintptr_t start, uintptr_t end) {
  struct gcrt_range range = {gcrt_align_up(start, GCRT_WORD_BYTES), gcrt_align_down(end, GCRT_WORD_BYTES)};
  if (range.start >= range.end) range = (struct gcrt_range){0, 0};
  return range;
}

GCRT_READS_FOREIGN_MEMORY struct gcrt_range gcrt_tls_block(void *self, size_t module, size_t size) {
  struct gcrt_range none = {0, 0};
  bool broken, ignored;
  if (module == 0 || module > MODULES_MAX) return none;
  const struct entry *entry = find_entry(self, module, &broken);
  if (is_allocated(entry)) {
    uintptr_t start = entry->value, end = start + size;
    if (end < start) return none;
    return whole_words(start, entry->to_free ? readable_end(start, end) : end);
  }
  if (!broken) return none;
  char *own = gcrt_tls_self();
  entry = find_entry(own, module, &ignored);
  if (!is_allocated(entry) || entry->to_free) return none;
  uintptr_t start = (uintptr_t)self + (entry->value - (uintptr_t)own);
  return whole_words(start, start + size);
}

struct gcrt_range gcrt_tls_control_block(void *self) {
  return whole_words((uintptr_t)self - bytes_below, (uintptr_t)self + bytes_above);
}
