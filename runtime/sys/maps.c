/* The list of mappings: see maps.h. Parsed by hand from a small buffer, as it is read where neither malloc nor much
 * stack is to be had. No lock; the list may change while it is read. */
#include "sys/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int next_char(struct gcrt_maps *maps) {
  if (maps->at == maps->length) {
    long got;
    do got = syscall(SYS_read, maps->fd, maps->buffer, sizeof maps->buffer);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return -1;
    maps->at = 0;
    maps->length = (size_t)got;
  }
  return (unsigned char)maps->buffer[maps->at++];
}

/* Reads hexadecimal digits and the one character that ends them, which is returned. */
static int next_number(struct gcrt_maps *maps, uintptr_t *number) {
  *number = 0;
  for (;;) {
    int c = next_char(maps);
    if (c >= '0' && c <= '9') {
      *number = *number << 4 | (uintptr_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      *number = *number << 4 | (uintptr_t)(c - 'a' + 10);
    } else {
      return c;
    }
  }
}

bool gcrt_maps_open(struct gcrt_maps *maps) {
  maps->fd = syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
  maps->at = maps->length = 0;
  return maps->fd >= 0;
}

void gcrt_maps_close(struct gcrt_maps *maps) { (void)syscall(SYS_close, maps->fd); }

/* A line: "START-END rwxp ...", where s stands for shared in place of p. */
bool gcrt_maps_next(struct gcrt_maps *maps, struct gcrt_mapping *mapping) {
  if (next_number(maps, &mapping->start) != '-' || next_number(maps, &mapping->end) != ' ') return false;
  mapping->readable = next_char(maps) == 'r';
  (void)next_char(maps);
  (void)next_char(maps);
  mapping->private = next_char(maps) == 'p';
  int c;
  do c = next_char(maps);
  while (c >= 0 && c != '\n');
  return true;
}

bool gcrt_maps_private(uintptr_t start, uintptr_t end) {
  struct gcrt_maps maps;
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
