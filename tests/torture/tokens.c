/* Tokens that are moved among all kinds of places while everything collects.
 *
 * Each thread owns TOKENS tokens and remembers by number, never by address, where each is; what it takes out of a place
 * must be the very token, whole. Tokens also travel between threads through a shared place, and wait in blocking calls
 * on a stack that nobody runs. One loss anywhere, in any kind of root, shows as the place and the token's number. */
#include "token.h"

#include <poll.h>
#include <string.h>
#include <time.h>

struct where {
  uint64_t id;
  enum place_kind kind;
  unsigned slot;
};

struct hand {
  struct torture_worker *worker;
  struct where where[TOKENS];
  bool used[PLACE_KINDS][PLACE_SLOTS];
  uint64_t next_id;
};

/* Through here a token goes from one thread to another: the pointer, and its id beside it. */
static struct {
  pthread_mutex_t lock;
  void *token;
  uint64_t id;
} exchange = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void choose_place(struct hand *hand, struct where *where) {
  struct test_random *r = &hand->worker->random;
  do {
    where->kind = (enum place_kind)test_random_below(r, PLACE_KINDS);
    where->slot = (unsigned)test_random_below(r, PLACE_SLOTS);
  } while (hand->used[where->kind][where->slot] || !place_usable(where->kind));
  hand->used[where->kind][where->slot] = true;
}

static __attribute__((noinline)) void put(struct hand *hand, struct where *where, void *token) {
  choose_place(hand, where);
  place_put(where->kind, where->slot, token_pointer(token, &hand->worker->random));
}

static __attribute__((noinline)) void *take(struct hand *hand, struct where *where) {
  hand->used[where->kind][where->slot] = false;
  return token_check(place_take(where->kind, where->slot), where->id, place_name(where->kind));
}

static __attribute__((noinline)) void make(struct hand *hand, struct where *where) {
  where->id = hand->next_id++;
  put(hand, where, token_new(&hand->worker->random, where->id));
}

static __attribute__((noinline)) void move(struct hand *hand, struct where *where) {
  void *token = take(hand, where);
  put(hand, where, token);
}

static __attribute__((noinline)) void replace(struct hand *hand, struct where *where) {
  void *token = take(hand, where);
  if (test_random_once_in(&hand->worker->random, 2)) gc_free(token);
  make(hand, where);
}

static __attribute__((noinline)) void trade(struct hand *hand, struct where *where) {
  void *mine = take(hand, where);
  pthread_mutex_lock(&exchange.lock);
  void *other = exchange.token;
  uint64_t id = exchange.id;
  exchange.token = mine;
  exchange.id = where->id;
  pthread_mutex_unlock(&exchange.lock);
  if (other == NULL) {
    make(hand, where);
    return;
  }
  token_check(other, id, "a global variable, by way of another thread");
  where->id = id;
  put(hand, where, other);
}

static void *wait_a_little(void *arg) {
  nanosleep(arg, NULL);
  return NULL;
}

/* The token is on the stack of a thread that waits in the kernel, in a call that may count as a stop or not. */
static __attribute__((noinline)) void wait_with(struct hand *hand, struct where *where) {
  struct timespec time = {0, 200000};
  void *volatile token = take(hand, where);
  switch (test_random_below(&hand->worker->random, 3)) {
  case 0:
    TEST_REQUIRE(nanosleep(&time, NULL) == 0, "nanosleep was broken off");
    break;
  case 1:
    TEST_REQUIRE(poll(NULL, 0, 1) == 0, "poll was broken off");
    break;
  default:
    gc_call_blocking(wait_a_little, &time);
  }
  token_check(token, where->id, "the stack of a waiting thread");
  put(hand, where, token);
}

/* The token is nowhere but in the registers and the frame of the thread that collects. */
static __attribute__((noinline)) void collect_with(struct hand *hand, struct where *where) {
  void *token = take(hand, where);
  gc_collect();
  token_check(token, where->id, "a register or the stack of the thread that collects");
  put(hand, where, token);
}

static __attribute__((noinline)) void make_garbage(struct test_random *r) {
  for (unsigned i = 0; i < 8; i++) {
    size_t size = torture_size(r, 1);
    char *p = gc_alloc(size);
    TEST_REQUIRE(p != NULL);
    memset(p, 0x5a, size < 1024 ? size : 1024);
  }
}

static void hold_tokens(struct torture_worker *worker) {
  void *stack_slots[PLACE_SLOTS] = {NULL};
  struct hand hand = {.worker = worker, .next_id = (uint64_t)(worker->index + 1) << 40};
  struct test_random *r = &worker->random;
  places_open(worker->index, stack_slots);
  for (unsigned i = 0; i < TOKENS; i++) make(&hand, &hand.where[i]);
  do {
    struct where *where = &hand.where[test_random_below(r, TOKENS)];
    uint64_t what = test_random_below(r, 128);
    if (what == 0)
      collect_with(&hand, where);
    else if (what < 4)
      wait_with(&hand, where);
    else if (what < 16)
      replace(&hand, where);
    else if (what < 32)
      trade(&hand, where);
    else
      move(&hand, where);
    test_clear_stack();
    make_garbage(r);
  } while (torture_continues(worker));
  torture_collect();
  for (unsigned i = 0; i < TOKENS; i++) take(&hand, &hand.where[i]);
  places_close();
  torture_check_metrics();
}

static const unsigned thread_counts[] = {1, 2, 4};

START_TEST(tokens_are_kept) {
  struct torture_heap base = torture_heap_now();
  torture_run(thread_counts[_i], 1.0 / 3, hold_tokens, NULL);
  if (exchange.token != NULL) token_check(exchange.token, exchange.id, "a global variable");
  exchange.token = NULL;
  torture_heap_check(&base, 400, 4 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("tokens");
  TCase *tc = test_case(suite, "places", TORTURE_TIMEOUT);
  tcase_add_loop_test(tc, tokens_are_kept, 0, sizeof thread_counts / sizeof *thread_counts);
  return suite;
}

TEST_MAIN(make_suite)
