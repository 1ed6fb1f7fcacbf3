/* The heap layer's functions, by file. Nothing here knows of threads or roots: the world hands in its caches. */
#ifndef GCRT_HEAP_HEAP_H
#define GCRT_HEAP_HEAP_H

#include "heap/layout.h"

/* reservation.c: takes the address space (at most `bytes`, less under RLIMIT_AS) and the tables. Once, before all. */
void gcrt_heap_init(size_t bytes);
/* Makes the tables usable for the first `chunks` chunks, under gcrt_heap.pages_lock. False: no memory. */
bool gcrt_heap_commit_tables(size_t chunks);

/* pages.c: runs of chunks. Thread-safe. */
/* A run of n free chunks, the first at a multiple of `alignment` chunks (a power of two), committed and counted as
 * busy. SIZE_MAX if there is none. Sets *zeroed if all of it reads as zero. */
size_t gcrt_pages_take(size_t n, size_t alignment, bool *zeroed);
/* Whether that could succeed if all chunks were free. May commit chunks for a moment. */
bool gcrt_pages_possible(size_t n, size_t alignment);
void gcrt_pages_give(size_t first, size_t n, bool zeroed);
/* No huge pages from now on: writes are tracked by pages, and one into a huge page that is armed splits it. */
void gcrt_pages_small(void);
/* But behind a long run that is never tracked. Of a run that was taken; before it is given back, the second. */
void gcrt_pages_untracked(size_t first, size_t n);
void gcrt_pages_tracked(size_t first, size_t n);

/* release.c: memory of free chunks goes back to the operating system, highest addresses first. A mutator calls it
 * inside a critical section. */
enum gcrt_release {
  GCRT_RELEASE_GENTLY, /* huge pages that are in use stay whole, and locked memory stays */
  GCRT_RELEASE_ALL,
};
/* One system call: so many bytes at most (whole chunks), or the rest of a huge page. Returns bytes released; 0: there
 * is nothing more, or it was refused (gcrt_heap.refused). */
size_t gcrt_release_some(size_t bytes, enum gcrt_release how);
/* At least so many bytes, if there are so many now. */
size_t gcrt_release(size_t bytes, enum gcrt_release how);
/* Bytes of the heap that hold memory: in spans, or free and not given back. Any thread, without a lock. */
GCRT_INLINE size_t gcrt_heap_retained(void) {
  return (gcrt_load(&gcrt_heap.busy) + gcrt_load(&gcrt_heap.dirty)) * GCRT_CHUNK;
}

/* span.c: spans and the central lists. Thread-safe. */
/* A span with free cells of that slot, owned by the caller; NULL: no memory. */
struct gcrt_span *gcrt_central_take(unsigned slot);
/* Ends the ownership; the span is listed if it has free cells. */
void gcrt_central_give(struct gcrt_span *span);
/* A cell of an unowned span may have become free: list it, or free the whole span. */
void gcrt_central_freed(struct gcrt_span *span);
/* Under the slot's lock: lists a span that nobody owns last. */
void gcrt_central_append(struct gcrt_central *central, struct gcrt_span *span);
/* A span for one large object; NULL: no memory. size is what the program asked for, alignment a power of two. */
struct gcrt_span *gcrt_span_large(size_t size, size_t alignment, enum gcrt_kind kind);
/* The object of a large span of that slot was freed: ends it, unless the sweep did or will. */
void gcrt_span_large_freed(struct gcrt_span *span, size_t slot);
/* Takes a span apart and gives its chunks back. It is in no list, and nothing in it is in use. */
void gcrt_span_destroy(struct gcrt_span *span);

/* object.c: objects by address. Thread-safe. */
/* What gc_free or gc_realloc complain of; GCRT_OBJECT_OK fills *place. */
enum gcrt_object_state { GCRT_OBJECT_OK, GCRT_OBJECT_FOREIGN, GCRT_OBJECT_INTERIOR, GCRT_OBJECT_FREE };
enum gcrt_object_state gcrt_object_at(const void *p, struct gcrt_place *place);
/* Bytes the program may use. */
size_t gcrt_object_usable(const struct gcrt_place *place);
enum gcrt_kind gcrt_object_kind(const struct gcrt_place *place);
/* Takes an object out of use. False if another thread freed it in the same moment. */
bool gcrt_object_free(const struct gcrt_place *place, bool clobber);

/* Called with the start of each object that ends in a span in which one was watched, by the sweep or by gc_free: before
 * the cell can be handed out, with the contents as they were. Under the lock of the slot, or inside a critical section.
 */
extern void (*gcrt_heap_on_end)(uintptr_t start);
/* For an object that the caller holds. */
GCRT_INLINE void gcrt_heap_watch(const struct gcrt_place *place) {
  gcrt_store_byte(&gcrt_heap.spans[place->chunk->first].watched, true);
}
GCRT_INLINE bool gcrt_span_watched(const struct gcrt_span *span) { return gcrt_load_byte(&span->watched) != 0; }

/* sweep.c */
/* With all threads stopped, the windows' unused cells marked and no sweep under way: what is white is to be freed and
 * what is black is white from now on. */
void gcrt_heap_flip(bool clobber);
/* Sweeps a few spans, if any are left to be taken. False: none are. Any thread that cannot be stopped meanwhile. */
bool gcrt_heap_sweep_some(void);
/* Sweeps all that is left, and waits for other sweepers. Returns the bytes that were freed since the flip. */
size_t gcrt_heap_sweep_rest(void);
/* In a stop, before the first object is marked. */
void gcrt_heap_begin_marking(void);
/* In a forked child: marking that was under way is given up. */
void gcrt_heap_abandon_marking(void);
/* In a forked child: what another thread had taken for sweeping is to be taken again. */
void gcrt_heap_sweep_again(void);
/* Whether this span is. */
GCRT_INLINE bool gcrt_span_unswept(const struct gcrt_span *span) {
  return gcrt_load_byte(&span->swept) != (uint8_t)gcrt_load(&gcrt_heap.epoch);
}
/* Whether spans are left to be swept. */
GCRT_INLINE bool gcrt_heap_sweeping(void) {
  return gcrt_load(&gcrt_heap.sweep_next) < gcrt_load(&gcrt_heap.sweep_end) || gcrt_load(&gcrt_heap.sweepers) != 0;
}

/* recount.c: in a forked child. Makes the counts and mark bytes of every span, and gcrt_heap.live, agree with the
 * bitmaps. */
void gcrt_heap_recount_spans(void);
/* Makes the counts of every class agree with the bitmaps; `cache` is the only thread's, or NULL. */
struct gcrt_cache;
void gcrt_heap_recount_classes(const struct gcrt_cache *cache);

/* verify.c: walks every invariant of layout.h, with all threads stopped, no marking and nothing left to sweep; a breach
 * is fatal. */
void gcrt_heap_verify(void);

/* fork.c's part of this layer: all locks, in lock order. */
void gcrt_heap_lock_all(void);
void gcrt_heap_unlock_all(void);
void gcrt_heap_reset_locks(void);

#endif
