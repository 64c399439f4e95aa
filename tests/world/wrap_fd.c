/* Calls on descriptors of any kind, and those that make pipes, eventfds, signalfds and epoll sets. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/base.h"
#include "kernel_call.h"
#include "kernel_epoll.h"
#include "kernel_event.h"
#include "kernel_files.h"
#include "kernel_iov.h"
#include "kernel_pipe.h"
#include "wrap.h"

enum { POLL_MAX = 16, SIGNAL_NUMBERS = 64 };

/* Reading and writing */

static ssize_t read_into(struct call *c, const struct iovec *iov, int n) {
  if (c->file == NULL) return -EBADF;
  if (c->file->kind->read == NULL) return -EINVAL;
  call_limit(c, c->file->read_limit_ns);
  for (;;) {
    ssize_t r = c->file->kind->read(c->file, iov, n);
    if (r != -EAGAIN) return r;
    int error = call_wait(c);
    if (error != 0) return error;
  }
}

WRAP(ssize_t, read, (int fd, void *p, size_t n)) {
  if (task_current() == NULL) return __real_read(fd, p, n);
  struct call c = call_begin(fd);
  return call_result("read", &c, read_into(&c, &(struct iovec){.iov_base = p, .iov_len = n}, 1));
}

/* What the compiler makes of a read whose end it knows not, into memory whose end it knows. */
WRAP(ssize_t, __read_chk, (int fd, void *p, size_t n, size_t room)) {
  return task_current() == NULL ? __real___read_chk(fd, p, n, room) : __wrap_read(fd, p, n);
}

WRAP(ssize_t, readv, (int fd, const struct iovec *iov, int n)) {
  if (task_current() == NULL) return __real_readv(fd, iov, n);
  struct call c = call_begin(fd);
  return call_result("readv", &c, read_into(&c, iov, n));
}

/* All of it, if it may wait. */
static ssize_t write_from(struct call *c, const uint8_t *p, size_t n) {
  size_t done = 0;
  if (c->file == NULL) return -EBADF;
  if (c->file->kind->write == NULL) return -EINVAL;
  call_limit(c, c->file->write_limit_ns);
  do {
    const struct iovec rest = {.iov_base = (void *)(uintptr_t)(p + done), .iov_len = n - done};
    ssize_t r = c->file->kind->write(c->file, &rest, 1);
    if (r == -EAGAIN) r = call_wait(c);
    if (r < 0) return done > 0 ? (ssize_t)done : r;
    done += (size_t)r;
  } while (done < n && c->waits);
  return (ssize_t)done;
}

WRAP(ssize_t, write, (int fd, const void *p, size_t n)) {
  if (task_current() == NULL) return __real_write(fd, p, n);
  struct call c = call_begin(fd);
  ssize_t r = write_from(&c, p, n);
  if (r == -EPIPE) call_broken_pipe();
  return call_result("write", &c, r);
}

static ssize_t splice_once(struct file *in, struct file *out, size_t n) {
  bool from_pipe = pipe_is(in), to_pipe = pipe_is(out);
  if (!from_pipe && !to_pipe) return -EINVAL;
  if (n == 0) return 0;
  return to_pipe ? pipe_fill(out, in, n) : pipe_drain(in, out, n);
}

WRAP(ssize_t, splice, (int in, loff_t *in_at, int out, loff_t *out_at, size_t n, unsigned flags)) {
  if (task_current() == NULL) return __real_splice(in, in_at, out, out_at, n, flags);
  struct call c = call_begin(in);
  struct file *to = file_of(out);
  ASSERT(in_at == NULL && out_at == NULL && (flags & SPLICE_F_NONBLOCK) != 0);   /* nobody here waits in it */
  ssize_t r = c.file == NULL || to == NULL ? -EBADF : splice_once(c.file, to, n);
  if (r == -EPIPE) call_broken_pipe();
  return call_result("splice", &c, r);
}

/* Descriptors */

WRAP(int, close, (int fd)) {
  if (task_current() == NULL) return __real_close(fd);
  struct call c = call_begin(fd);
  return (int)call_result("close", &c, files_close(process_current()->files, fd));
}

WRAP(int, dup, (int fd)) {
  if (task_current() == NULL) return __real_dup(fd);
  struct call c = call_begin(fd);
  return (int)call_result("dup", &c, files_duplicate(process_current()->files, fd, 0));
}

WRAP(int, dup2, (int fd, int to)) {
  if (task_current() == NULL) return __real_dup2(fd, to);
  struct call c = call_begin(fd);
  return (int)call_result("dup2", &c, files_duplicate_to(process_current()->files, fd, to));
}

static int set_flags(struct file *f, int flags) {
  f->flags = (f->flags & O_ACCMODE) | (flags & (O_NONBLOCK | O_APPEND));
  return 0;
}

static int control(struct file *f, int fd, int what, int value) {
  if (f == NULL) return -EBADF;
  switch (what) {
    case F_DUPFD: case F_DUPFD_CLOEXEC: return files_duplicate(process_current()->files, fd, value);
    case F_GETFD: return FD_CLOEXEC;         /* nothing is executed here */
    case F_SETFD: return 0;
    case F_GETFL: return f->flags;
    case F_SETFL: return set_flags(f, value);
    case F_GETPIPE_SZ: return pipe_is(f) ? pipe_size(f) : -EBADF;
    case F_SETPIPE_SZ: return pipe_is(f) ? pipe_set_size(f, (unsigned)value) : -EBADF;
    default: world_fail("fcntl %d is not simulated", what);
  }
}

WRAP(int, fcntl64, (int fd, int what, ...)) {
  va_list args;
  va_start(args, what);
  long value = va_arg(args, long);
  va_end(args);
  if (task_current() == NULL) return __real_fcntl64(fd, what, value);
  struct call c = call_begin(fd);
  return (int)call_result("fcntl", &c, control(c.file, fd, what, (int)value));
}

WRAP(int, ioctl, (int fd, unsigned long request, ...)) {
  va_list args;
  va_start(args, request);
  void *arg = va_arg(args, void *);
  va_end(args);
  if (task_current() == NULL) return __real_ioctl(fd, request, arg);
  struct call c = call_begin(fd);
  int r = c.file == NULL ? -EBADF : c.file->kind->ioctl == NULL ? -ENOTTY : c.file->kind->ioctl(c.file, request, arg);
  return (int)call_result("ioctl", &c, r);
}

static int describe(struct file *f, struct stat *out) {
  if (f == NULL) return -EBADF;
  if (f->kind->stat != NULL) return f->kind->stat(f, out);
  *out = (struct stat){.st_dev = 1, .st_ino = f->inode, .st_mode = f->kind->mode, .st_nlink = 1, .st_uid = geteuid(),
                       .st_gid = (gid_t)geteuid(), .st_blksize = 4096};
  return 0;
}

WRAP(int, fstat64, (int fd, struct stat *out)) {
  if (task_current() == NULL) return __real_fstat64(fd, out);
  struct call c = call_begin(fd);
  return (int)call_result("fstat", &c, describe(c.file, out));
}

/* Making some */

static int install(struct file *f) { return files_install(process_current()->files, f, 0); }

static int make_pipe(int fds[2], int flags) {
  struct file *ends[2];
  int error = files_may_open();
  if (error != 0) return error;
  pipe_new(ends, flags & O_NONBLOCK);
  fds[0] = install(ends[0]);
  fds[1] = install(ends[1]);
  if (fds[0] >= 0 && fds[1] < 0) (void)files_close(process_current()->files, fds[0]);
  return fds[0] < 0 || fds[1] < 0 ? -EMFILE : 0;
}

WRAP(int, pipe2, (int fds[2], int flags)) {
  if (task_current() == NULL) return __real_pipe2(fds, flags);
  task_step();
  return (int)call_made("pipe", make_pipe(fds, flags));
}

WRAP(int, eventfd, (unsigned count, int flags)) {
  if (task_current() == NULL) return __real_eventfd(count, flags);
  task_step();
  ASSERT((flags & EFD_SEMAPHORE) == 0);
  int error = files_may_open();
  return (int)call_made("eventfd", error != 0 ? error : install(event_new(count, O_RDWR | (flags & O_NONBLOCK))));
}

static uint64_t mask_of(const sigset_t *set) {
  uint64_t mask = 0;
  for (int number = 1; number <= SIGNAL_NUMBERS; number++)
    if (sigismember(set, number) == 1) mask |= UINT64_C(1) << (number - 1);
  return mask;
}

static int make_signals(int fd, const sigset_t *set, int flags) {
  struct file *f = file_of(fd);
  if (fd == -1) return install(signals_new(process_current(), mask_of(set), O_RDWR | (flags & O_NONBLOCK)));
  if (f == NULL) return -EBADF;
  if (!event_is_signals(f)) return -EINVAL;
  signals_set_mask(f, mask_of(set));
  return fd;
}

WRAP(int, signalfd, (int fd, const sigset_t *set, int flags)) {
  if (task_current() == NULL) return __real_signalfd(fd, set, flags);
  task_step();
  int error = files_may_open();
  return (int)call_made("signalfd", error != 0 ? error : make_signals(fd, set, flags));
}

/* epoll and poll */

WRAP(int, epoll_create1, (int flags)) {
  if (task_current() == NULL) return __real_epoll_create1(flags);
  task_step();
  int error = files_may_open();
  return (int)call_made("epoll_create", error != 0 ? error : install(epoll_new()));
}

WRAP(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *event)) {
  if (task_current() == NULL) return __real_epoll_ctl(set, op, fd, event);
  struct call c = call_begin(set);
  struct file *f = file_of(fd);
  int r = c.file == NULL || f == NULL ? -EBADF : 0;
  if (r == 0 && op != EPOLL_CTL_DEL && weather.no_memory_one_in > 0 && world_chance(weather.no_memory_one_in))
    r = -ENOMEM;
  return (int)call_result("epoll_ctl", &c, r != 0 ? r : epoll_change(c.file, op, fd, f, event));
}

static uint64_t until(int wait_ms) {
  return wait_ms < 0 ? WORLD_NEVER : world_now_ns() + (uint64_t)wait_ms * WORLD_NS_PER_MS;
}

static int await_events(struct call *c, struct epoll_event *events, int max, int wait_ms) {
  if (c->file == NULL) return -EBADF;
  c->waits = wait_ms != 0;
  c->until_ns = until(wait_ms);
  for (;;) {
    int n = epoll_take(c->file, events, max);
    if (n != 0) return n;
    int error = call_wait(c);
    if (error == -EAGAIN) return !c->waits ? 0 : epoll_take(c->file, events, max);
    if (error != 0) return error;
  }
}

WRAP(int, epoll_wait, (int set, struct epoll_event *events, int max, int wait_ms)) {
  if (task_current() == NULL) return __real_epoll_wait(set, events, max, wait_ms);
  struct call c = call_begin(set);
  return (int)call_result("epoll_wait", &c, await_events(&c, events, max, wait_ms));
}

static uint32_t events_now(struct file *f) {
  return f->kind->poll == NULL ? POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM : f->kind->poll(f);
}

static int look(struct pollfd *polled, nfds_t n) {
  int ready = 0;
  for (nfds_t i = 0; i < n; i++) {
    struct file *f = file_of(polled[i].fd);
    uint32_t wanted = (uint32_t)(uint16_t)polled[i].events | POLLERR | POLLHUP;
    uint32_t events = polled[i].fd < 0 ? 0 : f == NULL ? POLLNVAL : events_now(f) & wanted;
    polled[i].revents = (short)events;
    if (events != 0) ready++;
  }
  return ready;
}

static bool sleep_at(struct pollfd *polled, nfds_t n, uint64_t until_ns) {
  struct waiting waiting[POLL_MAX];
  nfds_t held = 0;
  ASSERT(n <= POLL_MAX);
  for (nfds_t i = 0; i < n; i++) {
    struct file *f = file_of(polled[i].fd);
    if (f != NULL) waiting_begin(&waiting[held++], &f->waiters);
  }
  bool woken = task_sleep(until_ns);
  while (held > 0) waiting_end(&waiting[--held]);
  return woken;
}

WRAP(int, poll, (struct pollfd *polled, nfds_t n, int wait_ms)) {
  if (task_current() == NULL) return __real_poll(polled, n, wait_ms);
  task_step();
  uint64_t until_ns = until(wait_ms);
  int ready;
  while ((ready = look(polled, n)) == 0 && wait_ms != 0 && sleep_at(polled, n, until_ns)) {}
  if (ready == 0) ready = look(polled, n);
  return (int)call_made("poll", ready);
}
