/* See roots_library.h. The data arrays start non-zero, so that they lie in .data and .tdata. */
#include "roots_library.h"

static void *in_bss[ROOTS_LIBRARY_WORDS];
static void *in_data[ROOTS_LIBRARY_WORDS] = {(void *)1};
static __thread void *in_tls_bss[ROOTS_LIBRARY_WORDS];
static __thread void *in_tls_data[ROOTS_LIBRARY_WORDS] = {(void *)1};

void **roots_library_bss(void) { return in_bss; }
void **roots_library_data(void) { return in_data; }
void **roots_library_tls_bss(void) { return in_tls_bss; }
void **roots_library_tls_data(void) { return in_tls_data; }
