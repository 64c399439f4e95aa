/* As net/unix/af_unix.c has it: what is sent lies with the receiver, in parcels; descriptors come with a parcel's first
   byte. An end that closes with something unread is a reset to the other. */
#include "kernel_unix.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "kernel_files.h"
#include "kernel_iov.h"
#include "kernel_network.h"

enum { SMALL_BUFFER_BYTES = 4608, DATAGRAMS_MAX = 10 };

struct parcel {
  struct list of_queue;
  size_t n, taken;
  unsigned files_n;
  struct file **files;             /* behind the bytes */
  uint8_t bytes[];
};

enum local_state { LOCAL_FRESH, LOCAL_LISTENS, LOCAL_STANDS };

struct local {
  struct socket socket;
  struct host *host;
  enum local_state state;
  struct local *peer;              /* NULL: it has closed */
  struct list parcels;             /* to be received */
  size_t held, taken;              /* bytes of whole parcels; of them, those that were received already */
  unsigned parcels_n;
  bool shut_read, shut_write;
  struct ucred owner, peer_owner;

  struct list of_names;
  struct sockaddr_un name, peer_name;
  socklen_t name_len, peer_name_len;         /* 0: it has none */
  uint64_t inode;                  /* of the file; 0: there is none */

  struct list waiting, of_listener;
  unsigned waiting_n, backlog;
};

static struct local *local_of(struct socket *s) { return CONTAINER_OF(s, struct local, socket); }
static struct local *local_of_file(struct file *f) { return CONTAINER_OF(f, struct local, socket.file); }

static void local_told(struct local *l, uint32_t events) { file_changed(&l->socket.file, events); }

static size_t local_send_max(const struct local *l) { return (size_t)l->socket.number[NUMBER_SNDBUF]; }

/* Parcels */

static struct parcel *parcel_new(struct message *m, size_t skip, size_t n) {
  size_t files_at = (n + sizeof(struct file *) - 1) / sizeof(struct file *) * sizeof(struct file *);
  struct parcel *p = world_alloc(sizeof *p + files_at + m->files_n * sizeof(struct file *));
  p->n = n;
  p->files_n = m->files_n;
  p->files = (struct file **)(void *)(p->bytes + files_at);
  iov_get(m->iov, m->iov_n, skip, p->bytes, n);
  for (unsigned i = 0; i < m->files_n; i++) p->files[i] = file_ref(m->files[i]);
  m->files_n = 0;                  /* they go with the first parcel */
  return p;
}

/* What it brings is the receiver's from here on. */
static void parcel_give_files(struct parcel *p, struct message *m) {
  for (unsigned i = 0; i < p->files_n; i++) m->files[m->files_n++] = p->files[i];
  p->files_n = 0;
}

static void parcel_free(struct local *l, struct parcel *p) {
  for (unsigned i = 0; i < p->files_n; i++) file_unref(p->files[i]);
  list_remove(&p->of_queue);
  l->held -= p->n;
  l->taken -= p->taken;
  l->parcels_n--;
  world_free(p);
}

static bool has_room(const struct local *l) {
  return (l->peer != NULL ? l->peer->held : 0) <= local_send_max(l) / 4;
}

/* A parcel of the peer's has gone. */
static void tell_room(struct local *l) {
  if (l->peer != NULL && has_room(l->peer)) local_told(l->peer, EPOLLOUT | EPOLLWRNORM);
}

static void parcel_post(struct local *to, struct parcel *p) {
  list_push_tail(&to->parcels, &p->of_queue);
  to->held += p->n;
  to->parcels_n++;
  local_told(to, EPOLLIN | EPOLLRDNORM);
}

/* Sending */

static ssize_t send_stream(struct local *l, struct message *m) {
  size_t n = iov_bytes(m->iov, m->iov_n), done = 0, max = local_send_max(l), part = max / 2 - 64;
  while (done < n && l->peer->held < max) {
    size_t some = size_min(n - done, part);
    parcel_post(l->peer, parcel_new(m, done, some));
    done += some;
  }
  return done > 0 || n == 0 ? (ssize_t)done : -EAGAIN;
}

static ssize_t send_packet(struct local *to, size_t max, struct message *m) {
  size_t n = iov_bytes(m->iov, m->iov_n);
  if (n > max) return -EMSGSIZE;
  if (to->held >= max) return -EAGAIN;
  parcel_post(to, parcel_new(m, 0, n));
  return (ssize_t)n;
}

static int find_named(struct local *l, const struct sockaddr *a, socklen_t n, struct local **out);

static ssize_t send_datagram(struct local *l, struct message *m) {
  struct local *to = NULL;
  if (m->to == NULL) return -ENOTCONN;
  int error = find_named(l, m->to, m->to_len, &to);
  if (error != 0) return error;
  if (to->socket.type != SOCK_DGRAM) return -EPROTOTYPE;
  if (to->parcels_n > DATAGRAMS_MAX) return -EAGAIN;
  return send_packet(to, local_send_max(l), m);
}

static ssize_t local_send(struct socket *s, struct message *m) {
  struct local *l = local_of(s);
  if (s->type == SOCK_DGRAM) return send_datagram(l, m);
  if (m->to != NULL) return l->state == LOCAL_STANDS ? -EISCONN : -EOPNOTSUPP;
  if (s->type == SOCK_SEQPACKET && s->error != 0) return socket_take_error(s);
  if (l->shut_write) return -EPIPE;
  if (l->state != LOCAL_STANDS) return -ENOTCONN;
  if (l->peer == NULL || l->peer->shut_read) return -EPIPE;
  if (m->files_n > 0 && !l->peer->socket.number[NUMBER_PASSRIGHTS]) return -EPERM;
  return s->type == SOCK_STREAM ? send_stream(l, m) : send_packet(l->peer, local_send_max(l), m);
}

/* Receiving */

static struct parcel *first_parcel(const struct local *l) {
  return list_empty(&l->parcels) ? NULL : CONTAINER_OF(l->parcels.next, struct parcel, of_queue);
}

static ssize_t receive_nothing(struct local *l) {
  if (l->socket.error != 0) return socket_take_error(&l->socket);
  if (l->shut_read) return 0;
  if (l->state != LOCAL_STANDS && l->socket.type != SOCK_DGRAM)
    return l->socket.type == SOCK_STREAM ? -EINVAL : -ENOTCONN;
  return -EAGAIN;
}

static ssize_t peek_stream(const struct local *l, const struct message *m, size_t n) {
  size_t done = 0;
  LIST_FOREACH(&l->parcels, it) {
    const struct parcel *p = CONTAINER_OF(it, struct parcel, of_queue);
    size_t some = size_min(n - done, p->n - p->taken);
    iov_put(m->iov, m->iov_n, done, p->bytes + p->taken, some);
    done += some;
    if (done == n || p->files_n > 0) break;
  }
  return (ssize_t)done;
}

/* Parcels are put together up to one with descriptors, or the end of what is asked for. */
static ssize_t receive_stream(struct local *l, struct message *m, size_t n) {
  size_t done = 0;
  for (struct parcel *p; done < n && (p = first_parcel(l)) != NULL;) {
    size_t some = size_min(n - done, p->n - p->taken);
    iov_put(m->iov, m->iov_n, done, p->bytes + p->taken, some);
    done += some;
    p->taken += some;
    l->taken += some;
    parcel_give_files(p, m);
    if (p->taken < p->n) break;
    parcel_free(l, p);
    tell_room(l);
    if (m->files_n > 0) break;
  }
  return (ssize_t)done;
}

static ssize_t receive_packet(struct local *l, struct message *m, size_t n, int flags) {
  struct parcel *p = first_parcel(l);
  size_t whole = p->n, some = size_min(n, whole);
  iov_put(m->iov, m->iov_n, 0, p->bytes, some);
  if (some < whole) m->flags |= MSG_TRUNC;
  if ((flags & MSG_PEEK) == 0) {
    parcel_give_files(p, m);
    parcel_free(l, p);
    tell_room(l);
  }
  return (ssize_t)((flags & MSG_TRUNC) != 0 ? whole : some);
}

static ssize_t local_receive(struct socket *s, struct message *m) {
  struct local *l = local_of(s);
  size_t n = iov_bytes(m->iov, m->iov_n);
  int flags = m->flags;
  m->flags = 0;
  if (s->type != SOCK_STREAM && s->error != 0) return socket_take_error(s);    /* comes before what was sent before */
  if (first_parcel(l) == NULL) return receive_nothing(l);
  if (s->type != SOCK_STREAM) return receive_packet(l, m, n, flags);
  return (flags & MSG_PEEK) != 0 ? peek_stream(l, m, n) : receive_stream(l, m, n);
}

/* Names */

static bool is_abstract(const struct sockaddr_un *a, socklen_t n) {
  return n > offsetof(struct sockaddr_un, sun_path) && a->sun_path[0] == '\0';
}

static int name_of(const struct sockaddr *a, socklen_t n, struct sockaddr_un *out) {
  memset(out, 0, sizeof *out);
  if (n <= offsetof(struct sockaddr_un, sun_path) || n > sizeof *out) return -EINVAL;
  memcpy(out, a, n);
  return out->sun_family == AF_UNIX ? 0 : -EINVAL;
}

/* Of the same type: each has names of its own. */
static struct local *find_abstract(const struct local *for_whom, const struct sockaddr_un *name, socklen_t n) {
  LIST_FOREACH(&for_whom->host->net->names, it) {
    struct local *l = CONTAINER_OF(it, struct local, of_names);
    if (l->inode == 0 && l->socket.type == for_whom->socket.type && l->name_len == n &&
        memcmp(&l->name, name, n) == 0)
      return l;
  }
  return NULL;
}

static struct local *find_inode(const struct host *h, uint64_t inode) {
  LIST_FOREACH(&h->net->names, it) {
    struct local *l = CONTAINER_OF(it, struct local, of_names);
    if (l->inode == inode) return l;
  }
  return NULL;
}

static int find_named(struct local *l, const struct sockaddr *a, socklen_t n, struct local **out) {
  struct sockaddr_un name;
  uint64_t inode;
  int error = name_of(a, n, &name);
  if (error != 0) return error;
  if (is_abstract(&name, n)) {
    *out = find_abstract(l, &name, n);
  } else {
    char path[sizeof name.sun_path + 1] = "";
    memcpy(path, name.sun_path, sizeof name.sun_path);
    error = disk_socket_find(path, &inode);
    if (error != 0) return error;
    *out = find_inode(l->host, inode);
  }
  return *out != NULL ? 0 : -ECONNREFUSED;
}

static int local_bind(struct socket *s, const struct sockaddr *a, socklen_t n) {
  struct local *l = local_of(s);
  struct sockaddr_un name;
  int error = name_of(a, n, &name);
  if (error != 0) return error;
  if (l->name_len != 0) return -EINVAL;
  if (is_abstract(&name, n)) {
    if (find_abstract(l, &name, n) != NULL) return -EADDRINUSE;
  } else {
    char path[sizeof name.sun_path + 1] = "";
    memcpy(path, name.sun_path, sizeof name.sun_path);
    error = disk_socket_make(path, s->file.inode);
    if (error != 0) return error;
    l->inode = s->file.inode;
  }
  l->name = name;
  l->name_len = n;
  list_push_tail(&l->host->net->names, &l->of_names);
  return 0;
}

static int local_listen(struct socket *s, int backlog) {
  struct local *l = local_of(s);
  if (l->name_len == 0 || l->state == LOCAL_STANDS) return -EINVAL;
  if (s->type == SOCK_DGRAM) return -EOPNOTSUPP;
  l->state = LOCAL_LISTENS;
  l->backlog = (unsigned)backlog;
  return 0;
}

static void join(struct local *a, struct local *b) {
  a->state = b->state = LOCAL_STANDS;
  a->peer = b;
  b->peer = a;
  a->peer_owner = b->owner;
  b->peer_owner = a->owner;
  memcpy(&a->peer_name, &b->name, sizeof b->name);
  memcpy(&b->peer_name, &a->name, sizeof a->name);
  a->peer_name_len = b->name_len;
  b->peer_name_len = a->name_len;
}

static struct local *child_new(struct local *listener) {
  struct local *l = local_of(local_new(NULL, listener->socket.type));
  l->host = listener->host;
  l->owner = listener->owner;
  l->name = listener->name;
  l->name_len = listener->name_len;
  l->socket.number[NUMBER_PASSRIGHTS] = listener->socket.number[NUMBER_PASSRIGHTS];
  return l;
}

static int local_connect(struct socket *s, const struct sockaddr *a, socklen_t n) {
  struct local *l = local_of(s), *to = NULL;
  int error = find_named(l, a, n, &to);
  if (error != 0) return error;
  if (to->socket.type != s->type) return -EPROTOTYPE;
  if (to->state != LOCAL_LISTENS || to->shut_read) return -ECONNREFUSED;
  if (to->waiting_n > to->backlog) {
    s->room = &to->socket.file.waiters;
    return -EAGAIN;
  }
  if (l->state == LOCAL_STANDS) return -EISCONN;
  struct local *child = child_new(to);
  join(l, child);
  list_push_tail(&to->waiting, &child->of_listener);
  to->waiting_n++;
  local_told(l, 0);
  local_told(to, EPOLLIN | EPOLLRDNORM);
  return 0;
}

static bool local_may_accept(struct socket *s) { return local_of(s)->waiting_n > 0; }

static int local_accept(struct socket *s, struct socket **out) {
  struct local *l = local_of(s);
  if (l->state != LOCAL_LISTENS) return -EINVAL;
  if (l->waiting_n == 0) return -EAGAIN;
  struct local *child = CONTAINER_OF(l->waiting.next, struct local, of_listener);
  list_remove(&child->of_listener);
  l->waiting_n--;
  local_told(l, 0);                /* who waits for room */
  *out = &child->socket;
  return 0;
}

/* Ends */

static int local_shut(struct socket *s, int how) {
  struct local *l = local_of(s);
  if (how != SHUT_WR) l->shut_read = true;
  if (how != SHUT_RD) l->shut_write = true;
  if (l->peer != NULL) {
    if (how != SHUT_WR) l->peer->shut_write = true;
    if (how != SHUT_RD) l->peer->shut_read = true;
    local_told(l->peer, 0);
  }
  local_told(l, 0);
  return 0;
}

static void local_close(struct local *l, bool unread) {
  struct local *peer = l->peer;
  if (peer != NULL) {
    peer->peer = NULL;
    peer->shut_read = peer->shut_write = true;
    if (unread) peer->socket.error = ECONNRESET;
    local_told(peer, 0);
  }
  for (struct parcel *p; (p = first_parcel(l)) != NULL;) parcel_free(l, p);
  LIST_FOREACH(&l->waiting, it) {
    struct local *child = CONTAINER_OF(it, struct local, of_listener);
    local_close(child, true);
  }
  list_remove(&l->of_names);
  list_remove(&l->of_listener);
  world_free(l);
}

static void local_end(struct file *f) {
  struct local *l = local_of_file(f);
  file_finish(f);
  local_close(l, !list_empty(&l->parcels));
}

static uint32_t local_poll(struct file *f) {
  const struct local *l = local_of_file(f);
  uint32_t events = 0;
  if (l->socket.error != 0) events |= EPOLLERR;
  if (l->shut_read && l->shut_write) events |= EPOLLHUP;
  if (l->shut_read) events |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
  if (!list_empty(&l->parcels) || l->waiting_n > 0) events |= EPOLLIN | EPOLLRDNORM;
  if (l->state == LOCAL_FRESH && l->socket.type != SOCK_DGRAM) events |= EPOLLHUP;
  if (l->state != LOCAL_LISTENS && has_room(l)) events |= EPOLLOUT | EPOLLWRNORM;
  return events;
}

static int local_ioctl(struct file *f, unsigned long request, void *arg) {
  const struct local *l = local_of_file(f);
  if (request != SIOCINQ && request != SIOCOUTQ) return -ENOTTY;
  if (l->state == LOCAL_LISTENS && request == SIOCINQ) return -EINVAL;
  const struct parcel *p = first_parcel(l);
  size_t unread = l->socket.type != SOCK_DGRAM ? l->held - l->taken : p != NULL ? p->n : 0;
  *(int *)arg = (int)(request == SIOCINQ ? unread : l->peer != NULL ? l->peer->held : 0);
  return 0;
}

static int local_get(struct socket *s, int level, int name, void *value, socklen_t *n) {
  const struct local *l = local_of(s);
  if (level != SOL_SOCKET || name != SO_PEERCRED) return -ENOPROTOOPT;
  return socket_copy_out(&l->peer_owner, sizeof l->peer_owner, value, n);
}

static int local_name(struct socket *s, enum whose_name whose, struct sockaddr_storage *out) {
  bool of_peer = whose != NAME_OWN;
  const struct local *l = local_of(s);
  const struct sockaddr_un none = {.sun_family = AF_UNIX}, *name = of_peer ? &l->peer_name : &l->name;
  socklen_t n = of_peer ? l->peer_name_len : l->name_len;
  if (of_peer && l->state != LOCAL_STANDS) return -ENOTCONN;
  memcpy(out, n != 0 ? name : &none, sizeof none);
  return n != 0 ? (int)n : (int)sizeof none.sun_family;
}

static const struct socket_kind local_socket_kind = {
    .bind = local_bind, .listen = local_listen, .connect = local_connect, .accept = local_accept,
    .may_accept = local_may_accept, .shut = local_shut, .send = local_send, .receive = local_receive,
    .name = local_name, .get = local_get};

static const struct file_kind local_file_kind = {.name = "unix", .mode = S_IFSOCK | 0777, .read = socket_read,
    .write = socket_write, .poll = local_poll, .ioctl = local_ioctl, .end = local_end};

struct socket *local_new(struct process *p, int type) {
  struct local *l = world_alloc(sizeof *l);
  socket_begin(&l->socket, &local_socket_kind, &local_file_kind, AF_UNIX, type);
  if (weather.small_buffers_one_in > 0 && world_chance(weather.small_buffers_one_in))
    l->socket.number[NUMBER_SNDBUF] = SMALL_BUFFER_BYTES;
  list_init(&l->parcels);
  list_init(&l->of_names);
  list_init(&l->waiting);
  list_init(&l->of_listener);
  l->peer_owner = (struct ucred){.uid = (uid_t)-1, .gid = (gid_t)-1};
  if (p == NULL) return &l->socket;
  l->host = p->host;
  l->owner = (struct ucred){.pid = p->id, .uid = geteuid(), .gid = (gid_t)geteuid()};
  return &l->socket;
}

void local_pair(struct process *p, int type, struct socket *ends[2]) {
  for (int i = 0; i < 2; i++) ends[i] = local_new(p, type);
  join(local_of(ends[0]), local_of(ends[1]));
}
