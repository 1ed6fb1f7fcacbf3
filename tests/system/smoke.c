/* A small program that uses most of the library and nothing else: linked in every way that programs link it.
 *
 * No Check and no test support, as it also stands for a program outside this project. Prints "smoke: passed" and
 * returns 0, or says what went wrong. */
#include <gcrt.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
  struct node *next;
  uint64_t check;
};

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static struct node *global;
static __thread struct node *local;
static int waiting = 1;

static struct node *make(size_t n, uint64_t seed) {
  struct node *list = NULL;
  for (size_t i = 0; i < n; i++) {
    struct node *node = (struct node *)gc_alloc(sizeof *node);
    REQUIRE(node != NULL && node->next == NULL && node->check == 0);
    node->next = list;
    node->check = seed + i;
    list = node;
  }
  return list;
}

static void check(const struct node *list, size_t n, uint64_t seed) {
  for (size_t i = n; i-- > 0; list = list->next) REQUIRE(list != NULL && list->check == seed + i);
  REQUIRE(list == NULL);
}

static void *thread(void *arg) {
  local = make(1000, 7);
  for (int i = 0; i < 20; i++) check(make(5000, (uintptr_t)arg), 5000, (uintptr_t)arg);
  while (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE))
    ;
  check(local, 1000, 7);
  return gc_strdup("returned");
}

int main(void) {
  pthread_t threads[3];
  global = make(10000, 1);
  for (uintptr_t i = 0; i < 3; i++) REQUIRE(pthread_create(&threads[i], NULL, thread, (void *)(i * 1000)) == 0);
  for (int i = 0; i < 10; i++) gc_collect();
  __atomic_store_n(&waiting, 0, __ATOMIC_RELEASE);
  for (int i = 0; i < 3; i++) {
    void *value = NULL;
    REQUIRE(pthread_join(threads[i], &value) == 0);
    gc_collect();
    REQUIRE(strcmp((const char *)value, "returned") == 0);
  }
  check(global, 10000, 1);
  char *text = (char *)gc_realloc(gc_asprintf("%d objects", 10000), 500);
  REQUIRE(text != NULL && strcmp(text, "10000 objects") == 0 && gc_base(text + 400) == text);
  struct runtime_metrics m;
  REQUIRE(runtime_metrics_read(&m) == 0 && m.num_gc >= 10 && m.heap_sys == m.heap_inuse + m.heap_idle);
  REQUIRE(m.mallocs >= 310000 && m.frees >= 100000 && m.threads == 1);
  printf("smoke: passed\n");
  return 0;
}
