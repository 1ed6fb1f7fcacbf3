/* A library with an array so large that its variables are tracked while objects are marked (cycle/tracked_roots.c). */
#include "roots_library.h"

static void *in_large[ROOTS_LIBRARY_LARGE_WORDS];

void **roots_library_large(void) { return in_large; }
