/* Memory from the operating system. Thread-safe, async-signal-safe; errno may change. Sizes are multiples of the page
 * size. Every byte taken is counted by the caller, not here. */
#ifndef GCRT_SYS_MEMORY_H
#define GCRT_SYS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

size_t gcrt_page_size(void);

/* Address space without memory behind it (PROT_NONE), aligned to `alignment` (a power of two), at a high randomised
 * address where integers rarely look like pointers. NULL if the system refuses. */
void *gcrt_memory_reserve(size_t size, size_t alignment);

/* The same anywhere, for the library's own tables. */
void *gcrt_memory_reserve_tables(size_t size);

/* Makes a part of a reservation usable: zeroed, resident when touched. False: out of memory or a limit. */
bool gcrt_memory_commit(void *start, size_t size);

/* Undoes that for a part that was not touched. */
void gcrt_memory_uncommit(void *start, size_t size);

/* Gives the memory behind a committed part back; it stays usable and reads as zero. */
void gcrt_memory_release(void *start, size_t size);

/* The same without the promise: false if the memory is locked (mlockall), unless `locked` says that this is to go as
 * well, or if the system refuses for another reason. Then it is as it was. */
bool gcrt_memory_try_release(void *start, size_t size, bool locked);

/* The system may take the memory when it needs some. What is read of it is what was there, or zero, until it is
 * written. False: refused. */
bool gcrt_memory_release_lazily(void *start, size_t size);

/* Zeroed, usable memory outside the heap, for the library's own tables; resident when touched. NULL if refused. */
void *gcrt_memory_map(size_t size);
void gcrt_memory_unmap(void *start, size_t size);

/* Asks for huge pages behind a range, or for none. Advice: failure is ignored. */
void gcrt_memory_huge(void *start, size_t size, bool wanted);

/* Bytes of address space that RLIMIT_AS still allows, SIZE_MAX without a limit. */
size_t gcrt_memory_address_space_left(void);

#endif
