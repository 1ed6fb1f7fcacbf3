/* Copies of pages that are written again and again while objects are marked: a table of pointers that the program
 * changes at random is dirty in every round, and of its hundreds of words a few have changed.
 *
 * A word of a copy is what its place held when it was last scanned and was *seen*: whoever it points to is black, or it
 * points outside of the heap's reservation. All other words of a copy are 0. So a place that holds what its copy holds
 * need not be scanned again, as long as no cell changes hands: what is freed while objects are marked is not handed out
 * before the sweep (heap/layout.h). Without that, a dangling pointer that was seen, and whose cell is handed out again
 * and stored in the same place, would hide the new object. For the same reason a word that was found in front of a free
 * cell, or in an object that was not black, is not seen. Copies are forgotten when the next marking begins.
 *
 * A bounded, direct-mapped table: a page that meets another in its place takes it. Beside the program several markers
 * use it, each a copy that no other has taken; in the stop they only read. */
#ifndef GCRT_MARK_COPIES_H
#define GCRT_MARK_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GCRT_COPY_BYTES = 4096, GCRT_COPY_WORDS = GCRT_COPY_BYTES / sizeof(uintptr_t) };

/* Forgets all copies; room for those of a heap of so many bytes. */
void gcrt_copies_begin(size_t heap_bytes);
/* `page` is a multiple of GCRT_COPY_BYTES, in bytes from the heap's start. */
/* The words of this page's copy, to be read while nobody writes; NULL if there is none. */
const uintptr_t *gcrt_copy_find(size_t page);
/* The same for one who writes, and who has it alone until gcrt_copy_give. NULL also if somebody has its place. */
uintptr_t *gcrt_copy_take(size_t page);
void gcrt_copy_give(size_t page);
/* Makes a copy in which nothing is seen. False: no memory, or somebody has its place. */
bool gcrt_copy_make(size_t page);
/* Bytes mapped. */
size_t gcrt_copies_memory(void);
/* In a forked child. */
void gcrt_copies_after_fork(void);

#endif
