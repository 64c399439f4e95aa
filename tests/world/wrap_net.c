/* Calls on sockets. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/base.h"
#include "kernel_call.h"
#include "kernel_files.h"
#include "kernel_iov.h"
#include "kernel_socket.h"
#include "kernel_tcp.h"
#include "kernel_unix.h"
#include "wrap.h"

/* 0, or -EBADF, -ENOTSOCK. */
static int socket_begin_call(int fd, struct call *c, struct socket **out) {
  *c = call_begin(fd);
  *out = c->file == NULL ? NULL : socket_of(c->file);
  return c->file == NULL ? -EBADF : *out == NULL ? -ENOTSOCK : 0;
}

/* Making some */

static int install(struct socket *s, int flags) {
  s->file.flags |= flags & SOCK_NONBLOCK;
  return files_install(process_current()->files, &s->file, 0);
}

static bool is_local_type(int kind) { return kind == SOCK_STREAM || kind == SOCK_SEQPACKET || kind == SOCK_DGRAM; }

static int make_socket(int domain, int type) {
  int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), error = files_may_open();
  if (error != 0) return error;
  if (domain == AF_UNIX) return is_local_type(kind) ? install(local_new(process_current(), kind), type) : -EINVAL;
  if (domain == AF_INET && kind == SOCK_STREAM) return install(tcp_new(process_current()->host), type);
  return -EAFNOSUPPORT;
}

WRAP(int, socket, (int domain, int type, int protocol)) {
  if (task_current() == NULL) return __real_socket(domain, type, protocol);
  task_step();
  return (int)call_made("socket", make_socket(domain, type));
}

static int make_pair(int domain, int type, int fds[2]) {
  struct socket *ends[2];
  int error = files_may_open();
  if (error != 0) return error;
  ASSERT(domain == AF_UNIX);
  local_pair(process_current(), type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), ends);
  fds[0] = install(ends[0], type);
  fds[1] = install(ends[1], type);
  if (fds[0] >= 0 && fds[1] < 0) (void)files_close(process_current()->files, fds[0]);
  return fds[0] < 0 || fds[1] < 0 ? -EMFILE : 0;
}

WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2])) {
  if (task_current() == NULL) return __real_socketpair(domain, type, protocol, fds);
  task_step();
  return (int)call_made("socketpair", make_pair(domain, type, fds));
}

/* Connections */

WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_bind(fd, a, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("bind", &c, error != 0 ? error : s->kind->bind(s, a, n));
}

WRAP(int, listen, (int fd, int backlog)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_listen(fd, backlog);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("listen", &c, error != 0 ? error : s->kind->listen(s, backlog));
}

static int await_connected(struct call *c, const struct sockaddr *a, socklen_t n) {
  while ((c->file->kind->poll(c->file) & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) {
    int error = call_wait(c);
    if (error != 0) return error == -EAGAIN ? -EINPROGRESS : error;
  }
  struct socket *s = socket_of(c->file);
  return s->kind->connect(s, a, n);          /* tells how it went */
}

static int connect_to(struct call *c, const struct sockaddr *a, socklen_t n) {
  call_limit(c, c->file->write_limit_ns);
  for (;;) {
    struct socket *s = socket_of(c->file);
    int r = s->kind->connect(s, a, n);
    if (r == -EINPROGRESS && c->waits) return await_connected(c, a, n);
    if (r != -EAGAIN || !c->waits) return r;
    r = call_wait_at(c, s->room);
    if (r != 0) return r;
  }
}

WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_connect(fd, a, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("connect", &c, error != 0 ? error : connect_to(&c, a, n));
}

static int give_name(struct socket *s, enum whose_name whose, struct sockaddr *a, socklen_t *n) {
  struct sockaddr_storage name;
  int len = s->kind->name(s, whose, &name);
  if (len < 0) return len;
  memcpy(a, &name, size_min(*n, (size_t)len));
  *n = (socklen_t)len;
  return 0;
}

static int accept_one(struct call *c, struct sockaddr *a, socklen_t *n, int flags) {
  struct files *t = process_current()->files;
  struct socket *s = socket_of(c->file), *accepted = NULL;
  if (files_count(t) >= files_open_max(t)) return -EMFILE;
  int error = s->kind->may_accept(s) ? files_may_open() : 0;
  if (error == 0) error = s->kind->accept(s, &accepted);
  if (error != 0) return error;
  int fd = install(accepted, flags);
  if (fd >= 0 && a != NULL && give_name(accepted, NAME_ACCEPTED, a, n) != 0) *n = sizeof a->sa_family;
  return fd;
}

static int accept_from(struct call *c, struct sockaddr *a, socklen_t *n, int flags) {
  for (;;) {
    int r = accept_one(c, a, n, flags);
    if (r != -EAGAIN) return r;
    r = call_wait(c);
    if (r != 0) return r;
  }
}

WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_accept4(fd, a, n, flags);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("accept", &c, error != 0 ? error : accept_from(&c, a, n, flags));
}

WRAP(int, shutdown, (int fd, int how)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_shutdown(fd, how);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("shutdown", &c, error != 0 ? error : s->kind->shut(s, how));
}

/* Options and names */

WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_setsockopt(fd, level, name, value, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("setsockopt", &c, error != 0 ? error : socket_set(s, level, name, value, n));
}

WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_getsockopt(fd, level, name, value, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("getsockopt", &c, error != 0 ? error : socket_get(s, level, name, value, n));
}

WRAP(int, getsockname, (int fd, struct sockaddr *a, socklen_t *n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_getsockname(fd, a, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("getsockname", &c, error != 0 ? error : give_name(s, NAME_OWN, a, n));
}

WRAP(int, getpeername, (int fd, struct sockaddr *a, socklen_t *n)) {
  struct call c;
  struct socket *s;
  if (task_current() == NULL) return __real_getpeername(fd, a, n);
  int error = socket_begin_call(fd, &c, &s);
  return (int)call_result("getpeername", &c, error != 0 ? error : give_name(s, NAME_PEER, a, n));
}

/* Receiving */

static ssize_t receive(struct call *c, struct message *m) {
  int flags = m->flags;
  if ((flags & MSG_DONTWAIT) != 0) c->waits = false;
  call_limit(c, c->file->read_limit_ns);
  for (;;) {
    struct socket *s = socket_of(c->file);
    m->flags = flags;
    m->files_n = 0;
    ssize_t r = s->kind->receive(s, m);
    if (r != -EAGAIN) return r;
    int error = call_wait(c);
    if (error != 0) return error;
  }
}

static void drop_files(struct message *m, unsigned from) {
  for (unsigned i = from; i < m->files_n; i++) file_unref(m->files[i]);
  m->files_n = 0;
}

WRAP(ssize_t, recv, (int fd, void *p, size_t n, int flags)) {
  struct call c;
  struct socket *s;
  struct message m;
  const struct iovec iov = {.iov_base = p, .iov_len = n};
  if (task_current() == NULL) return __real_recv(fd, p, n, flags);
  ssize_t r = socket_begin_call(fd, &c, &s);
  if (r != 0) return call_result("recv", &c, r);
  m.iov = &iov;
  m.iov_n = 1;
  m.flags = flags;
  m.files_n = 0;
  r = receive(&c, &m);
  drop_files(&m, 0);
  return call_result("recv", &c, r);
}

WRAP(ssize_t, __recv_chk, (int fd, void *p, size_t n, size_t room, int flags)) {
  return task_current() == NULL ? __real___recv_chk(fd, p, n, room, flags) : __wrap_recv(fd, p, n, flags);
}

/* As many as there is room for; the others are closed (scm_detach_fds in the kernel). */
static void give_files(struct message *m, struct msghdr *out) {
  size_t room = out->msg_control != NULL && out->msg_controllen > sizeof(struct cmsghdr)
                    ? (out->msg_controllen - sizeof(struct cmsghdr)) / sizeof(int) : 0;
  struct cmsghdr *h = out->msg_control;
  unsigned given = 0, all = m->files_n;
  for (; given < all && given < room; given++) {
    int fd = files_install(process_current()->files, m->files[given], 0);
    if (fd < 0) {
      given++;                     /* that one is gone, too */
      m->flags |= MSG_CTRUNC;
      drop_files(m, given--);
      break;
    }
    memcpy(CMSG_DATA(h) + given * sizeof fd, &fd, sizeof fd);
  }
  if (given < all) m->flags |= MSG_CTRUNC;
  drop_files(m, given);
  size_t used = given > 0 ? size_min(CMSG_SPACE(given * sizeof(int)), out->msg_controllen) : 0;
  if (given > 0) {
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(given * sizeof(int));
  }
  out->msg_controllen = used;
}

WRAP(ssize_t, recvmsg, (int fd, struct msghdr *out, int flags)) {
  struct call c;
  struct socket *s;
  struct message m;
  if (task_current() == NULL) return __real_recvmsg(fd, out, flags);
  ssize_t r = socket_begin_call(fd, &c, &s);
  if (r != 0) return call_result("recvmsg", &c, r);
  m.iov = out->msg_iov;
  m.iov_n = (int)out->msg_iovlen;
  m.flags = flags;
  m.files_n = 0;
  r = receive(&c, &m);
  if (r >= 0) {
    give_files(&m, out);
    out->msg_flags = m.flags | (flags & MSG_CMSG_CLOEXEC);
    out->msg_namelen = 0;
  }
  return call_result("recvmsg", &c, r);
}

/* Sending */

/* What its control message names, which stays the caller's. */
static int find_files(const struct msghdr *in, struct message *m) {
  const struct cmsghdr *h = in->msg_control == NULL ? NULL : CMSG_FIRSTHDR(in);
  m->files_n = 0;
  if (h == NULL) return 0;
  if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len > in->msg_controllen) return -EINVAL;
  size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  if (n > MESSAGE_FILES_MAX) return -EINVAL;
  for (size_t i = 0; i < n; i++) {
    int fd;
    memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
    m->files[i] = file_of(fd);
    if (m->files[i] == NULL) return -EBADF;
  }
  m->files_n = (unsigned)n;
  return 0;
}

/* What is there of it after the first `done` bytes; a descriptor goes with the first. */
static ssize_t send_rest(struct socket *s, const struct msghdr *in, int flags, size_t done) {
  struct message m;                /* too large to be zeroed for each call */
  struct iovec rest;
  m.iov = in->msg_iov;
  m.iov_n = (int)in->msg_iovlen;
  m.flags = flags;
  m.files_n = 0;
  m.to = in->msg_name;
  m.to_len = in->msg_namelen;
  int error = done == 0 ? find_files(in, &m) : 0;
  if (error != 0) return error;
  if (done > 0) {
    ASSERT(m.iov_n == 1);          /* nobody here gathers in a socket that waits */
    rest = (struct iovec){.iov_base = (char *)m.iov->iov_base + done, .iov_len = m.iov->iov_len - done};
    m.iov = &rest;
  }
  return s->kind->send(s, &m);
}

/* All of it, if it may wait. */
static ssize_t send_all(struct call *c, const struct msghdr *in, int flags) {
  size_t n = iov_bytes(in->msg_iov, (int)in->msg_iovlen), done = 0;
  if ((flags & MSG_DONTWAIT) != 0) c->waits = false;
  call_limit(c, c->file->write_limit_ns);
  do {
    ssize_t r = send_rest(socket_of(c->file), in, flags, done);
    if (r == -EAGAIN) r = call_wait(c);
    if (r < 0) return done > 0 ? (ssize_t)done : r;
    done += (size_t)r;
  } while (done < n && c->waits);
  return (ssize_t)done;
}

static ssize_t send_message(const char *what, int fd, const struct msghdr *in, int flags) {
  struct call c;
  struct socket *s;
  ssize_t r = socket_begin_call(fd, &c, &s);
  if (r == 0) r = send_all(&c, in, flags);
  if (r == -EPIPE && (flags & MSG_NOSIGNAL) == 0) call_broken_pipe();
  return call_result(what, &c, r);
}

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *in, int flags)) {
  return task_current() == NULL ? __real_sendmsg(fd, in, flags) : send_message("sendmsg", fd, in, flags);
}

WRAP(ssize_t, sendto, (int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t to_len)) {
  struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
  const struct msghdr in = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = (void *)(uintptr_t)to, .msg_namelen = to_len};
  return task_current() == NULL ? __real_sendto(fd, p, n, flags, to, to_len) : send_message("sendto", fd, &in, flags);
}

WRAP(ssize_t, send, (int fd, const void *p, size_t n, int flags)) {
  struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
  const struct msghdr in = {.msg_iov = &iov, .msg_iovlen = 1};
  return task_current() == NULL ? __real_send(fd, p, n, flags) : send_message("send", fd, &in, flags);
}
