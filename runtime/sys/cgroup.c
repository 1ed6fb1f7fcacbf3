/* The limits of the control group that this process is in: see cgroup.h. No lock and no state.
 *
 * Groups form trees, hierarchies: one of version 2, and with version 1 one for each controller or few; a controller is
 * in one hierarchy only. /proc/thread-self/cgroup names the group in each. mountinfo says where a hierarchy is mounted
 * and from which group on; often that is the process's own, and only it can be seen. A limit holds for all groups
 * below, so each one from the process's up to the mounted one is asked, and the least counts. With several mounts all
 * are, as each may show other groups.
 *
 * Both names may be relative to the root of a cgroup namespace and then begin with "/..", once for each group that they
 * are outside of it. A mounted "/../.." is two groups above that root; what lies between cannot be named.
 *
 * Nothing is assumed about /sys/fs/cgroup: containers and old systems mount elsewhere. What is missing, malformed or
 * too long is as if it were not there, and the reason that is told is that of whoever came furthest.
 *
 * memory.high counts as a limit. It is not enforced by killing, but above it the kernel makes each allocation wait, and
 * what the heap consists of can only be swapped out: the program would stand still rather than collect. Version 1's
 * memory.soft_limit_in_bytes does not count, as it means something only while the machine is short of memory. */
#include "sys/cgroup.h"
#include "base/bits.h"
#include "sys/reader.h"

#include <string.h>

enum { PATH_BYTES = 4096 };

/* How far a search came, and what is told if it came no further. */
enum stage { NO_GROUPS, NO_GROUP, NO_MOUNTS, NO_MOUNT, TOO_LONG, NO_FILE, MALFORMED, NO_LIMIT, LIMIT };
static const char *const stages[] = {
    [NO_GROUPS] = "/proc/thread-self/cgroup cannot be read",
    [NO_GROUP] = "the process is in no group that could limit it",
    [NO_MOUNTS] = "/proc/thread-self/mountinfo cannot be read",
    [NO_MOUNT] = "the process's group is not mounted",
    [TOO_LONG] = "a path is too long",
    [NO_FILE] = "the group's files cannot be read",
    [MALFORMED] = "the group's limit is not a number",
    [NO_LIMIT] = "the group has no limit",
    [LIMIT] = "",
};

struct search {
  const char *root;
  const char *controller; /* of version 1; "" for the hierarchy of version 2 */
  /* Looks at the group whose folder is in path. Whether those above it are to be looked at, too. */
  bool (*look)(struct search *search);
  uint64_t least;
  enum stage stage;
  size_t length; /* of path */
  char path[PATH_BYTES];
  char group[PATH_BYTES]; /* the process's */
  char above[PATH_BYTES]; /* the one that is mounted */
};

static void reached(struct search *search, enum stage stage) {
  if (stage > search->stage) search->stage = stage;
}

static void found(struct search *search, uint64_t value) {
  search->least = gcrt_min(search->least, value);
  reached(search, value == UINT64_MAX ? NO_LIMIT : LIMIT);
}

/* Appends to path. False: it does not fit. */
static bool append(struct search *search, const char *text) {
  size_t length = strlen(text);
  if (length >= sizeof search->path - search->length) {
    reached(search, TOO_LONG);
    return false;
  }
  memcpy(search->path + search->length, text, length + 1);
  search->length += length;
  return true;
}

static void cut(struct search *search, size_t length) {
  search->length = length;
  search->path[length] = '\0';
}

static bool open_at(struct search *search, struct gcrt_reader *reader, const char *name) {
  size_t length = search->length;
  bool opened = append(search, name) && gcrt_reader_open(reader, search->path);
  cut(search, length);
  return opened;
}

static bool open_proc(struct search *search, struct gcrt_reader *reader, const char *name) {
  cut(search, 0);
  return append(search, search->root) && open_at(search, reader, name);
}

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

/* Reads a text and the character behind it, which is returned; 0 if something else is there. */
static int next_behind(struct gcrt_reader *reader, const char *text) {
  for (; *text != '\0'; text++)
    if (gcrt_reader_next(reader) != *text) return 0;
  return gcrt_reader_next(reader);
}

/* Reads a number and the character behind it, which is returned; 0 if there is none. "max", -1, and what a
 * number can no longer hold are UINT64_MAX. */
static int next_number(struct gcrt_reader *reader, uint64_t *number) {
  int c = gcrt_reader_next(reader);
  *number = UINT64_MAX;
  if (c == 'm') return next_behind(reader, "ax");
  if (c == '-') return next_behind(reader, "1");
  if (!is_digit(c)) return 0;
  uint64_t value = 0;
  for (; is_digit(c); c = gcrt_reader_next(reader)) {
    uint64_t digit = (uint64_t)(c - '0');
    value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
  }
  *number = value;
  return c;
}

/* Reads the number that makes up a file of the group. */
static bool read_number(struct search *search, const char *name, uint64_t *number) {
  struct gcrt_reader reader;
  if (!open_at(search, &reader, name)) return false;
  int end = next_number(&reader, number);
  gcrt_reader_close(&reader);
  if (end == '\n') return true;
  reached(search, MALFORMED);
  return false;
}

/* Without a limit the files of version 1 show one that depends on the page size and the kernel, at about 2^63. */
static void found_bytes(struct search *search, uint64_t bytes) { found(search, bytes >> 62 ? UINT64_MAX : bytes); }

static bool look_memory(struct search *search) {
  uint64_t bytes;
  if (read_number(search, "/memory.max", &bytes)) found_bytes(search, bytes);
  if (read_number(search, "/memory.high", &bytes)) found_bytes(search, bytes);
  return true;
}

/* Reads a character that is written as three octal digits; -1 if they are not there. */
static int next_escaped(struct gcrt_reader *reader) {
  int value = 0;
  for (int i = 0; i < 3; i++) {
    int c = gcrt_reader_next(reader);
    if (c < '0' || c > '7') return -1;
    value = value * 8 + c - '0';
  }
  return value;
}

/* Reads a field and the blank or end of line behind it, which is returned; -1 at the end of the file. A field that does
 * not fit is left empty. */
static int next_field(struct gcrt_reader *reader, char *field, size_t size) {
  size_t length = 0;
  int c;
  while ((c = gcrt_reader_next(reader)) >= 0 && c != ' ' && c != '\n') {
    if (c == '\\' && (c = next_escaped(reader)) < 0) break;
    if (length < size) field[length++] = (char)c;
  }
  field[length < size ? length : 0] = '\0';
  return c;
}

/* The same for the rest of a line in which nothing is escaped. */
static int next_line(struct gcrt_reader *reader, char *line, size_t size) {
  size_t length = 0;
  int c;
  while ((c = gcrt_reader_next(reader)) >= 0 && c != '\n')
    if (length < size) line[length++] = (char)c;
  line[length < size ? length : 0] = '\0';
  return c;
}

static int skip_line(struct gcrt_reader *reader, int c) {
  while (c >= 0 && c != '\n') c = gcrt_reader_next(reader);
  return c;
}

/* Reads words with commas between them, up to `end` or the end of the line, which is returned, and whether `word` is
 * one of them; the empty word is the only one of an empty list. */
static int next_list(struct gcrt_reader *reader, int end, const char *word, bool *has) {
  const char *expected = word;
  *has = false;
  for (;;) {
    int c = gcrt_reader_next(reader);
    if (c == ',' || c == end || c == '\n' || c < 0) {
      if (expected && *expected == '\0') *has = true;
      if (c != ',') return c;
      expected = word;
    } else if (expected) {
      expected = c != 0 && *expected == c ? expected + 1 : NULL;
    }
  }
}

/* Version 1 sums up what limits a group, by those around it that cannot be seen from here, too. */
static bool read_effective(struct search *search, uint64_t *bytes) {
  static const char key[] = "hierarchical_memory_limit";
  struct gcrt_reader reader;
  if (!open_at(search, &reader, "/memory.stat")) return false;
  char field[sizeof key];
  int c = ' ';
  bool good = false;
  while (!good && c >= 0) {
    c = next_field(&reader, field, sizeof field);
    if (c != ' ') continue;
    good = strcmp(field, key) == 0 && next_number(&reader, bytes) == '\n';
    if (!good) c = skip_line(&reader, ' ');
  }
  gcrt_reader_close(&reader);
  return good;
}

static bool look_memory_v1(struct search *search) {
  uint64_t bytes;
  bool effective = read_effective(search, &bytes);
  if (effective || read_number(search, "/memory.limit_in_bytes", &bytes)) found_bytes(search, bytes);
  return !effective;
}

static void found_time(struct search *search, uint64_t quota, uint64_t period) {
  if (quota == UINT64_MAX) {
    found(search, UINT64_MAX);
  } else if (period == 0 || period == UINT64_MAX) {
    reached(search, MALFORMED);
  } else {
    found(search, gcrt_max(1, quota / period + (quota % period != 0)));
  }
}

static bool look_processors(struct search *search) {
  struct gcrt_reader reader;
  if (!open_at(search, &reader, "/cpu.max")) return true;
  uint64_t quota, period = 0;
  int c = next_number(&reader, &quota);
  if (c == ' ') c = next_number(&reader, &period);
  gcrt_reader_close(&reader);
  found_time(search, c == '\n' ? quota : 0, c == '\n' ? period : 0);
  return true;
}

static bool look_processors_v1(struct search *search) {
  uint64_t quota, period;
  if (read_number(search, "/cpu.cfs_quota_us", &quota) && read_number(search, "/cpu.cfs_period_us", &period))
    found_time(search, quota, period);
  return true;
}

/* How many "/.." a group's name begins with; *rest is what follows them. */
static unsigned parents(const char *name, const char **rest) {
  unsigned count = 0;
  for (; strncmp(name, "/..", 3) == 0 && (name[3] == '/' || name[3] == '\0'); name += 3) count++;
  *rest = name;
  return count;
}

/* What has to follow the mount point to get to the group, or as near as possible; NULL: what is mounted is not above
 * the group. */
static const char *way_to_group(const struct search *search) {
  const char *group, *above;
  unsigned group_parents = parents(search->group, &group), above_parents = parents(search->above, &above);
  if (strcmp(above, "/") == 0) above++;
  if (above_parents > group_parents) return *above == '\0' ? above : NULL;
  size_t length = strlen(above);
  if (above_parents < group_parents || strncmp(group, above, length) != 0) return NULL;
  group += length;
  if (*group != '/' && *group != '\0') return NULL;
  return strcmp(group, "/") == 0 ? group + 1 : group;
}

/* Looks at the process's group and those above it, up to the one that is mounted at path. */
static void search_mount(struct search *search) {
  if (search->above[0] == '\0' || search->path[search->length] == '\0') {
    reached(search, TOO_LONG);
    return;
  }
  const char *way = way_to_group(search);
  if (!way) return;
  search->length += strlen(search->path + search->length);
  size_t mounted = search->length;
  if (!append(search, way)) return;
  reached(search, NO_FILE);
  while (search->look(search) && search->length > mounted) {
    while (search->path[search->length - 1] != '/') search->length--;
    cut(search, search->length - 1);
  }
}

/* Reads a line of mountinfo: "ID PARENT DEVICE ABOVE PATH OPTIONS FIELDS... - TYPE SOURCE OPTIONS", of which ABOVE and
 * PATH are kept; the latter follows path. Returns its last character. */
static int next_mount(struct search *search, struct gcrt_reader *reader, bool *wanted) {
  char field[16];
  int c = ' ';
  *wanted = false;
  for (int i = 0; i < 3 && c == ' '; i++) c = next_field(reader, field, sizeof field);
  if (c == ' ') c = next_field(reader, search->above, sizeof search->above);
  if (c == ' ') c = next_field(reader, search->path + search->length, sizeof search->path - search->length);
  while (c == ' ' && strcmp(field, "-") != 0) c = next_field(reader, field, sizeof field);
  if (c == ' ') c = next_field(reader, field, sizeof field);
  bool v2 = search->controller[0] == '\0';
  if (c != ' ' || strcmp(field, v2 ? "cgroup2" : "cgroup") != 0) return skip_line(reader, c);
  c = next_field(reader, field, sizeof field);
  if (c != ' ') return c;
  bool has;
  c = next_list(reader, '\n', search->controller, &has);
  *wanted = v2 || has;
  return c;
}

/* Reads the name of the process's group: a line "ID:CONTROLLERS:GROUP", without controllers in version 2. */
static bool read_group(struct search *search) {
  struct gcrt_reader reader;
  if (!open_proc(search, &reader, "/proc/thread-self/cgroup")) return false;
  reached(search, NO_GROUP);
  bool has = false;
  int c = '\n';
  while (!has && c >= 0) {
    c = next_list(&reader, ':', "", &has);
    if (c == ':') c = next_list(&reader, ':', search->controller, &has);
    has = has && c == ':';
    if (c == ':') c = next_line(&reader, search->group, sizeof search->group);
  }
  gcrt_reader_close(&reader);
  return has;
}

static void search_hierarchy(struct search *search, const char *controller, bool (*look)(struct search *)) {
  search->controller = controller;
  search->look = look;
  if (!read_group(search)) return;
  if (search->group[0] == '\0') {
    reached(search, TOO_LONG);
    return;
  }
  reached(search, NO_MOUNTS);
  struct gcrt_reader reader;
  if (!open_proc(search, &reader, "/proc/thread-self/mountinfo")) return;
  reached(search, NO_MOUNT);
  size_t length = search->length;
  for (int c = '\n'; c >= 0;) {
    bool wanted;
    cut(search, length);
    c = next_mount(search, &reader, &wanted);
    if (wanted) search_mount(search);
  }
  gcrt_reader_close(&reader);
}

/* Both versions may be there, each with some of the controllers. */
static uint64_t search_both(const char *root, bool (*look)(struct search *), const char *controller,
                            bool (*look_v1)(struct search *), const char **reason) {
  struct search search;
  search.root = root;
  search.least = UINT64_MAX;
  search.stage = NO_GROUPS;
  search_hierarchy(&search, "", look);
  search_hierarchy(&search, controller, look_v1);
  *reason = stages[search.stage];
  return search.least;
}

uint64_t gcrt_cgroup_memory_limit(const char *root, const char **reason) {
  return search_both(root, look_memory, "memory", look_memory_v1, reason);
}

uint64_t gcrt_cgroup_processors(const char *root, const char **reason) {
  return search_both(root, look_processors, "cpu", look_processors_v1, reason);
}
