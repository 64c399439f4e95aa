#include "kernel_tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "base/base.h"
#include "kernel_files.h"
#include "kernel_iov.h"

enum { BACKLOG_MAX = 4096, DEFER_MS = 1000, WINDOW_PROBES = 15, SEGMENT_BYTES = 1448 };

static struct tcp *tcp_of(struct socket *s) { return CONTAINER_OF(s, struct tcp, socket); }
static struct tcp *tcp_of_file(struct file *f) { return CONTAINER_OF(f, struct tcp, socket.file); }

static struct lane *lane_out(const struct tcp *t) { return &t->c->lane[t->side]; }
static struct lane *lane_in(const struct tcp *t) { return &t->c->lane[1 - t->side]; }

static void tcp_told(struct tcp *t, uint32_t events) { file_changed(&t->socket.file, events); }

bool tcp_is_over(const struct tcp *t) { return t->state == TCP_OVER; }

static bool end_has_come(const struct tcp *t) { return t->c != NULL && lane_in(t)->fin_arrived; }

/* Lives */

static void tcp_free(struct tcp *t) {
  struct connection *c = t->c;
  world_cancel(&t->event);
  list_remove(&t->of_port);
  list_remove(&t->of_listener);
  if (c != NULL) connection_leave(c, t->side);
  world_free(t);
}

/* What Linux does at the end of a connection, however it came to it: nothing more goes out. */
static void tcp_over(struct tcp *t, int error) {
  if (t->state == TCP_OVER) return;
  bool connecting = t->state == TCP_CONNECTS;
  t->state = TCP_OVER;
  t->shut_read = t->shut_write = true;
  t->socket.error = error;
  world_cancel(&t->event);
  if (t->c != NULL && (error != 0 || connecting)) {
    struct lane *out = lane_out(t);
    lane_stop(out);
    ring_cut(&out->ring, out->arrived > out->ring.from ? out->arrived : out->ring.from);
  }
  if (t->orphan) tcp_free(t);
  else tcp_told(t, 0);
}

static void young_free(struct tcp *t) {
  t->orphan = true;
  t->listener = NULL;
  tcp_free(t);
}

void tcp_was_reset(struct tcp *t) {
  if (t->listener != NULL && !t->queued) {
    young_free(t);
    return;
  }
  if (t->state == TCP_CONNECTS) tcp_over(t, ECONNREFUSED);
  else tcp_over(t, end_has_come(t) && !lane_out(t)->fin ? EPIPE : ECONNRESET);
}

void tcp_failed(struct tcp *t, int error) { tcp_over(t, error); }
void tcp_timed_out(struct tcp *t) { tcp_over(t, ETIMEDOUT); }

/* Both ends have come and ours was acknowledged. */
static void tcp_end_if_done(struct tcp *t) {
  if (t->state == TCP_STANDS && lane_in(t)->fin_arrived && lane_out(t)->fin_acked) tcp_over(t, 0);
  else if (t->orphan && lane_out(t)->fin_acked) tcp_free(t);     /* as after tcp_fin_timeout, where nobody can see it */
}

static bool has_room(const struct tcp *t) {
  const struct lane *out = lane_out(t);
  return lane_room(out) >= (out->ring.to - out->acked) / 2 && lane_room(out) > 0;
}

void tcp_acknowledged(struct tcp *t) {
  t->heard_ns = world_now_ns();
  t->probes = 0;
  if (t->wants_room && has_room(t)) {
    t->wants_room = false;
    tcp_told(t, EPOLLOUT | EPOLLWRNORM);
  }
  tcp_end_if_done(t);
}

static void young_queue(struct tcp *t) {
  struct tcp *l = t->listener;
  world_cancel(&t->event);
  list_remove(&t->of_listener);
  list_push_tail(&l->waiting, &t->of_listener);
  l->waiting_n++;
  t->queued = true;
  world_trace("waits to be accepted", t->c->id, l->waiting_n);
  tcp_told(l, EPOLLIN | EPOLLRDNORM);
}

void tcp_arrived(struct tcp *t, bool fin) {
  t->heard_ns = world_now_ns();
  t->probes = 0;
  if (t->listener != NULL && !t->queued) young_queue(t);
  tcp_told(t, fin ? 0 : EPOLLIN | EPOLLRDNORM);
  if (fin) tcp_end_if_done(t);
}

bool tcp_refuses(struct tcp *t, bool data) {
  if (t->state == TCP_OVER) return true;
  if (!data || !t->shut_read || !t->shut_write) return false;    /* nobody will ever read it */
  tcp_over(t, ECONNRESET);
  return true;
}

/* Addresses and ports */

static int address_of(const struct sockaddr *a, socklen_t n, uint32_t *ip, uint16_t *port) {
  struct sockaddr_in in;
  if (n < sizeof in) return -EINVAL;
  memcpy(&in, a, sizeof in);
  if (in.sin_family != AF_INET) return -EAFNOSUPPORT;
  *ip = ntohl(in.sin_addr.s_addr);
  *port = ntohs(in.sin_port);
  return 0;
}

static bool is_of_host(const struct host *h, uint32_t ip) {
  return ip == INADDR_ANY || ip == h->ip || network_is_loopback(ip);
}

static bool addresses_meet(const struct tcp *a, const struct tcp *b) {
  return a->ip == INADDR_ANY || b->ip == INADDR_ANY || a->ip == b->ip;
}

static bool may_share(const struct tcp *t, const struct tcp *with) {
  const int *x = t->socket.number, *y = with->socket.number;
  if (x[NUMBER_REUSEPORT] && y[NUMBER_REUSEPORT]) return true;
  return x[NUMBER_REUSEADDR] && y[NUMBER_REUSEADDR] && with->state != TCP_LISTENS;
}

/* Those that have connected stay out of it. */
static bool port_conflicts(const struct tcp *t) {
  LIST_FOREACH(network_port_list(t->host, t->port), it) {
    const struct tcp *other = CONTAINER_OF(it, struct tcp, of_port);
    if (other != t && other->port == t->port && other->c == NULL && addresses_meet(t, other) && !may_share(t, other))
      return true;
  }
  return false;
}

static void tcp_take_port(struct tcp *t) {
  list_remove(&t->of_port);
  list_push_tail(network_port_list(t->host, t->port), &t->of_port);
}

static int tcp_bind(struct socket *s, const struct sockaddr *a, socklen_t n) {
  struct tcp *t = tcp_of(s);
  uint32_t ip;
  uint16_t port;
  int error = address_of(a, n, &ip, &port);
  if (error != 0) return error;
  if (!is_of_host(t->host, ip)) return -EADDRNOTAVAIL;
  if (t->port != 0 || t->state != TCP_FRESH) return -EINVAL;
  t->ip = ip;
  t->port = port != 0 ? port : network_free_port(t->host);
  if (t->port == 0 || port_conflicts(t)) {
    t->port = 0;
    return -EADDRINUSE;
  }
  tcp_take_port(t);
  return 0;
}

static int tcp_listen(struct socket *s, int backlog) {
  struct tcp *t = tcp_of(s);
  if (t->state != TCP_FRESH && t->state != TCP_LISTENS) return -EINVAL;
  if (t->port == 0) {
    t->port = network_free_port(t->host);
    tcp_take_port(t);
  }
  if (port_conflicts(t)) return -EADDRINUSE;
  t->state = TCP_LISTENS;
  t->backlog = (unsigned)backlog > BACKLOG_MAX ? BACKLOG_MAX : (unsigned)backlog;
  tcp_told(t, 0);
  return 0;
}

/* Connecting */

static void tcp_name_itself(struct tcp *t, uint32_t to) {
  if (t->ip == INADDR_ANY) t->ip = network_is_loopback(to) ? INADDR_LOOPBACK : t->host->ip;
  if (t->port == 0) t->port = network_free_port(t->host);
}

static int connect_again(struct tcp *t) {
  bool told = t->told;
  if (t->state == TCP_CONNECTS) return -EALREADY;
  t->told = true;
  if (t->state == TCP_STANDS) return told ? -EISCONN : 0;
  return t->state == TCP_OVER && t->socket.error != 0 ? socket_take_error(&t->socket) : -ECONNABORTED;
}

static int tcp_connect(struct socket *s, const struct sockaddr *a, socklen_t n) {
  struct tcp *t = tcp_of(s);
  uint32_t ip;
  uint16_t port;
  int error = address_of(a, n, &ip, &port);
  if (error != 0) return error;
  if (t->state == TCP_LISTENS) return -EISCONN;
  if (t->state != TCP_FRESH) return connect_again(t);
  if (ip == INADDR_ANY) ip = INADDR_LOOPBACK;
  if (ip >> 28 == 0xf) return -ENETUNREACH;
  if (weather.no_memory_one_in > 0 && world_chance(weather.no_memory_one_in)) return -ENOBUFS;
  tcp_name_itself(t, ip);
  if (t->port == 0) return -EADDRNOTAVAIL;
  t->peer_ip = ip;
  t->peer_port = port;
  t->state = TCP_CONNECTS;
  t->c = connection_new(t, t->host, network_find(t->host, ip), ip, port);
  tcp_take_port(t);
  world_trace("connects", t->c->id, port);
  connection_begin(t->c);
  return -EINPROGRESS;
}

void tcp_connected(struct tcp *t) {
  t->state = TCP_STANDS;
  t->heard_ns = world_now_ns();
  world_trace("stands", t->c->id, 0);
  tcp_told(t, 0);
  if (t->shut_write) lane_out(t)->fin = true;
}

/* Listening */

static struct tcp *listener_find(struct connection *c) {
  struct tcp *found = NULL;
  uint64_t n = 0;
  LIST_FOREACH(network_port_list(c->host[1], c->port), it) {
    struct tcp *t = CONTAINER_OF(it, struct tcp, of_port);
    if (t->state != TCP_LISTENS || t->port != c->port || (t->ip != INADDR_ANY && t->ip != c->ip)) continue;
    if (world_below(++n) == 0) found = t;      /* of those that share a port, any */
  }
  return found;
}

static struct tcp *child_new(struct tcp *l, struct connection *c) {
  struct tcp *t = tcp_of(tcp_new(l->host));
  memcpy(t->socket.number, l->socket.number, sizeof t->socket.number);
  t->socket.linger = l->socket.linger;
  t->ip = c->ip;
  t->port = c->port;
  t->peer_ip = c->end[0]->ip;
  t->peer_port = c->end[0]->port;
  t->state = TCP_STANDS;
  t->told = true;
  t->c = c;
  t->side = 1;
  t->listener = l;
  return t;
}

enum syn_answer tcp_syn(struct connection *c) {
  struct tcp *l = listener_find(c);
  if (l == NULL) return SYN_REFUSED;
  if (l->waiting_n > l->backlog || c->end[0] == NULL) return SYN_DROPPED;
  struct tcp *t = child_new(l, c);
  list_push_tail(&l->young, &t->of_listener);
  c->end[1] = t;
  return SYN_TAKEN;
}

static void heard_nothing(struct world_event *e) { young_queue(CONTAINER_OF(e, struct tcp, event)); }

void tcp_established(struct tcp *t) {
  t->heard_ns = world_now_ns();
  if (t->listener == NULL || t->queued) return;
  if (t->socket.number[NUMBER_DEFER_ACCEPT] > 0)
    world_at(&t->event, world_now_ns() + DEFER_MS * WORLD_NS_PER_MS, heard_nothing);
  else
    young_queue(t);
}

static bool tcp_may_accept(struct socket *s) { return tcp_of(s)->waiting_n > 0; }

static int tcp_accept(struct socket *s, struct socket **out) {
  struct tcp *l = tcp_of(s);
  if (l->state != TCP_LISTENS) return -EINVAL;
  if (l->waiting_n == 0) return -EAGAIN;
  struct tcp *t = CONTAINER_OF(l->waiting.next, struct tcp, of_listener);
  list_remove(&t->of_listener);
  l->waiting_n--;
  t->listener = NULL;
  *out = &t->socket;
  return 0;
}

/* Bytes */

static ssize_t receive_nothing(struct tcp *t) {
  if (end_has_come(t)) return 0;
  if (t->socket.error != 0) return socket_take_error(&t->socket);
  if (t->shut_read) return 0;
  return t->state == TCP_FRESH || t->state == TCP_LISTENS ? -ENOTCONN : -EAGAIN;
}

static ssize_t tcp_receive(struct socket *s, struct message *m) {
  struct tcp *t = tcp_of(s);
  size_t n = iov_bytes(m->iov, m->iov_n);
  bool peek = (m->flags & MSG_PEEK) != 0;
  m->flags = 0;
  struct lane *in = t->c == NULL ? NULL : lane_in(t);
  if (in == NULL || lane_unread(in) == 0) return receive_nothing(t);
  n = size_min(n, lane_unread(in));
  ring_peek(&in->ring, m->iov, m->iov_n, n);
  if (peek) return (ssize_t)n;
  ring_drop(&in->ring, n);
  lane_push(in);
  return (ssize_t)n;
}

static ssize_t tcp_send(struct socket *s, struct message *m) {
  struct tcp *t = tcp_of(s);
  if (m->to != NULL && t->state == TCP_FRESH) return -EPIPE;
  if (t->socket.error != 0) return socket_take_error(s);
  if (t->shut_write || t->state == TCP_FRESH || t->state == TCP_LISTENS) return -EPIPE;
  if (t->state == TCP_CONNECTS) return -EAGAIN;
  struct lane *out = lane_out(t);
  size_t n = iov_bytes(m->iov, m->iov_n), some = size_min(n, lane_room(out));
  if (some < n) t->wants_room = true;
  if (n > 0 && some == 0) return -EAGAIN;
  ring_write(&out->ring, m->iov, m->iov_n, 0, some);
  lane_push(out);
  return (ssize_t)some;
}

static uint32_t tcp_poll(struct file *f) {
  struct tcp *t = tcp_of_file(f);
  if (t->state == TCP_LISTENS) return t->waiting_n > 0 ? EPOLLIN | EPOLLRDNORM : 0;
  bool read_over = t->shut_read || end_has_come(t);
  uint32_t events = 0;
  if ((read_over && t->shut_write) || t->state == TCP_FRESH || t->state == TCP_OVER) events |= EPOLLHUP;
  if (read_over) events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
  if (t->state != TCP_CONNECTS) {
    if (t->c != NULL && lane_unread(lane_in(t)) > 0) events |= EPOLLIN | EPOLLRDNORM;
    if (t->shut_write || t->c == NULL || has_room(t)) events |= EPOLLOUT | EPOLLWRNORM;
    else t->wants_room = true;
  }
  if (t->socket.error != 0) events |= EPOLLERR;
  return events;
}

static int tcp_ioctl(struct file *f, unsigned long request, void *arg) {
  const struct tcp *t = tcp_of_file(f);
  bool has_bytes = t->c != NULL && t->state != TCP_CONNECTS;
  if (request != SIOCINQ && request != SIOCOUTQ) return -ENOTTY;
  if (t->state == TCP_LISTENS) return -EINVAL;
  *(int *)arg = !has_bytes ? 0 : (int)(request == SIOCINQ ? lane_unread(lane_in(t)) : lane_unacked(lane_out(t)));
  return 0;
}

/* Ends */

static int tcp_shut(struct socket *s, int how) {
  struct tcp *t = tcp_of(s);
  if (t->state == TCP_LISTENS && how != SHUT_WR) return -EOPNOTSUPP;
  if (how != SHUT_WR) t->shut_read = true;
  if (t->state == TCP_FRESH || t->state == TCP_OVER) {
    if (how != SHUT_RD) t->shut_write = true;
    tcp_told(t, 0);
    return -ENOTCONN;
  }
  if (how != SHUT_RD && !t->shut_write) {
    t->shut_write = true;
    if (t->state == TCP_STANDS) {
      lane_out(t)->fin = true;
      lane_push(lane_out(t));
    }
  }
  tcp_told(t, 0);
  return 0;
}

static void listener_end(struct tcp *l) {
  LIST_FOREACH(&l->waiting, it) {
    struct tcp *t = CONTAINER_OF(it, struct tcp, of_listener);
    if (t->state == TCP_STANDS) lane_reset(lane_out(t));
    young_free(t);
  }
  LIST_FOREACH(&l->young, it) {
    struct tcp *t = CONTAINER_OF(it, struct tcp, of_listener);
    lane_reset(lane_out(t));
    young_free(t);
  }
  tcp_free(l);
}

/* Whether the end is a reset (tcp_close and tcp_disconnect in the kernel). */
static bool ends_by_reset(const struct tcp *t) {
  const struct lane *out = lane_out(t);
  if (lane_unread(lane_in(t)) > 0) return true;
  if (t->socket.linger.l_onoff == 0 || t->socket.linger.l_linger != 0) return false;
  return !(out->fin && lane_in(t)->fin_arrived) || out->ring.to > out->sent || !out->fin_sent;
}

/* Of its own accord; the connection goes on until all has been delivered. */
static void tcp_leave(struct tcp *t) {
  struct lane *out = lane_out(t);
  struct connection *c = t->c;
  int side = t->side;
  t->orphan = true;
  t->shut_read = t->shut_write = true;
  out->fin = true;
  connection_hold(c);
  lane_push(out);
  if (c->end[side] != NULL && !connection_passes(c)) tcp_watch(t);
  connection_release(c);
}

static void tcp_end(struct file *f) {
  struct tcp *t = tcp_of_file(f);
  file_finish(f);
  if (t->state == TCP_LISTENS) {
    listener_end(t);
  } else if (t->state != TCP_STANDS) {
    tcp_free(t);
  } else if (ends_by_reset(t)) {
    world_trace("resets", t->c->id, (uint64_t)t->side);
    connection_hold(t->c);
    struct connection *c = t->c;
    lane_reset(lane_out(t));
    tcp_free(t);
    connection_release(c);
  } else if (t->socket.linger.l_onoff != 0 && t->socket.linger.l_linger == 0) {
    lane_out(t)->closed = true;    /* after both ends: nothing is sent again */
    tcp_free(t);
  } else {
    tcp_leave(t);
  }
}

void tcp_vanish(struct tcp *t) {
  LIST_FOREACH(&t->waiting, it) tcp_vanish(CONTAINER_OF(it, struct tcp, of_listener));
  LIST_FOREACH(&t->young, it) tcp_vanish(CONTAINER_OF(it, struct tcp, of_listener));
  t->waiting_n = 0;
  list_remove(&t->of_port);
  t->state = TCP_OVER;
  world_cancel(&t->event);
  if (t->c != NULL) {
    t->c->vanished[t->side] = true;
    connection_leave(t->c, t->side);
    t->c = NULL;
  }
  if (t->orphan || t->listener != NULL) tcp_free(t);
}

/* Silence */

/* The other end would answer a probe with a reset: it knows nothing of this one any more. */
static bool peer_is_gone(const struct tcp *t) {
  const struct tcp *peer = t->c->end[1 - t->side];
  const struct lane *in = lane_in(t);
  return peer != NULL ? tcp_is_over(peer) : t->c->vanished[1 - t->side] || (!in->fin_arrived && !lane_is_busy(in));
}

static void probe(struct world_event *e) {
  struct tcp *t = CONTAINER_OF(e, struct tcp, event);
  const int *number = t->socket.number;
  const struct lane *out = lane_out(t);
  uint64_t now = world_now_ns(), idle_end_ns = t->heard_ns + (uint64_t)number[NUMBER_KEEPIDLE] * WORLD_NS_PER_S;
  uint64_t interval_ns = (uint64_t)number[NUMBER_KEEPINTVL] * WORLD_NS_PER_S;
  if (connection_passes(t->c)) {
    t->probes = 0;
    if (peer_is_gone(t)) tcp_was_reset(t);
  } else if (lane_is_busy(out)) {
    world_at(e, now + interval_ns, probe);   /* it notices by itself */
  } else if (lane_waits_for_window(out)) {
    if (++t->probes > WINDOW_PROBES) tcp_timed_out(t);
    else world_at(e, now + lane_rto_ns(t->probes), probe);
  } else if (number[NUMBER_KEEPALIVE] != 0) {
    if (now >= idle_end_ns && ++t->probes > (unsigned)number[NUMBER_KEEPCNT]) tcp_timed_out(t);
    else world_at(e, now < idle_end_ns ? idle_end_ns : now + interval_ns, probe);
  }
}

void tcp_watch(struct tcp *t) {
  if (t->state == TCP_STANDS && t->listener == NULL && t->event.place == 0)
    world_at(&t->event, world_now_ns() + lane_rto_ns(0), probe);
}

static uint32_t ms_since(uint64_t then_ns) { return (uint32_t)((world_now_ns() - then_ns) / WORLD_NS_PER_MS); }

static int kernel_state(const struct tcp *t) {
  switch (t->state) {
    case TCP_FRESH: case TCP_OVER: return TCP_CLOSE;
    case TCP_LISTENS: return TCP_LISTEN;
    case TCP_CONNECTS: return TCP_SYN_SENT;
    case TCP_STANDS: break;
  }
  if (lane_in(t)->fin_arrived) return t->shut_write ? TCP_LAST_ACK : TCP_CLOSE_WAIT;
  return !t->shut_write ? TCP_ESTABLISHED : lane_out(t)->fin_acked ? TCP_FIN_WAIT2 : TCP_FIN_WAIT1;
}

static void tcp_tell(const struct tcp *t, struct tcp_info *info) {
  memset(info, 0, sizeof *info);
  info->tcpi_state = (uint8_t)kernel_state(t);
  if (t->c == NULL) return;
  const struct lane *out = lane_out(t);
  size_t under_way = (size_t)(out->sent - out->acked) + (out->fin_sent && !out->fin_acked ? 1 : 0);
  info->tcpi_unacked = t->state == TCP_STANDS ? (uint32_t)((under_way + SEGMENT_BYTES - 1) / SEGMENT_BYTES) : 0;
  info->tcpi_backoff = (uint8_t)out->backoff;
  info->tcpi_rto = (uint32_t)(lane_rto_ns(out->backoff) / WORLD_NS_PER_US);
  info->tcpi_last_data_sent = ms_since(out->sent_at_ns);
  info->tcpi_last_ack_recv = ms_since(t->heard_ns);
  info->tcpi_probes = lane_waits_for_window(out) ? (uint8_t)t->probes : 0;
}

static int tcp_get(struct socket *s, int level, int name, void *value, socklen_t *n) {
  struct tcp_info info;
  if (level != IPPROTO_TCP || name != TCP_INFO) return -ENOPROTOOPT;
  tcp_tell(tcp_of(s), &info);
  return socket_copy_out(&info, sizeof info, value, n);
}

static int tcp_name(struct socket *s, enum whose_name whose, struct sockaddr_storage *out) {
  const struct tcp *t = tcp_of(s);
  bool of_peer = whose != NAME_OWN;
  if (whose == NAME_PEER && t->state != TCP_STANDS) return -ENOTCONN;
  struct sockaddr_in in = {.sin_family = AF_INET,
                           .sin_port = htons(of_peer ? t->peer_port : t->port),
                           .sin_addr.s_addr = htonl(of_peer ? t->peer_ip : t->ip)};
  memcpy(out, &in, sizeof in);
  return sizeof in;
}

static const struct socket_kind tcp_socket_kind = {
    .bind = tcp_bind, .listen = tcp_listen, .connect = tcp_connect, .accept = tcp_accept,
    .may_accept = tcp_may_accept, .shut = tcp_shut, .send = tcp_send, .receive = tcp_receive, .name = tcp_name,
    .get = tcp_get};

static const struct file_kind tcp_file_kind = {.name = "tcp", .mode = S_IFSOCK | 0777, .read = socket_read,
    .write = socket_write, .poll = tcp_poll, .ioctl = tcp_ioctl, .end = tcp_end};

struct socket *tcp_new(struct host *h) {
  struct tcp *t = world_alloc(sizeof *t);
  socket_begin(&t->socket, &tcp_socket_kind, &tcp_file_kind, AF_INET, SOCK_STREAM);
  t->host = h;
  list_init(&t->of_port);
  list_init(&t->of_listener);
  list_init(&t->waiting);
  list_init(&t->young);
  return &t->socket;
}

void network_break_off(int fd) {
  const struct linger reset = {.l_onoff = 1};
  struct file *f = file_of(fd);
  ASSERT(f != NULL && f->kind == &tcp_file_kind);
  struct tcp *t = tcp_of_file(f);
  t->socket.linger = reset;
  if (t->c != NULL) lane_out(t)->breaks_off = true;
}
