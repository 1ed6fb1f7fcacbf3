/* What ThreadSanitizer cannot see for itself. The library is not instrumented in such a build either: it runs in
 * threads and at moments that the sanitizer's runtime does not know. In other builds nothing is left of this, nor in
 * the instrumented copy of some layers that unit tests have: there the sanitizer sees what orders the users of a cell.
 */
#ifndef GCRT_BASE_TSAN_H
#define GCRT_BASE_TSAN_H

#include "base/bits.h"

#define GCRT_TSAN_TOLD (GCRT_TSAN_BUILD && !GCRT_TSAN_INSTRUMENTED)

#if GCRT_TSAN_TOLD
/* Parts of the sanitizer's interface for managed heaps. Weak: a program that is not instrumented has none. */
extern void __tsan_java_free(uintptr_t start, uintptr_t bytes) __attribute__((weak));
extern void __tsan_java_alloc(uintptr_t start, uintptr_t bytes) __attribute__((weak));
#endif

/* The memory is about to be handed out anew: what other threads did to the objects that were there does not matter,
 * and their mutexes are gone. Without this a thread that reuses the memory would race with the last user of it, since
 * a collection is no synchronisation that the sanitizer sees. */
static inline void gcrt_tsan_new_memory(uintptr_t start, size_t bytes) {
#if GCRT_TSAN_TOLD
  if (!__tsan_java_free || !__tsan_java_alloc) return;
  __tsan_java_free(start, bytes);
  __tsan_java_alloc(start, bytes);
#else
  (void)start;
  (void)bytes;
#endif
}

#endif
