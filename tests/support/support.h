/* What every test program shares. None of it needs libgcrt, so that unit tests of one module may use it as well.
 *
 * A test program is one or more Check cases and a last line:
 *
 *   static Suite *make_suite(void) { ... }
 *   TEST_MAIN(make_suite)
 *
 * or TEST_MAIN_CHILDREN(make_suite, children) where it runs functions of its own in fresh processes (see child.h).
 * TEST_MAIN prints the seed, runs the suite and, when something failed, how to repeat it. */
#ifndef GCRT_TESTS_SUPPORT_H
#define GCRT_TESTS_SUPPORT_H

#include "child.h"
#include "random.h"
#include "repeat.h"
#include "runner.h"
#include "stack.h"

#include <check.h>

#endif
