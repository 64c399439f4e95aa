/* See runner.h. The child is spawned, not forked: this process has the library's thread, and a copy of its descriptors
   must not outlive it (they are CLOEXEC). */
#include "cli/runner.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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

int runner_start(char *const *argv, char *const *environment, const sigset_t *mask, pid_t *pid, int *status,
                 struct err *e) {
  posix_spawnattr_t attributes;
  int failure = posix_spawnattr_init(&attributes);
  if (failure != 0) {
    *status = EXIT_FAILURE;
    errno = failure;
    return err_set_errno(e, "%s", argv[0]);
  }
  failure = posix_spawnattr_setsigmask(&attributes, mask);
  if (failure == 0) failure = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  if (failure == 0) failure = posix_spawnp(pid, argv[0], NULL, &attributes, argv, environment);
  (void)posix_spawnattr_destroy(&attributes);
  if (failure == 0) return 0;
  *status = failure == ENOENT ? NOT_FOUND_STATUS : NOT_EXECUTABLE_STATUS;
  return err_set(e, ERR_IO, "%s: %s (is the command behind -- right?)", argv[0], strerror(failure));
}

int runner_ended(pid_t pid, int *status) {
  int how;
  if (waitpid(pid, &how, WNOHANG) != pid) return 0;
  if (WIFEXITED(how))
    *status = WEXITSTATUS(how);
  else if (WIFSIGNALED(how))
    *status = SIGNAL_STATUS + WTERMSIG(how);
  else
    return 0;
  return 1;
}
