/* Modules that are loaded and unloaded while other threads collect.
 *
 * Each loader has a module of its own. It loads it, keeps the only pointers to some tokens in the module's static and
 * thread-local variables, starts a thread that does the same with its thread-local ones, lets the others collect, takes
 * everything back and unloads the module, so that its memory goes away under the collector's eyes. Paths of the modules
 * are the environment variables TORTURE_MODULE_0 and _1, set by the build. */
#include "module.h"
#include "token.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOADERS = 2, COLLECTORS = 2 };

static atomic_uint unloaded;

struct visit {
  module_slots_fn *slots;
  struct test_random *random;
  uint64_t id;
  bool tls_only;
};

static bool uses(const struct visit *v, enum module_kind kind) {
  return !v->tls_only || kind == MODULE_TLS_DATA || kind == MODULE_TLS_BSS;
}

static __attribute__((noinline)) void fill(const struct visit *v) {
  for (enum module_kind kind = 0; kind < MODULE_KINDS; kind++)
    for (unsigned i = 0; uses(v, kind) && i < MODULE_SLOTS; i++) {
      void *token = token_new(v->random, v->id + kind * MODULE_SLOTS + i);
      v->slots(kind)[i] = token_pointer(token, v->random);
    }
}

static __attribute__((noinline)) void empty(const struct visit *v) {
  static const char *const names[] = {"a module's .data", "a module's .bss", "a module's thread-local .tdata",
                                      "a module's thread-local .tbss"};
  for (enum module_kind kind = 0; kind < MODULE_KINDS; kind++)
    for (unsigned i = 0; uses(v, kind) && i < MODULE_SLOTS; i++) {
      token_check(v->slots(kind)[i], v->id + kind * MODULE_SLOTS + i, names[kind]);
      v->slots(kind)[i] = NULL;
    }
}

static void collect_some(struct test_random *r) {
  test_clear_stack();
  for (unsigned i = 0; i < 50; i++) {
    char *garbage = gc_alloc(torture_size(r, 1));
    TEST_REQUIRE(garbage != NULL);
    garbage[0] = 1;
  }
  if (test_random_once_in(r, 2)) gc_collect();
}

static void *use_in_thread(void *arg) {
  struct visit *of_loader = arg;
  struct test_random r = test_random_stream(of_loader->id);
  struct visit v = {of_loader->slots, &r, of_loader->id + 1000, true};
  fill(&v);
  collect_some(&r);
  empty(&v);
  return NULL;
}

static int find_module(struct dl_phdr_info *info, size_t size, void *path) {
  (void)size;
  return strcmp(info->dlpi_name, path) == 0;
}

static void load_and_unload(const char *path, struct test_random *r, uint64_t id) {
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  TEST_REQUIRE(module != NULL, "%s", dlerror());
  struct visit v = {NULL, r, id, false};
  *(void **)&v.slots = dlsym(module, TORTURE_MODULE_SYMBOL);
  TEST_REQUIRE(v.slots != NULL, "%s", dlerror());
  bool threaded = test_random_once_in(r, 2);
  pthread_t thread;
  fill(&v);
  if (threaded) TEST_REQUIRE(pthread_create(&thread, NULL, use_in_thread, &v) == 0);
  collect_some(r);
  empty(&v);
  if (threaded) TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  TEST_REQUIRE(dlclose(module) == 0, "%s", dlerror());
  if (dl_iterate_phdr(find_module, (void *)path) == 0) atomic_fetch_add(&unloaded, 1);
}

static const char *module_path(unsigned index) {
  char name[] = "TORTURE_MODULE_0";
  name[sizeof name - 2] = (char)('0' + index);
  const char *path = getenv(name);
  TEST_REQUIRE(path != NULL, "%s is not set: it is the path of the module", name);
  return path;
}

static void load_or_collect(struct torture_worker *worker) {
  struct test_random *r = &worker->random;
  uint64_t id = (uint64_t)(worker->index + 1) << 32;
  const char *path = worker->index < LOADERS ? module_path(worker->index) : NULL;
  do {
    if (path != NULL)
      load_and_unload(path, r, id += 10000);
    else
      collect_some(r);
  } while (torture_continues(worker));
}

START_TEST(modules_come_and_go) {
  struct torture_heap base = torture_heap_now();
  torture_run(LOADERS + COLLECTORS, 1, load_or_collect, NULL);
  TEST_REQUIRE(atomic_load(&unloaded) > 0, "no module was ever unloaded: this test shows nothing");
  printf("  %u modules unloaded\n", atomic_load(&unloaded));
  torture_heap_check(&base, 1000, 8 << 20);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("libraries");
  TCase *tc = test_case(suite, "modules", TORTURE_TIMEOUT);
  tcase_add_test(tc, modules_come_and_go);
  return suite;
}

TEST_MAIN(make_suite)
