/* Only pointers that move as fast as they can while the collector marks beside the program.
 *
 * Each thread owns HIDDEN tokens and knows by number where each is. It takes one, or two that lie side by side, and
 * puts them elsewhere, by every instruction and system call that moves a word: from a place that was not scanned to one
 * that was, in every order, many times in each collection. Another thread does nothing but collect, and tens of MiB of
 * ballast make a marking last. Threads hand tokens to each other through a mailbox. What a place holds must be the very
 * token. Nothing is said about GCRT_TRACKER: whatever is set is tested. */
#include "hide_moves.h"
#include "hide_places.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 192, MAILBOXES = 4, SIZE_MOST = 400, MEBIBYTES = 40, MOVES_BETWEEN = 2000, FRAME_MOVES = 200 };

struct where {
  uint64_t id;
  unsigned kind, slot;
};

struct hider {
  struct torture_worker *worker;
  struct test_random *r;
  struct hide_places *places;
  struct where where[HIDDEN];
  uint16_t occupant[HIDE_KINDS][HIDE_SLOTS]; /* 1 + the token's number */
  uint64_t next_id;
  uint64_t moves;
  struct move_pipe pipe;
};

/* Through these a token goes from one thread to another. They are in the heap. */
struct mailbox {
  atomic_flag busy;
  void *volatile token;
  uint64_t id;
};

static struct mailbox *mailboxes;
static atomic_ullong all_moves;
static atomic_uint movers_left, movers_ready;

/* Some two thirds of the slots are empty, so there are always pairs of empty ones. */
static void choose(struct hider *h, struct where *w, unsigned words) {
  for (;;) {
    unsigned kind = (unsigned)test_random_below(h->r, HIDE_KINDS);
    /* A switch to a coroutine takes as long as a hundred moves. */
    if (kind == PLACE_COROUTINE && !test_random_once_in(h->r, 8)) continue;
    unsigned count = hide_slot_count(h->places, kind);
    if (count == 0 || (words == 2 && !hide_slot(h->places, kind, 0))) continue;
    unsigned slot = (unsigned)test_random_below(h->r, count) & ~(words - 1);
    if (h->occupant[kind][slot] || (words == 2 && h->occupant[kind][slot + 1])) continue;
    if (kind == HIDE_NODE && !h->occupant[kind][slot ^ 1]) hide_other_node(h->places, slot, h->r);
    w->kind = kind;
    w->slot = slot;
    return;
  }
}

static void settle(struct hider *h, unsigned token, const struct where *at, unsigned offset) {
  struct where *w = &h->where[token];
  h->occupant[w->kind][w->slot] = 0;
  w->kind = at->kind;
  w->slot = at->slot + offset;
  h->occupant[w->kind][w->slot] = (uint16_t)(token + 1);
}

static __attribute__((noinline)) void put(struct hider *h, const struct where *w, void *p) {
  void *volatile *slot = hide_slot(h->places, w->kind, w->slot);
  if (slot)
    *slot = p;
  else
    place_put((enum place_kind)w->kind, w->slot, p);
}

static __attribute__((noinline)) void *take(struct hider *h, const struct where *w) {
  void *volatile *slot = hide_slot(h->places, w->kind, w->slot);
  if (!slot) return place_take((enum place_kind)w->kind, w->slot);
  void *p = *slot;
  *slot = NULL;
  return p;
}

static __attribute__((noinline)) void check(struct hider *h, unsigned token, enum move_kind how) {
  struct where *w = &h->where[token];
  void *volatile *slot = hide_slot(h->places, w->kind, w->slot);
  char text[128];
  if (!slot) return; /* it is checked when it is taken */
  snprintf(text, sizeof text, "%s, to which it came by %s", hide_name(w->kind), move_name(how));
  (void)token_check(*slot, w->id, text);
}

static size_t token_size(struct test_random *r) {
  return test_random_once_in(r, 500) ? 50000 : TOKEN_SIZE_LEAST + test_random_below(r, SIZE_MOST);
}

static __attribute__((noinline)) void make(struct hider *h, unsigned token) {
  h->where[token].id = h->next_id++;
  put(h, &h->where[token], token_new_sized(token_size(h->r), h->where[token].id));
}

/* To an opaque place, or from one. */
static __attribute__((noinline)) void move_by_hand(struct hider *h, unsigned token) {
  struct where to;
  choose(h, &to, 1);
  void *p = take(h, &h->where[token]);
  token_check(p, h->where[token].id, hide_name(h->where[token].kind));
  put(h, &to, move_pause(p, h->r));
  settle(h, token, &to, 0);
}

static __attribute__((noinline)) void move(struct hider *h, unsigned token) {
  const struct where *w = &h->where[token];
  unsigned first = w->slot & ~1u;
  void *volatile *from = hide_slot(h->places, w->kind, w->slot);
  unsigned other = from ? h->occupant[w->kind][w->slot ^ 1] : 0;
  struct where to;
  enum move_kind how = (enum move_kind)test_random_below(h->r, MOVE_KINDS);
  /* A system call takes as long as ten moves. */
  bool by_kernel = how == MOVE_READ || how == MOVE_READV;
  if (by_kernel && (test_writes_fault() || !test_random_once_in(h->r, 4))) how = MOVE_REGISTER;
  unsigned words = how == MOVE_VECTOR || (other && how != MOVE_REGISTER && how != MOVE_EXCHANGE) ? 2 : 1;
  if (words == 2 && !other) words = 1, how = MOVE_REGISTER;
  if (from) choose(h, &to, words);
  void *volatile *at = from ? hide_slot(h->places, to.kind, to.slot) : NULL;
  if (!at) {
    move_by_hand(h, token);
    return;
  }
  if (words == 2) {
    unsigned pair[2] = {h->occupant[w->kind][first] - 1u, h->occupant[w->kind][first + 1] - 1u};
    move_words(how, at, hide_slot(h->places, w->kind, first), 2, &h->pipe, h->r);
    for (unsigned i = 0; i < 2; i++) settle(h, pair[i], &to, i);
    for (unsigned i = 0; i < 2; i++) check(h, pair[i], how);
    return;
  }
  move_words(how, at, from, 1, &h->pipe, h->r);
  settle(h, token, &to, 0);
  if (h->moves % 8 == 0) check(h, token, how);
}

static __attribute__((noinline)) void replace(struct hider *h, unsigned token) {
  struct where *w = &h->where[token];
  void *p = token_check(take(h, w), w->id, hide_name(w->kind));
  switch (test_random_below(h->r, 3)) {
  case 0: {
    /* The place may be one that cannot hold a pointer one past the end or to elsewhere: the start will do. */
    put(h, w, token_resize(p, token_size(h->r)));
    return;
  }
  case 1:
    gc_free(p);
    break;
  default:
    break;
  }
  make(h, token);
}

static __attribute__((noinline)) void trade(struct hider *h, unsigned token) {
  struct mailbox *box = &mailboxes[test_random_below(h->r, MAILBOXES)];
  struct where *w = &h->where[token];
  if (atomic_flag_test_and_set_explicit(&box->busy, memory_order_acquire)) return;
  void *mine = take(h, w);
  void *other = box->token;
  uint64_t id = box->id;
  box->token = mine;
  box->id = w->id;
  atomic_flag_clear_explicit(&box->busy, memory_order_release);
  if (other == NULL) {
    make(h, token);
    return;
  }
  w->id = id;
  put(h, w, token_check(other, id, "a mailbox"));
}

static __attribute__((noinline)) void make_garbage(struct hider *h) {
  for (unsigned i = 0; i < 6; i++) {
    uint64_t *p = gc_alloc(TOKEN_SIZE_LEAST + test_random_below(h->r, SIZE_MOST));
    TEST_REQUIRE(p != NULL && p[0] == 0 && p[3] == 0, "memory that is not zero at %p", (void *)p);
    p[0] = p[3] = UINT64_MAX;
  }
}

static void step(struct hider *h) {
  unsigned token = (unsigned)test_random_below(h->r, HIDDEN);
  uint64_t what = test_random_below(h->r, 256);
  h->moves++;
  if (what < 4)
    replace(h, token);
  else if (what < 8)
    trade(h, token);
  else if (what < 12)
    hide_renew(h->places, h->r);
  else if (what < 16)
    hide_swap_ballast(h->places, h->r);
  else if (what < 24)
    make_garbage(h);
  else
    move(h, token);
}

/* Steps at every depth of the stack. What this frame holds goes elsewhere before it ends. */
static __attribute__((noinline)) void descend(struct hider *h, bool in_time) {
  void *volatile slots[HIDE_FRAME_SLOTS] = {NULL};
  unsigned depth = hide_slot_count(h->places, HIDE_FRAME) / HIDE_FRAME_SLOTS;
  hide_enter(h->places, slots);
  for (unsigned i = 0; i < FRAME_MOVES; i++) {
    step(h);
    if (in_time && depth + 1 < HIDE_FRAMES && test_random_once_in(h->r, 100)) descend(h, torture_continues(h->worker));
  }
  atomic_fetch_add(&all_moves, FRAME_MOVES);
  hide_leave(h->places);
  for (unsigned i = 0; i < HIDE_FRAME_SLOTS; i++) {
    unsigned token = h->occupant[HIDE_FRAME][depth * HIDE_FRAME_SLOTS + i];
    if (token == 0) continue;
    struct where to;
    choose(h, &to, 1);
    void *p = token_check(slots[i], h->where[token - 1].id, "a frame of the stack");
    slots[i] = NULL;
    put(h, &to, p);
    settle(h, token - 1, &to, 0);
  }
}

static size_t ballast_bytes(unsigned threads) {
  const char *text = getenv("TORTURE_MIB");
  size_t mebibytes = text ? strtoul(text, NULL, 10) : MEBIBYTES;
  return (mebibytes << 20) / threads;
}

/* Worker 0 collects; the others move. */
static __attribute__((noinline)) void hide(struct torture_worker *worker) {
  void *stack_slots[PLACE_SLOTS] = {NULL};
  /* The table holds no addresses, and must not be taken for a root that does. */
  struct hider *h = calloc(1, sizeof *h);
  TEST_REQUIRE(h != NULL);
  *h = (struct hider){.worker = worker, .r = &worker->random, .next_id = (uint64_t)worker->index << 40};
  unsigned movers = worker->threads - 1;
  struct hide_places *places = hide_open(worker->index - 1, ballast_bytes(movers), stack_slots, h->r);
  h->places = places;
  move_pipe_open(&h->pipe);
  for (unsigned i = 0; i < HIDDEN; i++) {
    struct where at;
    choose(h, &at, 1);
    h->where[i] = at;
    h->occupant[at.kind][at.slot] = (uint16_t)(i + 1);
    make(h, i);
  }
  atomic_fetch_add(&movers_ready, 1);
  worker->deadline += test_now() - *(double *)worker->shared;
  do descend(h, true);
  while (torture_continues(worker));
  for (unsigned i = 0; i < HIDDEN; i++) token_check(take(h, &h->where[i]), h->where[i].id, hide_name(h->where[i].kind));
  hide_check_ballast(places);
  hide_close(places);
  move_pipe_close(&h->pipe);
  free(h);
}

/* Collects as often as the movers let it: with the program stopped in a collection they must get on between two. */
static void collect_always(unsigned movers) {
  while (atomic_load(&movers_ready) < movers) sched_yield();
  while (atomic_load(&movers_left) > 0) {
    unsigned long long moves = atomic_load(&all_moves);
    gc_collect();
    while (atomic_load(&movers_left) > 0 && atomic_load(&all_moves) < moves + MOVES_BETWEEN) sched_yield();
  }
}

static void work(struct torture_worker *worker) {
  if (worker->index == 0) {
    collect_always(worker->threads - 1);
    return;
  }
  hide(worker);
  test_clear_stack();
  atomic_fetch_sub(&movers_left, 1);
}

static const unsigned mover_counts[] = {1, 2, 4};

START_TEST(only_pointers_are_found) {
  unsigned movers = mover_counts[_i];
  if (test_writes_fault())
    puts("  without read, readv and coroutines: the kernel cannot write with GCRT_TRACKER=mprotect");
  mailboxes = gc_alloc(MAILBOXES * sizeof *mailboxes);
  TEST_REQUIRE(mailboxes != NULL);
  struct torture_heap base = torture_heap_now();
  atomic_store(&movers_left, movers);
  double start = test_now();
  torture_run(movers + 1, 1.0 / 3, work, &start);
  for (unsigned i = 0; i < MAILBOXES; i++)
    if (mailboxes[i].token != NULL) token_check(mailboxes[i].token, mailboxes[i].id, "a mailbox");
  mailboxes = NULL;
  printf("  %llu moves\n", atomic_load(&all_moves));
  torture_heap_check(&base, 2000, 8 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("hide");
  TCase *tc = test_case(suite, "moves", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, only_pointers_are_found, 0, sizeof mover_counts / sizeof *mover_counts);
  return suite;
}

TEST_MAIN(make_suite)
