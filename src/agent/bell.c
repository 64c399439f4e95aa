/* See bell.h. */
#include "agent/bell.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int bell_init(struct bell *b, struct err *e) {
  int ends[2];
  *b = (struct bell){.ring_fd = -1, .hear_fd = -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return err_set_errno(e, "client");
  b->ring_fd = descriptor_above_stdio(ends[0]);
  b->hear_fd = descriptor_above_stdio(ends[1]);
  descriptor_mark(b->ring_fd, &b->ring_mark);
  return b->ring_fd < 0 || b->hear_fd < 0 ? err_set_errno(e, "client") : 0;
}

void bell_ring(const struct bell *b) {
  /* full: it rings already */
  if (descriptor_is(b->ring_fd, &b->ring_mark)) (void)!send(b->ring_fd, "", 1, MSG_NOSIGNAL);
}

bool bell_heard(const struct bell *b) {
  char rings[64];
  ssize_t n;
  do
    n = recv(b->hear_fd, rings, sizeof rings, 0);
  while (n == (ssize_t)sizeof rings || (n < 0 && errno == EINTR));
  return n > 0 || (n < 0 && errno == EAGAIN);
}
