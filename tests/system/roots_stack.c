/* Registers, stacks and which pointers into an object count.
 *
 * A pointer that exists in one register only is made by assembly: the compiler's own code would spill it. Each case
 * runs twice: with a pointer that keeps its object, and with the register zeroed, where the object goes; otherwise a
 * stale copy elsewhere could pass for the register. */
#include "system.h"

#include <string.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define HAVE_REGISTER_CASES 1
#endif

struct in_register {
  uintptr_t hidden; /* read by the assembly; the address is its complement */
  int go;
  int started;
  int which;
};

#if defined(__x86_64__)
/* Complements the hidden word into the register, says so, spins until told to go on, and clears the register. */
#define SPIN_WITH(reg)                                                                                                 \
  __asm__ volatile("movq %[hidden], %%" reg "\n\tnotq %%" reg "\n\tmovl $1, %[started]\n"                              \
                   "1:\tpause\n\tcmpl $0, %[go]\n\tje 1b\n\txorq %%" reg ", %%" reg "\n"                               \
                   : [started] "=m"(r->started)                                                                        \
                   : [hidden] "m"(r->hidden), [go] "m"(r->go)                                                          \
                   : reg, "cc", "memory")

static void spin_with_xmm(struct in_register *r) {
  __asm__ volatile("movq %[hidden], %%xmm7\n\tpcmpeqd %%xmm6, %%xmm6\n\tpxor %%xmm6, %%xmm7\n\tmovl $1, %[started]\n"
                   "1:\tpause\n\tcmpl $0, %[go]\n\tje 1b\n\tpxor %%xmm7, %%xmm7\n"
                   : [started] "=m"(r->started)
                   : [hidden] "m"(r->hidden), [go] "m"(r->go)
                   : "xmm6", "xmm7", "cc", "memory");
}

static SYSTEM_NOINLINE void spin_with_register(struct in_register *r) {
  switch (r->which) {
  case 0:
    SPIN_WITH("rbx");
    break;
  case 1:
    SPIN_WITH("r12");
    break;
  case 2:
    SPIN_WITH("r15");
    break;
  case 3:
    SPIN_WITH("rcx");
    break;
  case 4:
    SPIN_WITH("r10");
    break;
  case 5:
    SPIN_WITH("rsi");
    break;
  default:
    spin_with_xmm(r);
  }
}
enum { REGISTER_CASES = 7 };

/* Calls gc_collect with the address in a register that calls preserve and nowhere else. */
static SYSTEM_NOINLINE void collect_with_register(struct in_register *r) {
  register uintptr_t *hidden __asm__("r13") = &r->hidden;
  register void (*fn)(void) __asm__("r14") = gc_collect;
#define COLLECT_WITH(reg)                                                                                              \
  __asm__ volatile("movq %%rsp, %%r12\n\tsubq $256, %%rsp\n\tandq $-64, %%rsp\n\tmovq (%[hidden]), %%" reg             \
                   "\n\tnotq %%" reg "\n\tcall *%[fn]\n\tmovq %%r12, %%rsp\n\txorq %%" reg ", %%" reg "\n"             \
                   :                                                                                                   \
                   : [hidden] "r"(hidden), [fn] "r"(fn)                                                                \
                   : reg, "r12", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2",  \
                     "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",       \
                     "xmm14", "xmm15", "cc", "memory")
  if (r->which == 0)
    COLLECT_WITH("rbx");
  else
    COLLECT_WITH("r15");
}
enum { PRESERVED_CASES = 2 };
#elif defined(__aarch64__)
#define SPIN_WITH(reg)                                                                                                 \
  __asm__ volatile("ldr " reg ", [%[hidden]]\n\tmvn " reg ", " reg "\n\tstr %w[one], [%[started]]\n"                   \
                   "1:\tldr %w[seen], [%[go]]\n\tcbz %w[seen], 1b\n\tmov " reg ", xzr\n"                               \
                   : [seen] "=&r"(seen)                                                                                \
                   : [hidden] "r"(&r->hidden), [started] "r"(&r->started), [go] "r"(&r->go), [one] "r"(1)              \
                   : reg, "cc", "memory")

static SYSTEM_NOINLINE void spin_with_register(struct in_register *r) {
  int seen;
  switch (r->which) {
  case 0:
    SPIN_WITH("x19");
    break;
  case 1:
    SPIN_WITH("x28");
    break;
  case 2:
    SPIN_WITH("x9");
    break;
  default:
    SPIN_WITH("x17");
  }
}
enum { REGISTER_CASES = 4 };

static SYSTEM_NOINLINE void collect_with_register(struct in_register *r) {
  register uintptr_t *hidden __asm__("x20") = &r->hidden;
  register void (*fn)(void) __asm__("x21") = gc_collect;
#define COLLECT_WITH(reg)                                                                                              \
  __asm__ volatile("ldr " reg ", [%[hidden]]\n\tmvn " reg ", " reg "\n\tblr %[fn]\n\tmov " reg ", xzr\n"               \
                   :                                                                                                   \
                   : [hidden] "r"(hidden), [fn] "r"(fn)                                                                \
                   : reg, "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",      \
                     "x14", "x15", "x16", "x17", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17",  \
                     "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", \
                     "cc", "memory")
  if (r->which == 0)
    COLLECT_WITH("x19");
  else
    COLLECT_WITH("x28");
}
enum { PRESERVED_CASES = 2 };
#else
static void spin_with_register(struct in_register *r) { __atomic_store_n(&r->started, 1, __ATOMIC_RELEASE); }
static void collect_with_register(struct in_register *r) { (void)r; }
enum { REGISTER_CASES = 1, PRESERVED_CASES = 1 };
#endif

static void *spin_thread(void *arg) {
  test_clear_stack();
  spin_with_register(arg);
  test_clear_stack();
  return NULL;
}

/* Whether the object survives while a stopped thread has it in a register. */
static bool survives_in_register(uintptr_t hidden, int which, bool keep) {
  struct in_register r = {keep ? hidden : ~(uintptr_t)0, 0, 0, which};
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, spin_thread, &r), 0);
  while (!__atomic_load_n(&r.started, __ATOMIC_ACQUIRE))
    ;
  for (int i = 0; i < 2; i++) system_collect();
  bool live = gc_base(test_reveal(hidden)) == test_reveal(hidden);
  __atomic_store_n(&r.go, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  test_clear_stack();
  return live;
}

START_TEST(registers_of_a_stopped_thread) {
#ifndef HAVE_REGISTER_CASES
  TEST_SKIP("no register cases for this architecture");
#endif
  if (SYSTEM_SANITIZED) TEST_SKIP("sanitizers run the stop handler late");
  struct system_set set;
  int lost = 0;
  /* The objects of a set that are in no register die at the first collection, so each try makes its own set. */
  for (int i = 0; i < 8; i++) {
    system_set_make(&set, 48, gc_alloc, NULL, NULL);
    ck_assert_msg(survives_in_register(set.hidden[i], _i, true), "register case %d, try %d", _i, i);
    system_set_make(&set, 48, gc_alloc, NULL, NULL);
    lost += !survives_in_register(set.hidden[i], _i, false);
  }
  ck_assert_msg(lost >= 6, "without the register only %d of 8 went", lost);
}
END_TEST

START_TEST(registers_of_the_collecting_thread) {
#ifndef HAVE_REGISTER_CASES
  TEST_SKIP("no register cases for this architecture");
#endif
  struct system_set set;
  int lost = 0;
  for (int i = 0; i < 8; i++) {
    system_set_make(&set, 48, gc_alloc, NULL, NULL);
    struct in_register r = {set.hidden[i], 0, 0, _i};
    test_clear_stack();
    collect_with_register(&r);
    ck_assert_ptr_eq(gc_base(test_reveal(set.hidden[i])), test_reveal(set.hidden[i]));
    system_set_make(&set, 48, gc_alloc, NULL, NULL);
    r.hidden = ~(uintptr_t)0;
    test_clear_stack();
    collect_with_register(&r);
    lost += gc_base(test_reveal(set.hidden[i])) == NULL;
  }
  ck_assert_msg(lost >= 6, "without the register only %d of 8 went", lost);
}
END_TEST

/* Keeps the set on this frame, at a distance from each object's start, over collections of `collect`. */
static SYSTEM_NOINLINE bool kept_on_stack(struct system_set *set, size_t offset, void (*collect)(void *), void *arg) {
  char *volatile pointers[SYSTEM_SET];
  (void)pointers;
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = (char *)test_reveal(set->hidden[i]) + offset;
  test_clear_stack();
  collect(arg);
  bool intact = system_set_intact(set);
  for (size_t i = 0; i < SYSTEM_SET; i++) pointers[i] = NULL;
  test_clear_stack();
  return intact;
}

static void collect_here(void *unused) {
  (void)unused;
  gc_collect();
}

static void *collect_thread(void *unused) {
  (void)unused;
  system_collect();
  return NULL;
}

static void collect_elsewhere(void *unused) { system_on_thread(collect_thread, unused); }

START_TEST(stack_of_the_main_thread) {
  struct system_set set;
  system_set_make(&set, 48, gc_alloc, NULL, NULL);
  ck_assert(kept_on_stack(&set, 0, _i ? collect_elsewhere : collect_here, NULL));
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&set));
}
END_TEST

struct stack_holder {
  struct system_set set;
  struct system_event ready, go;
  bool intact;
};

static void wait_for_go(void *arg) {
  struct stack_holder *h = arg;
  system_event_post(&h->ready);
  system_event_wait(&h->go, 1);
}

static void *hold_on_stack(void *arg) {
  struct stack_holder *h = arg;
  h->intact = kept_on_stack(&h->set, 0, wait_for_go, h);
  system_event_post(&h->ready);
  system_event_wait(&h->go, 2);
  return NULL;
}

START_TEST(stack_of_another_thread) {
  struct stack_holder h = {{.size = 0}, SYSTEM_EVENT_INITIALIZER, SYSTEM_EVENT_INITIALIZER, false};
  pthread_t thread;
  int percent = gc_set_percent(-1);
  system_set_make(&h.set, 48, gc_alloc, NULL, NULL);
  ck_assert_int_eq(pthread_create(&thread, NULL, hold_on_stack, &h), 0);
  system_event_wait(&h.ready, 1);
  for (int i = 0; i < 3; i++) system_collect();
  system_event_post(&h.go);
  system_event_wait(&h.ready, 2);
  ck_assert(h.intact);
  for (int i = 0; i < 2; i++) system_collect();
  ck_assert(system_set_dead(&h.set));
  system_event_post(&h.go);
  pthread_join(thread, NULL);
  gc_set_percent(percent);
}
END_TEST

static const size_t cells[] = {16, 32, 48, 64, 128, 256, 1024, 4096, 8192, 32768, 65536, 1 << 17};
enum { CELLS = sizeof cells / sizeof *cells };

START_TEST(one_past_the_end_counts_on_stacks) {
  size_t size = cells[_i];
  struct system_set set;
  system_set_make(&set, size, gc_alloc, NULL, NULL);
  ck_assert_uint_eq(gc_usable_size(test_reveal(set.hidden[0])), size);
  ck_assert_msg(kept_on_stack(&set, size, _i % 2 ? collect_elsewhere : collect_here, NULL), "%zu bytes", size);
}
END_TEST

START_TEST(interior_pointers_count_everywhere) {
  static void *array[SYSTEM_SET];
  static const size_t sizes[] = {1, 16, 24, 64, 100, 1000, 9000, 40000, 200000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    size_t offsets[] = {sizes[s] / 2, sizes[s] - 1, sizes[s] / 3};
    for (size_t o = 0; o < 3; o++) {
      struct system_set set;
      system_set_make(&set, sizes[s], o == 1 ? gc_alloc_noscan : gc_alloc, system_place_in_array, array);
      for (size_t i = 0; i < SYSTEM_SET; i++) array[i] = (char *)array[i] + offsets[o];
      test_clear_stack();
      gc_collect();
      ck_assert_msg(system_set_intact(&set), "byte %zu of %zu, in a global", offsets[o], sizes[s]);
      void **object = gc_alloc(sizeof array);
      memcpy(object, array, sizeof array);
      memset(array, 0, sizeof array);
      array[0] = (char *)object + 9;
      object = NULL;
      test_clear_stack();
      gc_collect();
      ck_assert_msg(system_set_intact(&set), "byte %zu of %zu, in an object", offsets[o], sizes[s]);
      memset(array, 0, sizeof array);
      ck_assert(set.hidden[0] != 0);
    }
  }
}
END_TEST

struct deep {
  struct deep *next;
  uint64_t check;
};

START_TEST(a_long_list_is_marked) {
  enum { NODES = 1000000 };
  struct deep *list = NULL;
  for (uint64_t i = 0; i < NODES; i++) {
    struct deep *node = gc_alloc(sizeof *node);
    node->next = list;
    node->check = i;
    list = node;
  }
  gc_collect();
  uint64_t i = NODES;
  for (struct deep *node = list; node; node = node->next)
    if (node->check != --i) ck_abort_msg("node %llu was overwritten", (unsigned long long)i);
  ck_assert_uint_eq(i, 0);
}
END_TEST

static Suite *make_suite(void) {
  Suite *suite = suite_create("system");
  TCase *registers = test_case(suite, "roots-registers", 20);
  tcase_add_loop_test(registers, registers_of_a_stopped_thread, 0, REGISTER_CASES);
  tcase_add_loop_test(registers, registers_of_the_collecting_thread, 0, PRESERVED_CASES);
  TCase *stacks = test_case(suite, "roots-stacks", 20);
  tcase_add_loop_test(stacks, stack_of_the_main_thread, 0, 2);
  tcase_add_test(stacks, stack_of_another_thread);
  tcase_add_loop_test(stacks, one_past_the_end_counts_on_stacks, 0, CELLS);
  TCase *heap = test_case(suite, "roots-interior", 20);
  tcase_add_test(heap, interior_pointers_count_everywhere);
  tcase_add_test(heap, a_long_list_is_marked);
  return suite;
}
TEST_MAIN(make_suite)
