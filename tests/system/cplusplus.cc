// gcrt.h from C++: every declaration is C++-clean, and objects of classes live as C's do.
//
// Prints "cplusplus: passed" and returns 0, or says what went wrong.
#include <gcrt.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

namespace {

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                             \
      std::exit(1);                                                                                                    \
    }                                                                                                                  \
  } while (0)

struct Tree {
  Tree *left = nullptr, *right = nullptr;
  std::uint64_t check;
  explicit Tree(std::uint64_t value) : check(value) {}
  virtual ~Tree() = default;
};

Tree *grow(int depth, std::uint64_t value) {
  void *memory = gc_alloc(sizeof(Tree));
  REQUIRE(memory != nullptr);
  auto *tree = new (memory) Tree(value);
  if (depth > 0) {
    tree->left = grow(depth - 1, value * 2);
    tree->right = grow(depth - 1, value * 2 + 1);
  }
  return tree;
}

int count(const Tree *tree, std::uint64_t value) {
  REQUIRE(tree->check == value);
  return tree->left ? 1 + count(tree->left, value * 2) + count(tree->right, value * 2 + 1) : 1;
}

Tree *kept;

} // namespace

int main() {
  kept = grow(12, 1);
  // std::thread calls pthread_create from libstdc++, which must reach the library's.
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++)
    threads.emplace_back([] {
      for (int round = 0; round < 8; round++) REQUIRE(count(grow(12, 1), 1) == (2 << 12) - 1);
    });
  runtime_metrics m;
  REQUIRE(runtime_metrics_read(&m) == 0 && m.threads >= 1);
  for (int i = 0; i < 5; i++) gc_collect();
  for (auto &thread : threads) thread.join();
  REQUIRE(count(kept, 1) == (2 << 12) - 1);
  // An exception unwinds through frames that hold objects.
  try {
    void *held = gc_alloc(64);
    gc_collect();
    REQUIRE(gc_base(held) == held);
    throw held;
  } catch (void *held) {
    gc_collect();
    REQUIRE(gc_base(held) == held);
  }
  REQUIRE(runtime_metrics_read(&m) == 0 && m.num_gc >= 7 && m.threads == 1);
  const char *reason;
  REQUIRE(runtime_metrics_tracker(&reason) != nullptr && reason != nullptr);
  char version[32];
  std::snprintf(version, sizeof version, "%d.%d.%d", GC_VERSION_MAJOR, GC_VERSION_MINOR, GC_VERSION_PATCH);
  REQUIRE(std::strcmp(gc_version(), version) == 0);
  std::printf("cplusplus: passed\n");
  return 0;
}
