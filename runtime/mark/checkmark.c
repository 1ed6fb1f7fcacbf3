/* A second marking that checks the first: GCRT_DEBUG=checkmark=1.
 *
 * It shares nothing with the mark loop but the heap's tables: one thread, one stack, bits of its own, no queue and no
 * prefetch. An object it reaches that is not marked means that the first marking would have lost it: the program ends
 * with the address of the object and of the word that holds it. Objects that only the first marking found are no error:
 * unused cells in windows are marked without being reachable.
 *
 * With the world stopped, between marking and sweeping. Its memory is mapped for the moment. */
#include "base/report.h"
#include "heap/layout.h"
#include "mark/mark.h"
#include "sys/memory.h"

#include <string.h>

static struct {
  gcrt_word *seen; /* bits, as the alloc words */
  uintptr_t *stack;
  size_t count, capacity;
} check;

static void push(uintptr_t start) {
  if (check.count == check.capacity) {
    size_t old = check.capacity * sizeof(uintptr_t);
    size_t bytes = old ? 2 * old : 1 << 20;
    uintptr_t *stack = gcrt_memory_map(bytes);
    if (!stack) gcrt_fatal("checkmark: no memory for its stack (%zu bytes)", bytes);
    if (old) {
      memcpy(stack, check.stack, old);
      gcrt_memory_unmap(check.stack, old);
    }
    check.stack = stack;
    check.capacity = bytes / sizeof(uintptr_t);
  }
  check.stack[check.count++] = start;
}

static void reach(uintptr_t address, uintptr_t holder) {
  struct gcrt_place place;
  if (!gcrt_find(address, &place)) return;
  gcrt_word *seen = &check.seen[place.alloc - gcrt_heap.allocs];
  if (gcrt_load(seen) & place.bit) return;
  gcrt_store(seen, gcrt_load(seen) | place.bit);
  if (gcrt_load_byte(place.mark) != gcrt_black()) {
    gcrt_fatal("checkmark: the object at %p (%zu bytes), held by the word at %p, is reachable and not marked",
               (void *)gcrt_place_start(&place), gcrt_place_size(&place), (void *)holder);
  }
  if (!(place.chunk->flags & GCRT_FLAG_NOSCAN)) push(gcrt_place_start(&place));
}

GCRT_READS_FOREIGN_MEMORY static void scan(uintptr_t start, uintptr_t end) {
  for (uintptr_t at = start; at < end; at += GCRT_WORD_BYTES) {
    uintptr_t value = *(const volatile uintptr_t *)at;
    if (gcrt_in_heap(value)) reach(value, at);
  }
}

/* Pointers one past the end, from stacks. */
GCRT_READS_FOREIGN_MEMORY static void scan_ends(uintptr_t start, uintptr_t end) {
  for (uintptr_t at = start; at < end; at += GCRT_WORD_BYTES) {
    uintptr_t value = *(const volatile uintptr_t *)at;
    struct gcrt_place place;
    if (!gcrt_in_heap(value - 1) || !gcrt_find(value - 1, &place)) continue;
    bool tight = (place.chunk->flags & GCRT_FLAG_TIGHT) != 0;
    if (tight && gcrt_place_start(&place) + gcrt_place_size(&place) == value) reach(value - 1, at);
  }
}

static void drain(void) {
  while (check.count) {
    uintptr_t start = check.stack[--check.count];
    struct gcrt_place place;
    if (gcrt_find(start, &place)) scan(start, start + gcrt_place_size(&place));
  }
}

static void reach_uncollectable(void) {
  size_t total = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  for (size_t i = 0; i < total; i++) {
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (chunk->cells == 0 || chunk->first != i || !(chunk->flags & GCRT_FLAG_UNCOLLECTABLE)) continue;
    for (size_t cell = 0; cell < chunk->cells; cell++) {
      uintptr_t start = gcrt_chunk_address(i) + cell * chunk->cell;
      reach(start, start);
    }
    drain();
  }
}

void gcrt_mark_check(const struct gcrt_root *roots, size_t count) {
  size_t words = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK * GCRT_WORDS;
  size_t bytes = gcrt_align_up(words * sizeof(gcrt_word) + 1, gcrt_page_size());
  check.seen = gcrt_memory_map(bytes);
  if (!check.seen) gcrt_fatal("checkmark: no memory for its bits (%zu bytes)", bytes);
  for (size_t i = 0; i < count; i++) {
    scan(roots[i].range.start, roots[i].range.end);
    if (roots[i].kind == GCRT_ROOT_STACK) scan_ends(roots[i].range.start, roots[i].range.end);
    drain();
  }
  reach_uncollectable();
  drain();
  gcrt_memory_unmap((void *)check.seen, bytes);
  if (check.capacity) gcrt_memory_unmap(check.stack, check.capacity * sizeof(uintptr_t));
  check.stack = NULL;
  check.capacity = 0;
}
