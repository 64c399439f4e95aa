#include "kernel_call.h"

#include <errno.h>
#include <fcntl.h>

struct call call_begin(int fd) {
  struct call c = {.fd = fd, .until_ns = WORLD_NEVER};
  task_step();
  c.file = file_of(fd);
  if (c.file == NULL) return c;
  c.inode = c.file->inode;
  c.waits = (c.file->flags & O_NONBLOCK) == 0;
  return c;
}

void call_limit(struct call *c, uint64_t limit_ns) {
  if (limit_ns != 0) c->until_ns = world_now_ns() + limit_ns;
}

int call_wait_at(struct call *c, struct waiters *w) {
  if (!c->waits || !task_park(w, c->until_ns)) return -EAGAIN;
  c->file = file_of(c->fd);
  return c->file == NULL || c->file->inode != c->inode ? -EBADF : 0;
}

int call_wait(struct call *c) { return call_wait_at(c, &c->file->waiters); }

static ssize_t result(const char *what, int fd, ssize_t r) {
  world_trace(what, (uint64_t)fd, (uint64_t)r);
  if (r >= 0) return r;
  errno = (int)-r;
  return -1;
}

ssize_t call_result(const char *what, const struct call *c, ssize_t r) { return result(what, c->fd, r); }

ssize_t call_made(const char *what, ssize_t r) { return result(what, -1, r); }

void call_broken_pipe(void) { process_signal(process_current(), SIGPIPE); }
