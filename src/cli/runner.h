/* `adit forward ... -- COMMAND`: the command's environment, its start and its end. */
#ifndef CLI_RUNNER_H
#define CLI_RUNNER_H

#include <signal.h>
#include <sys/types.h>

#include "base/err.h"

struct runner_address {
  const char *url, *host, *tcp_host;
  uint16_t port, tcp_port, app_port;
};

/* base without ADIT_TOKEN and without ADIT_* addresses of an outer adit, plus those of `addresses`. One malloced block
   of pointers and text; free() it. */
char **runner_environment(char *const *base, const struct runner_address *addresses, size_t n) MUST_USE;
void runner_environment_free(char **environment);

/* Starts argv[0], found by PATH, with these signals blocked, and what signals_change has changed given back. On failure
   *status is what a shell would return: 127 or 126. */
int runner_start(char *const *argv, char *const *environment, const sigset_t *mask, pid_t *pid, int *status,
                 struct err *e) MUST_USE;
/* A child that has ended, any, with *status as a shell tells it (128 + n for signal n); 0 when there is none. */
pid_t runner_reap(int *status) MUST_USE;

#endif
