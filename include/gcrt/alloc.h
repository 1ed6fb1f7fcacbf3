/* Allocation.
 *
 * Every function may be called from any thread, also from one that the library has not seen before; none may be
 * called from a signal handler. Sizes are in bytes. Memory is zeroed and aligned to 16 bytes, or to the object's own
 * size class where that is stricter. An object lives while any pointer into it, first byte to last, is found in a
 * root or in another live object; a pointer one past its end keeps it alive from stacks and registers.
 *
 * Errors: NULL with errno set to ENOMEM when memory, the reservation or an address-space limit is exhausted after an
 * emergency collection, or when a size cannot be represented. A size of 0 gives a unique object of the smallest size.
 * A pointer that is not the start of a live object, handed to gc_free or gc_realloc, is a bug of the program: one line
 * on standard error names the call and the value, then abort(). */
#ifndef GCRT_ALLOC_H
#define GCRT_ALLOC_H

#include <gcrt/declare.h>
#include <stddef.h>

/* The largest alignment that gc_alloc_aligned accepts, in bytes. */
#define GC_MAX_ALIGNMENT ((size_t)2 << 20)

GC_BEGIN_DECLARATIONS

/* An object of at least `size` bytes that is searched for pointers. Never freed by the caller, unless it likes to. */
GC_API void *gc_alloc(size_t size) GC_MALLOC GC_ALLOC_SIZE(1);

/* As gc_alloc, but the object is never searched for pointers: for strings, numbers, pixels. A pointer kept only in
 * such an object keeps nothing alive. */
GC_API void *gc_alloc_noscan(size_t size) GC_MALLOC GC_ALLOC_SIZE(1);

/* An array of `count` elements of `size` bytes, as gc_alloc. A product over SIZE_MAX is NULL with ENOMEM. */
GC_API void *gc_alloc_array(size_t count, size_t size) GC_MALLOC GC_ALLOC_SIZE2(1, 2);

/* As gc_alloc, at an address that is a multiple of `alignment`: a power of two up to GC_MAX_ALIGNMENT.
 * Any other alignment is NULL with errno set to EINVAL. */
GC_API void *gc_alloc_aligned(size_t alignment, size_t size) GC_MALLOC GC_ALLOC_SIZE(2);

/* As gc_alloc, but the object is itself a root: it and what it points to live until gc_free. */
GC_API void *gc_alloc_uncollectable(size_t size) GC_MALLOC GC_ALLOC_SIZE(1);

/* Resizes an object, in place or by copying, keeping its kind; what is added is zeroed. p NULL is gc_alloc(size).
 * A size of 0 gives an object of the smallest size (it does not free). On failure NULL, and the old object stands. */
GC_API void *gc_realloc(void *p, size_t size) __attribute__((warn_unused_result)) GC_ALLOC_SIZE(2);

/* Gives an object back before the collector would. NULL does nothing. Freeing twice, an interior pointer or memory
 * that is not the collector's aborts with a message. */
GC_API void gc_free(void *p);

/* How many bytes of the object that p points into may be used: at least what was asked for. 0: not the collector's. */
GC_API size_t gc_usable_size(const void *p);

/* The start of the object that p points into, or NULL if p is not in a live object of the collector's. */
GC_API void *gc_base(const void *p);

/* A copy of a string in a noscan object. */
GC_API char *gc_strdup(const char *s) GC_MALLOC;

/* A copy of at most n bytes of a string, always terminated, in a noscan object. */
GC_API char *gc_strndup(const char *s, size_t n) GC_MALLOC;

/* A formatted string in a noscan object. NULL with the errno of vsnprintf if the format is bad. */
GC_API char *gc_asprintf(const char *format, ...) GC_PRINTF(1, 2) GC_MALLOC;

GC_END_DECLARATIONS
#endif
