/* Random numbers that repeat by the seed, and contents that prove whose memory it is. */
#ifndef GCRT_TESTS_RANDOM_H
#define GCRT_TESTS_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One stream of numbers; not shared between threads. */
struct test_random {
  uint64_t state;
};

/* A stream that depends on the seed of the run and on `stream` alone: one for each thread, so that the numbers of a
 * thread do not depend on how threads are scheduled. */
struct test_random test_random_stream(uint64_t stream);

/* Any 64-bit number. */
uint64_t test_random_next(struct test_random *r);

/* A number in [0, bound); bound is over 0. */
uint64_t test_random_below(struct test_random *r, uint64_t bound);

/* True once in n times on average. */
bool test_random_once_in(struct test_random *r, uint64_t n);

/* A checksum of bytes; differs for each start value. */
uint64_t test_checksum(const void *bytes, size_t size, uint64_t start);

/* Writes contents that depend on id and size; test_pattern_bad finds the first byte that differs, or returns size.
 * No word of the contents is a user-space address: the top bit of each is set. */
void test_pattern_write(void *bytes, size_t size, uint64_t id);
size_t test_pattern_bad(const void *bytes, size_t size, uint64_t id);

#endif
