/* Loaded before libc, it makes of a program one that was taken over: while there is a Unix socket of the name that
   TAKEN_OVER gives, whatever thread waits for events connects to it first and does what it is told, a line each:
   `open FLAGS PATH`, answered with what open returns, or `execute PATH`. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof at) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static void obey(char *line, int answer) {
  char *end;
  line[strcspn(line, "\n")] = '\0';
  if (strncmp(line, "execute ", 8) == 0) (void)execl(line + 8, line + 8, (char *)NULL);
  if (strncmp(line, "open ", 5) != 0) return;
  int flags = (int)strtol(line + 5, &end, 0);
  (void)dprintf(answer, "%d\n", open(end + 1, flags, 0600));
}

static void obey_all(const char *path) {
  char line[4096];
  int fd = connect_to(path);
  FILE *told = fd >= 0 ? fdopen(fd, "r") : NULL;
  if (told == NULL) return;
  while (fgets(line, sizeof line, told) != NULL) obey(line, fd);
  (void)fclose(told);
}

__attribute__((visibility("default"))) int epoll_wait(int epoll, struct epoll_event *events, int n, int timeout) {
  const char *path = getenv("TAKEN_OVER");
  if (path != NULL && access(path, F_OK) == 0) obey_all(path);
  return epoll_pwait(epoll, events, n, timeout, NULL);
}
