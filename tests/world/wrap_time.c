/* Clocks and sleep. The calls that tell the time are not wrapped but exported by the program, so that OpenSSL, too,
   gets the world's. */
#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"
#include "times.h"
#include "wrap.h"

static bool is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

/* What a clock of the current host shows, less the world's. */
static int64_t offset_ns(clockid_t clock) {
  const struct host *h = process_current()->host;
  return is_wall(clock) ? WORLD_BEGINNING_S * (int64_t)WORLD_NS_PER_S + h->wall_ns : -(int64_t)h->booted_ns;
}

uint64_t time_of_world(clockid_t clock, const struct timespec *t) {
  int64_t ns = (int64_t)t->tv_sec * (int64_t)WORLD_NS_PER_S + t->tv_nsec - offset_ns(clock);
  return ns < 0 ? 0 : (uint64_t)ns;
}

EXPORTED int clock_gettime(clockid_t clock, struct timespec *t) {
  if (task_current() == NULL) return (int)syscall(SYS_clock_gettime, clock, t);
  int64_t ns = (int64_t)world_now_ns() + offset_ns(clock);
  t->tv_sec = (time_t)(ns / (int64_t)WORLD_NS_PER_S);
  t->tv_nsec = (long)(ns % (int64_t)WORLD_NS_PER_S);
  return 0;
}

EXPORTED time_t time(time_t *out) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  if (out != NULL) *out = t.tv_sec;
  return t.tv_sec;
}

EXPORTED int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  struct timespec now;
  (void)zone;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  *t = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / (long)WORLD_NS_PER_US};
  return 0;
}

WRAP(int, nanosleep, (const struct timespec *t, struct timespec *left)) {
  if (task_current() == NULL) return __real_nanosleep(t, left);
  uint64_t until_ns = world_now_ns() + (uint64_t)t->tv_sec * WORLD_NS_PER_S + (uint64_t)t->tv_nsec;
  while (task_sleep(until_ns)) continue;
  return 0;
}
