/* Prints docs/options.md from the table of environment options, runtime/base/options.h: the table is the only place
 * where an option is described. tools/check-docs compares what this prints with the file. */
#include "base/options.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Prints a paragraph with line breaks at blanks. */
static void print_wrapped(const char *text) {
  size_t column = 0;
  while (*text != '\0') {
    size_t length = strcspn(text, " ");
    if (column > 0) {
      bool fits = column + 1 + length <= 100;
      putchar(fits ? ' ' : '\n');
      column = fits ? column + 1 : 0;
    }
    printf("%.*s", (int)length, text);
    column += length;
    text += length + (text[length] == ' ');
  }
}

static void print_size(int64_t bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (unit + 1 < sizeof units / sizeof *units && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    unit++;
  }
  printf("%lld%s%s", (long long)bytes, unit == 0 ? " " : "", units[unit]);
}

static void print_limit(int64_t limit) {
  int percent = gcrt_limit_percent(limit);
  if (limit == GCRT_LIMIT_OFF) {
    printf("`off`");
  } else if (percent == GCRT_LIMIT_AUTO_STANDARD) {
    printf("`auto`");
  } else if (percent != 0) {
    printf("`auto:%d`", percent);
  } else {
    print_size(limit);
  }
}

static void print_value(const struct gcrt_option_row *row, int64_t value) {
  if (row->type == GCRT_OPTION_SIZE) {
    print_size(value);
  } else if (row->type == GCRT_OPTION_LIMIT) {
    print_limit(value);
  } else if (row->type == GCRT_OPTION_PERCENT && value < 0) {
    printf("off");
  } else if (row->type == GCRT_OPTION_TRACKER) {
    printf("`%s`", gcrt_tracker_names[value]);
  } else {
    printf("%lld", (long long)value);
  }
}

static void print_accepted(const struct gcrt_option_row *row) {
  switch (row->type) {
  case GCRT_OPTION_TRACKER:
    for (int64_t i = row->low; i <= row->high; i++) {
      printf("%s", i == row->low ? "" : ", ");
      print_value(row, i);
    }
    return;
  case GCRT_OPTION_LIMIT:
    printf("bytes, or a number with KiB, MiB, GiB or TiB; ");
    print_value(row, GCRT_LIMIT_AUTO(GCRT_LIMIT_AUTO_STANDARD));
    printf(" or `auto:PERCENT` with 1 to %d; ", gcrt_limit_percent(row->low));
    print_value(row, GCRT_LIMIT_OFF);
    return;
  case GCRT_OPTION_PERCENT:
    printf("a percentage of ");
    break;
  case GCRT_OPTION_COUNT:
    printf("a number of ");
    break;
  case GCRT_OPTION_SIZE:
    printf("bytes, or a number with KiB, MiB, GiB or TiB, of ");
    break;
  }
  print_value(row, row->low);
  printf(" to ");
  print_value(row, row->high);
  if (row->type == GCRT_OPTION_PERCENT) printf(", or `off`");
}

int main(void) {
  printf(
      "# Environment options\n\n"
      "This page is printed by `tools/options_doc.c` from the table in `runtime/base/options.h`.\n\n"
      "Options are read once, when the library starts. Unset and empty mean the default. A value that is not accepted\n"
      "ends the program with exit status 2 and a line that names the variable, the value and what is accepted; a\n"
      "variable that begins with `GCRT_` and has no meaning gets a warning.\n");
  for (size_t i = 0; i < gcrt_option_row_count; i++) {
    const struct gcrt_option_row *row = &gcrt_option_rows[i];
    printf("\n## `%s`\n\n", row->variable);
    print_wrapped(row->text);
    printf("\n\nAccepted: ");
    print_accepted(row);
    printf(". Default: ");
    print_value(row, row->standard);
    printf(".\n");
  }
  printf(
      "\n## `GCRT_DEBUG`\n\n"
      "Switches, separated by commas: `GCRT_DEBUG=gctrace=1,clobberfree=1`. Each is 0 or 1; all are 0 by default.\n\n"
      "| switch | what it does |\n|---|---|\n");
  for (size_t i = 0; i < gcrt_debug_row_count; i++)
    printf("| `%s` | %s |\n", gcrt_debug_rows[i].key, gcrt_debug_rows[i].text);
  return 0;
}
