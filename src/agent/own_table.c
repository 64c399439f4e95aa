/* See own_table.h. close_range does it in one call, which sandboxes allow where they forbid unshare(2). */
#include "agent/own_table.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/descriptors.h"

enum { FIRST = STDERR_FILENO + 1 };
static const unsigned UNSHARE = 1U << 1;             /* CLOSE_RANGE_UNSHARE of linux/close_range.h */

static bool close_numbers(unsigned from, unsigned to, unsigned flags) {
  return from > to || syscall(SYS_close_range, from, to, flags) == 0;
}

/* The host's input and output are not held open by us, so that their other ends see when he closes them. */
static void let_go_of_stdio(void) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fd != null && (fd != STDERR_FILENO || fcntl(fd, F_GETFD) < 0)) (void)dup2(null, fd);
  if (null >= FIRST) (void)close(null);
}

static int compare(const void *a, const void *b) {
  const int *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

bool own_table_begin(const int *keep, size_t n) {
  int sorted[OWN_TABLE_KEEP_MAX];
  ASSERT(n > 0 && n <= OWN_TABLE_KEEP_MAX);
  memcpy(sorted, keep, n * sizeof sorted[0]);
  qsort(sorted, n, sizeof sorted[0], compare);
  ASSERT(sorted[0] >= FIRST);
  /* What lies above is left behind uncopied, so that a host with many descriptors costs us nothing. */
  if (descriptors_in_view() || !close_numbers((unsigned)sorted[n - 1] + 1, ~0U, UNSHARE)) return false;
  for (size_t i = 0; i < n; i++)
    (void)close_numbers(i == 0 ? FIRST : (unsigned)sorted[i - 1] + 1, (unsigned)sorted[i] - 1, 0);
  let_go_of_stdio();
  return true;
}

static bool look(int fd, struct descriptor_mark *m) {
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) return false;
  *m = (struct descriptor_mark){.device = (uint64_t)st.st_dev, .inode = (uint64_t)st.st_ino};
  return true;
}

void descriptor_mark(int fd, struct descriptor_mark *m) {
  *m = (struct descriptor_mark){0};
  (void)look(fd, m);
}

bool descriptor_is(int fd, const struct descriptor_mark *m) {
  struct descriptor_mark now;
  return look(fd, &now) && now.device == m->device && now.inode == m->inode;
}

void descriptor_close(int fd, const struct descriptor_mark *m) {
  if (descriptor_is(fd, m)) (void)close(fd);
}

int descriptor_above_stdio(int fd) {
  if (fd < 0 || fd >= FIRST) return fd;
  int above = fcntl(fd, F_DUPFD_CLOEXEC, FIRST);
  (void)close(fd);
  return above;
}
