/* Interposed functions of stdio that read and write wide characters and lines of them.
 *
 * interpose_stdio.h says when they are parked. Those that format and scan are in interpose_format.c, and what flushes a
 * stream of either kind is in interpose_stdio.c. __wuflow, __wunderflow and __woverflow are the wide forms of the
 * functions there that macros call.
 *
 * Any thread may call them, as far as the C library allows it; no locks. Compiled with -fexceptions: most are
 * cancellation points. */
#include "world/interpose_stdio.h"

#define READ_CHARACTER(name)                                                                                           \
  GCRT_STREAM_CALL(wint_t, name, (FILE * stream), (stream), gcrt_stream_reads(stream), (void)0)
#define WRITE_CHARACTER(name)                                                                                          \
  GCRT_STREAM_CALL(wint_t, name, (wchar_t c, FILE * stream), (c, stream), gcrt_stream_writes(stream), (void)0)

READ_CHARACTER(fgetwc)
READ_CHARACTER(getwc)
READ_CHARACTER(fgetwc_unlocked)
READ_CHARACTER(getwc_unlocked)
READ_CHARACTER(__wuflow)
READ_CHARACTER(__wunderflow)
GCRT_STREAM_CALL(wint_t, getwchar, (void), (), gcrt_stream_reads(stdin), (void)0)
GCRT_STREAM_CALL(wint_t, getwchar_unlocked, (void), (), gcrt_stream_reads(stdin), (void)0)

WRITE_CHARACTER(fputwc)
WRITE_CHARACTER(putwc)
WRITE_CHARACTER(fputwc_unlocked)
WRITE_CHARACTER(putwc_unlocked)
GCRT_STREAM_CALL(wint_t, __woverflow, (FILE * stream, wint_t c), (stream, c), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(wint_t, putwchar, (wchar_t c), (c), gcrt_stream_writes(stdout), (void)0)
GCRT_STREAM_CALL(wint_t, putwchar_unlocked, (wchar_t c), (c), gcrt_stream_writes(stdout), (void)0)

GCRT_STREAM_CALL(wchar_t *, fgetws, (wchar_t * line, int size, FILE *stream), (line, size, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(wchar_t *, fgetws_unlocked, (wchar_t * line, int size, FILE *stream), (line, size, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(wchar_t *, __fgetws_chk, (wchar_t * line, size_t room, int size, FILE *stream),
                 (line, room, size, stream), gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(wchar_t *, __fgetws_unlocked_chk, (wchar_t * line, size_t room, int size, FILE *stream),
                 (line, room, size, stream), gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(int, fputws, (const wchar_t *text, FILE *stream), (text, stream), gcrt_stream_writes(stream),
                 GCRT_KEEP(text))
GCRT_STREAM_CALL(int, fputws_unlocked, (const wchar_t *text, FILE *stream), (text, stream), gcrt_stream_writes(stream),
                 GCRT_KEEP(text))
