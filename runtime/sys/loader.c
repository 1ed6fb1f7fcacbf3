/* Writable data and thread-local segments of every loaded object, from their program headers.
 *
 * dl_iterate_phdr holds the loader's lock while it calls back, and that lock is recursive: the outer call in
 * gcrt_loader_call keeps it, the inner ones walk the list. The loader's list could be read through r_debug without a
 * lock, but then an object can go away under the reader. /proc/self/maps would show anonymous mappings that are no
 * variables and split segments.
 *
 * Pages of PT_GNU_RELRO are left out: the loader writes them before it makes them read-only, the program never does.
 * It rounds both ends of that range down to whole pages, so the rest of the last page is data like any other. */
#include "sys/loader.h"
#include "base/bits.h"
#include "base/report.h"
#include "sys/memory.h"

#include <link.h>
#include <stdbool.h>
#include <sys/auxv.h>

enum { EXCLUDED_MAX = 8, RELRO_MAX = 4 };

/* Written during initialisation, when no other thread can be in a collection. */
static struct gcrt_range excluded[EXCLUDED_MAX];
static size_t excluded_count;

struct call {
  void (*function)(void *);
  void *argument;
};

static int call_once(struct dl_phdr_info *object, size_t size, void *argument) {
  (void)object;
  (void)size;
  struct call *call = argument;
  call->function(call->argument);
  return 1;
}

void gcrt_loader_call(void (*function)(void *argument), void *argument) {
  struct call call = {function, argument};
  if (dl_iterate_phdr(call_once, &call) != 1) gcrt_fatal("the loader lists no object");
}

void gcrt_loader_exclude(const void *start, const void *end) {
  GCRT_CHECK(excluded_count < EXCLUDED_MAX);
  excluded[excluded_count++] = (struct gcrt_range){(uintptr_t)start, (uintptr_t)end};
}

static int count_changes(struct dl_phdr_info *object, size_t size, void *argument) {
  (void)size;
  *(uint64_t *)argument = object->dlpi_adds + object->dlpi_subs;
  return 1;
}

uint64_t gcrt_loader_changes(void) {
  uint64_t changes = 0;
  (void)dl_iterate_phdr(count_changes, &changes);
  return changes;
}

struct data_visit {
  void (*visit)(void *, struct gcrt_range);
  void *argument;
  uintptr_t vdso;
};

/* The first address from `at` on, not beyond end, that no cut covers; *next is where the next cut begins, at most end.
 */
static uintptr_t skip_cuts(uintptr_t at, uintptr_t end, const struct gcrt_range *cuts, size_t count, uintptr_t *next) {
  for (bool moved = true; moved && at < end;) {
    moved = false;
    for (size_t i = 0; i < count; i++) {
      if (at < cuts[i].start || at >= cuts[i].end) continue;
      at = cuts[i].end;
      moved = true;
    }
  }
  *next = end;
  for (size_t i = 0; i < count; i++)
    if (cuts[i].start > at && cuts[i].start < *next && cuts[i].end > cuts[i].start) *next = cuts[i].start;
  return at;
}

static void visit_without(const struct data_visit *data, uintptr_t start, uintptr_t end, const struct gcrt_range *cuts,
                          size_t count) {
  uintptr_t next;
  for (uintptr_t at = skip_cuts(start, end, cuts, count, &next); at < end;
       at = skip_cuts(next, end, cuts, count, &next)) {
    struct gcrt_range range = {gcrt_align_up(at, GCRT_WORD_BYTES), gcrt_align_down(next, GCRT_WORD_BYTES)};
    if (range.start < range.end) data->visit(data->argument, range);
  }
}

static int visit_object(struct dl_phdr_info *object, size_t size, void *argument) {
  (void)size;
  const struct data_visit *data = argument;
  if (object->dlpi_addr == data->vdso && data->vdso != 0) return 0; /* the kernel's pages, in part not readable */
  struct gcrt_range cuts[EXCLUDED_MAX + RELRO_MAX];
  size_t count = 0;
  for (; count < excluded_count; count++) cuts[count] = excluded[count];
  size_t page = gcrt_page_size();
  for (size_t i = 0; i < object->dlpi_phnum && count < GCRT_COUNT(cuts); i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type != PT_GNU_RELRO) continue;
    uintptr_t start = object->dlpi_addr + segment->p_vaddr;
    cuts[count++] = (struct gcrt_range){gcrt_align_down(start, page), gcrt_align_down(start + segment->p_memsz, page)};
  }
  for (size_t i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_W)) continue;
    uintptr_t start = object->dlpi_addr + segment->p_vaddr;
    visit_without(data, start, start + segment->p_memsz, cuts, count);
  }
  return 0;
}

void gcrt_loader_data(void (*visit)(void *argument, struct gcrt_range range), void *argument) {
  struct data_visit data = {visit, argument, getauxval(AT_SYSINFO_EHDR)};
  (void)dl_iterate_phdr(visit_object, &data);
}

struct tls_visit {
  void (*visit)(void *, size_t, size_t);
  void *argument;
};

static int visit_tls(struct dl_phdr_info *object, size_t size, void *argument) {
  const struct tls_visit *tls = argument;
  if (size < offsetof(struct dl_phdr_info, dlpi_tls_modid) + sizeof object->dlpi_tls_modid) return 0;
  if (object->dlpi_tls_modid == 0) return 0;
  for (size_t i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type == PT_TLS && segment->p_memsz != 0)
      tls->visit(tls->argument, object->dlpi_tls_modid, segment->p_memsz);
  }
  return 0;
}

void gcrt_loader_tls(void (*visit)(void *argument, size_t module, size_t size), void *argument) {
  struct tls_visit tls = {visit, argument};
  (void)dl_iterate_phdr(visit_tls, &tls);
}
