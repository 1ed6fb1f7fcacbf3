/* Pools under several threads: of tokens, each is in the hands of one thread or in the pool, at any time; none is lost
 * unless a collection dropped it, and the metrics say so. */
#include "system.h"

#include <string.h>

static struct gc_pool_metrics stats(struct gc_pool *pool) {
  struct gc_pool_metrics m;
  memset(&m, 0xa5, sizeof m);
  gc_pool_stats(pool, &m);
  TEST_REQUIRE(m.gets == m.hits + m.misses);
  TEST_REQUIRE(m.hits == m.hits_private + m.hits_shared + m.hits_stolen + m.hits_victim);
  TEST_REQUIRE(m.puts == m.hits + m.refused + m.dropped + m.held);
  TEST_REQUIRE(m.held < (uint64_t)1 << 60, "%lld held", (long long)m.held);
  return m;
}

/* Tokens: each is in the hands of one thread, or in the pool. */
enum { WORKERS = 4, TOKENS = 64 };
struct token {
  int owners;
  char bytes[40];
};
static struct {
  struct gc_pool *pool;
  int stop, made;
} play;

static struct token *check_out(struct token *token) {
  int owners = __atomic_add_fetch(&token->owners, 1, __ATOMIC_SEQ_CST);
  TEST_REQUIRE(owners == 1, "%d owners", owners);
  return token;
}

static void check_in(struct token *token) {
  __atomic_sub_fetch(&token->owners, 1, __ATOMIC_SEQ_CST);
  gc_pool_put(play.pool, token);
}

static void *make_token(void *unused) {
  (void)unused;
  __atomic_add_fetch(&play.made, 1, __ATOMIC_SEQ_CST);
  return gc_alloc(sizeof(struct token));
}

static void *play_with_tokens(void *seed) {
  struct test_random r = test_random_stream((uintptr_t)seed);
  struct token *hand[TOKENS];
  size_t held = 0;
  while (!__atomic_load_n(&play.stop, __ATOMIC_RELAXED)) {
    if (held < TOKENS && test_random_once_in(&r, 2)) {
      hand[held++] = check_out(gc_pool_get(play.pool));
    } else if (held > 0) {
      check_in(hand[--held]);
    }
  }
  while (held > 0) check_in(hand[--held]);
  return NULL;
}

static void run_tokens(void (*beside)(void)) {
  play.pool = gc_pool_new(make_token, NULL);
  pthread_t threads[WORKERS];
  for (uintptr_t i = 0; i < WORKERS; i++) {
    TEST_REQUIRE(pthread_create(&threads[i], NULL, play_with_tokens, (void *)i) == 0);
  }
  for (double end = test_now() + 1; test_now() < end;) beside();
  __atomic_store_n(&play.stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < WORKERS; i++) TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
}

static void only_read(void) { (void)stats(play.pool); }

/* Without a collection nothing may be lost: as many are found as were made. */
START_TEST(nothing_is_lost_or_handed_out_twice) {
  gc_set_percent(-1);
  run_tokens(only_read);
  struct gc_pool_metrics m = stats(play.pool);
  ck_assert_uint_eq(m.misses, (uint64_t)play.made);
  ck_assert_uint_eq(m.held, (uint64_t)play.made);
  for (int i = play.made; i > 0; i--) check_out(gc_pool_get(play.pool));
  ck_assert_uint_eq(stats(play.pool).held, 0);
}
END_TEST

static void collect_and_read(void) {
  gc_collect();
  (void)stats(play.pool);
}

START_TEST(nothing_is_handed_out_twice_while_pools_turn) {
  run_tokens(collect_and_read);
  struct gc_pool_metrics m = stats(play.pool);
  ck_assert_uint_eq(m.misses, (uint64_t)play.made);
  ck_assert_uint_eq(m.held + m.dropped, (uint64_t)play.made);
  gc_collect();
  gc_collect();
  m = stats(play.pool);
  ck_assert_uint_eq(m.held, 0);
  ck_assert_uint_eq(m.dropped, (uint64_t)play.made);
}
END_TEST

/* Threads that come and go take over numbers, and claim those of the ended. */
static void *short_life(void *unused) {
  struct token *token = check_out(gc_pool_get(play.pool));
  struct token *more = check_out(gc_pool_get(play.pool));
  check_in(token);
  check_in(more);
  return unused;
}

static void one_more_life(void) {
  pthread_t thread;
  TEST_REQUIRE(pthread_create(&thread, NULL, short_life, NULL) == 0);
  (void)stats(play.pool);
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
}

START_TEST(threads_that_come_and_go_lose_nothing) {
  gc_set_percent(-1);
  run_tokens(one_more_life);
  for (int i = play.made; i > 0; i--) check_out(gc_pool_get(play.pool));
  struct gc_pool_metrics m = stats(play.pool);
  ck_assert_uint_eq(m.held, 0);
  ck_assert_uint_eq(m.misses, (uint64_t)play.made);
}
END_TEST

/* A fork in the midst of it: the child goes on with whole tokens. */
static int fork_and_take(void *unused) {
  (void)unused;
  for (int i = 0; i < 1000; i++) {
    struct token *token = gc_pool_get(play.pool);
    memset(token->bytes, 1, sizeof token->bytes);
    gc_pool_put(play.pool, token);
    if (i % 100 == 99) gc_collect();
  }
  gc_collect();
  gc_collect();
  return gc_base(play.pool) == (void *)play.pool ? 0 : 1;
}

static void fork_once(void) {
  struct test_child child = test_child_fork(fork_and_take, NULL, NULL);
  test_assert_exited(&child, 0);
  test_child_free(&child);
}

START_TEST(forks_in_the_midst_of_it) { run_tokens(fork_once); }
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("pool-tokens");
  TCase *tokens = test_case(suite, "tokens", 60);
  tcase_add_test(tokens, nothing_is_lost_or_handed_out_twice);
  tcase_add_test(tokens, nothing_is_handed_out_twice_while_pools_turn);
  tcase_add_test(tokens, threads_that_come_and_go_lose_nothing);
  tcase_add_test(tokens, forks_in_the_midst_of_it);
  return suite;
}

TEST_MAIN(make_suite)
