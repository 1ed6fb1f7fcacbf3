/* jansson on gc_alloc, by json_set_alloc_funcs, in two threads; on the collector no reference is ever given back.
 *
 * Each thread builds values, writes them to text, reads the text again and compares. Its result is kept by the value
 * that the thread returns alone until it is joined. The seed of jansson's hash is fixed, for the order of keys that are
 * not sorted depends on it. */
#include "real.h"

#include <gcrt.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 2, ROUNDS = 150, ITEMS = 120 };

static bool on_collector;

static void drop(void *p) { (void)p; }

static void release(json_t *value) {
  if (!on_collector) json_decref(value);
}

static json_t *make_item(int thread, int round, int i) {
  char text[64];
  snprintf(text, sizeof text, "item %d/%d/%d \"quoted\" \xc3\xa9", thread, round, i);
  json_t *item = json_pack("{s:i, s:s, s:f, s:b, s:[i,i,{s:n}]}", "id", i, "text", text, "half", i / 2.0, "odd", i & 1,
                           "list", i + 1, i * i, "none");
  if (item == NULL) exit(3);
  return item;
}

static json_t *make_document(int thread, int round) {
  json_t *document = json_object();
  json_t *items = json_array();
  for (int i = 0; i < ITEMS; i++) {
    char key[32];
    snprintf(key, sizeof key, "key-%d", i * 31 % ITEMS);
    json_t *item = make_item(thread, round, i);
    json_object_set(document, key, item);
    json_array_append_new(items, item);
  }
  for (int i = 0; i < ITEMS; i += 3) {
    char key[32];
    snprintf(key, sizeof key, "key-%d", i);
    json_object_del(document, key);
  }
  json_object_set_new(document, "items", items);
  return document;
}

static size_t round_trip(int thread, int round) {
  json_t *document = make_document(thread, round);
  char *text = json_dumps(document, JSON_INDENT(1) | JSON_SORT_KEYS);
  json_error_t error;
  json_t *again = json_loads(text, 0, &error);
  if (again == NULL || !json_equal(document, again)) {
    fprintf(stderr, "jansson: thread %d, round %d: what was read is not what was written: %s\n", thread, round,
            again == NULL ? error.text : "not equal");
    exit(1);
  }
  size_t size = 0;
  for (const char *at = text; *at != '\0'; at++) size = size * 31 + (unsigned char)*at;
  release(document);
  release(again);
  if (!on_collector) free(text);
  return size;
}

/* Returns the text of all that the thread found. */
static void *work(void *arg) {
  int thread = *(int *)arg;
  json_t *sums = json_array();
  for (int round = 0; round < ROUNDS; round++)
    json_array_append_new(sums, json_integer((json_int_t)(round_trip(thread, round) >> 1)));
  json_t *result = json_pack("{s:i, s:o, s:o}", "thread", thread, "sums", sums, "last", make_document(thread, ROUNDS));
  char *text = json_dumps(result, JSON_INDENT(2));
  release(result);
  return text;
}

static int run(bool collected) {
  pthread_t threads[THREADS];
  int numbers[THREADS];
  on_collector = collected;
  if (collected) json_set_alloc_funcs(gc_alloc, drop);
  json_object_seed(20011);
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    if (pthread_create(&threads[i], NULL, work, &numbers[i]) != 0) return 2;
  }
  for (int i = 0; i < THREADS; i++) {
    void *text;
    pthread_join(threads[i], &text);
    puts(text);
    if (!collected) free(text);
  }
  return 0;
}

const struct real_program real_program = {"jansson", run};
