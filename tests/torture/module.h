/* What a loadable module of the tests offers: places for pointers in its static and thread-local memory. It is found by
 * the one name TORTURE_MODULE_SYMBOL. */
#ifndef GCRT_TESTS_MODULE_H
#define GCRT_TESTS_MODULE_H

enum { MODULE_SLOTS = 24 };

/* An address of the calling thread's slots; kind 0 is .data, 1 .bss, 2 thread-local with a value at the start, 3
 * thread- local without one. */
enum module_kind { MODULE_DATA, MODULE_BSS, MODULE_TLS_DATA, MODULE_TLS_BSS, MODULE_KINDS };
typedef void *volatile *module_slots_fn(enum module_kind kind);

#define TORTURE_MODULE_SYMBOL "torture_module_slots"

#endif
