/* Loaded before libc: each fsync and fdatasync asks a test, at the Unix socket that SLOW_DISK names, and waits until it
   closes the connection. While there is no such socket, the disk is quick. (It is no FIFO: a relay may open no file of
   the test's.) */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int wait_for_disk(int fd) {
  char byte;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  const char *path = getenv("SLOW_DISK");
  if (path == NULL || fd < 0 || access(path, F_OK) != 0) return fd < 0 ? -1 : 0;
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (door >= 0 && connect(door, (const struct sockaddr *)&at, sizeof at) == 0) {
    ssize_t ignored = read(door, &byte, 1);
    (void)ignored;
  } else if (door < 0 || (errno != ENOENT && errno != ECONNREFUSED)) {
    perror("slow disk");
    abort();                       /* no test would notice that nothing was slow */
  }
  close(door);
  return 0;
}

__attribute__((visibility("default"))) int fsync(int fd) { return wait_for_disk(fd); }
__attribute__((visibility("default"))) int fdatasync(int fd) { return wait_for_disk(fd); }
