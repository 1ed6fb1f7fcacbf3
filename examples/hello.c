/* Ten million nodes, of which every thousandth stays reachable. The collector finds the others; nothing is freed. */
#include <gcrt.h>
#include <stdio.h>

struct node {
  struct node *next;
  long value;
};

int main(void) {
  struct node *kept = NULL;
  for (long i = 0; i < 10000000; i++) {
    struct node *n = gc_alloc(sizeof *n);
    n->value = i;
    if (i % 1000 == 0) {
      n->next = kept;
      kept = n;
    }
  }
  gc_collect();

  long sum = 0;
  for (struct node *n = kept; n != NULL; n = n->next) {
    sum += n->value;
  }
  struct runtime_metrics m;
  runtime_metrics_read(&m);
  printf("sum %ld; allocated %llu MB, in use %llu KB\n", sum, (unsigned long long)(m.total_alloc / 1000000),
         (unsigned long long)(m.heap_alloc / 1000));
  return 0;
}
