/* Many systems start processes with a soft limit of 1024, for the sake of select(2), which nothing here uses. */
#include "base/descriptors.h"

#include <sys/resource.h>

int descriptors_raise_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ERR_IO;
  if (limit.rlim_cur == limit.rlim_max) return 0;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : ERR_IO;
}
