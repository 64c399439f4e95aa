/* Loaded before libc: the wall clock is ahead by the seconds in the file that OTHER_CLOCK names, and the one that
   nobody sets by those of OTHER_STEADY_CLOCK. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t ahead_s(const char *variable) {
  char text[32] = "";
  const char *path = getenv(variable);
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  return n > 0 ? (time_t)atoll(text) : 0;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *t) {
  int rc = (int)syscall(SYS_clock_gettime, which, t);
  if (rc == 0 && which == CLOCK_REALTIME) t->tv_sec += ahead_s("OTHER_CLOCK");
  if (rc == 0 && which == CLOCK_MONOTONIC) t->tv_sec += ahead_s("OTHER_STEADY_CLOCK");
  return rc;
}

__attribute__((visibility("default"))) time_t time(time_t *at) {
  struct timespec t = {0, 0};
  (void)clock_gettime(CLOCK_REALTIME, &t);
  if (at != NULL) *at = t.tv_sec;
  return t.tv_sec;
}
