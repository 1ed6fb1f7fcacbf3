/* No function of stdio fails because of a collection, on a socket with a time limit either.
 *
 * Every function that may read or write has a row, looked up by its name in the C library, so that the names which
 * headers and compilers put in its place have rows, too. One thread waits in it while the first thread collects, and
 * is woken by the other end of the socket; no clock decides. */
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <printf.h>
#include <sched.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <wchar.h>

enum { LINE = 64 };

static struct waiter {
  void *function; /* of the row */
  FILE *stream;
  bool wide;
  int pair[2]; /* sockets; the stream is over the first */
  pid_t tid;
  int ended, error;
  bool failed;
} waiter;
static union {
  char text[LINE];
  wchar_t wide[LINE];
} line;
static char *made_line;
static size_t made_room;
static int number;
static fpos_t position;

#define CALL(type, ...) ((type)waiter.function)(__VA_ARGS__)

static const void *words(void) { return waiter.wide ? (const void *)L"word" : "word"; }
static const void *print_format(void) { return waiter.wide ? (const void *)L"%p" : "%p"; }
static const void *scan_format(void) { return waiter.wide ? (const void *)L"%d" : "%d"; }

static void read_character(void) { CALL(int (*)(FILE *), waiter.stream); }
static void read_input(void) { CALL(int (*)(void)); }
static void read_line(void) { CALL(void *(*)(void *, int, FILE *), &line, LINE, waiter.stream); }
static void read_line_checked(void) { CALL(void *(*)(void *, size_t, int, FILE *), &line, LINE, LINE, waiter.stream); }
static void read_input_line(void) { CALL(void *(*)(void *), &line); }
static void read_input_line_checked(void) { CALL(void *(*)(void *, size_t), &line, LINE); }
static void make_line(void) { CALL(ssize_t(*)(char **, size_t *, FILE *), &made_line, &made_room, waiter.stream); }
static void make_delimited(void) {
  CALL(ssize_t(*)(char **, size_t *, int, FILE *), &made_line, &made_room, '\n', waiter.stream);
}
static void read_block(void) { CALL(size_t(*)(void *, size_t, size_t, FILE *), &line, 1, 9, waiter.stream); }
static void read_block_checked(void) {
  CALL(size_t(*)(void *, size_t, size_t, size_t, FILE *), &line, sizeof line, 1, 9, waiter.stream);
}
static void write_character(void) { CALL(int (*)(int, FILE *), 'x', waiter.stream); }
static void overflow(void) { CALL(int (*)(FILE *, int), waiter.stream, 'x'); }
static void write_output(void) { CALL(int (*)(int), 'x'); }
static void write_text(void) { CALL(int (*)(const void *, FILE *), words(), waiter.stream); }
static void write_output_line(void) { CALL(int (*)(const void *), words()); }
static void write_block(void) { CALL(size_t(*)(const void *, size_t, size_t, FILE *), "word", 1, 4, waiter.stream); }

static void flush(void) { CALL(int (*)(FILE *), waiter.stream); }
static void flush_null(void) { CALL(int (*)(FILE *), NULL); }
static void flush_all(void) { CALL(int (*)(void)); }
static void reopen(void) { CALL(FILE * (*)(const char *, const char *, FILE *), "/dev/null", "w", waiter.stream); }
static void seek(void) { CALL(int (*)(FILE *, long, int), waiter.stream, 0, SEEK_SET); }
static void set_position(void) { CALL(int (*)(FILE *, const fpos_t *), waiter.stream, &position); }
static void set_mode(void) { CALL(int (*)(FILE *, char *, int, size_t), waiter.stream, NULL, _IONBF, 0); }
static void set_buffer(void) { CALL(int (*)(FILE *, char *, size_t), waiter.stream, NULL, 0); }

/* Each of the eight forms that a function with a format may have. */
static void print(void) { CALL(int (*)(FILE *, const void *, ...), waiter.stream, print_format(), (void *)&number); }
static void print_output(void) { CALL(int (*)(const void *, ...), print_format(), (void *)&number); }
static void print_file(void) { CALL(int (*)(int, const void *, ...), waiter.pair[0], "%p", (void *)&number); }
static void print_checked(void) {
  CALL(int (*)(FILE *, int, const void *, ...), waiter.stream, 1, print_format(), (void *)&number);
}
static void print_output_checked(void) { CALL(int (*)(int, const void *, ...), 1, print_format(), (void *)&number); }
static void print_file_checked(void) {
  CALL(int (*)(int, int, const void *, ...), waiter.pair[0], 1, "%p", (void *)&number);
}
static void scan(void) { CALL(int (*)(FILE *, const void *, ...), waiter.stream, scan_format(), &number); }
static void scan_input(void) { CALL(int (*)(const void *, ...), scan_format(), &number); }

enum list_form { STREAM, STANDARD, DESCRIPTOR, STREAM_CHECKED, STANDARD_CHECKED, DESCRIPTOR_CHECKED };
static void with_list(enum list_form form, const void *format, ...) {
  va_list list;
  va_start(list, format);
  if (form == STREAM) CALL(int (*)(FILE *, const void *, va_list), waiter.stream, format, list);
  if (form == STANDARD) CALL(int (*)(const void *, va_list), format, list);
  if (form == DESCRIPTOR) CALL(int (*)(int, const void *, va_list), waiter.pair[0], format, list);
  if (form == STREAM_CHECKED) CALL(int (*)(FILE *, int, const void *, va_list), waiter.stream, 1, format, list);
  if (form == STANDARD_CHECKED) CALL(int (*)(int, const void *, va_list), 1, format, list);
  if (form == DESCRIPTOR_CHECKED) CALL(int (*)(int, int, const void *, va_list), waiter.pair[0], 1, format, list);
  va_end(list);
}
static void print_list(void) { with_list(STREAM, print_format(), (void *)&number); }
static void print_output_list(void) { with_list(STANDARD, print_format(), (void *)&number); }
static void print_file_list(void) { with_list(DESCRIPTOR, "%p", (void *)&number); }
static void print_list_checked(void) { with_list(STREAM_CHECKED, print_format(), (void *)&number); }
static void print_output_list_checked(void) { with_list(STANDARD_CHECKED, print_format(), (void *)&number); }
static void print_file_list_checked(void) { with_list(DESCRIPTOR_CHECKED, "%p", (void *)&number); }
static void scan_list(void) { with_list(STREAM, scan_format(), &number); }
static void scan_input_list(void) { with_list(STANDARD, scan_format(), &number); }

enum what {
  READS,
  WRITES,
  FLUSHES, /* what waits in the buffer */
  KIND = 3,
  WIDE = 4,
  CLOSES = 8, /* the stream is gone afterwards */
};

static const struct row {
  const char *name;
  void (*run)(void);
  int what;
} rows[] = {
    {"fgetc", read_character, READS},
    {"getc", read_character, READS},
    {"_IO_getc", read_character, READS},
    {"fgetc_unlocked", read_character, READS},
    {"getc_unlocked", read_character, READS},
    {"__uflow", read_character, READS},
    {"__underflow", read_character, READS},
    {"getw", read_character, READS},
    {"getchar", read_input, READS},
    {"getchar_unlocked", read_input, READS},
    {"fgets", read_line, READS},
    {"fgets_unlocked", read_line, READS},
    {"__fgets_chk", read_line_checked, READS},
    {"__fgets_unlocked_chk", read_line_checked, READS},
    {"gets", read_input_line, READS},
    {"__gets_chk", read_input_line_checked, READS},
    {"getline", make_line, READS},
    {"getdelim", make_delimited, READS},
    {"__getdelim", make_delimited, READS},
    {"fread", read_block, READS},
    {"fread_unlocked", read_block, READS},
    {"__fread_chk", read_block_checked, READS},
    {"__fread_unlocked_chk", read_block_checked, READS},
    {"fputc", write_character, WRITES},
    {"putc", write_character, WRITES},
    {"_IO_putc", write_character, WRITES},
    {"fputc_unlocked", write_character, WRITES},
    {"putc_unlocked", write_character, WRITES},
    {"putw", write_character, WRITES},
    {"__overflow", overflow, WRITES},
    {"putchar", write_output, WRITES},
    {"putchar_unlocked", write_output, WRITES},
    {"fputs", write_text, WRITES},
    {"fputs_unlocked", write_text, WRITES},
    {"puts", write_output_line, WRITES},
    {"fwrite", write_block, WRITES},
    {"fwrite_unlocked", write_block, WRITES},
    {"fflush", flush, FLUSHES},
    {"fflush", flush_null, FLUSHES},
    {"fflush_unlocked", flush, FLUSHES},
    {"fclose", flush, FLUSHES | CLOSES},
    {"fcloseall", flush_all, FLUSHES},
    {"_flushlbf", flush_all, FLUSHES},
    {"freopen", reopen, FLUSHES},
    {"freopen64", reopen, FLUSHES},
    {"fseek", seek, FLUSHES},
    {"fseeko", seek, FLUSHES},
    {"fseeko64", seek, FLUSHES},
    {"fsetpos", set_position, FLUSHES},
    {"fsetpos64", set_position, FLUSHES},
    {"rewind", flush, FLUSHES},
    {"setvbuf", set_mode, FLUSHES},
    {"setbuf", set_buffer, FLUSHES},
    {"setbuffer", set_buffer, FLUSHES},
    {"fprintf", print, WRITES},
    {"vfprintf", print_list, WRITES},
    {"printf", print_output, WRITES},
    {"vprintf", print_output_list, WRITES},
    {"dprintf", print_file, WRITES},
    {"vdprintf", print_file_list, WRITES},
    {"__fprintf_chk", print_checked, WRITES},
    {"__vfprintf_chk", print_list_checked, WRITES},
    {"__printf_chk", print_output_checked, WRITES},
    {"__vprintf_chk", print_output_list_checked, WRITES},
    {"__dprintf_chk", print_file_checked, WRITES},
    {"__vdprintf_chk", print_file_list_checked, WRITES},
    {"fscanf", scan, READS},
    {"vfscanf", scan_list, READS},
    {"scanf", scan_input, READS},
    {"vscanf", scan_input_list, READS},
    {"__isoc99_fscanf", scan, READS},
    {"__isoc99_vfscanf", scan_list, READS},
    {"__isoc99_scanf", scan_input, READS},
    {"__isoc99_vscanf", scan_input_list, READS},
    {"__isoc23_fscanf", scan, READS},
    {"__isoc23_vfscanf", scan_list, READS},
    {"__isoc23_scanf", scan_input, READS},
    {"__isoc23_vscanf", scan_input_list, READS},
    {"fgetwc", read_character, READS | WIDE},
    {"getwc", read_character, READS | WIDE},
    {"fgetwc_unlocked", read_character, READS | WIDE},
    {"getwc_unlocked", read_character, READS | WIDE},
    {"__wuflow", read_character, READS | WIDE},
    {"__wunderflow", read_character, READS | WIDE},
    {"getwchar", read_input, READS | WIDE},
    {"getwchar_unlocked", read_input, READS | WIDE},
    {"fgetws", read_line, READS | WIDE},
    {"fgetws_unlocked", read_line, READS | WIDE},
    {"__fgetws_chk", read_line_checked, READS | WIDE},
    {"__fgetws_unlocked_chk", read_line_checked, READS | WIDE},
    {"fputwc", write_character, WRITES | WIDE},
    {"putwc", write_character, WRITES | WIDE},
    {"fputwc_unlocked", write_character, WRITES | WIDE},
    {"putwc_unlocked", write_character, WRITES | WIDE},
    {"__woverflow", overflow, WRITES | WIDE},
    {"putwchar", write_output, WRITES | WIDE},
    {"putwchar_unlocked", write_output, WRITES | WIDE},
    {"fputws", write_text, WRITES | WIDE},
    {"fputws_unlocked", write_text, WRITES | WIDE},
    {"fwprintf", print, WRITES | WIDE},
    {"vfwprintf", print_list, WRITES | WIDE},
    {"wprintf", print_output, WRITES | WIDE},
    {"vwprintf", print_output_list, WRITES | WIDE},
    {"__fwprintf_chk", print_checked, WRITES | WIDE},
    {"__vfwprintf_chk", print_list_checked, WRITES | WIDE},
    {"__wprintf_chk", print_output_checked, WRITES | WIDE},
    {"__vwprintf_chk", print_output_list_checked, WRITES | WIDE},
    {"fwscanf", scan, READS | WIDE},
    {"vfwscanf", scan_list, READS | WIDE},
    {"wscanf", scan_input, READS | WIDE},
    {"vwscanf", scan_input_list, READS | WIDE},
    {"__isoc99_fwscanf", scan, READS | WIDE},
    {"__isoc99_vfwscanf", scan_list, READS | WIDE},
    {"__isoc99_wscanf", scan_input, READS | WIDE},
    {"__isoc99_vwscanf", scan_input_list, READS | WIDE},
    {"__isoc23_fwscanf", scan, READS | WIDE},
    {"__isoc23_vfwscanf", scan_list, READS | WIDE},
    {"__isoc23_wscanf", scan_input, READS | WIDE},
    {"__isoc23_vwscanf", scan_input_list, READS | WIDE},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void *run_row(void *arg) {
  const struct row *row = arg;
  __atomic_store_n(&waiter.tid, gettid(), __ATOMIC_RELEASE);
  errno = 0;
  row->run();
  waiter.error = errno;
  waiter.failed = !(row->what & CLOSES) && ferror(waiter.stream);
  __atomic_store_n(&waiter.ended, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void set_limit(int fd, int option, long seconds) {
  struct timeval limit = {.tv_sec = seconds};
  ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit), 0);
}

static void fill(int fd) {
  char block[4096] = {0};
  while (send(fd, block, sizeof block, MSG_DONTWAIT) > 0)
    ;
  while (send(fd, block, 1, MSG_DONTWAIT) > 0)
    ;
}

/* Everything of the other end's that can be had at once. */
static void drain(void) {
  char block[4096];
  while (recv(waiter.pair[1], block, sizeof block, MSG_DONTWAIT) > 0)
    ;
}

/* A stream over a socket with time limits that will not be reached, made so that the row's function waits. */
static void open_stream(int what) {
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, waiter.pair), 0);
  set_limit(waiter.pair[0], (what & KIND) == READS ? SO_RCVTIMEO : SO_SNDTIMEO, 1000);
  waiter.wide = what & WIDE;
  waiter.stream = fdopen(waiter.pair[0], (what & KIND) == READS ? "r" : "w");
  ck_assert_ptr_nonnull(waiter.stream);
  fwide(waiter.stream, waiter.wide ? 1 : -1);
  if ((what & KIND) == READS) return;
  if ((what & KIND) == WRITES) setvbuf(waiter.stream, NULL, _IONBF, 0);
  if ((what & KIND) == FLUSHES) {
    setvbuf(waiter.stream, NULL, _IOLBF, 1024);
    ck_assert_int_eq(fputc('x', waiter.stream), 'x');
  }
  fill(waiter.pair[0]);
}

START_TEST(collections_interrupt_no_function) {
  const struct row *row = &rows[_i];
  waiter.function = dlsym(RTLD_DEFAULT, row->name);
  if (strncmp(row->name, "__isoc23", 8) == 0 && !dlsym(RTLD_DEFAULT, "__isoc23_strtol"))
    TEST_SKIP("not in this C library");
  ck_assert_msg(waiter.function != NULL, "%s is nowhere", row->name);
  open_stream(row->what);
  FILE *input = stdin, *output = stdout;
  if ((row->what & KIND) == READS) stdin = waiter.stream;
  if ((row->what & KIND) == WRITES) stdout = waiter.stream;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, run_row, (void *)row), 0);
  while (!__atomic_load_n(&waiter.tid, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert_msg(system_wait_asleep(waiter.tid), "%s: never slept", row->name);
  for (int i = 0; i < 5; i++) gc_collect();
  ck_assert_msg(!__atomic_load_n(&waiter.ended, __ATOMIC_ACQUIRE), "%s: error %d (%s) before it was woken", row->name,
                waiter.error, strerror(waiter.error));
  if ((row->what & KIND) == READS) ck_assert_int_eq(write(waiter.pair[1], "12345678\n", 9), 9);
  while (!__atomic_load_n(&waiter.ended, __ATOMIC_ACQUIRE)) {
    if ((row->what & KIND) != READS) drain();
    sched_yield();
  }
  pthread_join(thread, NULL);
  stdin = input;
  stdout = output;
  ck_assert_msg(!waiter.failed && waiter.error != EINTR, "%s: error %d (%s)", row->name, waiter.error,
                strerror(waiter.error));
}
END_TEST

/* How often the thread has given up its processor to wait: a thread that a collection stops by a signal waits for its
 * end, a parked one goes on sleeping. */
static long sleeps_of(pid_t tid) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)tid);
  int file = open(path, O_RDONLY | O_CLOEXEC); /* no stream: flushing all of them locks their list */
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  ck_assert_int_gt(size, 0);
  text[size] = '\0';
  const char *name = "\nvoluntary_ctxt_switches:", *found = strstr(text, name);
  ck_assert_ptr_nonnull(found);
  return strtol(found + strlen(name), NULL, 10);
}

/* Whether a thread in fgetc is signalled by collections. */
static bool is_signalled(void) {
  static const struct row row = {"fgetc", read_character, READS};
  pthread_t thread;
  waiter = (struct waiter){.function = dlsym(RTLD_DEFAULT, row.name)};
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, waiter.pair), 0);
  waiter.stream = fdopen(waiter.pair[0], "r");
  ck_assert_int_eq(pthread_create(&thread, NULL, run_row, (void *)&row), 0);
  while (!__atomic_load_n(&waiter.tid, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(waiter.tid));
  long before = sleeps_of(waiter.tid);
  for (int i = 0; i < 20; i++) gc_collect();
  long after = sleeps_of(waiter.tid);
  ck_assert_int_eq(write(waiter.pair[1], "x", 1), 1);
  pthread_join(thread, NULL);
  ck_assert(!waiter.failed && waiter.error == 0);
  fclose(waiter.stream);
  close(waiter.pair[1]);
  return after > before;
}

START_TEST(only_a_time_limit_parks_streams) {
  int pair[2], on = 1;
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  ck_assert(is_signalled());
  set_limit(pair[0], SO_RCVTIMEO, 0);
  ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, NULL, 0), -1);
  ck_assert(is_signalled());
  set_limit(pair[0], _i ? SO_RCVTIMEO : SO_SNDTIMEO, 1);
  ck_assert(!is_signalled());
  set_limit(pair[0], _i ? SO_RCVTIMEO : SO_SNDTIMEO, 0);
  ck_assert(!is_signalled());
  close(pair[0]);
  close(pair[1]);
}
END_TEST

/* An object that only the argument names, while its contents wait to be taken. */
enum { LARGE = 1 << 20 };
static uintptr_t large;

static SYSTEM_NOINLINE char *make_large(void) {
  char *message = gc_alloc_noscan(LARGE);
  memset(message, 'm', LARGE);
  __atomic_store_n(&large, test_hide(message), __ATOMIC_RELEASE);
  return message;
}

static void *write_large(void *unused) {
  __atomic_store_n(&waiter.tid, gettid(), __ATOMIC_RELEASE);
  size_t written = fwrite(make_large(), 1, LARGE, waiter.stream);
  TEST_REQUIRE(written == LARGE, "wrote %zu of %d: error %d", written, LARGE, errno);
  return unused;
}

START_TEST(an_argument_keeps_its_object) {
  static char block[LARGE];
  open_stream(WRITES);
  drain();
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, write_large, NULL), 0);
  while (!__atomic_load_n(&large, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(__atomic_load_n(&waiter.tid, __ATOMIC_ACQUIRE)));
  for (int i = 0; i < 5; i++) gc_collect();
  void *message = test_reveal(large);
  ck_assert_ptr_eq(gc_base(message), message);
  size_t had = 0;
  while (had < LARGE) {
    ssize_t more = read(waiter.pair[1], block + had, LARGE - had);
    ck_assert_int_gt(more, 0);
    had += (size_t)more;
  }
  pthread_join(thread, NULL);
  for (size_t i = 0; i < LARGE; i++) ck_assert_int_eq(block[i], 'm');
}
END_TEST

/* Code of the program that runs inside stdio may allocate, so its thread must not count as parked. It waits by a system
 * call that nobody interposes, and is looked at meanwhile. */
static int wake[2];
static struct object { struct object *next; } * objects;
static size_t object_count;

static void own_code(void) {
  char byte;
  if (object_count == 0) {
    __atomic_store_n(&waiter.tid, gettid(), __ATOMIC_RELEASE);
    TEST_REQUIRE(syscall(SYS_read, wake[0], &byte, 1) == 1);
  }
  struct object *object = gc_alloc(sizeof *object);
  TEST_REQUIRE(object != NULL);
  object->next = objects;
  objects = object;
  object_count++;
  gc_collect();
}

static ssize_t cookie_read(void *cookie, char *buffer, size_t size) {
  (void)cookie;
  own_code();
  memset(buffer, 'c', size);
  return size > 0 ? 1 : 0;
}
static ssize_t cookie_write(void *cookie, const char *buffer, size_t size) {
  (void)cookie;
  (void)buffer;
  own_code();
  return (ssize_t)size;
}
static FILE *open_cookie(const char *mode) {
  FILE *stream = fopencookie(NULL, mode, (cookie_io_functions_t){.read = cookie_read, .write = cookie_write});
  ck_assert_ptr_nonnull(stream);
  return stream;
}

static int print_object(FILE *stream, const struct printf_info *info, const void *const *arguments) {
  (void)info;
  (void)arguments;
  own_code();
  return fputs("object", stream) < 0 ? -1 : 6;
}
static int object_arguments(const struct printf_info *info, size_t count, int *types, int *sizes) {
  (void)info;
  if (count > 0) {
    types[0] = PA_POINTER;
    sizes[0] = sizeof(void *);
  }
  return 1;
}

static void cookie_reads(void) {
  FILE *stream = open_cookie("r");
  TEST_REQUIRE(fgetc(stream) == 'c');
  fclose(stream);
}
static void cookie_writes(void) {
  FILE *stream = open_cookie("w");
  TEST_REQUIRE(fprintf(stream, "x") == 1 && fflush(stream) == 0);
  fclose(stream);
}
static void all_streams_flushed(void) {
  FILE *stream = open_cookie("w");
  TEST_REQUIRE(fputc('x', stream) == 'x' && fflush(NULL) == 0);
  fclose(stream);
}
/* Reading a stream without a buffer flushes standard output if that is line-buffered. */
static void output_flushed_by_input(void) {
  FILE *output = stdout, *input = fopen("/dev/zero", "r");
  TEST_REQUIRE(input && setvbuf(input, NULL, _IONBF, 0) == 0);
  stdout = open_cookie("w");
  setvbuf(stdout, NULL, _IOLBF, 1024);
  TEST_REQUIRE(fputc('x', stdout) == 'x' && fgetc(input) == 0);
  fclose(stdout);
  stdout = output;
  fclose(input);
}
static void conversion(void) {
  char format[] = "%Y\n";
  FILE *stream = fopen("/dev/null", "w");
  TEST_REQUIRE(stream && register_printf_specifier('Y', print_object, object_arguments) == 0);
  TEST_REQUIRE(fprintf(stream, format, (void *)&number) == 7);
  fclose(stream);
}
static void conversion_to_descriptor(void) {
  char format[] = "%Y\n";
  TEST_REQUIRE(register_printf_specifier('Y', print_object, object_arguments) == 0);
  TEST_REQUIRE(dprintf(wake[1], format, (void *)&number) == 7);
}

static void (*const inside[])(void) = {
    cookie_reads, cookie_writes, all_streams_flushed, output_flushed_by_input, conversion, conversion_to_descriptor};

static void *run_inside(void *index) {
  inside[(intptr_t)index]();
  return NULL;
}

START_TEST(the_programs_functions_may_allocate) {
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  ck_assert_int_eq(pipe2(wake, O_CLOEXEC), 0);
  set_limit(pair[0], SO_RCVTIMEO, 1000);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, run_inside, (void *)(intptr_t)_i), 0);
  while (!__atomic_load_n(&waiter.tid, __ATOMIC_ACQUIRE)) sched_yield();
  ck_assert(system_wait_asleep(waiter.tid));
  long before = sleeps_of(waiter.tid);
  for (int i = 0; i < 20; i++) gc_collect();
  ck_assert_int_gt(sleeps_of(waiter.tid), before);
  ck_assert_int_eq(write(wake[1], "x", 1), 1);
  pthread_join(thread, NULL);
  ck_assert_uint_ge(object_count, 1);
  ck_assert_ptr_eq(gc_base(objects), objects);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *functions = test_case(suite, "eintr-stdio", 20);
  tcase_add_loop_test(functions, collections_interrupt_no_function, 0, ROWS);
  TCase *parking = test_case(suite, "eintr-stdio-parking", 20);
  tcase_add_loop_test(parking, only_a_time_limit_parks_streams, 0, 2);
  tcase_add_test(parking, an_argument_keeps_its_object);
  TCase *own = test_case(suite, "eintr-stdio-own-functions", 20);
  tcase_add_loop_test(own, the_programs_functions_may_allocate, 0, (int)(sizeof inside / sizeof *inside));
  return suite;
}
TEST_MAIN(make_suite)
