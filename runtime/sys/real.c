/* The C library's own definitions of the interposed functions, found by name behind this library.
 *
 * RTLD_NEXT is right for the shared library (what follows it in the search order) and for libgcrt.a in a dynamically
 * linked program (what follows the program). A wrapper by the linker's --wrap would miss the calls of other libraries;
 * the C library's private names (__libc_…) come and go between its releases.
 *
 * Anybody may call the functions. gcrt_real_init fills the table while the program has one thread; a lookup before that
 * stores the same value that any other thread would store. */
#include "sys/real.h"

#include "base/report.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>

void *gcrt_real_table[GCRT_REAL_COUNT];

static const char *const names[GCRT_REAL_COUNT] = {
#define GCRT_REAL(name) [GCRT_REAL_##name] = #name,
#include "sys/real_names.h"
#undef GCRT_REAL
};

/* Younger than the oldest C library that is supported (2.32), or leaving it. */
static const bool optional[GCRT_REAL_COUNT] = {
    [GCRT_REAL_thrd_create] = true,
    [GCRT_REAL_thrd_join] = true,
    [GCRT_REAL_thrd_sleep] = true,
    [GCRT_REAL_tss_set] = true,
    [GCRT_REAL_pthread_clockjoin_np] = true,
    [GCRT_REAL_pthread_attr_setsigmask_np] = true,
    [GCRT_REAL_epoll_pwait2] = true,
    [GCRT_REAL_sem_clockwait] = true,
    [GCRT_REAL_aio_suspend] = true,
    [GCRT_REAL_aio_suspend64] = true,
    [GCRT_REAL_sigpause] = true,
    [GCRT_REAL___xpg_sigpause] = true,
    [GCRT_REAL___sigpause] = true,
    [GCRT_REAL___isoc23_vfscanf] = true,
    [GCRT_REAL___isoc23_vscanf] = true,
    [GCRT_REAL___isoc23_vfwscanf] = true,
    [GCRT_REAL___isoc23_vwscanf] = true,
    [GCRT_REAL_gets] = true,
    [GCRT_REAL___gets_chk] = true,
    [GCRT_REAL__IO_getc] = true,
    [GCRT_REAL__IO_putc] = true,
    [GCRT_REAL_getw] = true,
    [GCRT_REAL_putw] = true,
};

void *gcrt_real_lookup(enum gcrt_real_name name) {
  int error = errno;
  void *function = dlsym(RTLD_NEXT, names[name]);
  errno = error;
  if (!function && !optional[name])
    gcrt_fatal("the C library has no function %s: a program that is linked wholly statically cannot use this library",
               names[name]);
  gcrt_real_table[name] = function;
  return function;
}

void gcrt_real_init(void) {
  for (int name = 0; name < GCRT_REAL_COUNT; name++) gcrt_real_lookup((enum gcrt_real_name)name);
}
