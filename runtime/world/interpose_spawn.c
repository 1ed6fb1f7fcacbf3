/* Interposed calls that start a program.
 *
 * signal(7) has no rule for them: the thread waits in vfork until the child has called exec, and no signal but a deadly
 * one is delivered before. With a slow file system under the child that takes long, so the thread is parked.
 *
 * The child runs in the memory of the parent until exec and reads the arguments there; it calls nothing of this library
 * (the C library uses its own functions, with all signals blocked).
 *
 * Any thread may call them; no locks. Compiled with -fexceptions: system is a cancellation point. */
#include "world/interpose_call.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>

/* The C library stores the child's number with every signal blocked, SIGSEGV too, and the place may be in memory whose
 * first write faults (faults.h). */
static int tell(pid_t *child, const pid_t *made, int error) {
  if (child && error == 0) *child = *made;
  return error;
}

GCRT_EXPORT int posix_spawn(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
                            const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {
  GCRT_KEEP(child);
  GCRT_KEEP(path);
  GCRT_KEEP(actions);
  GCRT_KEEP(attributes);
  GCRT_KEEP(arguments);
  GCRT_KEEP(environment);
  pid_t made;
  GCRT_PARKED_CALL(
      int, tell(child, &made,
                gcrt_real(posix_spawn)(child ? &made : NULL, path, actions, attributes, arguments, environment)));
}

GCRT_EXPORT int posix_spawnp(pid_t *child, const char *file, const posix_spawn_file_actions_t *actions,
                             const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {
  GCRT_KEEP(child);
  GCRT_KEEP(file);
  GCRT_KEEP(actions);
  GCRT_KEEP(attributes);
  GCRT_KEEP(arguments);
  GCRT_KEEP(environment);
  pid_t made;
  GCRT_PARKED_CALL(
      int, tell(child, &made,
                gcrt_real(posix_spawnp)(child ? &made : NULL, file, actions, attributes, arguments, environment)));
}

GCRT_EXPORT int system(const char *command) {
  GCRT_KEEP(command);
  GCRT_PARKED_CALL(int, gcrt_real(system)(command));
}

GCRT_EXPORT FILE *popen(const char *command, const char *mode) {
  GCRT_KEEP(command);
  GCRT_KEEP(mode);
  GCRT_PARKED_CALL(FILE *, gcrt_real(popen)(command, mode));
}

/* Waits for the end of the child. */
GCRT_EXPORT int pclose(FILE *stream) {
  GCRT_KEEP(stream);
  GCRT_PARKED_CALL(int, gcrt_real(pclose)(stream));
}
