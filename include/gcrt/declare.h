/* Declaration helpers that the other headers share; programs need nothing of it. */
#ifndef GCRT_DECLARE_H
#define GCRT_DECLARE_H

#ifdef __cplusplus
#define GC_BEGIN_DECLARATIONS extern "C" {
#define GC_END_DECLARATIONS }
#else
#define GC_BEGIN_DECLARATIONS
#define GC_END_DECLARATIONS
#endif

#if defined(__GNUC__)
#define GC_API __attribute__((visibility("default")))
#define GC_MALLOC __attribute__((malloc, warn_unused_result))
#define GC_ALLOC_SIZE(n) __attribute__((alloc_size(n)))
#define GC_ALLOC_SIZE2(n, m) __attribute__((alloc_size(n, m)))
#define GC_PRINTF(string, first) __attribute__((format(printf, string, first)))
#else
#define GC_API
#define GC_MALLOC
#define GC_ALLOC_SIZE(n)
#define GC_ALLOC_SIZE2(n, m)
#define GC_PRINTF(string, first)
#endif

#endif
