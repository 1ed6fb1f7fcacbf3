/* Interposed functions of stdio that read, write or flush a stream of bytes.
 *
 * interpose_stdio.h says when they are parked. Not the system calls inside them but the functions are, because the C
 * library binds its own calls to itself; the alternative, streams whose functions are ours, would need their table in
 * the C library's read-only memory, where it is checked. The whole call is parked, and with it the wait for the lock
 * of the stream; another thread that holds it needs no collection to go on.
 *
 * A thread parked here may call malloc, for a buffer or a line. A malloc of the program's own that allocates with gc_*
 * may therefore not be combined with time limits on sockets; popen and system ask the same of it.
 *
 * Not here: what only looks at the buffer (ungetc, feof, ftell), and functions that use a stream for another purpose
 * (perror, error, getmntent, fgetpwent).
 *
 * Any thread may call them, as far as the C library allows it; no locks. The flags only go from 0 to 1. Compiled with
 * -fexceptions: most are cancellation points. */
#include "world/interpose_stdio.h"

gcrt_word gcrt_time_limits;
gcrt_word gcrt_cookie_streams;

/* Characters. __uflow, __underflow and __overflow are what the macros getc_unlocked and putc_unlocked call when the
 * buffer is at its end; _IO_getc and _IO_putc what getc and putc were in older headers. */
#define READ_CHARACTER(name) GCRT_STREAM_CALL(int, name, (FILE * stream), (stream), gcrt_stream_reads(stream), (void)0)
#define WRITE_CHARACTER(name)                                                                                          \
  GCRT_STREAM_CALL(int, name, (int c, FILE *stream), (c, stream), gcrt_stream_writes(stream), (void)0)

READ_CHARACTER(fgetc)
READ_CHARACTER(getc)
READ_CHARACTER(_IO_getc)
READ_CHARACTER(fgetc_unlocked)
READ_CHARACTER(getc_unlocked)
READ_CHARACTER(__uflow)
READ_CHARACTER(__underflow)
READ_CHARACTER(getw)
GCRT_STREAM_CALL(int, getchar, (void), (), gcrt_stream_reads(stdin), (void)0)
GCRT_STREAM_CALL(int, getchar_unlocked, (void), (), gcrt_stream_reads(stdin), (void)0)

WRITE_CHARACTER(fputc)
WRITE_CHARACTER(putc)
WRITE_CHARACTER(_IO_putc)
WRITE_CHARACTER(fputc_unlocked)
WRITE_CHARACTER(putc_unlocked)
WRITE_CHARACTER(putw)
GCRT_STREAM_CALL(int, __overflow, (FILE * stream, int c), (stream, c), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, putchar, (int c), (c), gcrt_stream_writes(stdout), (void)0)
GCRT_STREAM_CALL(int, putchar_unlocked, (int c), (c), gcrt_stream_writes(stdout), (void)0)

/* Lines. */
GCRT_STREAM_CALL(char *, fgets, (char *line, int size, FILE *stream), (line, size, stream), gcrt_stream_reads(stream),
                 GCRT_KEEP(line))
GCRT_STREAM_CALL(char *, fgets_unlocked, (char *line, int size, FILE *stream), (line, size, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(char *, __fgets_chk, (char *line, size_t room, int size, FILE *stream), (line, room, size, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(char *, __fgets_unlocked_chk, (char *line, size_t room, int size, FILE *stream),
                 (line, room, size, stream), gcrt_stream_reads(stream), GCRT_KEEP(line))
GCRT_STREAM_CALL(char *, gets, (char *line), (line), gcrt_stream_reads(stdin), GCRT_KEEP(line))
GCRT_STREAM_CALL(char *, __gets_chk, (char *line, size_t room), (line, room), gcrt_stream_reads(stdin), GCRT_KEEP(line))
GCRT_STREAM_CALL(ssize_t, getline, (char **line, size_t *room, FILE *stream), (line, room, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP_BOTH(line, room))
GCRT_STREAM_CALL(ssize_t, getdelim, (char **line, size_t *room, int end, FILE *stream), (line, room, end, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP_BOTH(line, room))
GCRT_STREAM_CALL(ssize_t, __getdelim, (char **line, size_t *room, int end, FILE *stream), (line, room, end, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP_BOTH(line, room))
GCRT_STREAM_CALL(int, fputs, (const char *text, FILE *stream), (text, stream), gcrt_stream_writes(stream),
                 GCRT_KEEP(text))
GCRT_STREAM_CALL(int, fputs_unlocked, (const char *text, FILE *stream), (text, stream), gcrt_stream_writes(stream),
                 GCRT_KEEP(text))
GCRT_STREAM_CALL(int, puts, (const char *text), (text), gcrt_stream_writes(stdout), GCRT_KEEP(text))

/* Blocks. */
GCRT_STREAM_CALL(size_t, fread, (void *block, size_t size, size_t count, FILE *stream), (block, size, count, stream),
                 gcrt_stream_reads(stream), GCRT_KEEP(block))
GCRT_STREAM_CALL(size_t, fread_unlocked, (void *block, size_t size, size_t count, FILE *stream),
                 (block, size, count, stream), gcrt_stream_reads(stream), GCRT_KEEP(block))
GCRT_STREAM_CALL(size_t, __fread_chk, (void *block, size_t room, size_t size, size_t count, FILE *stream),
                 (block, room, size, count, stream), gcrt_stream_reads(stream), GCRT_KEEP(block))
GCRT_STREAM_CALL(size_t, __fread_unlocked_chk, (void *block, size_t room, size_t size, size_t count, FILE *stream),
                 (block, room, size, count, stream), gcrt_stream_reads(stream), GCRT_KEEP(block))
GCRT_STREAM_CALL(size_t, fwrite, (const void *block, size_t size, size_t count, FILE *stream),
                 (block, size, count, stream), gcrt_stream_writes(stream), GCRT_KEEP(block))
GCRT_STREAM_CALL(size_t, fwrite_unlocked, (const void *block, size_t size, size_t count, FILE *stream),
                 (block, size, count, stream), gcrt_stream_writes(stream), GCRT_KEEP(block))

/* What writes the buffer out, before it does something else. */
GCRT_STREAM_CALL(int, fflush, (FILE * stream), (stream), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, fflush_unlocked, (FILE * stream), (stream), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, fclose, (FILE * stream), (stream), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, fcloseall, (void), (), gcrt_stream_writes(NULL), (void)0)
GCRT_STREAM_PROCEDURE(_flushlbf, (void), (), gcrt_stream_writes(NULL), (void)0)
GCRT_STREAM_CALL(FILE *, freopen, (const char *path, const char *mode, FILE *stream), (path, mode, stream),
                 gcrt_stream_writes(stream), GCRT_KEEP_BOTH(path, mode))
GCRT_STREAM_CALL(FILE *, freopen64, (const char *path, const char *mode, FILE *stream), (path, mode, stream),
                 gcrt_stream_writes(stream), GCRT_KEEP_BOTH(path, mode))
GCRT_STREAM_CALL(int, fseek, (FILE * stream, long offset, int from), (stream, offset, from), gcrt_stream_writes(stream),
                 (void)0)
GCRT_STREAM_CALL(int, fseeko, (FILE * stream, off_t offset, int from), (stream, offset, from),
                 gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, fseeko64, (FILE * stream, off64_t offset, int from), (stream, offset, from),
                 gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, fsetpos, (FILE * stream, const fpos_t *position), (stream, position), gcrt_stream_writes(stream),
                 GCRT_KEEP(position))
GCRT_STREAM_CALL(int, fsetpos64, (FILE * stream, const fpos64_t *position), (stream, position),
                 gcrt_stream_writes(stream), GCRT_KEEP(position))
GCRT_STREAM_PROCEDURE(rewind, (FILE * stream), (stream), gcrt_stream_writes(stream), (void)0)
GCRT_STREAM_CALL(int, setvbuf, (FILE * stream, char *buffer, int mode, size_t size), (stream, buffer, mode, size),
                 gcrt_stream_writes(stream), GCRT_KEEP(buffer))
GCRT_STREAM_PROCEDURE(setbuf, (FILE * stream, char *buffer), (stream, buffer), gcrt_stream_writes(stream),
                      GCRT_KEEP(buffer))
GCRT_STREAM_PROCEDURE(setbuffer, (FILE * stream, char *buffer, size_t size), (stream, buffer, size),
                      gcrt_stream_writes(stream), GCRT_KEEP(buffer))

/* Noted, as the stream's functions are the program's. */
GCRT_EXPORT FILE *fopencookie(void *cookie, const char *mode, cookie_io_functions_t functions) {
  gcrt_store(&gcrt_cookie_streams, 1);
  return gcrt_real(fopencookie)(cookie, mode, functions);
}
