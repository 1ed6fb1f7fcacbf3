/* libgcrt: a conservative, parallel, garbage-collected runtime for C.
 *
 * This header includes all of the library; each <gcrt/NAME.h> holds one concept and may be included alone.
 * No call is needed before the first allocation, and no macro: link with `pkg-config --libs gcrt`. */
#ifndef GCRT_H
#define GCRT_H

#include <gcrt/alloc.h>
#include <gcrt/collect.h>
#include <gcrt/pool.h>
#include <gcrt/roots.h>
#include <gcrt/runtime_metrics.h>
#include <gcrt/thread.h>
#include <gcrt/version.h>

#endif
