/* Where the work of a job comes from, besides the members' own stacks and deques: the roots, taken in slices; written
 * pages, by parts of the heap; the spans of uncollectable objects; and what is left of large objects, in slices.
 *
 * Cursors are under `lock`, which is held for one step of a cursor. `left` is read without it: it is set before a job
 * and when a range is shared, and cleared by whoever finds nothing to take, so a member that reads 0 has seen the end
 * of all but what comes later, and who brings that is busy (team.c).
 *
 * Member 0 sets a job up while nobody is busy. Not async-signal-safe. Queues of prepared pieces were not chosen: a
 * cursor needs no memory. */
#include "mark/work.h"

#include "sys/loader.h"

/* Of spans: of those that are looked at one by one. Of others a bit is. */
enum { SHARED_RANGES = 256, SPANS_IN_ONE_GO = 512 };

/* Chunks whose written pages are looked for in one go, if mutators may not help. */
enum { CHUNKS = 1024 };

static struct {
  struct gcrt_lock lock;
  const struct gcrt_root *roots;
  size_t root_count, root;
  uintptr_t root_at; /* in roots[root]; 0: at its start */
  gcrt_mark_pages *pages;
  bool pages_shared; /* with mutators */
  size_t page;       /* chunks whose pages were looked at */
  size_t span;       /* chunks looked at for uncollectable spans, or all */
  bool rescan;       /* all marked objects are scanned again, instead of the roots */
  struct gcrt_range shared[SHARED_RANGES];
  size_t shared_count;
  gcrt_word left; /* 0: roots, pages, spans and shared ranges are all taken */
} sources;

static void rewind_all(void) {
  sources.root = 0;
  sources.root_at = 0;
  gcrt_store(&sources.left, 1);
}

void gcrt_work_begin(const struct gcrt_root *roots, size_t count, bool spans, gcrt_mark_pages *pages) {
  sources.roots = roots;
  sources.root_count = count;
  sources.rescan = false;
  sources.pages = pages;
  sources.page = 0;
  sources.span = spans ? 0 : SIZE_MAX;
  rewind_all();
}

void gcrt_work_begin_again(void) {
  sources.rescan = true;
  sources.span = 0;
  rewind_all();
}

void gcrt_work_share_pages(bool shared) { sources.pages_shared = shared; }

bool gcrt_work_is_left(void) { return gcrt_load_acquire(&sources.left) != 0; }

bool gcrt_work_share(struct gcrt_range range) {
  gcrt_lock(&sources.lock);
  bool room = sources.shared_count < SHARED_RANGES;
  if (room) {
    sources.shared[sources.shared_count++] = range;
    gcrt_store_release(&sources.left, 1);
  }
  gcrt_unlock(&sources.lock);
  return room;
}

static bool take_root(struct gcrt_work *work) {
  if (sources.rescan || sources.root == sources.root_count) return false;
  const struct gcrt_root *root = &sources.roots[sources.root];
  uintptr_t start = sources.root_at ? sources.root_at : root->range.start;
  uintptr_t end = root->range.end - start > GCRT_SLICE ? start + GCRT_SLICE : root->range.end;
  *work =
      (struct gcrt_work){.kind = GCRT_WORK_ROOT, .range = {start, end}, .one_past_end = root->kind == GCRT_ROOT_STACK};
  sources.root_at = end;
  if (end == root->range.end) {
    sources.root++;
    sources.root_at = 0;
  }
  return true;
}

static bool take_shared(struct gcrt_work *work) {
  if (sources.shared_count == 0) return false;
  struct gcrt_range *range = &sources.shared[sources.shared_count - 1];
  uintptr_t end = range->end - range->start > GCRT_SLICE ? range->start + GCRT_SLICE : range->end;
  *work = (struct gcrt_work){.kind = GCRT_WORK_SLICE, .range = {range->start, end}};
  range->start = end;
  if (end == range->end) sources.shared_count--;
  return true;
}

static bool take_pages(struct gcrt_work *work, size_t chunks) {
  size_t total = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  if (!sources.pages || sources.rescan || sources.page >= total) return false;
  *work =
      (struct gcrt_work){.kind = GCRT_WORK_PAGES, .first = sources.page, .end = gcrt_min(total, sources.page + chunks)};
  sources.page = work->end;
  return true;
}

static bool take_spans(struct gcrt_work *work) {
  size_t total = gcrt_load(&gcrt_heap.used) / GCRT_CHUNK;
  if (sources.span >= total) return false;
  work->kind = GCRT_WORK_SPANS;
  work->first = sources.span;
  size_t count = SPANS_IN_ONE_GO * (sources.rescan ? 1 : 64);
  work->end = sources.span = gcrt_min(total, sources.span + count);
  return true;
}

bool gcrt_work_take(struct gcrt_work *work) {
  if (gcrt_load_acquire(&sources.left) == 0) return false;
  gcrt_lock(&sources.lock);
  size_t chunks = sources.pages_shared ? GCRT_WORK_CHUNKS : CHUNKS;
  bool taken = take_root(work) || take_shared(work) || take_pages(work, chunks) || take_spans(work);
  if (!taken) gcrt_store(&sources.left, 0);
  gcrt_unlock(&sources.lock);
  return taken;
}

/* Scans some written pages, without marking all that they lead to. False: there are none left to take. */
bool gcrt_work_scan_pages(struct gcrt_marker *marker, size_t chunks) {
  struct gcrt_work work;
  if (gcrt_load_acquire(&sources.left) == 0 || !sources.pages_shared) return false;
  gcrt_lock(&sources.lock);
  bool taken = take_pages(&work, chunks);
  gcrt_unlock(&sources.lock);
  if (!taken) return false;
  sources.pages(marker, work.first, work.end);
  gcrt_marker_leave(marker);
  return true;
}

/* Objects of one span: the white ones become grey, or, after an overflow, the black ones are scanned again. */
static void scan_span(struct gcrt_marker *marker, size_t first, const struct gcrt_chunk *chunk) {
  gcrt_mark *marks = gcrt_span_marks(chunk);
  for (size_t word = 0; word * 64 < chunk->cells; word++) {
    uint64_t cells = gcrt_marks_with(marks + 64 * word, sources.rescan ? gcrt_black() : gcrt_heap.white);
    uintptr_t start = gcrt_chunk_address(first) + word * 64 * chunk->cell;
    if (sources.rescan) {
      gcrt_marker_rescan(marker, start, chunk->cell, cells);
    } else {
      gcrt_marker_visit(marker, start, chunk->cell, cells);
    }
  }
}

/* Uncollectable objects are roots; after an overflow every marked object is as good as one. */
static void scan_spans(struct gcrt_marker *marker, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    size_t left = ~(size_t)0;
    if (!sources.rescan) {
      left = gcrt_load(&gcrt_heap.uncollectable_map[i / 64]) >> (i % 64);
      if (left == 0) {
        i = i / 64 * 64 + 63;
        continue;
      }
    }
    const struct gcrt_chunk *chunk = &gcrt_heap.chunks[i];
    if (!(left & 1) || gcrt_chunk_cells(chunk) == 0 || chunk->first != i) continue;
    if (!(chunk->flags & GCRT_FLAG_NOSCAN)) scan_span(marker, i, chunk);
  }
}

void gcrt_work_do(struct gcrt_marker *marker, const struct gcrt_work *work) {
  switch (work->kind) {
  case GCRT_WORK_ROOT:
    gcrt_marker_root(marker, work->range, work->one_past_end);
    break;
  case GCRT_WORK_SLICE:
    gcrt_marker_slice(marker, work->range);
    break;
  case GCRT_WORK_PAGES:
    sources.pages(marker, work->first, work->end);
    gcrt_marker_rest(marker);
    break;
  case GCRT_WORK_SPANS:
    scan_spans(marker, work->first, work->end);
    break;
  }
}

/* Addresses of roots and of parts of objects stay in it: as a root it would keep those alive. */
void gcrt_work_init(void) { gcrt_loader_exclude(&sources, &sources + 1); }

void gcrt_work_forget(void) {
  gcrt_lock_reset(&sources.lock);
  gcrt_store(&sources.left, 0);
  sources.shared_count = 0;
}
