/* The stopwatch: from before a command is started to the first line that it prints, again and again. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void line_check(int fd) {
  char line[4096];
  size_t n = 0;
  do {
    ssize_t r = read(fd, line + n, sizeof line - 1 - n);
    if (r <= 0) load_die("open", "the command ended before its first line");
    n += (size_t)r;
  } while (memchr(line, '\n', n) == NULL && n < sizeof line - 1);
  line[n] = '\0';
  if (strstr(line, "\"open\"") == NULL) load_die("open: not an open line", line);
}

static uint64_t open_once(char **command) {
  int fds[2];
  pid_t child;
  posix_spawn_file_actions_t actions;
  if (pipe2(fds, O_CLOEXEC) != 0 || posix_spawn_file_actions_init(&actions) != 0 ||
      posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO) != 0) {
    load_die("open", strerror(errno));
  }
  uint64_t start = load_now_ns();
  int r = posix_spawnp(&child, command[0], &actions, NULL, command, environ);
  if (r != 0) load_die(command[0], strerror(r));
  (void)close(fds[1]);
  line_check(fds[0]);
  uint64_t took = load_now_ns() - start;
  (void)kill(child, SIGTERM);
  (void)waitpid(child, NULL, 0);
  (void)close(fds[0]);
  (void)posix_spawn_file_actions_destroy(&actions);
  return took;
}

int load_open(const struct load_options *o) {
  uint64_t *ns = calloc(o->count, sizeof *ns);
  if (ns == NULL || o->command[0] == NULL) load_die("open", "no command");
  for (unsigned i = 0; i < o->count; i++) ns[i] = open_once(o->command);
  (void)printf("{\"mode\":\"open\",\"count\":%u,", o->count);
  load_print_percentiles(ns, o->count);
  (void)puts("}");
  return 0;
}
