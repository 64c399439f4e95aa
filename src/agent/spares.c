/* See the header. Of all descriptors that of an event costs least. */
#include "agent/spares.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/shortage.h"

int spares_keep(struct spares *s, struct descriptors *d, size_t n) {
  ASSERT(n <= ARRAY_LEN(s->fds));
  while (s->n < n) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
      (void)shortage_note(errno);
      return ERR_LIMIT;
    }
    descriptors_add(d, fd);
    s->fds[s->n++] = fd;
  }
  return 0;
}

bool spares_give(struct spares *s, struct descriptors *d) {
  if (s->n == 0) return false;
  int fd = s->fds[--s->n];
  descriptors_remove(d, fd);
  close(fd);
  return true;
}

void spares_trim(struct spares *s, struct descriptors *d, size_t n) {
  while (s->n > n) (void)spares_give(s, d);
}
