/* Notes: words of roots that point into the heap, kept until objects may be marked.
 *
 * A cycle reads the threads' stacks one after the other while it waits for each to leave its critical section. Until
 * all have, some may still free cells as if nobody marked, and no mark byte may change. So what is read is noted, and
 * becomes grey afterwards. A note that there is no memory for is left out: the last stop reads all roots again.
 *
 * For the thread that runs the collection alone. Marking the objects of a stack twice, or a list of ranges to be read
 * later, was not chosen: the stack is its thread's again as soon as it has been visited. */
#include "mark/mark.h"
#include "mark/marker.h"

#include "base/report.h"

static struct gcrt_block *notes; /* the one that is written to comes first */

static bool room(void) {
  if (notes && notes->count < GCRT_BLOCK_ENTRIES) return true;
  struct gcrt_block *fresh = gcrt_block_take();
  if (!fresh) return false;
  fresh->count = 0;
  fresh->next = notes;
  notes = fresh;
  return true;
}

GCRT_READS_FOREIGN_MEMORY void gcrt_mark_note(struct gcrt_range range) {
  size_t used = gcrt_load(&gcrt_heap.used);
  for (uintptr_t at = range.start; at < range.end; at += GCRT_WORD_BYTES) {
    uintptr_t value = *(const volatile uintptr_t *)at;
    /* One past the end of the last object is an address, too. */
    if (value - gcrt_heap.base > used) continue;
    if (!room()) return;
    notes->entries[notes->count++] = value;
  }
}

void gcrt_mark_grey_notes(struct gcrt_marker *marker) {
  while (notes) {
    struct gcrt_block *block = notes;
    notes = block->next;
    struct gcrt_range words = {(uintptr_t)block->entries, (uintptr_t)(block->entries + block->count)};
    gcrt_marker_grey_root(marker, words, true);
    gcrt_block_give(block);
  }
}

void gcrt_notes_after_fork(void) { notes = NULL; }
