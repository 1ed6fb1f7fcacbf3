/* A library that the tests load and unload: an initialised and a zero variable, a constant that needs relocation, and
 * thread-local storage of MODULE_WORDS words. With MODULE_INITIAL_EXEC the latter is in every thread's static block. */
#include <stdint.h>

extern uintptr_t module_data[4], module_zero[4];
extern uintptr_t *const module_constant[2];
uintptr_t *module_tls(void);

uintptr_t module_data[4] = {1, 2, 3, 4};
uintptr_t module_zero[4];
uintptr_t *const module_constant[2] = {module_data, module_zero};

#ifdef MODULE_INITIAL_EXEC
static __thread uintptr_t tls[MODULE_WORDS] __attribute__((tls_model("initial-exec")));
#else
static __thread uintptr_t tls[MODULE_WORDS];
#endif

uintptr_t *module_tls(void) { return tls; }
