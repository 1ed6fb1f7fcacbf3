/* latency MIB THREADS REQUESTS: how long a request takes while a heap of MIB stays live and changes.
 *
 * The live heap hangs on one table of pointers. Each slot has a chain of four objects of 32 to 256 bytes. A request
 * makes 50 objects of these sizes; every twelfth object takes the place of the first in the chain of a random slot, so
 * 4 to 5 do, all over the live heap; the others hang together until the end of the request, when they are read and
 * die. The table is an object of the heap, or, in programs compiled with LATENCY_STATIC, a static variable.
 *
 * All threads work at the same table, each in a part of its own: so what is in it at the end depends on the arguments
 * alone. Each thread serves REQUESTS / THREADS requests, one right after the other, and the time of each goes into a
 * histogram: all of the thread's time between the first and the last is some request's, but for the reading of the
 * stops. A stop counts once in each thread. Clients who come at their own times would all wait for it.
 *
 * Every word of a live object follows from its value and its slot. They are all read at the end: an object that was
 * lost, and its memory given to another, ends the program with an error. bench/latency.go is the same program in Go;
 * one that is changed alone shows in the checksum. */
#include "threads.h"

#include "stops.h"

#include <stdbool.h>

enum {
  CHAIN = 4,
  OBJECTS_OF_REQUEST = 50,
  OBJECTS_OF_REPLACEMENT = 12,
  LEAST_SIZE = 32,
  SIZE_STEP = 16,
  SIZES = 15, /* 32, 48 .. 256: those that Go, too, has without rounding */
  BYTES_OF_SLOT = CHAIN * (LEAST_SIZE + (SIZES - 1) * SIZE_STEP / 2),
  VALUE_STEP = 64, /* the low bits of a value are the object's number of words */
  REQUESTS_BETWEEN_READINGS = 4096
};

struct object {
  struct object *next;
  uint64_t value;    /* which object it is, and how many words it has */
  uint64_t filler[]; /* only of live objects; see filler_of */
};

enum { WORDS_OF_HEAD = sizeof(struct object) / sizeof(uint64_t) };

#if defined(LATENCY_STATIC)
enum { MOST_MIB = 256, STATIC_SLOTS = MOST_MIB * (1 << 20) / BYTES_OF_SLOT };
static struct object *table[STATIC_SLOTS];
#else
enum { MOST_MIB = 65536 };
static struct object **table;
#endif

static uint64_t slots_of_thread;

static struct mutator {
  _Alignas(128) uint64_t first_slot; /* the threads write to no line of each other's */
  uint64_t random;
  uint64_t serial;      /* of the next object, threads counted in */
  uint64_t replacement; /* objects until the next replacement */
  uint64_t checksum;
  uint64_t began, ended;
  struct histogram *requests;
} mutators[MOST_THREADS];

static struct object *object_new(struct mutator *m) {
  uint64_t size = LEAST_SIZE + SIZE_STEP * random_below(&m->random, SIZES);
  struct object *o = allocate(size);
  o->value = m->serial * VALUE_STEP + size / sizeof(uint64_t);
  m->serial += MOST_THREADS;
  return o;
}

/* Word i of a live object's filler holds this and i more. It says where the object belongs, and looks like no address.
 */
static uint64_t filler_of(const struct object *o, uint64_t slot) {
  return (o->value ^ slot << 32) * UINT64_C(0x9e3779b97f4a7c15) | UINT64_C(1) << 63;
}

static void fill(struct object *o, uint64_t slot) {
  uint64_t words = o->value % VALUE_STEP, first = filler_of(o, slot);
  for (uint64_t i = WORDS_OF_HEAD; i < words; i++) o->filler[i - WORDS_OF_HEAD] = first + i;
}

static bool is_whole(const struct object *o, uint64_t slot) {
  uint64_t words = o->value % VALUE_STEP, first = filler_of(o, slot);
  if (words < LEAST_SIZE / sizeof(uint64_t)) return false;
  for (uint64_t i = WORDS_OF_HEAD; i < words; i++)
    if (o->filler[i - WORDS_OF_HEAD] != first + i) return false;
  return true;
}

static void build(struct mutator *m) {
  for (uint64_t slot = m->first_slot; slot < m->first_slot + slots_of_thread; slot++) {
    struct object *chain = NULL;
    for (int i = 0; i < CHAIN; i++) {
      struct object *o = object_new(m);
      fill(o, slot);
      o->next = chain;
      table[slot] = chain = o;
    }
  }
}

/* Puts the object at the head of a random chain, in place of the one that is there. */
static void replace(struct mutator *m, struct object *o) {
  uint64_t slot = m->first_slot + random_below(&m->random, (uint32_t)slots_of_thread);
  struct object *old = table[slot];
  m->checksum += old->value;
  o->next = old->next;
  fill(o, slot);
  table[slot] = o;
  release(old);
}

static void serve_request(struct mutator *m) {
  struct object *kept = NULL;
  for (int i = 0; i < OBJECTS_OF_REQUEST; i++) {
    struct object *o = object_new(m);
    if (--m->replacement == 0) {
      m->replacement = OBJECTS_OF_REPLACEMENT;
      replace(m, o);
    } else {
      o->next = kept;
      kept = o;
    }
  }
  while (kept != NULL) {
    struct object *next = kept->next;
    m->checksum += kept->value;
    release(kept);
    kept = next;
  }
}

static void serve(struct mutator *m, uint64_t requests, bool reads_stops) {
  uint64_t began = now_ns();
  m->began = began;
  for (uint64_t i = 1; i <= requests; i++) {
    serve_request(m);
    uint64_t ended = now_ns();
    histogram_add(m->requests, ended - began);
    began = ended;
    if (reads_stops && i % REQUESTS_BETWEEN_READINGS == 0) {
      stops_read();
      began = now_ns();
    }
  }
  m->ended = began;
}

/* All begin to serve together, and a collector from the same state: right after a collection of the live heap. */
static void *run_mutator(void *arg) {
  struct work *w = arg;
  struct mutator *m = &mutators[w->thread];
  m->first_slot = w->thread * slots_of_thread;
  m->random = 88172645463325252u + w->thread;
  m->serial = w->thread;
  m->replacement = OBJECTS_OF_REPLACEMENT;
  m->requests = histogram_new();
  build(m);
  pthread_barrier_wait(w->start);
  if (w->thread == 0) {
#if !ALLOCATOR_FREES
    collect();
#endif
    stops_begin();
  }
  pthread_barrier_wait(w->start);
  serve(m, w->count, w->thread == 0);
  w->checksum = m->checksum;
  return NULL;
}

/* Reads all of the live heap. */
static uint64_t live_checksum(uint64_t slots) {
  uint64_t sum = 0;
  for (uint64_t slot = 0; slot < slots; slot++) {
    const struct object *o = table[slot];
    for (int i = 0; i < CHAIN; i++, o = o->next) {
      if (o == NULL || !is_whole(o, slot) || (i == CHAIN - 1 && o->next != NULL)) {
        fprintf(stderr, "latency: slot %" PRIu64 ": object %d of the chain is damaged\n", slot, i);
        exit(1);
      }
      sum = sum * 31 + o->value;
    }
  }
  return sum;
}

int main(int argc, char **argv) {
  uint64_t mib = argument(argc, argv, 1, "MiB", 64, 1, MOST_MIB);
  unsigned threads = (unsigned)argument(argc, argv, 2, "threads", 1, 1, MOST_THREADS);
  uint64_t requests = argument(argc, argv, 3, "requests", 500000, threads, (uint64_t)1 << 32);
  allocator_start();
  slots_of_thread = mib * (1 << 20) / BYTES_OF_SLOT / threads;
#if !defined(LATENCY_STATIC)
  table = allocate(slots_of_thread * threads * sizeof *table);
#endif
  uint64_t checksum = run_threads(threads, 0, requests, run_mutator);
  stops_read();

  struct histogram *all = histogram_new();
  uint64_t began = UINT64_MAX, ended = 0;
  for (unsigned t = 0; t < threads; t++) {
    histogram_merge(all, mutators[t].requests);
    if (mutators[t].began < began) began = mutators[t].began;
    if (mutators[t].ended > ended) ended = mutators[t].ended;
  }
  uint64_t wall = ended - began;
  printf("requests_per_second=%.1f\n", (double)all->count * 1e9 / (double)wall);
  report_histogram("request", all);
  report_histogram("stop", stops_found);
  report_run(wall, checksum + live_checksum(slots_of_thread * threads));
  return 0;
}
