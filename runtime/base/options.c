/* The options' storage and parser, expanded from the table in options.h.
 *
 * gcrt_options holds the defaults from the start, so that code which runs before the environment is read (a constructor
 * of another library that allocates) sees sound values. It is written by gcrt_options_read only, before a second thread
 * of the library's exists; everyone reads it without a lock. Numbers are parsed here and not by strtoll, which accepts
 * leading blanks, signs and trailing text and needs errno to tell an overflow. */
#include "base/options.h"
#include "base/bits.h"
#include "base/report.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gcrt_options gcrt_options = {
#define OPTION(type, field, variable, standard, low, high, text) .field = (standard),
    GCRT_OPTIONS(OPTION)
#undef OPTION
};

const struct gcrt_option_row gcrt_option_rows[] = {
#define OPTION(type, field, variable, standard, low, high, text)                                                       \
  {GCRT_OPTION_##type, variable, standard, low, high, text},
    GCRT_OPTIONS(OPTION)
#undef OPTION
};
const size_t gcrt_option_row_count = GCRT_COUNT(gcrt_option_rows);

/* Where the value of gcrt_option_rows[i] stands. */
static const size_t option_offset[] = {
#define OPTION(type, field, variable, standard, low, high, text) offsetof(struct gcrt_options, field),
    GCRT_OPTIONS(OPTION)
#undef OPTION
};

const char *const gcrt_tracker_names[GCRT_TRACKER_CHOICES] = {
#define NAME(name) #name,
    GCRT_TRACKERS(NAME)
#undef NAME
};

const struct gcrt_debug_row gcrt_debug_rows[] = {
#define KEY(key, text) {#key, text},
    GCRT_DEBUG_KEYS(KEY)
#undef KEY
};
const size_t gcrt_debug_row_count = GCRT_COUNT(gcrt_debug_rows);

static const size_t debug_offset[] = {
#define KEY(key, text) offsetof(struct gcrt_options, debug.key),
    GCRT_DEBUG_KEYS(KEY)
#undef KEY
};

static const char debug_variable[] = "GCRT_DEBUG";
/* Variables with this beginning ought to be options, except those of the library's own tests. */
static const char prefix[] = "GCRT_";
static const char *const test_prefixes[] = {"GCRT_TEST_", "GCRT_TORTURE_"};

struct unit {
  const char *suffix;
  unsigned shift;
};
static const struct unit units[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}, {"", 0}};

static int64_t *field_at(struct gcrt_options *options, size_t offset) {
  return (int64_t *)(void *)((char *)options + offset);
}

static const struct gcrt_option_row *find_row(const char *variable) {
  for (size_t i = 0; i < gcrt_option_row_count; i++)
    if (strcmp(gcrt_option_rows[i].variable, variable) == 0) return &gcrt_option_rows[i];
  return NULL;
}

void gcrt_options_default(struct gcrt_options *options) {
  memset(options, 0, sizeof *options);
  for (size_t i = 0; i < gcrt_option_row_count; i++)
    *field_at(options, option_offset[i]) = gcrt_option_rows[i].standard;
}

/* Reads decimal digits. Returns what follows, NULL if no digit stands there or the number is too big for int64_t. */
static const char *parse_digits(const char *text, int64_t *result) {
  if (*text < '0' || *text > '9') return NULL;
  int64_t value = 0;
  for (; *text >= '0' && *text <= '9'; text++) {
    int digit = *text - '0';
    if (value > (INT64_MAX - digit) / 10) return NULL;
    value = value * 10 + digit;
  }
  *result = value;
  return text;
}

static bool parse_count(const char *text, int64_t *result) {
  const char *rest = parse_digits(text, result);
  return rest && *rest == '\0';
}

static bool parse_size(const char *text, int64_t *result) {
  int64_t number;
  const char *rest = parse_digits(text, &number);
  if (!rest) return false;
  for (size_t i = 0; i < GCRT_COUNT(units); i++) {
    if (strcmp(rest, units[i].suffix) != 0) continue;
    if (number > INT64_MAX >> units[i].shift) return false;
    *result = number << units[i].shift;
    return true;
  }
  return false;
}

static bool parse_limit(const char *text, int64_t *result) {
  static const char automatic[] = "auto";
  const size_t length = sizeof automatic - 1;
  if (strcmp(text, "off") == 0) {
    *result = GCRT_LIMIT_OFF;
    return true;
  }
  if (strncmp(text, automatic, length) != 0) return parse_size(text, result);
  int64_t percent = GCRT_LIMIT_AUTO_STANDARD;
  if (text[length] != '\0' && (text[length] != ':' || !parse_count(text + length + 1, &percent))) return false;
  *result = GCRT_LIMIT_AUTO(percent);
  return percent > 0;
}

static void format_size(char *buffer, size_t size, int64_t bytes) {
  size_t i = 0;
  while (units[i].shift && (bytes & (((int64_t)1 << units[i].shift) - 1))) i++;
  gcrt_format(buffer, size, "%ld %s", (long)(bytes >> units[i].shift), units[i].suffix);
}

static void describe(const struct gcrt_option_row *row, char *expected, size_t size) {
  switch (row->type) {
  case GCRT_OPTION_PERCENT:
    gcrt_format(expected, size, "a percentage from %ld to %ld, or off", (long)row->low, (long)row->high);
    break;
  case GCRT_OPTION_COUNT:
    gcrt_format(expected, size, "a whole number from %ld to %ld", (long)row->low, (long)row->high);
    break;
  case GCRT_OPTION_SIZE: {
    char low[32], high[32];
    format_size(low, sizeof low, row->low);
    format_size(high, sizeof high, row->high);
    gcrt_format(expected, size, "bytes from %s to %s, written N, NB, NKiB, NMiB, NGiB or NTiB", low, high);
    break;
  }
  case GCRT_OPTION_LIMIT:
    gcrt_format(expected, size,
                "bytes, written N, NB, NKiB, NMiB, NGiB or NTiB, or auto:PERCENT from 1 to %d, or auto, or off",
                gcrt_limit_percent(row->low));
    break;
  case GCRT_OPTION_TRACKER: {
    size_t length = gcrt_format(expected, size, "one of");
    for (size_t i = 0; i < GCRT_TRACKER_CHOICES; i++)
      length += gcrt_format(expected + length, size - length, "%s %s", i ? "," : "", gcrt_tracker_names[i]);
    break;
  }
  }
}

static bool parse_tracker(const char *text, int64_t *result) {
  for (size_t i = 0; i < GCRT_TRACKER_CHOICES; i++) {
    *result = (int64_t)i;
    if (strcmp(text, gcrt_tracker_names[i]) == 0) return true;
  }
  return false;
}

int gcrt_option_parse(const char *variable, const char *value, int64_t *result, char *expected, size_t size) {
  const struct gcrt_option_row *row = find_row(variable);
  if (!row) {
    gcrt_format(expected, size, "the name of an option");
    return -1;
  }
  int64_t number = 0;
  bool good = false;
  switch (row->type) {
  case GCRT_OPTION_PERCENT:
    if (strcmp(value, "off") == 0) {
      *result = -1;
      return 0;
    }
    good = parse_count(value, &number) && number >= row->low && number <= row->high;
    break;
  case GCRT_OPTION_COUNT:
    good = parse_count(value, &number) && number >= row->low && number <= row->high;
    break;
  case GCRT_OPTION_SIZE:
    good = parse_size(value, &number) && number >= row->low && number <= row->high;
    break;
  case GCRT_OPTION_LIMIT:
    good = parse_limit(value, &number) && number >= row->low && number <= row->high;
    break;
  case GCRT_OPTION_TRACKER:
    good = parse_tracker(value, &number);
    break;
  }
  if (!good) {
    describe(row, expected, size);
    return -1;
  }
  *result = number;
  return 0;
}

static void describe_debug(char *expected, size_t size) {
  size_t length = gcrt_format(expected, size, "a comma-separated list of");
  for (size_t i = 0; i < gcrt_debug_row_count; i++)
    length += gcrt_format(expected + length, size - length, "%s %s=0 or 1", i ? "," : "", gcrt_debug_rows[i].key);
}

/* One `key=0` or `key=1` of the given length. */
static bool parse_debug_item(struct gcrt_options *options, const char *item, size_t length) {
  for (size_t i = 0; i < gcrt_debug_row_count; i++) {
    size_t key = strlen(gcrt_debug_rows[i].key);
    if (length != key + 2 || memcmp(item, gcrt_debug_rows[i].key, key) != 0 || item[key] != '=') continue;
    if (item[key + 1] != '0' && item[key + 1] != '1') return false;
    *field_at(options, debug_offset[i]) = item[key + 1] - '0';
    return true;
  }
  return false;
}

int gcrt_debug_parse(struct gcrt_options *options, const char *value, char *expected, size_t size) {
  struct gcrt_options parsed = *options;
  for (const char *item = value;;) {
    size_t length = strcspn(item, ",");
    if (!parse_debug_item(&parsed, item, length)) {
      describe_debug(expected, size);
      return -1;
    }
    item += length;
    if (*item == '\0') break;
    item++;
  }
  *options = parsed;
  return 0;
}

static _Noreturn void refuse(const char *variable, const char *value, const char *expected) {
  char shown[160];
  bool cut = gcrt_format(shown, sizeof shown, "%s", value) < strlen(value);
  gcrt_warn("%s=%s%s: expected %s", variable, shown, cut ? "..." : "", expected);
  /* Not exit(): the program has not begun, its and other libraries' exit handlers have nothing to undo. */
  _exit(2);
}

static bool is_set(const char *value) { return value && *value; }

static bool begins_with(const char *text, const char *beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}

static bool is_known(const char *name) {
  for (size_t i = 0; i < GCRT_COUNT(test_prefixes); i++)
    if (begins_with(name, test_prefixes[i])) return true;
  return find_row(name) || strcmp(name, debug_variable) == 0;
}

static void warn_unknown(void) {
  for (char **entry = environ; entry && *entry; entry++) {
    if (!begins_with(*entry, prefix)) continue;
    char name[64]; /* longer than any option's: a name that is cut is unknown all the same */
    size_t length = gcrt_min(strcspn(*entry, "="), sizeof name - 1);
    memcpy(name, *entry, length);
    name[length] = '\0';
    if (!is_known(name)) gcrt_warn("%s is not an option of this library and has no effect", name);
  }
}

void gcrt_options_read(void) {
  char expected[256];
  gcrt_options_default(&gcrt_options);
  for (size_t i = 0; i < gcrt_option_row_count; i++) {
    const char *variable = gcrt_option_rows[i].variable, *value = getenv(variable);
    if (!is_set(value)) continue;
    if (gcrt_option_parse(variable, value, field_at(&gcrt_options, option_offset[i]), expected, sizeof expected) != 0)
      refuse(variable, value, expected);
  }
  const char *debug = getenv(debug_variable);
  if (is_set(debug) && gcrt_debug_parse(&gcrt_options, debug, expected, sizeof expected) != 0)
    refuse(debug_variable, debug, expected);
  warn_unknown();
}
