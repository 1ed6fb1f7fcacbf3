/* The library's version, at compile time and at run time. */
#ifndef GCRT_VERSION_H
#define GCRT_VERSION_H

#include <gcrt/declare.h>

#define GC_VERSION_MAJOR 0
#define GC_VERSION_MINOR 1
#define GC_VERSION_PATCH 0

GC_BEGIN_DECLARATIONS

/* The version of the library that runs, as "0.1.0". A static string; callable from any thread, cannot fail. */
GC_API const char *gc_version(void);

GC_END_DECLARATIONS
#endif
