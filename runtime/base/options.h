/* The environment options: one row each, expanded into storage, parser and docs/options.md.
 *
 * A value is parsed once, before the first thread of the library's exists, and never written again except through the
 * functions of collect.h. A malformed value ends the program with exit status 2 and a line that names the variable, the
 * value and what is accepted. Unset and empty mean the default. */
#ifndef GCRT_BASE_OPTIONS_H
#define GCRT_BASE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum gcrt_option_type {
  GCRT_OPTION_PERCENT, /* an integer of 0 or more, or "off" (-1) */
  GCRT_OPTION_COUNT,   /* an integer between low and high */
  GCRT_OPTION_SIZE,    /* bytes between low and high: N, NB, NKiB, NMiB, NGiB, NTiB */
  GCRT_OPTION_LIMIT,   /* bytes as for SIZE, "off", "auto" or "auto:PERCENT": see GCRT_LIMIT_OFF */
  GCRT_OPTION_TRACKER, /* a name of GCRT_TRACKERS, by its number */
};

/* name: what notes writes while objects are marked beside the program */
#define GCRT_TRACKERS(TRACKER)                                                                                         \
  TRACKER(auto)                                                                                                        \
  TRACKER(none)                                                                                                        \
  TRACKER(uffd)                                                                                                        \
  TRACKER(explicit)                                                                                                    \
  TRACKER(mprotect)

enum gcrt_tracker_choice {
#define GCRT_TRACKER_CHOICE(name) GCRT_CHOOSE_##name,
  GCRT_TRACKERS(GCRT_TRACKER_CHOICE)
#undef GCRT_TRACKER_CHOICE
      GCRT_TRACKER_CHOICES
};
extern const char *const gcrt_tracker_names[GCRT_TRACKER_CHOICES];

#define GCRT_SIZE_GIB ((int64_t)1 << 30)
/* A limit is bytes. The most that there can be stands for none, so a comparison with it needs no special case; a
 * negative number is a percentage of what the surroundings allow, which whoever uses it finds out. */
#define GCRT_LIMIT_OFF INT64_MAX
#define GCRT_LIMIT_AUTO(percent) (-(int64_t)(percent))
enum { GCRT_LIMIT_AUTO_STANDARD = 90 }; /* percent, of "auto" alone */
/* The stop signal's default is counted from the end, as the C library takes the first real-time signals for itself. */
#define GCRT_DEFAULT_SIGNAL 60

/* type, field, variable, default, low, high, text */
#define GCRT_OPTIONS(OPTION)                                                                                           \
  OPTION(PERCENT, gogc, "GCRT_GOGC", 100, 0, INT32_MAX,                                                                \
         "How much the heap may grow, in percent of what the last collection found alive and of the stacks and "       \
         "global variables that it searched, before the next one; "                                                    \
         "at least 4 MiB times this percentage. `off` collects only when gc_collect is called or memory runs out.")    \
  OPTION(LIMIT, memlimit, "GCRT_MEMLIMIT", GCRT_LIMIT_OFF, GCRT_LIMIT_AUTO(100), GCRT_LIMIT_OFF,                       \
         "How much memory the library may take from the system, less what it has given back. It is a soft limit: "     \
         "collections come more often to keep it, and it is passed where they would take over half of the "            \
         "processors' time. It also works with GCRT_GOGC=off. `auto:PERCENT` takes a percentage of the memory limit "  \
         "of the process's cgroup and follows its changes; without one there is no limit. `auto` is `auto:90`.")       \
  OPTION(COUNT, markers, "GCRT_MARKERS", 0, 0, 64,                                                                     \
         "Threads that mark in a collection, the one that started it included. 0 takes one per available processor, "  \
         "at most 8.")                                                                                                 \
  OPTION(COUNT, signal, "GCRT_SIGNAL", GCRT_DEFAULT_SIGNAL, 34, 64,                                                    \
         "The real-time signal that stops threads. The program must not use the same one.")                            \
  OPTION(COUNT, stop_timeout, "GCRT_STOP_TIMEOUT", 10000, 10, 3600000,                                                 \
         "Milliseconds after which a thread that does not stop is named on standard error.")                           \
  OPTION(SIZE, heap_reserve, "GCRT_HEAP_RESERVE", 256 * GCRT_SIZE_GIB, 16 * 1024 * 1024, 4096 * GCRT_SIZE_GIB,         \
         "Address space reserved for the heap, the most it can ever grow to. If that is more than three quarters of "  \
         "what an address-space limit (RLIMIT_AS) leaves, it is half of what it leaves.")                              \
  OPTION(                                                                                                              \
      TRACKER, tracker, "GCRT_TRACKER", GCRT_CHOOSE_auto, 0, GCRT_TRACKER_CHOICES - 1,                                 \
      "How writes are noted while objects are marked beside the program. `uffd` is the kernel's userfaultfd (Linux "   \
      "6.7), for every collection; where it does not work, the program ends with the reason. `explicit` is "           \
      "gc_write_barrier, which the program calls after every store of a pointer into the heap. `mprotect` protects "   \
      "pages and answers SIGSEGV, for kernels and sandboxes without userfaultfd; system calls that write into "        \
      "objects that are searched for pointers may fail with EFAULT (docs/guide.md). `none` marks with "                \
      "the program stopped. `auto` takes uffd where it works and a stop would be long, none otherwise.")               \
  OPTION(                                                                                                              \
      COUNT, stress, "GCRT_STRESS", 0, 0, 1000000000,                                                                  \
      "Collect at every Nth allocation of a thread: for finding bugs, in the program and in the library. 0 is off.")

/* key, text: switches of GCRT_DEBUG, each `key=0` or `key=1`, comma-separated */
#define GCRT_DEBUG_KEYS(KEY)                                                                                           \
  KEY(gctrace, "One line on standard error for every collection, in the form of Go's gctrace.")                        \
  KEY(gcpacertrace,                                                                                                    \
      "Two lines on standard error for every collection: how much threads are to help, and what became of it.")        \
  KEY(phasetrace, "One line on standard error whenever a collection enters its next phase.")                           \
  KEY(scavtrace,                                                                                                       \
      "One line on standard error, once a second at most, while memory is given back, in the form of Go's.")           \
  KEY(heaptrace,                                                                                                       \
      "Three lines on standard error for every collection, and one where scavtrace has one: heap, goal, memory "       \
      "limit, and what the library and the process have. tools/plot-heap draws them.")                                 \
  KEY(madvfree,                                                                                                        \
      "Give memory back by MADV_FREE: the system takes it when it needs some. Resident memory does not fall until "    \
      "then.")                                                                                                         \
  KEY(clobberfree, "Fill reclaimed objects with 0xdb, so that a use after free is seen early.")                        \
  KEY(checkmark, "Mark a second time, alone, and abort if the first marking missed an object.")                        \
  KEY(verify, "Check every invariant of the heap after each collection.")

/* The percentage of an automatic limit; 0: it is a number of bytes. */
static inline int gcrt_limit_percent(int64_t limit) { return limit < 0 ? (int)-limit : 0; }

struct gcrt_options {
#define GCRT_OPTION_FIELD(type, field, variable, standard, low, high, text) int64_t field;
  GCRT_OPTIONS(GCRT_OPTION_FIELD)
#undef GCRT_OPTION_FIELD
  struct {
#define GCRT_DEBUG_FIELD(key, text) int64_t key;
    GCRT_DEBUG_KEYS(GCRT_DEBUG_FIELD)
#undef GCRT_DEBUG_FIELD
  } debug;
};

extern struct gcrt_options gcrt_options;

/* Sets every field to its default. */
void gcrt_options_default(struct gcrt_options *options);

/* Parses one value into *result. Returns 0, or -1 with what is accepted written into expected[0..size). */
int gcrt_option_parse(const char *variable, const char *value, int64_t *result, char *expected, size_t size);

/* Parses GCRT_DEBUG's list. Returns 0, or -1 with what is accepted written into expected[0..size). */
int gcrt_debug_parse(struct gcrt_options *options, const char *value, char *expected, size_t size);

/* Reads the environment into gcrt_options; ends the program with exit status 2 at the first malformed value. Variables
 * that start with GCRT_ and are unknown get a warning. */
void gcrt_options_read(void);

/* A row as data, for documentation and tests. */
struct gcrt_option_row {
  enum gcrt_option_type type;
  const char *variable;
  int64_t standard, low, high;
  const char *text;
};
struct gcrt_debug_row {
  const char *key, *text;
};
extern const struct gcrt_option_row gcrt_option_rows[];
extern const size_t gcrt_option_row_count;
extern const struct gcrt_debug_row gcrt_debug_rows[];
extern const size_t gcrt_debug_row_count;

#endif
