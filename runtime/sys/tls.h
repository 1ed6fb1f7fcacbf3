/* Thread-local storage of any thread, read through its thread control block.
 *
 * The layout of the block (where the dtv pointer stands) is part of the ABI of x86-64 and aarch64; the layout of the C
 * library's struct pthread is not, only its size is asked for (_thread_db_sizeof_pthread, with a generous default). */
#ifndef GCRT_SYS_TLS_H
#define GCRT_SYS_TLS_H

#include "sys/loader.h"

#include <stdbool.h>
#include <stddef.h>

/* Called once, at initialisation. Not async-signal-safe. */
void gcrt_tls_init(void);

/* The control block of the calling thread. Async-signal-safe. */
void *gcrt_tls_self(void);

/* The block of a module in the thread with that control block: {0, 0} if the thread has none yet. The thread must be
 * stopped or the calling one, and the loader's lock held. */
struct gcrt_range gcrt_tls_block(void *self, size_t module, size_t size);

/* The C library's own record of the thread beside the control block, which holds the values of the first 32 keys of
 * pthread_setspecific, and the thread's static thread-local storage: variables of the initial-exec model in libraries
 * that were loaded later are there and in no block of the dtv. Part of the stack range for all but the main thread. */
struct gcrt_range gcrt_tls_control_block(void *self);

#endif
