/* Bits, alignment and the few compiler attributes the library uses. */
#ifndef GCRT_BASE_BITS_H
#define GCRT_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GCRT_LIKELY(x) __builtin_expect(!!(x), 1)
#define GCRT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define GCRT_INLINE static inline __attribute__((always_inline))
#define GCRT_NOINLINE __attribute__((noinline))
#define GCRT_COLD __attribute__((noinline, cold))
#define GCRT_EXPORT __attribute__((visibility("default")))
#define GCRT_PREFETCH(p) __builtin_prefetch((const void *)(p), 0, 3)
#define GCRT_PREFETCH_WRITE(p) __builtin_prefetch((const void *)(p), 1, 3)
#define GCRT_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GCRT_WORD_BYTES sizeof(uintptr_t)
#define GCRT_CACHE_LINE 64

#if defined(__SANITIZE_THREAD__)
#define GCRT_TSAN_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GCRT_TSAN_INSTRUMENTED 1
#endif
#endif
#ifndef GCRT_TSAN_INSTRUMENTED
#define GCRT_TSAN_INSTRUMENTED 0
#endif
#if GCRT_TSAN_INSTRUMENTED
#define GCRT_TSAN_BUILD 1
#endif
/* Also where the library itself is not instrumented (runtime/meson.build). */
#ifndef GCRT_TSAN_BUILD
#define GCRT_TSAN_BUILD 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define GCRT_ASAN_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GCRT_ASAN_BUILD 1
#endif
#endif
#ifndef GCRT_ASAN_BUILD
#define GCRT_ASAN_BUILD 0
#endif

/* Builds with a sanitizer read stacks, globals and freed frames word by word, which is what a conservative collector
 * must do and what the sanitizers exist to report: such readers carry this attribute. It keeps a function from being
 * inlined, so other builds do without. */
#if GCRT_ASAN_BUILD
#define GCRT_READS_FOREIGN_MEMORY __attribute__((no_sanitize("address", "undefined")))
#else
#define GCRT_READS_FOREIGN_MEMORY
#endif

/* `value`, of which the processor may go on with `guess` before it is known, where they are mostly equal: a branch is
 * predicted, a value that is computed from a load is waited for. The asm keeps the compiler from seeing that both ways
 * give the same. */
GCRT_INLINE uintptr_t gcrt_predict(uintptr_t value, uintptr_t guess) {
  uintptr_t result = value;
  if (GCRT_LIKELY(value == guess)) {
    __asm__ volatile("" : "+r"(guess));
    result = guess;
  }
  return result;
}

static inline unsigned gcrt_ctz(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
static inline unsigned gcrt_log2(uint64_t x) { return 63U - (unsigned)__builtin_clzll(x); }

/* Counted in parallel: without -mpopcnt the builtin is a call. */
static inline unsigned gcrt_popcount(uint64_t x) {
  x -= (x >> 1) & UINT64_C(0x5555555555555555);
  x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
  x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
  return (unsigned)((x * UINT64_C(0x0101010101010101)) >> 56);
}

/* n low bits set; n from 0 to 64. */
static inline uint64_t gcrt_low_bits(unsigned n) { return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1; }

static inline bool gcrt_is_power_of_two(size_t x) { return x != 0 && (x & (x - 1)) == 0; }
static inline size_t gcrt_align_up(size_t x, size_t alignment) { return (x + alignment - 1) & ~(alignment - 1); }
static inline size_t gcrt_align_down(size_t x, size_t alignment) { return x & ~(alignment - 1); }
static inline size_t gcrt_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t gcrt_max(size_t a, size_t b) { return a > b ? a : b; }

#endif
