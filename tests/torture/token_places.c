/* The places that hold tokens.
 *
 * Each thread has its own slots of each kind and uses them alone, so nothing locks. Every access to a slot goes through
 * a volatile pointer: the compiler must neither keep a copy nor leave the store out. The coroutine's slots are local
 * variables of a function on a stack of its own, which is switched to for every access. Its ucontext holds registers of
 * both sides and a pointer on the way from one to the other, so it is an uncollectable object. ThreadSanitizer cannot
 * follow the switches: there the kind is not used. Keys of pthread_setspecific are taken from both ends of a long row,
 * for the C library keeps the first 32 in the thread's descriptor and the others elsewhere. */
#include "token.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { COROUTINE_STACK = 64 << 10 };

static const char *const names[PLACE_KINDS] = {
    [PLACE_HEAP] = "a collected object",
    [PLACE_UNCOLLECTABLE] = "an uncollectable object",
    [PLACE_DATA] = "a global variable (.data)",
    [PLACE_BSS] = "a global variable (.bss)",
    [PLACE_TLS] = "a thread-local variable",
    [PLACE_SPECIFIC] = "pthread_setspecific",
    [PLACE_STACK] = "the stack",
    [PLACE_COROUTINE] = "the stack of a coroutine",
    [PLACE_ROOTS] = "gc_add_roots",
};

struct data_slots {
  uint64_t used;
  void *slot[PLACE_SLOTS];
};

static struct data_slots data_slots[TOKEN_THREADS] = {{.used = 1}, {.used = 1}, {.used = 1}, {.used = 1}};
static void *bss_slots[TOKEN_THREADS][PLACE_SLOTS];
static void **heap_slots[TOKEN_THREADS];
static uintptr_t hidden_uncollectable[TOKEN_THREADS];
static uintptr_t hidden_roots[TOKEN_THREADS];
static pthread_key_t keys[PLACE_SLOTS];
static pthread_once_t keys_once = PTHREAD_ONCE_INIT;
static __thread void *tls_slots[PLACE_SLOTS];
static __thread void **own_stack_slots;
static __thread unsigned self;

/* One request to the coroutine: the pointer passes through here in both directions and stays only on its stack. */
struct coroutine {
  ucontext_t caller;
  ucontext_t context;
  void *stack;
  void *passed;
  unsigned slot;
  bool put;
  bool stop;
};

static __thread struct coroutine *coroutine;

static void coroutine_main(unsigned high, unsigned low) {
  struct coroutine *c = (struct coroutine *)((uintptr_t)high << 32 | low);
  void *volatile slots[PLACE_SLOTS] = {NULL};
  while (!c->stop) {
    if (c->put) {
      slots[c->slot] = c->passed;
      c->passed = NULL;
    } else {
      c->passed = slots[c->slot];
      slots[c->slot] = NULL;
    }
    test_clear_stack();
    swapcontext(&c->context, &c->caller);
  }
}

static void coroutine_open(void) {
  struct coroutine *c = gc_alloc_uncollectable(sizeof *c);
  TEST_REQUIRE(c != NULL);
  c->stack = mmap(NULL, COROUTINE_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TEST_REQUIRE(c->stack != MAP_FAILED);
  TEST_REQUIRE(gc_stack_register(c->stack, (char *)c->stack + COROUTINE_STACK) == 0);
  getcontext(&c->context);
  c->context.uc_stack.ss_sp = c->stack;
  c->context.uc_stack.ss_size = COROUTINE_STACK;
  c->context.uc_link = &c->caller;
  makecontext(&c->context, (void (*)(void))coroutine_main, 2, (unsigned)((uintptr_t)c >> 32), (unsigned)(uintptr_t)c);
  coroutine = c;
}

static void *coroutine_pass(void *p, unsigned slot, bool put, bool stop) {
  struct coroutine *c = coroutine;
  c->passed = p;
  c->slot = slot;
  c->put = put;
  c->stop = stop;
  swapcontext(&c->caller, &c->context);
  p = c->passed;
  c->passed = NULL;
  return p;
}

static void coroutine_close(void) {
  coroutine_pass(NULL, 0, true, true);
  TEST_REQUIRE(gc_stack_unregister(coroutine->stack) == 0);
  munmap(coroutine->stack, COROUTINE_STACK);
  gc_free(coroutine);
  coroutine = NULL;
}

static void make_keys(void) {
  enum { ROW = 48 };
  for (unsigned i = 0; i < ROW; i++) {
    pthread_key_t key;
    TEST_REQUIRE(pthread_key_create(&key, NULL) == 0);
    keys[i % PLACE_SLOTS] = i < PLACE_SLOTS / 2 || i % PLACE_SLOTS >= PLACE_SLOTS / 2 ? key : keys[i % PLACE_SLOTS];
  }
}

/* The coroutine's ucontext is an object, into which swapcontext has the kernel write the signal mask. */
bool place_usable(enum place_kind kind) { return kind != PLACE_COROUTINE || !(TORTURE_TSAN || test_writes_fault()); }

const char *place_name(enum place_kind kind) { return names[kind]; }

void places_open(unsigned thread, void **stack_slots) {
  enum { BYTES = PLACE_SLOTS * sizeof(void *) };
  self = thread;
  own_stack_slots = stack_slots;
  pthread_once(&keys_once, make_keys);
  heap_slots[self] = gc_alloc(BYTES);
  void **uncollectable = gc_alloc_uncollectable(BYTES);
  void **range = calloc(1, BYTES);
  TEST_REQUIRE(heap_slots[self] != NULL && uncollectable != NULL && range != NULL);
  TEST_REQUIRE(gc_add_roots(range, (char *)range + BYTES) == 0);
  hidden_uncollectable[self] = test_hide(uncollectable);
  hidden_roots[self] = test_hide(range);
  if (place_usable(PLACE_COROUTINE)) coroutine_open();
}

void places_close(void) {
  void **range = test_reveal(hidden_roots[self]);
  TEST_REQUIRE(gc_remove_roots(range, range + PLACE_SLOTS) == 0);
  free(range);
  gc_free(test_reveal(hidden_uncollectable[self]));
  heap_slots[self] = NULL;
  if (place_usable(PLACE_COROUTINE)) coroutine_close();
}

void *volatile *place_slot(enum place_kind kind, unsigned slot) {
  switch (kind) {
  case PLACE_HEAP:
    return &heap_slots[self][slot];
  case PLACE_UNCOLLECTABLE:
    return (void **)test_reveal(hidden_uncollectable[self]) + slot;
  case PLACE_DATA:
    return &data_slots[self].slot[slot];
  case PLACE_BSS:
    return &bss_slots[self][slot];
  case PLACE_TLS:
    return &tls_slots[slot];
  case PLACE_STACK:
    return &own_stack_slots[slot];
  case PLACE_ROOTS:
    return (void **)test_reveal(hidden_roots[self]) + slot;
  default:
    return NULL;
  }
}

void place_put(enum place_kind kind, unsigned slot, void *p) {
  if (kind == PLACE_SPECIFIC)
    pthread_setspecific(keys[slot], p);
  else if (kind == PLACE_COROUTINE)
    coroutine_pass(p, slot, true, false);
  else
    *place_slot(kind, slot) = p;
}

void *place_take(enum place_kind kind, unsigned slot) {
  if (kind == PLACE_SPECIFIC) {
    void *p = pthread_getspecific(keys[slot]);
    pthread_setspecific(keys[slot], NULL);
    return p;
  }
  if (kind == PLACE_COROUTINE) return coroutine_pass(NULL, slot, false, false);
  void *volatile *at = place_slot(kind, slot);
  void *p = *at;
  *at = NULL;
  return p;
}
