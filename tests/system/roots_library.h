/* A library that keeps pointers: its functions tell where. Compiled twice, once to be linked and once for dlopen. */
#ifndef GCRT_TESTS_ROOTS_LIBRARY_H
#define GCRT_TESTS_ROOTS_LIBRARY_H

enum { ROOTS_LIBRARY_WORDS = 64, ROOTS_LIBRARY_LARGE_WORDS = 2 << 20 };

void **roots_library_bss(void);
void **roots_library_data(void);
/* The calling thread's. */
void **roots_library_tls_bss(void);
void **roots_library_tls_data(void);

/* large_library.c */
void **roots_library_large(void);

#endif
