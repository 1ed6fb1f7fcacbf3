/* Other processes for tests.
 *
 * Any one thread may call this; several may at once. Between fork and exec the child calls only what is safe after a
 * fork in a program with threads, so environment and arguments are made before. Standard output and error are read
 * together with a limit on the time, since a child that waits on a full pipe or for ever must not hold up the tests. A
 * pipe may be held open by a grandchild: reading ends when the child itself has ended and nothing more is there. */
#include "child.h"

#include "repeat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct pipes {
  int in;
  int out[2];
  int err[2];
};

static size_t environment_name(const char *entry) { return (size_t)(strchrnul(entry, '=') - entry); }

static bool overridden(const char *entry, const char *const *changes) {
  size_t name = environment_name(entry);
  for (; changes != NULL && *changes != NULL; changes++)
    if (environment_name(*changes) == name && strncmp(*changes, entry, name) == 0) return true;
  return false;
}

static char **make_environment(const char *const *changes) {
  size_t count = 0;
  for (char **at = environ; *at != NULL; at++) count++;
  for (const char *const *at = changes; at != NULL && *at != NULL; at++) count++;
  char **made = calloc(count + 1, sizeof *made);
  TEST_REQUIRE(made != NULL);
  size_t used = 0;
  for (char **at = environ; *at != NULL; at++)
    if (!overridden(*at, changes)) made[used++] = *at;
  for (const char *const *at = changes; at != NULL && *at != NULL; at++)
    if (strchr(*at, '=') != NULL) made[used++] = (char *)*at;
  return made;
}

/* A file with the input, so that nobody has to feed a pipe. */
static int open_input(const char *input) {
  if (input == NULL) return open("/dev/null", O_RDONLY | O_CLOEXEC);
  FILE *file = tmpfile();
  TEST_REQUIRE(file != NULL);
  fputs(input, file);
  fflush(file);
  int fd = dup(fileno(file));
  fclose(file);
  TEST_REQUIRE(fd >= 0 && lseek(fd, 0, SEEK_SET) == 0);
  return fd;
}

static void open_pipes(struct pipes *pipes, const struct test_child_options *options) {
  pipes->in = open_input(options != NULL ? options->input : NULL);
  TEST_REQUIRE(pipes->in >= 0 && pipe2(pipes->out, O_CLOEXEC) == 0 && pipe2(pipes->err, O_CLOEXEC) == 0);
}

static void enter_child(const struct pipes *pipes) {
  dup2(pipes->in, STDIN_FILENO);
  dup2(pipes->out[1], STDOUT_FILENO);
  dup2(pipes->err[1], STDERR_FILENO);
}

static void read_some(int *fd, char **text, size_t *size) {
  char buffer[16384];
  ssize_t got = read(*fd, buffer, sizeof buffer);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    close(*fd);
    *fd = -1;
    return;
  }
  *text = realloc(*text, *size + (size_t)got + 1);
  TEST_REQUIRE(*text != NULL);
  memcpy(*text + *size, buffer, (size_t)got);
  *size += (size_t)got;
  (*text)[*size] = '\0';
}

static void follow(struct test_child *child, pid_t pid, struct pipes *pipes, double timeout_seconds) {
  double deadline = test_now() + timeout_seconds;
  struct pollfd fds[2] = {{pipes->out[0], POLLIN, 0}, {pipes->err[0], POLLIN, 0}};
  bool ended = false;
  fcntl(fds[0].fd, F_SETFL, O_NONBLOCK);
  fcntl(fds[1].fd, F_SETFL, O_NONBLOCK);
  for (;;) {
    int ready = poll(fds, 2, ended ? 0 : 50);
    if (fds[0].fd >= 0 && fds[0].revents != 0) read_some(&fds[0].fd, &child->out, &child->out_size);
    if (fds[1].fd >= 0 && fds[1].revents != 0) read_some(&fds[1].fd, &child->err, &child->err_size);
    if (ended && ready == 0) break;
    if (!ended && waitpid(pid, &child->status, WNOHANG) == pid) ended = true;
    if (!ended && test_now() > deadline) {
      child->timed_out = true;
      kill(pid, SIGKILL);
      deadline = test_now() + timeout_seconds;
    }
  }
  for (int i = 0; i < 2; i++)
    if (fds[i].fd >= 0) close(fds[i].fd);
}

static struct test_child finish(pid_t pid, struct pipes *pipes, const struct test_child_options *options) {
  struct test_child child = {.out = calloc(1, 1), .err = calloc(1, 1)};
  TEST_REQUIRE(pid > 0 && child.out != NULL && child.err != NULL);
  close(pipes->in);
  close(pipes->out[1]);
  close(pipes->err[1]);
  follow(&child, pid, pipes, options != NULL && options->timeout_seconds > 0 ? options->timeout_seconds : 60);
  return child;
}

static struct test_child start(const char *path, char *const *argv, const struct test_child_options *options) {
  struct pipes pipes;
  char **environment = make_environment(options != NULL ? options->environment : NULL);
  open_pipes(&pipes, options);
  pid_t pid = fork();
  if (pid == 0) {
    enter_child(&pipes);
    execvpe(path, argv, environment);
    static const char message[] = "the program could not be started\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    _exit(127);
  }
  struct test_child child = finish(pid, &pipes, options);
  free(environment);
  return child;
}

struct test_child test_child_exec_self(const char *name, const char *const *arguments,
                                       const struct test_child_options *options) {
  const char *argv[64] = {test_program(), "--child", name};
  size_t count = 3;
  for (; arguments != NULL && *arguments != NULL; arguments++) {
    TEST_REQUIRE(count + 1 < sizeof argv / sizeof *argv);
    argv[count++] = *arguments;
  }
  return start(test_program(), (char *const *)argv, options);
}

struct test_child test_child_exec(const char *const *argv, const struct test_child_options *options) {
  return start(argv[0], (char *const *)argv, options);
}

struct test_child test_child_fork(int (*fn)(void *arg), void *arg, const struct test_child_options *options) {
  struct pipes pipes;
  open_pipes(&pipes, options);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    enter_child(&pipes);
    for (const char *const *at = options != NULL ? options->environment : NULL; at != NULL && *at != NULL; at++)
      putenv((char *)*at);
    int status = fn(arg);
    fflush(NULL);
    _exit(status);
  }
  return finish(pid, &pipes, options);
}

void test_child_free(struct test_child *child) {
  free(child->out);
  free(child->err);
  child->out = child->err = NULL;
}

bool test_child_exited(const struct test_child *child, int status) {
  return !child->timed_out && WIFEXITED(child->status) && WEXITSTATUS(child->status) == status;
}

bool test_child_signalled(const struct test_child *child, int signal) {
  return !child->timed_out && WIFSIGNALED(child->status) && WTERMSIG(child->status) == signal;
}

const char *test_child_text(const struct test_child *child) {
  static __thread char text[4096];
  char how[64];
  if (child->timed_out)
    snprintf(how, sizeof how, "it took too long");
  else if (WIFSIGNALED(child->status))
    snprintf(how, sizeof how, "it was killed by signal %d", WTERMSIG(child->status));
  else
    snprintf(how, sizeof how, "it exited with %d", WEXITSTATUS(child->status));
  snprintf(text, sizeof text, "%s; output: %.1500s; errors: %.2000s", how, child->out, child->err);
  return text;
}
