/* The registers of a thread that a signal interrupted, read from the ucontext_t of its handler.
 *
 * A signal stops a thread between any two instructions, and compilers build pairs of pointers in vector registers
 * before they store both at once: for that moment the vector register may be the only place that holds them. So vector
 * registers are read, too: on x86-64 the 128-bit ones and the upper halves of the 256-bit ones, on aarch64 v0 to v31;
 * and the whole frame that the kernel saved is a range to search, which holds all others. Async-signal-safe: reads the
 * signal frame and writes the record. */
#include "sys/registers.h"
#include "base/bits.h"

#include <string.h>
#include <ucontext.h>

static void append(struct gcrt_registers *r, const void *words, size_t bytes) {
  size_t room = sizeof r->values - r->count * sizeof r->values[0];
  bytes = gcrt_min(bytes, room);
  memcpy(&r->values[r->count], words, bytes);
  r->count += bytes / sizeof r->values[0];
}

#if defined(__x86_64__)

/* The signal frame's floating-point area is the processor's XSAVE image in its standard form: the upper halves of the
 * 256-bit registers stand at byte 576, and the kernel writes which parts are there into the reserved bytes. */
enum {
  FRAME_MAGIC_AT = 464,
  FRAME_EXTENT_AT = 468,
  FRAME_FEATURES_AT = 472,
  FRAME_SIZE_AT = 480,
  UPPER_HALVES_AT = 576,
  UPPER_HALVES = 256
};
#define FRAME_MAGIC 0x46505853U
#define FEATURE_UPPER_HALVES UINT64_C(4)

static void append_vectors(struct gcrt_registers *r, const char *frame) {
  append(r, ((const struct _libc_fpstate *)(const void *)frame)->_xmm, 16 * 16);
  uint32_t magic, size;
  uint64_t features;
  memcpy(&magic, frame + FRAME_MAGIC_AT, sizeof magic);
  memcpy(&features, frame + FRAME_FEATURES_AT, sizeof features);
  memcpy(&size, frame + FRAME_SIZE_AT, sizeof size);
  if (magic != FRAME_MAGIC || !(features & FEATURE_UPPER_HALVES)) return;
  if (size >= UPPER_HALVES_AT + UPPER_HALVES) append(r, frame + UPPER_HALVES_AT, UPPER_HALVES);
}

void gcrt_registers_of_context(struct gcrt_registers *r, const void *context) {
  const mcontext_t *machine = &((const ucontext_t *)context)->uc_mcontext;
  r->count = 0;
  r->sp = (uintptr_t)machine->gregs[REG_RSP] - GCRT_RED_ZONE;
  _Static_assert(REG_R8 == 0 && REG_RSP == 15, "the integer registers come first");
  append(r, machine->gregs, 15 * sizeof machine->gregs[0]);
  if (machine->fpregs) append_vectors(r, (const char *)machine->fpregs);
}

void gcrt_frame_of_context(uintptr_t *low, uintptr_t *high, const void *context) {
  const char *frame = (const char *)((const ucontext_t *)context)->uc_mcontext.fpregs;
  *low = (uintptr_t)context;
  *high = *low + sizeof(ucontext_t);
  if (!frame) return;
  uint32_t magic, extent;
  memcpy(&magic, frame + FRAME_MAGIC_AT, sizeof magic);
  memcpy(&extent, frame + FRAME_EXTENT_AT, sizeof extent);
  uintptr_t end = (uintptr_t)frame + (magic == FRAME_MAGIC ? extent : sizeof(struct _libc_fpstate));
  if (end > *high) *high = end;
}

/* The processor's error code of a page fault. */
enum { FAULT_WRITES = 1 << 1 };

bool gcrt_fault_is_write(const void *context) {
  return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & FAULT_WRITES) != 0;
}

#elif defined(__aarch64__)

#include <asm/sigcontext.h>

/* All but what a scalable vector longer than the reserved area holds. */
void gcrt_frame_of_context(uintptr_t *low, uintptr_t *high, const void *context) {
  *low = (uintptr_t)context;
  *high = *low + sizeof(ucontext_t);
}

/* The rest of the context is a list of records, each with a magic number and its size; zeros end it. NULL: it has none
 * of that kind. */
static const char *find_record(const mcontext_t *machine, uint32_t magic, size_t size) {
  const char *records = (const char *)machine->__reserved;
  for (size_t at = 0; at + size <= sizeof machine->__reserved;) {
    struct _aarch64_ctx head;
    memcpy(&head, records + at, sizeof head);
    if (head.magic == 0 || head.size < sizeof head) return NULL;
    if (head.magic == magic) return records + at;
    at += head.size;
  }
  return NULL;
}

void gcrt_registers_of_context(struct gcrt_registers *r, const void *context) {
  const mcontext_t *machine = &((const ucontext_t *)context)->uc_mcontext;
  r->count = 0;
  r->sp = (uintptr_t)machine->sp - GCRT_RED_ZONE;
  append(r, machine->regs, sizeof machine->regs);
  const char *vectors = find_record(machine, FPSIMD_MAGIC, sizeof(struct fpsimd_context));
  if (vectors) append(r, vectors + offsetof(struct fpsimd_context, vregs), 32 * 16);
}

/* The exception syndrome: its class, and whether a data abort came from a write. */
enum { SYNDROME_CLASS_AT = 26, SYNDROME_CLASS = 0x3f, DATA_ABORT_BELOW = 0x24, SYNDROME_WRITES = 1 << 6 };

bool gcrt_fault_is_write(const void *context) {
  struct esr_context syndrome;
  const char *record = find_record(&((const ucontext_t *)context)->uc_mcontext, ESR_MAGIC, sizeof(struct esr_context));
  if (!record) return true;
  memcpy(&syndrome, record, sizeof syndrome);
  return (syndrome.esr >> SYNDROME_CLASS_AT & SYNDROME_CLASS) == DATA_ABORT_BELOW && (syndrome.esr & SYNDROME_WRITES);
}

#endif
