#include "kernel_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/time.h>

#include "base/base.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

enum { BUFFER_DEFAULT_BYTES = 212992, BUFFER_MIN_BYTES = 4608 };

static const struct {
  int level, name, first;
  bool is_flag;
} numbers[NUMBERS] = {
    [NUMBER_OOBINLINE] = {SOL_SOCKET, SO_OOBINLINE, 0, true},
    [NUMBER_KEEPALIVE] = {SOL_SOCKET, SO_KEEPALIVE, 0, true},
    [NUMBER_REUSEADDR] = {SOL_SOCKET, SO_REUSEADDR, 0, true},
    [NUMBER_REUSEPORT] = {SOL_SOCKET, SO_REUSEPORT, 0, true},
    [NUMBER_SNDBUF] = {SOL_SOCKET, SO_SNDBUF, BUFFER_DEFAULT_BYTES, false},
    [NUMBER_RCVBUF] = {SOL_SOCKET, SO_RCVBUF, BUFFER_DEFAULT_BYTES, false},
    [NUMBER_PASSRIGHTS] = {SOL_SOCKET, SO_PASSRIGHTS, 1, true},
    [NUMBER_NODELAY] = {IPPROTO_TCP, TCP_NODELAY, 0, true},
    [NUMBER_KEEPIDLE] = {IPPROTO_TCP, TCP_KEEPIDLE, 7200, false},
    [NUMBER_KEEPINTVL] = {IPPROTO_TCP, TCP_KEEPINTVL, 75, false},
    [NUMBER_KEEPCNT] = {IPPROTO_TCP, TCP_KEEPCNT, 9, false},
    [NUMBER_DEFER_ACCEPT] = {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, false},
    [NUMBER_QUICKACK] = {IPPROTO_TCP, TCP_QUICKACK, 1, true},
};

struct socket *socket_of(struct file *f) {
  return f->kind->read == socket_read ? CONTAINER_OF(f, struct socket, file) : NULL;
}

void socket_begin(struct socket *s, const struct socket_kind *kind, const struct file_kind *file_kind, int domain,
                  int type) {
  file_begin(&s->file, file_kind, O_RDWR);
  s->kind = kind;
  s->domain = domain;
  s->type = type;
  for (int i = 0; i < NUMBERS; i++) s->number[i] = numbers[i].first;
}

int socket_take_error(struct socket *s) {
  int error = s->error;
  s->error = 0;
  return -error;
}

ssize_t socket_read(struct file *f, const struct iovec *iov, int n) {
  struct socket *s = socket_of(f);
  struct message m;
  m.iov = iov;
  m.iov_n = n;
  m.flags = 0;
  m.files_n = 0;
  ssize_t got = s->kind->receive(s, &m);
  if (got >= 0) {
    for (unsigned i = 0; i < m.files_n; i++) file_unref(m.files[i]);
  }
  return got;
}

ssize_t socket_write(struct file *f, const struct iovec *iov, int n) {
  struct socket *s = socket_of(f);
  struct message m;
  m.iov = iov;
  m.iov_n = n;
  m.flags = 0;
  m.files_n = 0;
  m.to = NULL;
  return s->kind->send(s, &m);
}

/* Options */

static int number_find(int level, int name) {
  for (int i = 0; i < NUMBERS; i++) {
    if (numbers[i].level == level && numbers[i].name == name) return i;
  }
  return -1;
}

static int set_number(struct socket *s, int i, const void *value, socklen_t n) {
  int v;
  if (n < sizeof v) return -EINVAL;
  memcpy(&v, value, sizeof v);
  bool is_buffer = i == NUMBER_SNDBUF || i == NUMBER_RCVBUF;
  if (is_buffer) v = v * 2 < BUFFER_MIN_BYTES ? BUFFER_MIN_BYTES : v * 2;
  s->number[i] = numbers[i].is_flag ? v != 0 : v;
  return 0;
}

static int set_limit(uint64_t *ns, const void *value, socklen_t n) {
  struct timeval v;
  if (n < sizeof v) return -EINVAL;
  memcpy(&v, value, sizeof v);
  *ns = (uint64_t)v.tv_sec * WORLD_NS_PER_S + (uint64_t)v.tv_usec * WORLD_NS_PER_US;
  return 0;
}

static int set_linger(struct socket *s, const void *value, socklen_t n) {
  if (n < sizeof s->linger) return -EINVAL;
  memcpy(&s->linger, value, sizeof s->linger);
  return 0;
}

int socket_set(struct socket *s, int level, int name, const void *value, socklen_t n) {
  if (level != SOL_SOCKET && s->domain == AF_UNIX) return -EOPNOTSUPP;
  int i = number_find(level, name);
  if (i >= 0) return set_number(s, i, value, n);
  if (level == SOL_SOCKET && name == SO_LINGER) return set_linger(s, value, n);
  if (level == SOL_SOCKET && name == SO_RCVTIMEO) return set_limit(&s->file.read_limit_ns, value, n);
  if (level == SOL_SOCKET && name == SO_SNDTIMEO) return set_limit(&s->file.write_limit_ns, value, n);
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) return 0;
  return -ENOPROTOOPT;
}

int socket_copy_out(const void *from, size_t size, void *value, socklen_t *n) {
  *n = (socklen_t)size_min(*n, size);
  memcpy(value, from, *n);
  return 0;
}

static int get_int(int v, void *value, socklen_t *n) { return socket_copy_out(&v, sizeof v, value, n); }

int socket_get(struct socket *s, int level, int name, void *value, socklen_t *n) {
  if (level == SOL_SOCKET && name == SO_ERROR) return get_int(-socket_take_error(s), value, n);
  if (level == SOL_SOCKET && name == SO_LINGER) return socket_copy_out(&s->linger, sizeof s->linger, value, n);
  if (level == SOL_SOCKET && name == SO_TYPE) return get_int(s->type, value, n);
  if (level == SOL_SOCKET && name == SO_DOMAIN) return get_int(s->domain, value, n);
  if (level != SOL_SOCKET && s->domain == AF_UNIX) return -EOPNOTSUPP;
  int i = number_find(level, name);
  if (i >= 0) return get_int(s->number[i], value, n);
  return s->kind->get(s, level, name, value, n);
}
