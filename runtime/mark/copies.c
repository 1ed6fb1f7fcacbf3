/* The table of page copies: see copies.h.
 *
 * A sixteenth of the heap at most has copies, 64 MiB at most; only what is used is resident. A table of
 * another size is taken when the heap has changed by as much. A cache with chains was not chosen: what two pages
 * that share a place lose is a scan. */
#include "mark/copies.h"

#include "base/atomics.h"
#include "base/bits.h"
#include "sys/memory.h"

#include <string.h>

enum { SLOTS_LEAST = 256, SLOTS_MOST = 16384, SHARE = 16 };

struct slot {
  size_t page;
  size_t number;   /* of the marking it belongs to */
  gcrt_word taken; /* by a marker; the rest of the slot, and the words, are its own */
};

static struct {
  struct slot *slots;
  uintptr_t (*words)[GCRT_COPY_WORDS];
  size_t count; /* a power of two; 0: no memory, no copies */
  size_t number;
  gcrt_word bytes;
} copies;

static size_t slots_size(size_t count) { return gcrt_align_up(count * sizeof(struct slot), gcrt_page_size()); }
static size_t words_size(size_t count) { return gcrt_align_up(count * GCRT_COPY_BYTES, gcrt_page_size()); }

/* Forgotten before it is unmapped: the child of a fork in between would unmap what came to the same place. */
static void give_back(void) {
  size_t count = copies.count;
  if (count == 0) return;
  copies.count = 0;
  gcrt_store_full(&copies.bytes, 0);
  gcrt_memory_unmap(copies.slots, slots_size(count));
  gcrt_memory_unmap(copies.words, words_size(count));
}

static void take(size_t count) {
  copies.slots = gcrt_memory_map(slots_size(count));
  copies.words = copies.slots ? gcrt_memory_map(words_size(count)) : NULL;
  if (!copies.words) {
    if (copies.slots) gcrt_memory_unmap(copies.slots, slots_size(count));
    return;
  }
  copies.count = count;
  gcrt_store(&copies.bytes, slots_size(count) + words_size(count));
}

void gcrt_copies_begin(size_t heap_bytes) {
  size_t wanted = gcrt_min(SLOTS_MOST, gcrt_max(SLOTS_LEAST, heap_bytes / GCRT_COPY_BYTES / SHARE));
  size_t count = (size_t)1 << gcrt_log2(wanted);
  copies.number++;
  if (count == copies.count) return;
  give_back();
  take(count);
}

static size_t place_of(size_t page) { return (page / GCRT_COPY_BYTES) & (copies.count - 1); }

static bool has(size_t place, size_t page) {
  return copies.slots[place].page == page && copies.slots[place].number == copies.number;
}

const uintptr_t *gcrt_copy_find(size_t page) {
  if (copies.count == 0) return NULL;
  size_t place = place_of(page);
  return has(place, page) ? copies.words[place] : NULL;
}

static bool take_place(size_t place) { return gcrt_cas_acquire(&copies.slots[place].taken, 0, 1); }

uintptr_t *gcrt_copy_take(size_t page) {
  if (copies.count == 0) return NULL;
  size_t place = place_of(page);
  if (!take_place(place)) return NULL;
  if (has(place, page)) return copies.words[place];
  gcrt_copy_give(page);
  return NULL;
}

void gcrt_copy_give(size_t page) { gcrt_store_release(&copies.slots[place_of(page)].taken, 0); }

bool gcrt_copy_make(size_t page) {
  if (copies.count == 0) return false;
  size_t place = place_of(page);
  if (!take_place(place)) return false;
  copies.slots[place].page = page;
  copies.slots[place].number = copies.number;
  memset(copies.words[place], 0, GCRT_COPY_BYTES);
  gcrt_copy_give(page);
  return true;
}

size_t gcrt_copies_memory(void) { return gcrt_load(&copies.bytes); }

void gcrt_copies_after_fork(void) { give_back(); }
