/* Many systems start processes with a soft limit of 1024, for the sake of select(2), which nothing here uses. */
#include "base/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/shortage.h"

int descriptors_raise_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ERR_IO;
  if (limit.rlim_cur == limit.rlim_max) return 0;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : ERR_IO;
}

/* Since Linux 6.2 the folder's size is their number. */
uint64_t descriptors_now(void) {
  static const char folder[] = "/proc/self/fd";
  uint64_t n = 0;
  struct stat st;
  if (stat(folder, &st) == 0 && st.st_size > 0) return (uint64_t)st.st_size;
  DIR *d = opendir(folder);
  if (d == NULL) {
    (void)shortage_note(errno);
    return 0;
  }
  while (readdir(d) != NULL) n++;
  (void)closedir(d);
  return n - 3;                    /* ".", ".." and this one */
}

uint64_t descriptors_max(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

/* ThreadSanitizer knows descriptors by their numbers, and of one table only: two would look like races to it. */
#if defined(__SANITIZE_THREAD__)
#define ONE_TABLE true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ONE_TABLE true
#endif
#endif
#ifndef ONE_TABLE
#define ONE_TABLE false
#endif

static bool our_process;

void descriptors_keep_in_view(void) { our_process = true; }
bool descriptors_in_view(void) { return our_process || ONE_TABLE; }
bool descriptors_of_our_process(void) { return our_process; }
