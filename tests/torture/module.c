/* A module that is loaded and unloaded again and again.
 *
 * Static slots belong to the thread that loaded it, thread-local ones to each thread. It links nothing of libgcrt: a
 * plain library, as those that programs load. Its variables are large enough not to share a page with anything. */
#include "module.h"

#include <stddef.h>

struct slots {
  void *slot[MODULE_SLOTS];
  long mark;
};

static struct slots data_slots = {.mark = 1};
static struct slots bss_slots;
static __thread struct slots tls_data_slots = {.mark = 1};
static __thread struct slots tls_bss_slots;

__attribute__((visibility("default"))) void *volatile *torture_module_slots(enum module_kind kind);

void *volatile *torture_module_slots(enum module_kind kind) {
  switch (kind) {
  case MODULE_DATA:
    return data_slots.slot;
  case MODULE_BSS:
    return bss_slots.slot;
  case MODULE_TLS_DATA:
    return tls_data_slots.slot;
  default:
    return tls_bss_slots.slot;
  }
}
