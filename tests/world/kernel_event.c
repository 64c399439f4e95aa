#include "kernel_event.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "kernel_files.h"
#include "kernel_iov.h"

/* eventfd */

struct event {
  struct file file;
  uint64_t count;
};

static struct event *event_of(struct file *f) { return CONTAINER_OF(f, struct event, file); }

static ssize_t event_read(struct file *f, const struct iovec *iov, int n) {
  struct event *e = event_of(f);
  if (iov_bytes(iov, n) < sizeof e->count) return -EINVAL;
  if (e->count == 0) return -EAGAIN;
  iov_put(iov, n, 0, &e->count, sizeof e->count);
  e->count = 0;
  file_changed(f, EPOLLOUT);
  return sizeof e->count;
}

static ssize_t event_write(struct file *f, const struct iovec *iov, int n) {
  struct event *e = event_of(f);
  uint64_t more;
  if (iov_bytes(iov, n) < sizeof more) return -EINVAL;
  iov_get(iov, n, 0, &more, sizeof more);
  if (more == UINT64_MAX) return -EINVAL;
  if (more >= UINT64_MAX - e->count) return -EAGAIN;
  e->count += more;
  file_changed(f, EPOLLIN);
  return sizeof more;
}

static uint32_t event_poll(struct file *f) {
  uint64_t count = event_of(f)->count;
  return (count > 0 ? EPOLLIN : 0U) | (count < UINT64_MAX - 1 ? EPOLLOUT : 0U);
}

static void event_end(struct file *f) {
  file_finish(f);
  world_free(event_of(f));
}

static const struct file_kind event_kind = {
    .name = "eventfd", .mode = 0600, .read = event_read, .write = event_write, .poll = event_poll, .end = event_end};

struct file *event_new(uint64_t count, int flags) {
  struct event *e = world_alloc(sizeof *e);
  file_begin(&e->file, &event_kind, flags);
  e->count = count;
  return &e->file;
}

/* signalfd. Linux asks for those of whoever reads; nobody hands one on, so they are its maker's. */

struct signals {
  struct file file;
  struct process *process;
  uint64_t mask;
};

static struct signals *signals_of(struct file *f) { return CONTAINER_OF(f, struct signals, file); }

static ssize_t signals_read(struct file *f, const struct iovec *iov, int n) {
  struct signals *s = signals_of(f);
  struct signalfd_siginfo info;
  size_t room = iov_bytes(iov, n), done = 0;
  if (room < sizeof info) return -EINVAL;
  for (int number; room - done >= sizeof info && (number = process_take_signal(s->process, s->mask)) != 0;) {
    memset(&info, 0, sizeof info);
    info.ssi_signo = (uint32_t)number;
    iov_put(iov, n, done, &info, sizeof info);
    done += sizeof info;
  }
  return done > 0 ? (ssize_t)done : -EAGAIN;
}

static uint32_t signals_poll(struct file *f) {
  const struct signals *s = signals_of(f);
  return (s->process->pending & s->mask) != 0 ? EPOLLIN : 0;
}

static void signals_end(struct file *f) {
  file_finish(f);
  world_free(signals_of(f));
}

static const struct file_kind signals_kind = {
    .name = "signalfd", .mode = 0600, .read = signals_read, .poll = signals_poll, .end = signals_end};

struct file *signals_new(struct process *p, uint64_t mask, int flags) {
  struct signals *s = world_alloc(sizeof *s);
  file_begin(&s->file, &signals_kind, flags);
  s->process = p;
  s->mask = mask;
  return &s->file;
}

bool event_is_signals(const struct file *f) { return f->kind == &signals_kind; }

void signals_set_mask(struct file *f, uint64_t mask) {
  signals_of(f)->mask = mask;
  file_changed(f, EPOLLIN);
}
