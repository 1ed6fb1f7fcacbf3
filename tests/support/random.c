/* Random numbers and contents for tests.
 *
 * A generator of our own (a Weyl sequence through a 64-bit mixer) and not random(): its streams are independent of each
 * other and of the C library, so that a seed means the same everywhere. Callable from anywhere; a stream belongs to
 * one thread. Contents never look like addresses, so that they keep no object alive by accident. */
#include "random.h"

#include "repeat.h"

#include <string.h>

static uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ (x >> 32);
}

struct test_random test_random_stream(uint64_t stream) {
  return (struct test_random){.state = mix(test_seed() ^ mix(stream + 1))};
}

uint64_t test_random_next(struct test_random *r) {
  r->state += 0x9e3779b97f4a7c15u;
  return mix(r->state);
}

uint64_t test_random_below(struct test_random *r, uint64_t bound) {
  return (uint64_t)(((unsigned __int128)test_random_next(r) * bound) >> 64);
}

bool test_random_once_in(struct test_random *r, uint64_t n) { return test_random_below(r, n) == 0; }

uint64_t test_checksum(const void *bytes, size_t size, uint64_t start) {
  const unsigned char *at = bytes;
  uint64_t sum = mix(start + size);
  for (; size >= 8; size -= 8, at += 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    sum = mix(sum ^ word) + 0x9e3779b97f4a7c15u;
  }
  for (; size > 0; size--, at++) sum = mix(sum ^ *at) + 0x9e3779b97f4a7c15u;
  return sum;
}

static uint64_t pattern_word(uint64_t id, size_t index) { return mix(id + 0x9e3779b97f4a7c15u * index) | (1ull << 63); }

void test_pattern_write(void *bytes, size_t size, uint64_t id) {
  unsigned char *at = bytes;
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = pattern_word(id, i);
    memcpy(at + i, &word, size - i < 8 ? size - i : 8);
  }
}

size_t test_pattern_bad(const void *bytes, size_t size, uint64_t id) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = pattern_word(id, i);
    size_t part = size - i < 8 ? size - i : 8;
    if (memcmp(at + i, &word, part) != 0) {
      const unsigned char *expected = (const unsigned char *)&word;
      size_t j = 0;
      while (at[i + j] == expected[j]) j++;
      return i + j;
    }
  }
  return size;
}
