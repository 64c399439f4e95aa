/* Loaded before libc: the wall clock is ahead by the seconds in the file that OTHER_CLOCK names, eight bytes of this
   machine's order, and the one that nobody sets by those of OTHER_STEADY_CLOCK. The file is mapped once: a relay that
   serves opens no files of others. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none = 0;
static const volatile int64_t *ahead = &none, *steady_ahead = &none;

static const volatile int64_t *map_file(const char *variable) {
  const char *path = getenv(variable);
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return &none;
  void *at = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return at == MAP_FAILED ? &none : at;
}

__attribute__((constructor)) static void map_files(void) {
  ahead = map_file("OTHER_CLOCK");
  steady_ahead = map_file("OTHER_STEADY_CLOCK");
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *t) {
  int rc = (int)syscall(SYS_clock_gettime, which, t);
  if (rc == 0 && which == CLOCK_REALTIME) t->tv_sec += (time_t)*ahead;
  if (rc == 0 && which == CLOCK_MONOTONIC) t->tv_sec += (time_t)*steady_ahead;
  return rc;
}

__attribute__((visibility("default"))) time_t time(time_t *at) {
  struct timespec t = {0, 0};
  (void)clock_gettime(CLOCK_REALTIME, &t);
  if (at != NULL) *at = t.tv_sec;
  return t.tv_sec;
}
