/* Giving free chunks back: which come first, how much at once, what of huge pages, what is counted, what is refused. */
#include "heap_fixture.h"

#include "base/options.h"
#include "sys/memory.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = GCRT_HUGE_PAGE / GCRT_CHUNK };

static void *address(size_t chunk) { return (void *)gcrt_chunk_address(chunk); }

/* Chunks 0 to n - 1 in use and written. */
static void fill(size_t heap, size_t n) {
  bool zeroed;
  fresh_heap(heap);
  ck_assert_uint_eq(gcrt_pages_take(n, 1, &zeroed), 0);
  for (size_t i = 0; i < n; i++) memset(address(i), 0x55, GCRT_CHUNK);
}

static bool resident(size_t chunk) {
  unsigned char pages[GCRT_CHUNK / 4096] = {0};
  TEST_REQUIRE(mincore(address(chunk), GCRT_CHUNK, pages) == 0);
  return pages[0] & 1;
}

static struct gcrt_heap_usage usage(void) {
  struct gcrt_heap_usage usage;
  gcrt_heap_usage(&usage);
  ck_assert_uint_eq(usage.heap_released, usage.heap_sys + usage.released_total - usage.reacquired_total);
  return usage;
}

START_TEST(highest_addresses_come_first) {
  fill(16 * MIB, 100);
  gcrt_pages_give(10, 5, false);
  gcrt_pages_give(40, 3, false);
  gcrt_pages_give(90, 2, false);
  ck_assert_uint_eq(gcrt_release_some(GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_CHUNK);
  ck_assert(!resident(91) && resident(90));
  ck_assert_uint_eq(gcrt_release_some(10 * GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_CHUNK);
  ck_assert(!resident(90) && resident(42));
  ck_assert_uint_eq(gcrt_release_some(2 * GCRT_CHUNK, GCRT_RELEASE_GENTLY), 2 * GCRT_CHUNK);
  ck_assert(!resident(42) && !resident(41) && resident(40));
  /* One that is freed above what was looked at already. */
  gcrt_pages_give(95, 1, false);
  ck_assert_uint_eq(gcrt_release_some(10 * GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_CHUNK);
  ck_assert(!resident(95) && resident(40));
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), 6 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release_some(SIZE_MAX, GCRT_RELEASE_GENTLY), 0);
  ck_assert_uint_eq(gcrt_heap.refused, 0);
  for (size_t i = 0; i < 100; i++) {
    bool is_free = (i >= 10 && i < 15) || (i >= 40 && i < 43) || i == 90 || i == 91 || i == 95;
    TEST_REQUIRE(resident(i) == !is_free, "chunk %zu", i);
    TEST_REQUIRE(filled(address(i), is_free ? 0 : 0x55, GCRT_CHUNK), "chunk %zu", i);
  }
}
END_TEST

START_TEST(no_more_than_was_asked_for) {
  fill(32 * MIB, 400);
  gcrt_pages_give(0, 400, false);
  ck_assert_uint_eq(gcrt_release(5 * GCRT_CHUNK + 1, GCRT_RELEASE_ALL), 6 * GCRT_CHUNK);
  ck_assert(!resident(394) && resident(393));
  /* A system call has an end: others wait for it. */
  size_t some = gcrt_release_some(SIZE_MAX, GCRT_RELEASE_ALL);
  ck_assert_uint_ge(some, 4 * MIB);
  ck_assert_uint_lt(some, 6 * MIB);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 394 * GCRT_CHUNK - some);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 0);
}
END_TEST

/* Beyond 64 MiB the heap has huge pages. */
START_TEST(a_free_huge_page_goes_whole) {
  fill(128 * MIB, 1024 + 4 * BLOCK);
  gcrt_pages_give(1024 + BLOCK - 3, 2 * BLOCK + 3, false);
  ck_assert_uint_eq(gcrt_release_some(GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_HUGE_PAGE);
  ck_assert(resident(1024 + 2 * BLOCK - 1) && !resident(1024 + 2 * BLOCK));
  ck_assert_uint_eq(gcrt_release_some(GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_HUGE_PAGE);
  /* Of one that is in use for the most part, a chunk. */
  ck_assert_uint_eq(gcrt_release_some(GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), 2 * GCRT_CHUNK);
}
END_TEST

START_TEST(small_pages_go_by_chunks) {
  fill(128 * MIB, 1024 + 4 * BLOCK);
  gcrt_pages_small();
  gcrt_pages_give(1024, 4 * BLOCK, false);
  ck_assert_uint_eq(gcrt_release_some(GCRT_CHUNK, GCRT_RELEASE_GENTLY), GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release_some(3 * GCRT_CHUNK, GCRT_RELEASE_GENTLY), 3 * GCRT_CHUNK);
}
END_TEST

START_TEST(a_dense_huge_page_is_not_split_gently) {
  fill(128 * MIB, 1024 + 4 * BLOCK);
  size_t dense = 1024 + BLOCK;
  gcrt_pages_give(dense + BLOCK - 1, BLOCK + 1, false); /* its last, and all of the next */
  gcrt_pages_give(5, 1, false);                         /* where there are none */
  gcrt_pages_give(1024 + 3 * BLOCK + 7, 1, false);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), (BLOCK + 1) * GCRT_CHUNK);
  ck_assert(resident(dense + BLOCK - 1) && !resident(dense + BLOCK) && !resident(5));
  ck_assert(resident(1024 + 3 * BLOCK + 7));
  ck_assert_uint_eq(gcrt_heap.dirty, 2);
  /* Two of its chunks are another matter. */
  gcrt_pages_give(1024 + 3 * BLOCK + 9, 1, false);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), 2 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), GCRT_CHUNK);
  ck_assert(!resident(dense + BLOCK - 1));
}
END_TEST

START_TEST(every_byte_is_counted_once) {
  bool zeroed;
  fill(16 * MIB, 20);
  struct gcrt_heap_usage before = usage();
  ck_assert_uint_eq(before.released_total, 0);
  ck_assert_uint_eq(before.reacquired_total, 20 * GCRT_CHUNK);
  gcrt_pages_give(0, 20, false);
  ck_assert_uint_eq(usage().reacquired_total, 20 * GCRT_CHUNK);
  gcrt_release(7 * GCRT_CHUNK, GCRT_RELEASE_ALL);
  ck_assert_uint_eq(usage().released_total, 7 * GCRT_CHUNK);
  ck_assert_uint_eq(usage().heap_released, usage().heap_sys - 13 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_pages_take(15, 1, &zeroed), 0);
  ck_assert_uint_eq(usage().reacquired_total, 22 * GCRT_CHUNK);
  gcrt_pages_give(13, 2, true); /* not written after all */
  ck_assert_uint_eq(usage().reacquired_total, 22 * GCRT_CHUNK);
  ck_assert_uint_eq(usage().released_total, 9 * GCRT_CHUNK);
}
END_TEST

START_TEST(lazily_released_memory_counts_as_released_and_not_as_zero) {
  bool zeroed = true;
  fill(16 * MIB, 20);
  gcrt_options.debug.madvfree = 1;
  gcrt_pages_give(0, 20, false);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), 20 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_GENTLY), 0);
  ck_assert_uint_eq(usage().heap_released, usage().heap_sys);
  ck_assert_uint_eq(gcrt_heap.dirty, 0);
  ck_assert_uint_eq(gcrt_pages_take(5, 1, &zeroed), 0);
  ck_assert(!zeroed);
  ck_assert_uint_eq(usage().reacquired_total, 25 * GCRT_CHUNK);
  gcrt_pages_give(0, 5, false);
  ck_assert_uint_eq(gcrt_heap.dirty, 5);
  /* Not those that the system has anyway. */
  gcrt_options.debug.madvfree = 0;
  ck_assert_uint_eq(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 5 * GCRT_CHUNK);
  ck_assert_uint_eq(gcrt_pages_take(5, 1, &zeroed), 0);
  ck_assert(zeroed);
  /* Zero and not zero in one run. */
  gcrt_pages_give(0, 5, false);
  gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL);
  ck_assert_uint_eq(gcrt_pages_take(6, 1, &zeroed), 0);
  ck_assert(!zeroed);
}
END_TEST

/* By the kernel's calls: a sanitizer's mlock does nothing. */
START_TEST(locked_memory_stays_as_it_is) {
  fill(16 * MIB, 20);
  if (syscall(SYS_mlock, address(0), 20 * GCRT_CHUNK) != 0) TEST_SKIP("mlock: %s", strerror(errno));
  gcrt_pages_give(4, 10, false);
  ck_assert_uint_eq(gcrt_release_some(SIZE_MAX, GCRT_RELEASE_GENTLY), 0);
  ck_assert_uint_eq(gcrt_heap.refused, 1);
  ck_assert(resident(4) && filled(address(4), 0x55, 10 * GCRT_CHUNK));
  ck_assert_uint_eq(gcrt_heap.dirty, 10);
  ck_assert_uint_eq(usage().released_total, 0);
  /* Unlocked it goes. */
  ck_assert_int_eq(syscall(SYS_munlock, address(0), 20 * GCRT_CHUNK), 0);
  ck_assert_uint_eq(gcrt_release_some(SIZE_MAX, GCRT_RELEASE_GENTLY), 10 * GCRT_CHUNK);
}
END_TEST

/* Of a run of free chunks that had been a span of fine cells. */
START_TEST(tables_of_long_runs_go_with_them) {
  fresh_heap(64 * MIB);
  struct gcrt_cache *cache = new_cache();
  unsigned slot = gcrt_slot_of(1, GCRT_SCAN, false);
  size_t cell = gcrt_class_size[1], count = (size_t)(20 * MIB) / cell;
  void **cells = malloc(count * sizeof *cells);
  for (size_t i = 0; i < count; i++) {
    cells[i] = take_cell(cache, slot);
    TEST_REQUIRE(cells[i] != NULL);
    *(size_t *)cells[i] = i;
  }
  size_t fine = gcrt_heap.fine_pages;
  ck_assert_uint_ge(fine, 20 * MIB / GCRT_CHUNK);
  for (size_t i = 0; i < count; i++) {
    struct gcrt_place place;
    TEST_REQUIRE(gcrt_object_at(cells[i], &place) == GCRT_OBJECT_OK && gcrt_object_free(&place, false));
  }
  gcrt_cache_retire(cache);
  ck_assert_uint_eq(gcrt_heap.busy, 0);
  size_t tables = usage().tables_sys;
  ck_assert_uint_ge(gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL), 20 * MIB);
  ck_assert_uint_le(gcrt_heap.fine_pages, fine / 10);
  ck_assert_uint_le(usage().tables_sys, tables - fine / 2 * gcrt_page_size());
  unsigned char pages[16];
  ck_assert_int_eq(mincore((void *)((uintptr_t)gcrt_heap.allocs + 16 * gcrt_page_size()), 16 * 4096, pages), 0);
  for (unsigned i = 0; i < 16; i++) ck_assert_uint_eq(pages[i] & 1, 0);
  /* And again as if nothing had been. */
  cache = new_cache();
  for (size_t i = 0; i < count; i++) {
    cells[i] = take_cell(cache, slot);
    TEST_REQUIRE(cells[i] != NULL && *(size_t *)cells[i] == 0);
    *(size_t *)cells[i] = i + 1;
  }
  gcrt_cache_retire(cache);
  gcrt_heap_verify();
  ck_assert_uint_eq(gcrt_heap.fine_pages, fine);
  for (size_t i = 0; i < count; i++) TEST_REQUIRE(*(size_t *)cells[i] == i + 1);
  free(cells);
}
END_TEST

static gcrt_word done;

static void *release_always(void *unused) {
  while (!gcrt_load_acquire(&done)) {
    if (gcrt_release_some(SIZE_MAX, GCRT_RELEASE_GENTLY) == 0) usleep(1);
  }
  return unused;
}

/* The whole heap is one run, which is in flight most of the time: whoever wants it waits, and is not refused. */
START_TEST(what_is_in_flight_is_not_out_of_memory) {
  enum { CHUNKS = 4 * MIB / GCRT_CHUNK, WORDS = 4 * MIB / sizeof(size_t), STEP = 512 };
  pthread_t thread;
  fresh_heap(4 * MIB);
  ck_assert_int_eq(pthread_create(&thread, NULL, release_always, NULL), 0);
  for (unsigned round = 0; round < 1500; round++) {
    bool zeroed = false;
    TEST_REQUIRE(gcrt_pages_take(CHUNKS, 1, &zeroed) == 0, "round %u", round);
    size_t *words = address(0);
    for (size_t i = 0; i < WORDS; i += STEP) {
      TEST_REQUIRE(!zeroed || words[i] == 0, "round %u: word %zu", round, i);
      words[i] = round + 1;
    }
    for (size_t i = 0; i < WORDS; i += STEP) TEST_REQUIRE(words[i] == round + 1, "round %u: word %zu", round, i);
    struct gcrt_heap_usage now;
    gcrt_heap_usage(&now);
    TEST_REQUIRE(now.heap_inuse == CHUNKS * GCRT_CHUNK && now.heap_released == 0);
    gcrt_pages_give(0, CHUNKS, false);
    for (unsigned i = 0; i < round % 64; i++) sched_yield();
  }
  gcrt_store_release(&done, 1);
  pthread_join(thread, NULL);
  gcrt_heap_verify();
  ck_assert_uint_gt(gcrt_heap.returned, 0);
}
END_TEST

/* In a child nothing is in flight: all chunks are in use or free, whenever it was forked (by the library's handlers).
 */
static int child_takes_all(void) {
  bool zeroed;
  if (gcrt_heap.flight != 0) return 10;
  gcrt_heap_verify();
  gcrt_release(SIZE_MAX, GCRT_RELEASE_ALL);
  if (gcrt_heap.dirty != 0) return 11;
  return gcrt_pages_take(16 * MIB / GCRT_CHUNK, 1, &zeroed) == 0 ? 0 : 12;
}

START_TEST(a_child_has_every_chunk) {
  pthread_t thread;
  fresh_heap(16 * MIB);
  ck_assert_int_eq(pthread_create(&thread, NULL, release_always, NULL), 0);
  for (unsigned round = 0; round < 40; round++) {
    bool zeroed;
    ck_assert_uint_eq(gcrt_pages_take(16 * MIB / GCRT_CHUNK, 1, &zeroed), 0);
    memset(address(0), 1, 16 * MIB);
    gcrt_pages_give(0, 16 * MIB / GCRT_CHUNK, false);
    usleep(round * 20);
    pid_t pid = fork();
    if (pid == 0) _exit(child_takes_all());
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "round %u: status %x", round, status);
  }
  gcrt_store_release(&done, 1);
  pthread_join(thread, NULL);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("heap/release");
  TCase *tc = test_case(suite, "release", 60);
  tcase_add_test(tc, highest_addresses_come_first);
  tcase_add_test(tc, no_more_than_was_asked_for);
  tcase_add_test(tc, a_free_huge_page_goes_whole);
  tcase_add_test(tc, small_pages_go_by_chunks);
  tcase_add_test(tc, a_dense_huge_page_is_not_split_gently);
  tcase_add_test(tc, every_byte_is_counted_once);
  tcase_add_test(tc, lazily_released_memory_counts_as_released_and_not_as_zero);
  tcase_add_test(tc, locked_memory_stays_as_it_is);
  tcase_add_test(tc, tables_of_long_runs_go_with_them);
  tc = test_case(suite, "beside others", 120);
  tcase_add_test(tc, what_is_in_flight_is_not_out_of_memory);
  tcase_add_test(tc, a_child_has_every_chunk);
  return suite;
}

TEST_MAIN(make_suite)
