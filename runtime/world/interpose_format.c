/* Interposed functions of stdio that format and scan, of bytes and of wide characters.
 *
 * interpose_stdio.h says when they are parked. Those with variable arguments go to those that take a va_list: the
 * arguments, pointers among them, stay where va_start put them, in a frame above the one that is published. The names
 * with _chk are what _FORTIFY_SOURCE makes of the others, those with isoc99 and isoc23 what the headers make of them by
 * the language's version (isoc23 is absent from older C libraries, as are programs that could call it there). The
 * functions that format or scan a string wait for nothing.
 *
 * Any thread may call them, as far as the C library allows it; no locks. Compiled with -fexceptions: most are
 * cancellation points. */
#include "world/interpose_stdio.h"

#include <printf.h>

gcrt_word gcrt_printf_handlers;

/* The four functions of a kind: to a stream or to standard output, with a va_list or with the arguments themselves. */
#define PRINTERS(character, vfprint, vprint, fprint, print)                                                            \
  GCRT_STREAM_CALL(int, vfprint, (FILE * stream, const character *format, va_list list), (stream, format, list),       \
                   gcrt_stream_formats(stream), GCRT_KEEP(format))                                                     \
  GCRT_STREAM_CALL(int, vprint, (const character *format, va_list list), (format, list), gcrt_stream_formats(stdout),  \
                   GCRT_KEEP(format))                                                                                  \
  GCRT_STREAM_VARIADIC(fprint, (FILE * stream, const character *format, ...), format,                                  \
                       call_##vfprint(stream, format, list))                                                           \
  GCRT_STREAM_VARIADIC(print, (const character *format, ...), format, call_##vprint(format, list))

#define CHECKED_PRINTERS(character, vfprint, vprint, fprint, print)                                                    \
  GCRT_STREAM_CALL(int, vfprint, (FILE * stream, int level, const character *format, va_list list),                    \
                   (stream, level, format, list), gcrt_stream_formats(stream), GCRT_KEEP(format))                      \
  GCRT_STREAM_CALL(int, vprint, (int level, const character *format, va_list list), (level, format, list),             \
                   gcrt_stream_formats(stdout), GCRT_KEEP(format))                                                     \
  GCRT_STREAM_VARIADIC(fprint, (FILE * stream, int level, const character *format, ...), format,                       \
                       call_##vfprint(stream, level, format, list))                                                    \
  GCRT_STREAM_VARIADIC(print, (int level, const character *format, ...), format, call_##vprint(level, format, list))

#define SCANNERS(character, vfscan, vscan, fscan, scan)                                                                \
  GCRT_STREAM_CALL(int, vfscan, (FILE * stream, const character *format, va_list list), (stream, format, list),        \
                   gcrt_stream_reads(stream), GCRT_KEEP(format))                                                       \
  GCRT_STREAM_CALL(int, vscan, (const character *format, va_list list), (format, list), gcrt_stream_reads(stdin),      \
                   GCRT_KEEP(format))                                                                                  \
  GCRT_STREAM_VARIADIC(fscan, (FILE * stream, const character *format, ...), format,                                   \
                       call_##vfscan(stream, format, list))                                                            \
  GCRT_STREAM_VARIADIC(scan, (const character *format, ...), format, call_##vscan(format, list))

PRINTERS(char, vfprintf, vprintf, fprintf, printf)
PRINTERS(wchar_t, vfwprintf, vwprintf, fwprintf, wprintf)
CHECKED_PRINTERS(char, __vfprintf_chk, __vprintf_chk, __fprintf_chk, __printf_chk)
CHECKED_PRINTERS(wchar_t, __vfwprintf_chk, __vwprintf_chk, __fwprintf_chk, __wprintf_chk)

SCANNERS(char, vfscanf, vscanf, fscanf, scanf)
SCANNERS(char, __isoc99_vfscanf, __isoc99_vscanf, __isoc99_fscanf, __isoc99_scanf)
SCANNERS(char, __isoc23_vfscanf, __isoc23_vscanf, __isoc23_fscanf, __isoc23_scanf)
SCANNERS(wchar_t, vfwscanf, vwscanf, fwscanf, wscanf)
SCANNERS(wchar_t, __isoc99_vfwscanf, __isoc99_vwscanf, __isoc99_fwscanf, __isoc99_wscanf)
SCANNERS(wchar_t, __isoc23_vfwscanf, __isoc23_vwscanf, __isoc23_fwscanf, __isoc23_wscanf)

/* To a descriptor, without a stream. */
static bool descriptor_formats(void) { return gcrt_time_limited() && !gcrt_load(&gcrt_printf_handlers); }

GCRT_STREAM_CALL(int, vdprintf, (int file, const char *format, va_list list), (file, format, list),
                 descriptor_formats(), GCRT_KEEP(format))
GCRT_STREAM_CALL(int, __vdprintf_chk, (int file, int level, const char *format, va_list list),
                 (file, level, format, list), descriptor_formats(), GCRT_KEEP(format))
GCRT_STREAM_VARIADIC(dprintf, (int file, const char *format, ...), format, call_vdprintf(file, format, list))
GCRT_STREAM_VARIADIC(__dprintf_chk, (int file, int level, const char *format, ...), format,
                     call___vdprintf_chk(file, level, format, list))

/* Noted, as functions of the program's run inside printf from then on. */
GCRT_EXPORT int register_printf_specifier(int specifier, printf_function *print, printf_arginfo_size_function *info) {
  gcrt_store(&gcrt_printf_handlers, 1);
  return gcrt_real(register_printf_specifier)(specifier, print, info);
}

GCRT_EXPORT int gcrt_register_printf_function(int, printf_function *,
                                              printf_arginfo_function *) __asm__("register_printf_function");
int gcrt_register_printf_function(int specifier, printf_function *print, printf_arginfo_function *info) {
  __typeof__(&gcrt_register_printf_function) real = gcrt_real_function(GCRT_REAL_register_printf_function);
  gcrt_store(&gcrt_printf_handlers, 1);
  return real(specifier, print, info);
}

GCRT_EXPORT int register_printf_type(printf_va_arg_function *take) {
  gcrt_store(&gcrt_printf_handlers, 1);
  return gcrt_real(register_printf_type)(take);
}
