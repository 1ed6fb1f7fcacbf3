/* The heap's shape: chunks, spans, cells, and how any address finds its object.
 *
 * The heap is one reservation cut into chunks of 64 KiB. A span is one or more chunks with cells of one size class and
 * one kind, or one large object. What the marker needs of a chunk is 16 bytes in a flat table; which cells are handed
 * out stands in bits and which are marked in bytes (heap/marks.h), both out of line, so that neither marking nor
 * sweeping writes into heap memory.
 *
 * Invariants (heap/verify.c walks them):
 *  - A chunk with cells == 0 is in no span: every lookup in it fails, as the index is never below 0.
 *  - All chunks of a span carry the same entry; `first` is the index of the span's first chunk.
 *  - Cell i of a span is bit i % 64 of alloc word i / 64 of its first chunk, and mark byte i of that chunk; a span has
 * at most 4096 cells, and at most 1024 if a cell is 64 bytes or more.
 *  - In a span that is swept a mark byte is gcrt_heap.white where the alloc bit is set, and 0 elsewhere, while no
 *    marking is under way. In one that is not yet swept the other colour is what the sweep will free.
 *  - While marking is under way (gcrt_heap.marking) no span ends, and a cell that is freed is not handed out again: its
 *    mark byte is GCRT_MARK_FREED, or what a marker that was late made of it, until the sweep.
 *  - A cell whose alloc bit is clear is not handed out; one whose bit is set is an object or lies unused in the window
 *    of exactly one thread, and then it reads as zero.
 *  - An object that fills its cell to the last byte is in a span with GCRT_TIGHT, all others are not: a pointer one
 *    past the end of an object in any other span still points into its cell. */
#ifndef GCRT_HEAP_LAYOUT_H
#define GCRT_HEAP_LAYOUT_H

#include "base/atomics.h"
#include "base/bits.h"
#include "base/size_classes.h"
#include "heap/marks.h"
#include "sys/lock.h"

enum {
  GCRT_CHUNK_SHIFT = 16,
  GCRT_CHUNK = 1 << GCRT_CHUNK_SHIFT, /* bytes */
  GCRT_WORDS = 64,                    /* alloc words of a chunk */
  GCRT_MARKS_SHIFT = 10,              /* log2 of the mark bytes of a chunk with cells of 64 bytes or more */
  GCRT_MARKS_SHIFT_FINE = 12,         /* and of one with smaller cells */
  GCRT_FINE_CELL = 64,                /* bytes; cells below are fine */
  GCRT_HUGE_PAGE = 2 << 20,           /* bytes; the heap starts at a multiple */
  GCRT_HUGE_FROM = 1024,              /* chunks: a heap beyond 64 MiB asks for huge pages behind what is above */
};

/* What an object is, as allocation asks for it. */
enum gcrt_kind { GCRT_SCAN, GCRT_NOSCAN, GCRT_UNCOLLECTABLE, GCRT_KINDS };

/* What a span is, as the marker asks for it. */
enum {
  GCRT_FLAG_NOSCAN = 1,
  GCRT_FLAG_UNCOLLECTABLE = 2,
  GCRT_FLAG_TIGHT = 4, /* every object fills its cell */
  GCRT_FLAG_LARGE = 8,
  GCRT_FLAG_FINE_SHIFT = 4,
  GCRT_FLAG_FINE = 1 << GCRT_FLAG_FINE_SHIFT, /* cells under GCRT_FINE_CELL bytes */
};

/* A slot is a class, a kind and whether the objects fill their cells: what a thread keeps a window of. */
enum { GCRT_SLOTS_PER_CLASS = 2 * GCRT_KINDS, GCRT_SLOTS = GCRT_CLASSES * GCRT_SLOTS_PER_CLASS };

GCRT_INLINE unsigned gcrt_slot_of(unsigned class, enum gcrt_kind kind, bool tight) {
  return class * GCRT_SLOTS_PER_CLASS + (unsigned)kind * 2 + tight;
}
GCRT_INLINE unsigned gcrt_slot_class(unsigned slot) { return slot / GCRT_SLOTS_PER_CLASS; }
GCRT_INLINE enum gcrt_kind gcrt_slot_kind(unsigned slot) { return (enum gcrt_kind)(slot % GCRT_SLOTS_PER_CLASS / 2); }
GCRT_INLINE bool gcrt_slot_tight(unsigned slot) { return slot % 2 != 0; }

struct gcrt_chunk {
  uint32_t first;  /* index of the span's first chunk */
  uint32_t magic;  /* ceil(2^31 / (cell / 16)), 0 for a large object: (offset / 16 * magic) >> 31 is the cell's index */
  gcrt_half cells; /* cells of the span, 0: free. Written last and read first (gcrt_chunk_cells) */
  uint16_t cell;   /* bytes of a cell, 0 for a large object */
  uint8_t flags;
  uint8_t class;
};
_Static_assert(sizeof(struct gcrt_chunk) == 16, "the marker's table is indexed by shifts");

/* The rest of what a span is; entry i of the table belongs to the span whose first chunk is i.
 * `owned`, `swept` and the lists are written under the central lock of the slot, `listed` with them; gc_free looks at
 * `listed` and `slot` without it, maybe in a later life of the span (gcrt_central_freed). `used` is atomic: cells leave
 * it with release and it is found 0 with acquire, so that what was done to the cells is over. A span that is to be
 * swept is in no list and nobody's. */
struct gcrt_span {
  struct gcrt_span *next; /* in the central list of its slot */
  size_t size;            /* bytes of a large object, as counted: whole pages */
  gcrt_word windows;      /* bit i: alloc word i is, or lately was, the window of a thread */
  uint64_t kept_windows;  /* those of them that still are; of the last flip, for the sweep */
  gcrt_word used;         /* cells whose alloc bit is set */
  gcrt_word chunks;       /* 0: not in use */
  gcrt_word slot;
  uint32_t fresh;   /* cells from here on were never handed out and read as zero */
  gcrt_byte listed; /* in the central list */
  gcrt_byte owned; /* a thread refills from it; always for a large object, and for a span that is being made or ended */
  gcrt_byte swept; /* low byte of gcrt_heap.epoch at its birth or its last sweep; another: it is to be swept */
  gcrt_byte watched; /* somebody wants to know of the end of an object in it; until the span ends */
};
_Static_assert(sizeof(struct gcrt_span) == 64, "a cache line each");

struct gcrt_central {
  struct gcrt_lock lock;
  struct gcrt_span *partial; /* spans that are not owned and may have a free cell */
  struct gcrt_span *last;    /* of them; of no meaning if there is none */
};

/* Of gcrt_heap.marking. Threads that free act by its being 0 or not; while it begins, some have not seen it yet, and
 * nothing is marked. It becomes 0 while all threads are stopped. */
enum { GCRT_MARKING_BEGINS = 1, GCRT_MARKING = 2 };

struct gcrt_heap {
  uintptr_t base;
  size_t reserved;   /* bytes */
  gcrt_word used;    /* bytes from base up to the last chunk that was ever in a span */
  gcrt_word live;    /* bytes of cells handed out to windows and objects: what pacing counts */
  gcrt_word trigger; /* when live reaches it, the next refill collects */

  struct gcrt_chunk *chunks;
  gcrt_word *allocs;   /* [GCRT_WORDS] a chunk */
  gcrt_mark *marks[2]; /* by GCRT_FLAG_FINE: tables of mark bytes */
  gcrt_word marking;   /* 0, or one of the next: objects are being marked while the program runs */
  unsigned white; /* 1 or 2: the mark byte of an object that is not marked. Changes while all threads are stopped */
  struct gcrt_span *spans;
  struct gcrt_central *central; /* [GCRT_SLOTS] */

  /* The chunk allocator, under pages_lock. */
  struct gcrt_lock pages_lock;
  uint64_t *busy_map;  /* bit set: in a span, or being given back */
  uint64_t *dirty_map; /* bit set: not known to read as zero */
  uint64_t *lazy_map;  /* bit set: free and dirty, but given back: the system takes the memory when it needs some */
  size_t committed;    /* chunks that were made usable, a prefix */
  size_t first_free;   /* no free chunk below */
  size_t release_top;  /* no chunk to be given back from here on, but some that were left out (release.c) */
  size_t flight;       /* chunks that are being given back: set in busy_map, counted in dirty */
  size_t returned;     /* chunks that were given back, in all, or were taken and not used */
  bool small_pages;    /* no huge pages are asked for, but for mark bytes and long runs that are not tracked */
  gcrt_word busy;      /* chunks in spans */
  gcrt_word dirty;     /* free chunks that hold memory: not given back since they were used */

  /* Held by the one thread that gives memory back, over the system call: taken before pages_lock. */
  struct gcrt_lock release_lock;
  gcrt_word refused; /* times the system did not take memory */

  /* Pages of marks[1] that were touched: by far not all are, as most chunks never hold fine cells. Of any thread. */
  gcrt_word *fine_map; /* bit set: counted */
  gcrt_word fine_pages;

  /* Bit set: the first chunk of a span of uncollectable objects, which are roots. Of any thread. */
  gcrt_word *uncollectable_map;

  /* By chunk, a bit for each GCRT_CARD_BYTES that were written: of the collection that marks beside the program. */
  uint16_t *written;

  /* The sweep (heap/sweep.c). */
  gcrt_word epoch;                 /* flips */
  gcrt_word sweep_next, sweep_end; /* chunks: spans that begin between them have not been taken for sweeping */
  gcrt_word sweepers;              /* threads that sweep what they took */
  gcrt_word sweep_freed;           /* bytes, since the flip */
  bool freed_while_marking;        /* free cells may have a mark byte */
  bool half_marked;                /* marking was given up: mark bytes are of either colour */
  bool clobber;                    /* fill what is reclaimed */

  /* Large objects and gc_free, counted where they happen. */
  gcrt_word large_mallocs, large_bytes;
};

extern struct gcrt_heap gcrt_heap;

/* The count that makes the rest of the entry valid: what is read of it after this belongs to the same span, as a span
 * does not end while others may look addresses up that they do not hold. */
GCRT_INLINE uint32_t gcrt_chunk_cells(const struct gcrt_chunk *chunk) { return gcrt_load_half_acquire(&chunk->cells); }

GCRT_INLINE uintptr_t gcrt_chunk_address(size_t index) { return gcrt_heap.base + (index << GCRT_CHUNK_SHIFT); }
GCRT_INLINE size_t gcrt_chunk_index(uintptr_t address) { return (address - gcrt_heap.base) >> GCRT_CHUNK_SHIFT; }
GCRT_INLINE size_t gcrt_span_index(const struct gcrt_span *span) { return (size_t)(span - gcrt_heap.spans); }
GCRT_INLINE uintptr_t gcrt_span_start(const struct gcrt_span *span) {
  return gcrt_chunk_address(gcrt_span_index(span));
}

/* The first mark byte of a span. */
GCRT_INLINE gcrt_mark *gcrt_span_marks(const struct gcrt_chunk *chunk) {
  unsigned fine = (chunk->flags >> GCRT_FLAG_FINE_SHIFT) & 1;
  unsigned shift = GCRT_MARKS_SHIFT + (GCRT_MARKS_SHIFT_FINE - GCRT_MARKS_SHIFT) * fine;
  return gcrt_heap.marks[fine] + ((size_t)chunk->first << shift);
}

/* The mark byte of an object that is marked, during a collection. */
GCRT_INLINE unsigned gcrt_black(void) { return 3 - gcrt_heap.white; }

/* Where an address lies. */
struct gcrt_place {
  struct gcrt_chunk *chunk;
  gcrt_word *alloc;
  gcrt_mark *mark;
  size_t bit; /* in *alloc */
  uint32_t index;
};

GCRT_INLINE bool gcrt_in_heap(uintptr_t address) { return address - gcrt_heap.base < gcrt_load(&gcrt_heap.used); }

/* Finds the cell of any address; false: in no span, or in the tail behind the last cell. Looks at no alloc bit. */
GCRT_INLINE bool gcrt_find_cell(uintptr_t address, struct gcrt_place *place) {
  size_t offset = address - gcrt_heap.base;
  if (offset >= gcrt_load(&gcrt_heap.used)) return false;
  struct gcrt_chunk *chunk = &gcrt_heap.chunks[offset >> GCRT_CHUNK_SHIFT];
  uint32_t cells = gcrt_chunk_cells(chunk);
  size_t first = chunk->first;
  uint64_t inside = (offset - (first << GCRT_CHUNK_SHIFT)) / GCRT_GRANULE;
  uint32_t index = (uint32_t)((inside * chunk->magic) >> 31);
  if (index >= cells) return false;
  place->chunk = chunk;
  place->index = index;
  place->alloc = &gcrt_heap.allocs[first * GCRT_WORDS + index / 64];
  place->mark = gcrt_span_marks(chunk) + index;
  place->bit = (size_t)1 << (index % 64);
  return true;
}

/* As above, for a cell that is handed out. */
GCRT_INLINE bool gcrt_find(uintptr_t address, struct gcrt_place *place) {
  return gcrt_find_cell(address, place) && (gcrt_load(place->alloc) & place->bit) != 0;
}

GCRT_INLINE uintptr_t gcrt_place_start(const struct gcrt_place *place) {
  return gcrt_chunk_address(place->chunk->first) + (size_t)place->index * place->chunk->cell;
}

/* Bytes of the cell, or of the large object. */
GCRT_INLINE size_t gcrt_place_size(const struct gcrt_place *place) {
  return place->chunk->cell ? place->chunk->cell : gcrt_heap.spans[place->chunk->first].size;
}

#endif
