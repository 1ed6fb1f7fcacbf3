/* The list of mappings: see maps.h. No lock; the list may change while it is read. */
#include "sys/maps.h"

/* Reads hexadecimal digits and the one character that ends them, which is returned. */
static int next_number(struct gcrt_reader *maps, uintptr_t *number) {
  *number = 0;
  for (;;) {
    int c = gcrt_reader_next(maps);
    if (c >= '0' && c <= '9') {
      *number = *number << 4 | (uintptr_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      *number = *number << 4 | (uintptr_t)(c - 'a' + 10);
    } else {
      return c;
    }
  }
}

bool gcrt_maps_open(struct gcrt_reader *maps) { return gcrt_reader_open(maps, "/proc/thread-self/maps"); }

void gcrt_maps_close(struct gcrt_reader *maps) { gcrt_reader_close(maps); }

/* A line: "START-END rwxp ...", where s stands for shared in place of p. */
bool gcrt_maps_next(struct gcrt_reader *maps, struct gcrt_mapping *mapping) {
  if (next_number(maps, &mapping->start) != '-' || next_number(maps, &mapping->end) != ' ') return false;
  mapping->readable = gcrt_reader_next(maps) == 'r';
  (void)gcrt_reader_next(maps);
  (void)gcrt_reader_next(maps);
  mapping->private = gcrt_reader_next(maps) == 'p';
  int c;
  do c = gcrt_reader_next(maps);
  while (c >= 0 && c != '\n');
  return true;
}

bool gcrt_maps_private(uintptr_t start, uintptr_t end) {
  struct gcrt_reader maps;
  if (!gcrt_maps_open(&maps)) return false;
  bool known = false, private = true;
  struct gcrt_mapping mapping;
  while (private && gcrt_maps_next(&maps, &mapping) && mapping.start < end) {
    if (mapping.end <= start) continue;
    known = true;
    private = mapping.private;
  }
  gcrt_maps_close(&maps);
  return known && private;
}
