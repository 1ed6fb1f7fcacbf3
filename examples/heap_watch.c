/* A cache server's load, and a table of what the heap does under it.
 *
 * Worker threads serve requests at full speed: each parses a request line, looks a key up in a sharded hash table and
 * builds a response; a miss stores a new value of 64 to 4096 bytes. Requests, responses and evicted entries are garbage
 * that nobody frees. The number of entries that the cache may hold rises and falls, so that the live heap does, too.
 * The main thread prints one line every half second: the heap, the collections so far and how many of them marked
 * beside the program, for how long the last one stopped it (in all its stops) and the longest stop of all. At the end
 * the cache is dropped and free memory goes back to the operating system.
 *
 * A shard is used with its lock held; everything else a worker touches is its own. */
#include <gcrt.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  SHARDS = 64,
  SHARD_BUCKETS = 4096,
  MOST_THREADS = 64,
  MEAN_ENTRY = 1210, /* bytes of an average entry with its key and value */
  TICK_MS = 500,
};

struct entry {
  struct entry *next;
  char *key;   /* noscan */
  char *value; /* noscan */
  size_t size;
};

struct shard {
  pthread_mutex_t lock;
  struct entry **buckets;
  size_t entries;
  size_t hand; /* the bucket that loses an entry next */
};

struct options {
  double seconds;
  unsigned threads;
  unsigned peak_mib;
};

struct worker {
  pthread_t thread;
  uint64_t random;
  _Atomic uint64_t requests;
};

/* Static data is a root: nothing has to be registered. */
static struct shard cache[SHARDS];
static struct worker workers[MOST_THREADS];
static atomic_size_t shard_limit = 1;
static size_t key_space;
static atomic_bool stopping;

static uint64_t next_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

static uint64_t hash(const char *key) {
  uint64_t h = 14695981039346656037U;
  for (; *key != '\0'; key++) {
    h = (h ^ (unsigned char)*key) * 1099511628211U;
  }
  return h ^ h >> 32;
}

static void *must(void *p) {
  if (p == NULL) {
    perror("gc_alloc");
    exit(1);
  }
  return p;
}

static void evict_one(struct shard *shard) {
  while (shard->entries > 0) {
    struct entry **bucket = &shard->buckets[shard->hand++ % SHARD_BUCKETS];
    if (*bucket != NULL) {
      *bucket = (*bucket)->next;
      shard->entries--;
      return;
    }
  }
}

static struct entry *make_entry(const char *key, uint64_t random) {
  struct entry *e = must(gc_alloc(sizeof *e));
  e->key = must(gc_strdup(key));
  /* Many small values, some large ones. */
  e->size = (size_t)64 << (random % 7);
  e->value = must(gc_alloc_noscan(e->size));
  memset(e->value, 'v', e->size);
  return e;
}

/* Looks a key up, and stores it when it is missing. */
static struct entry *fetch(const char *key, uint64_t random) {
  uint64_t h = hash(key);
  struct shard *shard = &cache[h % SHARDS];
  pthread_mutex_lock(&shard->lock);
  struct entry **bucket = &shard->buckets[h / SHARDS % SHARD_BUCKETS];
  struct entry *e = *bucket;
  while (e != NULL && strcmp(e->key, key) != 0) {
    e = e->next;
  }
  if (e == NULL) {
    e = make_entry(key, random);
    e->next = *bucket;
    *bucket = e;
    shard->entries++;
  }
  size_t limit = atomic_load(&shard_limit);
  for (int i = 0; i < 4 && shard->entries > limit; i++) {
    evict_one(shard);
  }
  pthread_mutex_unlock(&shard->lock);
  return e;
}

static void serve(struct worker *self) {
  uint64_t random = next_random(&self->random);
  /* The minimum of two is more often small than large: some keys are more popular than others. */
  uint64_t a = next_random(&self->random) % key_space;
  uint64_t b = next_random(&self->random) % key_space;
  char *request = must(gc_asprintf("GET key:%llu HTTP/1.1", (unsigned long long)(a < b ? a : b)));
  char *key = must(gc_strndup(request + 4, strcspn(request + 4, " ")));
  struct entry *e = fetch(key, random >> 32);
  char *response = must(gc_alloc_noscan(e->size + 64));
  int header = snprintf(response, 64, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", e->size);
  memcpy(response + header, e->value, e->size);
  atomic_fetch_add_explicit(&self->requests, 1, memory_order_relaxed);
}

static void *work(void *arg) {
  struct worker *self = arg;
  while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
    serve(self);
  }
  return NULL;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Resident memory of the process, in bytes. */
static double resident(void) {
  long pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f != NULL) {
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = 0;
    fclose(f);
  }
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* What the table remembers from line to line. */
struct table {
  bool terminal;
  double start, time;
  uint64_t total_alloc;
  unsigned lines, peak_mib;
};

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void print_bar(const struct table *table, double live) {
  int width = 24, full = (int)(live / (1.5 * table->peak_mib) * width);
  fputs("  \033[36m", stdout);
  for (int i = 0; i < width; i++) {
    fputs(i < full ? "█" : "·", stdout);
  }
  fputs("\033[0m", stdout);
}

static void print_line(struct table *table, const char *note) {
  struct runtime_metrics m;
  runtime_metrics_read(&m);
  double time = now(), last = 0;
  if (m.num_gc > 0) last = (double)m.pause_ns[(m.num_gc + 255) % RUNTIME_METRICS_PAUSES] / 1e6;
  if (table->lines++ % 20 == 0) {
    printf("%s   time     heap  next-gc    inuse     idle released      rss  collections    stop-ms     alloc%s\n"
           "%s      s      MiB      MiB      MiB      MiB      MiB      MiB  done  beside  last   max     MiB/s%s\n",
           table->terminal ? "\033[1m" : "", table->terminal ? "\033[0m" : "", table->terminal ? "\033[2m" : "",
           table->terminal ? "\033[0m" : "");
  }
  printf("%7.1f %8.1f ", time - table->start, mib(m.heap_alloc));
  if (m.next_gc == UINT64_MAX) {
    fputs("     off ", stdout);
  } else {
    printf("%8.1f ", mib(m.next_gc));
  }
  printf("%8.1f %8.1f %8.1f %8.1f %5u %7u %5.1f %5.1f %9.0f", mib(m.heap_inuse), mib(m.heap_idle), mib(m.heap_released),
         resident() / (1 << 20), m.num_gc, m.num_concurrent_gc, last, (double)m.pause_max_ns / 1e6,
         mib(m.total_alloc - table->total_alloc) / (time - table->time));
  if (table->terminal && note == NULL) print_bar(table, mib(m.heap_alloc));
  printf("%s%s\n", note != NULL ? "  " : "", note != NULL ? note : "");
  fflush(stdout);
  table->time = time;
  table->total_alloc = m.total_alloc;
}

/* The live set swings between a tenth of the peak and the peak, once in five seconds. */
static void set_limit(double time, unsigned peak_mib) {
  double share = 0.55 - 0.45 * cos(time * 2 * 3.14159265358979 / 5);
  atomic_store(&shard_limit, (size_t)(share * peak_mib * (1 << 20) / MEAN_ENTRY / SHARDS) + 1);
}

static void run(const struct options *options, struct table *table) {
  for (unsigned i = 0; i < options->threads; i++) {
    workers[i].random = 88172645463325252U + i * 7919;
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
      perror("pthread_create");
      exit(1);
    }
  }
  double next = table->start + TICK_MS / 1e3;
  while (now() - table->start < options->seconds) {
    set_limit(now() - table->start, options->peak_mib);
    struct timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
    if (now() >= next) {
      print_line(table, NULL);
      next += TICK_MS / 1e3;
    }
  }
  atomic_store(&stopping, true);
  for (unsigned i = 0; i < options->threads; i++) {
    pthread_join(workers[i].thread, NULL);
  }
}

static void finish(struct table *table, const struct options *options) {
  uint64_t requests = 0;
  for (unsigned i = 0; i < options->threads; i++) {
    requests += workers[i].requests;
  }
  double seconds = now() - table->start;
  print_line(table, "load ended");
  for (unsigned i = 0; i < SHARDS; i++) {
    cache[i].buckets = NULL;
  }
  gc_collect();
  print_line(table, "cache dropped, gc_collect");
  double before = resident();
  gc_free_os_memory();
  print_line(table, "gc_free_os_memory");

  struct runtime_metrics m;
  runtime_metrics_read(&m);
  const char *reason;
  const char *tracker = runtime_metrics_tracker(&reason);
  printf("\n%u threads served %.0f requests a second and allocated %.1f GiB in %u collections;\n"
         "%u of them marked beside the program (tracker: %s%s%s).\n"
         "The longest stop took %.2f ms, and collections %.1f %% of the processor time.\n"
         "Resident memory fell from %.1f MiB to %.1f MiB when free memory was given back.\n",
         options->threads, (double)requests / seconds, mib(m.total_alloc) / 1024, m.num_gc, m.num_concurrent_gc,
         tracker, *reason != '\0' ? "; " : "", reason, (double)m.pause_max_ns / 1e6, m.gc_cpu_fraction * 100,
         before / (1 << 20), resident() / (1 << 20));
}

static double number(const char *option, const char *text, double low, double high) {
  char *end = NULL;
  double value = text != NULL ? strtod(text, &end) : 0;
  if (text == NULL || end == text || *end != '\0' || !(value >= low && value <= high)) {
    fprintf(stderr, "heap_watch: %s: expected a number from %g to %g\n", option, low, high);
    exit(2);
  }
  return value;
}

static struct options read_options(char **argv) {
  struct options options = {10, 4, 128};
  while (*++argv != NULL) {
    const char *option = *argv;
    if (strcmp(option, "--seconds") == 0) {
      options.seconds = number(option, *++argv, 0.1, 1e6);
    } else if (strcmp(option, "--threads") == 0) {
      options.threads = (unsigned)number(option, *++argv, 1, MOST_THREADS);
    } else if (strcmp(option, "--peak") == 0) {
      options.peak_mib = (unsigned)number(option, *++argv, 1, 65536);
    } else {
      fprintf(stderr, "usage: heap_watch [--seconds N] [--threads N] [--peak MIB]\n");
      exit(2);
    }
  }
  return options;
}

int main(int argc, char **argv) {
  (void)argc;
  struct options options = read_options(argv);
  key_space = (size_t)options.peak_mib * (1 << 20) / MEAN_ENTRY * 2;
  for (unsigned i = 0; i < SHARDS; i++) {
    pthread_mutex_init(&cache[i].lock, NULL);
    cache[i].buckets = must(gc_alloc_array(SHARD_BUCKETS, sizeof(struct entry *)));
  }
  printf("libgcrt %s: %u threads serve requests from a cache of %u to %u MiB for %g seconds\n\n", gc_version(),
         options.threads, options.peak_mib / 10, options.peak_mib, options.seconds);
  struct table table = {.terminal = isatty(1) == 1, .start = now(), .time = now(), .peak_mib = options.peak_mib};
  run(&options, &table);
  finish(&table, &options);
  return 0;
}
