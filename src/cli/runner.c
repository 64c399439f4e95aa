/* See runner.h. The child is not forked: this process has the library's thread, and a copy of its descriptors must not
   outlive it (they are CLOEXEC). */
#include "cli/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/signals.h"

enum { VARIABLES_PER_ADDRESS = 6, NOT_FOUND_STATUS = 127, NOT_EXECUTABLE_STATUS = 126, SIGNAL_STATUS = 128 };

static bool is_ours(const char *variable) {
  static const char *const names[] = {"ADIT_TOKEN=", "ADIT_URL=", "ADIT_HOST=", "ADIT_PORT=", "ADIT_TCP_HOST=",
                                      "ADIT_TCP_PORT=", "ADIT_URL_"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++)
    if (strncmp(variable, names[i], strlen(names[i])) == 0) return true;
  return false;
}

static bool add_text(char **list, size_t *n, const char *name, const char *value) {
  if (value == NULL) return true;
  if (asprintf(&list[*n], "%s=%s", name, value) < 0) {
    list[*n] = NULL;
    return false;
  }
  (*n)++;
  return true;
}

static bool add_port(char **list, size_t *n, const char *name, uint16_t port) {
  char text[8];
  (void)snprintf(text, sizeof text, "%u", port);
  return port == 0 || add_text(list, n, name, text);
}

char **runner_environment(char *const *base, const struct runner_address *addresses, size_t n) {
  size_t count = 0, at = 0;
  while (base[count] != NULL) count++;
  char **list = calloc(count + VARIABLES_PER_ADDRESS + n + 1, sizeof *list);
  if (list == NULL) return NULL;
  for (size_t i = 0; i < count; i++) {
    if (is_ours(base[i])) continue;
    list[at] = strdup(base[i]);
    if (list[at] == NULL) goto fail;
    at++;
  }
  const struct runner_address *first = addresses;
  if (n > 0 && !(add_text(list, &at, "ADIT_URL", first->url) && add_text(list, &at, "ADIT_HOST", first->host) &&
                 add_port(list, &at, "ADIT_PORT", first->port) &&
                 add_text(list, &at, "ADIT_TCP_HOST", first->tcp_host) &&
                 add_port(list, &at, "ADIT_TCP_PORT", first->tcp_port)))
    goto fail;
  for (size_t i = 0; i < n; i++) {
    char name[32];
    if (addresses[i].app_port == 0) continue;    /* a Unix socket */
    (void)snprintf(name, sizeof name, "ADIT_URL_%u", addresses[i].app_port);
    if (!add_text(list, &at, name, addresses[i].url)) goto fail;
  }
  return list;
fail:
  runner_environment_free(list);
  return NULL;
}

void runner_environment_free(char **environment) {
  if (environment == NULL) return;
  for (size_t i = 0; environment[i] != NULL; i++) free(environment[i]);
  free(environment);
}

/* Between vfork and exec, where the memory is still the parent's. posix_spawn does the same, but cannot have a signal
   ignored. tell: closed by exec; before that, why there is none. */
_Noreturn static void become(char *const *argv, char *const *environment, const sigset_t *mask, int tell) {
  signals_give_back();
  (void)sigprocmask(SIG_SETMASK, mask, NULL);
  (void)execvpe(argv[0], argv, environment);
  (void)!write(tell, &errno, sizeof errno);
  _exit(NOT_EXECUTABLE_STATUS);
}

int runner_start(char *const *argv, char *const *environment, const sigset_t *mask, pid_t *pid, int *status,
                 struct err *e) {
  int ends[2], failure;
  *status = EXIT_FAILURE;
  if (pipe2(ends, O_CLOEXEC) != 0) return err_set_errno(e, "%s", argv[0]);
  *pid = vfork();
  if (*pid == 0) become(argv, environment, mask, ends[1]);
  if (*pid < 0) (void)err_set_errno(e, "%s", argv[0]);
  close(ends[1]);
  bool failed = *pid > 0 && read(ends[0], &failure, sizeof failure) == (ssize_t)sizeof failure;
  close(ends[0]);
  if (!failed) return *pid > 0 ? 0 : ERR_IO;
  (void)waitpid(*pid, NULL, 0);
  *status = failure == ENOENT ? NOT_FOUND_STATUS : NOT_EXECUTABLE_STATUS;
  return err_set(e, ERR_IO, "%s: %s (is the command behind -- right?)", argv[0], strerror(failure));
}

pid_t runner_reap(int *status) {
  int how;
  pid_t pid = waitpid(-1, &how, WNOHANG);
  if (pid > 0) *status = WIFEXITED(how) ? WEXITSTATUS(how) : SIGNAL_STATUS + WTERMSIG(how);
  return pid > 0 ? pid : 0;
}
