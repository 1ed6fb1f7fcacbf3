/* Cards: see cards.h. Bytes and not bits, as several threads store into them without asking each other.
 *
 * One range alone has cards, the first that is added: the heap. The table is mapped for all of it at once and costs
 * memory only where it was touched. It is memory of the process, so a fork needs nothing. No lock; what cycle calls and
 * what gc_write_barrier calls may run at once. */
#include "sys/cards.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "sys/memory.h"
#include "sys/tracker.h"

static struct {
  uintptr_t start, end;
  gcrt_byte *cards;
} table;

static gcrt_byte *card_of(uintptr_t address) { return &table.cards[(address - table.start) >> GCRT_CARD_SHIFT]; }

void gcrt_cards_write(uintptr_t low, uintptr_t high) {
  low = gcrt_max(low, table.start);
  high = gcrt_min(high, table.end);
  /* What was stored before is seen by whoever finds the card 0. */
  gcrt_release_fence();
  for (low = gcrt_align_down(low, GCRT_CARD_BYTES); low < high; low += GCRT_CARD_BYTES)
    gcrt_store_byte(card_of(low), 0);
}

static bool start(char *reason, size_t size) {
  (void)reason;
  (void)size;
  return true;
}

static bool add(uintptr_t low, uintptr_t high) {
  if (table.cards) return low == table.start && high == table.end;
  table.cards = gcrt_memory_map(gcrt_align_up((high - low) >> GCRT_CARD_SHIFT, gcrt_page_size()));
  if (!table.cards) return false;
  table.start = low;
  table.end = high;
  return true;
}

static bool intact(void) { return true; }

static bool arm(uintptr_t low, uintptr_t high) {
  for (uintptr_t at = low; at < high; at += GCRT_CARD_BYTES) gcrt_store_byte(card_of(at), 1);
  gcrt_fence();
  return true;
}

static bool written(uintptr_t low, uintptr_t high, bool rearm, void (*found)(void *, uintptr_t, uintptr_t),
                    void *argument) {
  for (uintptr_t at = low; at < high;) {
    uintptr_t first = at;
    for (; at < high && gcrt_load_byte(card_of(at)) == 0; at += GCRT_CARD_BYTES) {
      if (rearm) gcrt_store_byte(card_of(at), 1);
    }
    if (first == at) {
      at += GCRT_CARD_BYTES;
      continue;
    }
    /* The cards are 1 before the memory is read. */
    gcrt_fence();
    found(argument, first, at);
  }
  return true;
}

/* Nobody minds cards that are 1. */
static bool disarm(uintptr_t low, uintptr_t high) { return low <= high; }

static void after_fork(void) {}

const struct gcrt_tracker gcrt_cards_tracker = {start, add, start, intact, arm, written, disarm, after_fork};
