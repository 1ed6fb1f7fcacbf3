/* Variables with static storage are roots: of the program, of a library it was linked with, of one that dlopen brought
 * and dlclose takes away; and the ranges of gc_add_roots.
 *
 * Every case is the same: a set of objects whose only pointers lie in the place under test stays whole over
 * collections, and goes when the place is cleared. */
#include "roots_library.h"
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert((int)ROOTS_LIBRARY_WORDS == (int)SYSTEM_SET, "a set fills the library's arrays");

void *system_global_bss[SYSTEM_SET];
void *system_global_data[SYSTEM_SET] = {(void *)1};
static void *static_bss[SYSTEM_SET];
static void *static_data[SYSTEM_SET] = {(void *)1};
static struct {
  char odd;
  void *array[SYSTEM_SET];
} in_struct;

static void **function_static(void) {
  static void *array[SYSTEM_SET];
  return array;
}

static void **program_array(int which) {
  switch (which) {
  case 0:
    return system_global_bss;
  case 1:
    return system_global_data;
  case 2:
    return static_bss;
  case 3:
    return static_data;
  case 4:
    return in_struct.array;
  case 5:
    return function_static();
  case 6:
    return roots_library_bss();
  default:
    return roots_library_data();
  }
}

/* The two halves of every case. */
static void check_kept_by(void **array) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, array);
  for (int i = 0; i < 3; i++) {
    system_collect();
    ck_assert_msg(system_set_intact(&set), "%zu of %d alive", system_set_live(&set), SYSTEM_SET);
  }
  memset(array, 0, SYSTEM_SET * sizeof *array);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert_msg(system_set_dead(&set), "%zu of %d still alive", system_set_live(&set), SYSTEM_SET);
}

START_TEST(variables_of_program_and_linked_library) { check_kept_by(program_array(_i)); }
END_TEST

typedef void **array_fn(void);

static const char *module_path(void) { return getenv("GCRT_TEST_MODULE") ? getenv("GCRT_TEST_MODULE") : ROOTS_MODULE; }

static array_fn *module_array(void *module, const char *name) {
  array_fn *fn = (array_fn *)(uintptr_t)dlsym(module, name);
  ck_assert_msg(fn != NULL, "%s", dlerror());
  return fn;
}

START_TEST(variables_of_an_opened_library) {
  for (int round = 0; round < 3; round++) {
    void *module = dlopen(module_path(), RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(module != NULL, "%s", dlerror());
    check_kept_by(module_array(module, "roots_library_bss")());
    check_kept_by(module_array(module, "roots_library_data")());
    ck_assert_int_eq(dlclose(module), 0);
    system_collect();
  }
}
END_TEST

START_TEST(closed_library_keeps_nothing) {
  void *module = dlopen(module_path(), RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(module != NULL, "%s", dlerror());
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, module_array(module, "roots_library_bss")());
  system_collect();
  ck_assert(system_set_intact(&set));
  ck_assert_int_eq(dlclose(module), 0);
  if (dlopen(module_path(), RTLD_NOW | RTLD_NOLOAD) != NULL) TEST_SKIP("this loader keeps closed libraries");
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

static int opening;

static void *open_and_close(void *unused) {
  (void)unused;
  for (int i = 0; i < 60; i++) {
    void *module = dlopen(module_path(), RTLD_NOW | RTLD_LOCAL);
    TEST_REQUIRE(module != NULL, "%s", dlerror());
    array_fn *fn = (array_fn *)(uintptr_t)dlsym(module, "roots_library_data");
    TEST_REQUIRE(fn != NULL);
    char *mine = gc_strdup("kept by the module");
    uintptr_t hidden = test_hide(mine);
    fn()[5] = mine;
    mine = NULL;
    gc_collect();
    TEST_REQUIRE(strcmp(test_reveal(hidden), "kept by the module") == 0);
    dlclose(module);
  }
  __atomic_store_n(&opening, 0, __ATOMIC_RELEASE);
  return NULL;
}

START_TEST(libraries_come_and_go_while_another_thread_collects) {
  pthread_t thread;
  opening = 1;
  ck_assert_int_eq(pthread_create(&thread, NULL, open_and_close, NULL), 0);
  while (__atomic_load_n(&opening, __ATOMIC_ACQUIRE)) gc_collect();
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(added_roots_keep) {
  void **memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(memory, MAP_FAILED);
  ck_assert_int_eq(gc_add_roots(memory, memory + SYSTEM_SET), 0);
  check_kept_by(memory);
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, memory);
  system_collect();
  ck_assert(system_set_intact(&set));
  ck_assert_int_eq(gc_remove_roots(memory, memory + SYSTEM_SET), 0);
  system_collect();
  ck_assert(system_set_dead(&set));
  munmap(memory, 4096);
  gc_collect();
}
END_TEST

START_TEST(roots_added_twice_are_removed_twice) {
  void **memory = malloc(SYSTEM_SET * sizeof *memory), **end = memory + SYSTEM_SET;
  ck_assert_int_eq(gc_add_roots(memory, end), 0);
  ck_assert_int_eq(gc_add_roots(memory, end), 0);
  ck_assert_int_eq(gc_remove_roots(memory, end), 0);
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, memory);
  system_collect();
  ck_assert(system_set_intact(&set));
  ck_assert_int_eq(gc_remove_roots(memory, end), 0);
  system_collect();
  ck_assert(system_set_dead(&set));
  errno = 0;
  ck_assert_int_eq(gc_remove_roots(memory, end), -1);
  ck_assert_int_eq(errno, ENOENT);
  free(memory);
}
END_TEST

START_TEST(unregistered_malloc_memory_is_no_root) {
  void **memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, system_place_in_array, memory);
  system_collect();
  ck_assert(system_set_dead(&set));
  munmap(memory, 4096);
}
END_TEST

START_TEST(bounds_of_added_roots) {
  static char bytes[4096] __attribute__((aligned(16)));
  errno = 0;
  ck_assert_int_eq(gc_add_roots(bytes + 64, bytes), -1);
  ck_assert_int_eq(errno, EINVAL);
  errno = 0;
  ck_assert_int_eq(gc_remove_roots(bytes, bytes + 64), -1);
  ck_assert_int_eq(errno, ENOENT);
  ck_assert_int_eq(gc_add_roots(bytes + 1, bytes + 1), 0);
  ck_assert_int_eq(gc_remove_roots(bytes + 1, bytes + 1), 0);
  /* Bounds need not be aligned; the whole words between them are read. */
  void **memory = malloc(SYSTEM_SET * sizeof *memory + 16);
  ck_assert_int_eq(gc_add_roots((char *)memory + 3, (char *)(memory + SYSTEM_SET + 1) + 5), 0);
  check_kept_by(memory + 1);
  ck_assert_int_eq(gc_remove_roots((char *)memory + 3, (char *)(memory + SYSTEM_SET + 1) + 5), 0);
  free(memory);
}
END_TEST

START_TEST(many_added_roots) {
  enum { RANGES = 5000 };
  void **memory = malloc(RANGES * 4 * sizeof *memory);
  memset(memory, 0, RANGES * 4 * sizeof *memory);
  for (size_t i = 0; i < RANGES; i++) ck_assert_int_eq(gc_add_roots(memory + i * 4, memory + i * 4 + 2), 0);
  struct system_set set;
  void *pointers[SYSTEM_SET];
  system_set_make(&set, 48, gc_alloc, system_place_in_array, pointers);
  for (size_t i = 0; i < SYSTEM_SET; i++) memory[i * 4 * (RANGES / SYSTEM_SET) + 1] = pointers[i];
  memset(pointers, 0, sizeof pointers);
  system_collect();
  ck_assert(system_set_intact(&set));
  for (size_t i = RANGES; i-- > 0;) ck_assert_int_eq(gc_remove_roots(memory + i * 4, memory + i * 4 + 2), 0);
  system_collect();
  ck_assert(system_set_dead(&set));
  free(memory);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *tc = test_case(suite, "roots-static", 20);
  tcase_add_loop_test(tc, variables_of_program_and_linked_library, 0, 8);
  tcase_add_test(tc, variables_of_an_opened_library);
  tcase_add_test(tc, closed_library_keeps_nothing);
  tcase_add_test(tc, libraries_come_and_go_while_another_thread_collects);
  TCase *added = test_case(suite, "roots-added", 20);
  tcase_add_test(added, added_roots_keep);
  tcase_add_test(added, roots_added_twice_are_removed_twice);
  tcase_add_test(added, unregistered_malloc_memory_is_no_root);
  tcase_add_test(added, bounds_of_added_roots);
  tcase_add_test(added, many_added_roots);
  return suite;
}
TEST_MAIN(make_suite)
