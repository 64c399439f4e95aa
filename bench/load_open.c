/* The stopwatch: from before a command is started to the first line that it prints, again and again; or to the first
   byte that a visitor gets through it, once. */
#include "load_visitor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void line_check(int fd, const char *expect) {
  char line[4096];
  size_t n = 0;
  do {
    ssize_t r = read(fd, line + n, sizeof line - 1 - n);
    if (r <= 0) load_die("open", "the command ended before its first line");
    n += (size_t)r;
  } while (memchr(line, '\n', n) == NULL && n < sizeof line - 1);
  line[n] = '\0';
  if (strstr(line, expect) == NULL) load_die("open: not that line", line);
}

/* Starts it with its standard output at fd, in a group of its own, as it may start others. */
static pid_t command_start(char **command, int fd) {
  pid_t child;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  if (posix_spawn_file_actions_init(&actions) != 0 || posix_spawnattr_init(&attributes) != 0 ||
      posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO) != 0 ||
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP) != 0) {
    load_die("start", strerror(errno));
  }
  int r = posix_spawnp(&child, command[0], &actions, &attributes, command, environ);
  if (r != 0) load_die(command[0], strerror(r));
  (void)posix_spawn_file_actions_destroy(&actions);
  (void)posix_spawnattr_destroy(&attributes);
  return child;
}

static void command_end(pid_t child) {
  (void)kill(-child, SIGTERM);
  (void)waitpid(child, NULL, 0);
}

static uint64_t open_once(const struct load_options *o) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) load_die("open", strerror(errno));
  uint64_t start = load_now_ns();
  pid_t child = command_start(o->command, fds[1]);
  (void)close(fds[1]);
  line_check(fds[0], o->expect);
  uint64_t took = load_now_ns() - start;
  command_end(child);
  (void)close(fds[0]);
  return took;
}

int load_open(const struct load_options *o) {
  uint64_t *ns = calloc(o->count, sizeof *ns);
  if (ns == NULL || o->command[0] == NULL) load_die("open", "no command");
  for (unsigned i = 0; i < o->count; i++) ns[i] = open_once(o);
  (void)printf("{\"mode\":\"open\",\"count\":%u,", o->count);
  load_print_percentiles(ns, o->count);
  (void)puts("}");
  return 0;
}

/* One attempt. Some take visitors before they have where to bring them: such a one has so long. */
static bool first_byte(struct visitor *v) {
  struct timeval patience = {.tv_usec = 250000};
  char answer;
  if (!visitor_try(v)) return false;
  (void)setsockopt(v->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  bool came = (v->ssl != NULL ? SSL_write(v->ssl, "B\n", 2) : send(v->fd, "B\n", 2, MSG_NOSIGNAL)) == 2 &&
              visitor_read_some(v, &answer, 1) == 1;
  visitor_close(v);
  return came;
}

int load_first(const struct load_options *o) {
  enum { PAUSE_US = 200 };
  struct visitor v;
  int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (o->command[0] == NULL || nowhere < 0) load_die("first", "no command");
  visitor_init(&v, o);
  uint64_t start = load_now_ns();
  pid_t child = command_start(o->command, nowhere);
  while (!first_byte(&v)) {
    if (waitpid(child, NULL, WNOHANG) != 0) load_die(o->command[0], "ended before a visitor got through");
    (void)usleep(PAUSE_US);
  }
  uint64_t took = load_now_ns() - start;
  command_end(child);
  (void)printf("{\"mode\":\"first\",\"first_us\":%.1f}\n", (double)took / 1e3);
  return 0;
}
