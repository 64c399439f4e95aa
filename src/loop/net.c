/* Sockets. The hard thing is what an end of stream means: after a FIN and then a RST the kernel still answers reads
   with 0, which looks clean; so every 0 is checked against SO_ERROR before it is believed. */
#include "loop/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/shortage.h"

enum { RTO_MAX_MS = 120000 /* the kernel's TCP_RTO_MAX */ };

static int set_int(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

static int fail_listen(int fd, const struct addr *a, struct err *e) {
  char text[ADDR_TEXT_CAP];
  int saved = errno;
  addr_format(a, text, sizeof text);
  net_close(fd);
  errno = saved;
  if (shortage_note(saved))
    return err_set(e, ERR_LIMIT, "listen on %s: %s (%s)", text, strerror(saved), shortage_remedy(saved));
  switch (saved) {
    case EADDRINUSE:
      return err_set(e, ERR_CONFLICT,
                     "listen on %s: the address is in use (stop the other program or choose another port)", text);
    case EACCES: case EPERM:
      return err_set(e, ERR_AUTH,
                     "listen on %s: not permitted (use a port from 1024 up, or grant CAP_NET_BIND_SERVICE)", text);
    case EADDRNOTAVAIL:
      return err_set(e, ERR_UNSUPPORTED,
                     "listen on %s: this machine does not have the address (choose one that `ip addr` shows)", text);
    case EAFNOSUPPORT: case EPROTONOSUPPORT:
      return err_set(e, ERR_UNSUPPORTED,
                     "listen on %s: this machine does not have that family of addresses (choose another)", text);
    default:
      return err_set_errno(e, "listen on %s", text);
  }
}

static int listen_tcp(const struct addr *a, int backlog, bool reuse_port, bool of_streams, struct err *e) {
  int fd = socket(a->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_listen(fd, a, e);
  if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0) return fail_listen(fd, a, e);
  if (reuse_port && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) return fail_listen(fd, a, e);
  if (a->u.any.sa_family == AF_INET6 && set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) return fail_listen(fd, a, e);
  if (bind(fd, &a->u.any, addr_len(a)) != 0) return fail_listen(fd, a, e);
  if (of_streams && net_stream_setup(fd) != 0) return fail_listen(fd, a, e);
  if (listen(fd, backlog) != 0) return fail_listen(fd, a, e);
  return fd;
}

int net_listen_tcp(const struct addr *a, int backlog, bool reuse_port, struct err *e) {
  return listen_tcp(a, backlog, reuse_port, false, e);
}

int net_listen_streams(const struct addr *a, int backlog, bool reuse_port, struct err *e) {
  return listen_tcp(a, backlog, reuse_port, true, e);
}

#if !defined SO_PASSRIGHTS && !defined __hppa__ && !defined __sparc__
#define SO_PASSRIGHTS 83               /* Linux 6.16; what it accepts has it, too */
#endif

static int open_unix(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#ifdef SO_PASSRIGHTS
  if (fd >= 0) (void)set_int(fd, SOL_SOCKET, SO_PASSRIGHTS, 0);
#endif
  return fd;
}

void net_take_descriptors(int fd) {
#ifdef SO_PASSRIGHTS
  (void)set_int(fd, SOL_SOCKET, SO_PASSRIGHTS, 1);
#else
  (void)fd;
#endif
}

bool net_takes_no_descriptors(int fd) {
#ifdef SO_PASSRIGHTS
  int takes = 1;
  socklen_t n = sizeof takes;
  return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &takes, &n) == 0 && takes == 0;
#else
  (void)fd;
  return false;
#endif
}

static bool has_file(const struct addr *a) { return a->u.un.sun_path[0] != 0; }

/* A socket whose listener has died keeps its file, and nobody can listen there. */
static bool is_left_over(const struct addr *a) {
  struct stat st;
  if (!has_file(a) || lstat(a->u.un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return false;
  int fd = net_connect(a, NULL);
  net_close(fd);
  return fd == ERR_CLOSED;
}

int net_share(int fd, struct err *e) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy >= 0) return copy;
  (void)shortage_note(errno);
  return err_set(e, ERR_LIMIT, "listen: %s (%s)", strerror(errno), shortage_remedy(errno));
}

void net_unlink_unix(const struct addr *a) {
  if (has_file(a)) (void)unlink(a->u.un.sun_path);
}

void net_unlink_left_over(const struct addr *a) {
  if (is_left_over(a)) net_unlink_unix(a);
}

static int fail_listen_unix(int fd, const struct addr *a, struct err *e) {
  char text[ADDR_TEXT_CAP];
  int saved = errno;
  addr_format(a, text, sizeof text);
  net_close(fd);
  errno = saved;
  switch (saved) {
    case EADDRINUSE:
      return err_set(e, ERR_CONFLICT, "listen on %s: it is in use (stop the other program, or choose another path)",
                     text);
    case EACCES: case EPERM: case ENOENT: case ENOTDIR: case EROFS:
      return err_set(e, ERR_AUTH, "listen on %s: %s (make its folder, for who runs this to write to)", text,
                     strerror(saved));
    default: return fail_listen(-1, a, e);
  }
}

/* Who may connect is left to the folder; whom the listener serves, to its protocol. The mode is right from the start:
   afterwards there may be another's link in the file's place. */
static int bind_for_all(int fd, const struct addr *a) {
  mode_t before = umask(0111);
  int r = bind(fd, &a->u.any, addr_len(a));
  (void)umask(before);
  return r;
}

int net_listen_unix(const struct addr *a, int backlog, struct err *e) {
  int fd = open_unix();
  if (fd < 0) return fail_listen_unix(fd, a, e);
  net_unlink_left_over(a);
  if (bind_for_all(fd, a) != 0) return fail_listen_unix(fd, a, e);
  if (listen(fd, backlog) == 0) return fd;
  int code = fail_listen_unix(fd, a, e);
  net_unlink_unix(a);
  return code;
}

int net_listen_port(int fd, uint16_t *port) {
  struct addr a;
  int r = net_local(fd, &a);
  if (r == 0) *port = addr_port(&a);
  return r;
}

/* Where it cannot be told, there are none. */
static bool kernel_has_syn_cookies(void) {
  char mode = '0';
  int fd = open("/proc/sys/net/ipv4/tcp_syncookies", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  if (read(fd, &mode, sizeof mode) != 1) mode = '0';
  net_close(fd);
  return mode != '0';
}

void net_accept_when_heard(int fd) {
  if (kernel_has_syn_cookies()) (void)set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1 /* second */);
}

int net_listen_share(int fd) { return set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0 ? 0 : ERR_IO; }

/* Whatever path it is bound to is its own affair. */
static void take_peer(int fd, struct addr *peer) {
  struct ucred who = {.uid = (uid_t)-1};
  socklen_t n = sizeof who;
  (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n);
  *peer = (struct addr){.u.un.sun_family = AF_UNIX, .uid = who.uid};
}

int net_accept(int listen_fd, struct addr *peer) {
  for (;;) {
    *peer = (struct addr){0};
    socklen_t n = sizeof peer->u;
    int fd = accept4(listen_fd, &peer->u.any, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      if (addr_is_unix(peer)) take_peer(fd, peer);
      return fd;
    }
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:
        return NET_AGAIN;
      /* accept(2): errors of the connection itself, which is gone */
      case ECONNABORTED: case EPERM: case EPROTO: case ENOPROTOOPT: case ENETDOWN: case ENETUNREACH: case EHOSTDOWN:
      case EHOSTUNREACH: case ENONET: case EOPNOTSUPP: case ETIMEDOUT:
        return NET_RESET;
      default: /* a shortage, or something that trying again at once would not mend either */
        (void)shortage_note(errno);
        return ERR_LIMIT;
    }
  }
}

static int fail_connect(const struct addr *a, struct err *e) {
  char text[ADDR_TEXT_CAP];
  int code = shortage_remedy(errno) != NULL ? ERR_LIMIT : ERR_IO;
  addr_format(a, text, sizeof text);
  (void)err_set_errno(e, "connect to %s", text);
  if (e != NULL) e->code = code;
  return code;
}

static int fail_connect_unix(struct err *e) {
  int saved = errno;
  if (shortage_note(saved)) return err_set(e, ERR_LIMIT, "%s (%s)", strerror(saved), shortage_remedy(saved));
  switch (saved) {
    case EAGAIN: return NET_AGAIN;
    case ENOENT: case ENOTDIR: return err_set(e, ERR_CLOSED, "there is no such socket (start it, or check the path)");
    case ECONNREFUSED: return err_set(e, ERR_CLOSED, "it refused the connection (start it, or check the path)");
    case EACCES: case EPERM:
      return err_set(e, ERR_AUTH, "%s (let who runs this write to the socket, and enter its folders)", strerror(saved));
    case EPROTOTYPE: return err_set(e, ERR_UNSUPPORTED, "it is not a stream socket (check the path)");
    default: return err_set(e, ERR_IO, "%s (check the path)", strerror(saved));
  }
}

static int connect_unix(const struct addr *a, struct err *e) {
  int fd = open_unix();
  if (fd < 0) return fail_connect_unix(e);
  if (connect(fd, &a->u.any, addr_len(a)) == 0 && set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1) == 0) return fd;
  int code = fail_connect_unix(e);
  net_close(fd);
  return code;
}

int net_connect(const struct addr *a, struct err *e) {
  if (addr_is_unix(a)) return connect_unix(a, e);
  int fd = socket(a->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_connect(a, e);
  if (addr_is_loopback(a)) (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  if (connect(fd, &a->u.any, addr_len(a)) == 0 || errno == EINPROGRESS || errno == EINTR) return fd;
  int code = fail_connect(a, e);
  net_close(fd);
  return code;
}

/* Whoever answers and resets at once may do so before we look. A connection that stood is reset with ECONNRESET, or
   EPIPE when its end had come already; one that never stood fails with another error (tcp_reset in the kernel). */
static bool is_of_connected(int error) { return error == ECONNRESET || error == EPIPE; }

int net_connect_result(int fd) {
  struct addr local, peer;
  if (net_peer(fd, &peer) != 0) {
    int error = net_socket_error(fd);
    if (error == 0) return NET_AGAIN;
    return is_of_connected(error) ? NET_RESET : -error;
  }
  /* The port that the kernel chose for us may be the one that we dial, where nobody listens: then TCP connects the
     socket to itself (a simultaneous open, RFC 9293 3.5), and would give us back what we send. */
  return net_local(fd, &local) == 0 && addr_equal(&local, &peer) ? -ECONNREFUSED : 0;
}

/* The loopback answers while we ask, but the kernel looks at that only as it leaves the call. */
int net_connect_at_once(const struct addr *a, bool *was_reset) {
  *was_reset = false;
  if (!addr_is_unix(a) && !addr_is_loopback(a)) return -1;
  int fd = net_connect(a, NULL);
  if (fd < 0 || addr_is_unix(a)) return fd < 0 ? -1 : fd;
  int r = net_connect_result(fd);
  *was_reset = r == NET_RESET;
  if (r == 0 || r == NET_RESET) return fd;
  net_reset(fd);
  return -1;
}

static int set_linger_reset(int fd) {
  const struct linger l = {.l_onoff = 1, .l_linger = 0};
  return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static const struct stream_option {
  int level, name, value;
} stream_options[] = {{SOL_SOCKET, SO_OOBINLINE, 1},
                      {IPPROTO_TCP, TCP_NODELAY, 1},
                      {SOL_SOCKET, SO_KEEPALIVE, 1},
                      {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
                      {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
                      {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES}};

int net_stream_setup(int fd) {
  if (set_linger_reset(fd) != 0) return ERR_IO;
  for (size_t i = 0; i < ARRAY_LEN(stream_options); i++) {
    const struct stream_option *o = &stream_options[i];
    if (set_int(fd, o->level, o->name, o->value) != 0) return errno == EOPNOTSUPP ? 0 : ERR_IO;   /* a Unix socket */
  }
  return 0;
}

static bool has_stream_options(int fd) {
  struct linger l = {0};
  socklen_t n = sizeof l;
  if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n) != 0 || l.l_onoff == 0 || l.l_linger != 0) return false;
  for (size_t i = 0; i < ARRAY_LEN(stream_options); i++) {
    const struct stream_option *o = &stream_options[i];
    int value = 0;
    n = sizeof value;
    if (getsockopt(fd, o->level, o->name, &value, &n) != 0 || value != o->value) return false;
  }
  return true;
}

/* Linux copies the listener, options and all; what runs in its place (gVisor) may not. The first one tells. */
int net_accepted_setup(int fd, const struct addr *peer) {
  static atomic_int passed_on;     /* 0: not known yet; 1: they are; -1: they are not */
  if (addr_is_unix(peer)) return net_stream_setup(fd);
  int known = atomic_load_explicit(&passed_on, memory_order_relaxed);
  if (known == 0) {
    known = has_stream_options(fd) ? 1 : -1;
    atomic_store_explicit(&passed_on, known, memory_order_relaxed);
  }
  return known > 0 ? 0 : net_stream_setup(fd);
}

void net_acknowledge(int fd) { (void)set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1); }

void net_linger_off(int fd) {
  const struct linger l = {0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

int net_local(int fd, struct addr *a) {
  *a = (struct addr){0};
  socklen_t n = sizeof a->u;
  return getsockname(fd, &a->u.any, &n) == 0 ? 0 : ERR_IO;
}

int net_peer(int fd, struct addr *a) {
  *a = (struct addr){0};
  socklen_t n = sizeof a->u;
  return getpeername(fd, &a->u.any, &n) == 0 ? 0 : ERR_IO;
}

int net_socket_error(int fd) {
  int error = 0;
  socklen_t n = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 ? error : errno;
}

static bool tcp_info_of(int fd, struct tcp_info *info) {
  socklen_t n = sizeof *info;
  memset(info, 0, sizeof *info);
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &n) == 0;
}

/* How long ago the first of several transmissions was that the peer has not answered; 0: there are not so many. The
   time since its last acknowledgement would not do. It is long for a connection that was idle for a minute and has just
   sent something, and for a peer that does not read, but answers each probe. So the transmissions since then are
   counted, from the last one back: as each time-out doubles the RTO, the one before was half an RTO earlier, and so on.
   With an RTO of 1.6 s and something sent 0.3 s ago there was one 1.1 s ago (0.8 earlier) and one 1.5 s ago (0.4
   earlier): when the last acknowledgement is 2 s old, all three are unanswered, and it is 1.5 s. One alone says
   nothing: it may be lost on the way, or its answer. Timers fire up to an eighth late, hence late_ms. And at RTO_MAX_MS
   the kernel does not double any more, so that it is unknown how many there were: then a silence of two such times
   counts. */
static uint32_t unanswered_ms(const struct tcp_info *info) {
  uint32_t rto_ms = info->tcpi_rto / 1000, sent_ms = info->tcpi_last_data_sent, late_ms = 0, unanswered = 0;
  if (rto_ms >= RTO_MAX_MS) return info->tcpi_last_ack_recv > 2 * RTO_MAX_MS ? info->tcpi_last_ack_recv : 0;
  unsigned n = 0;
  while (n <= info->tcpi_backoff && n < 31 && sent_ms + late_ms < info->tcpi_last_ack_recv) {
    unanswered = sent_ms;
    n++;
    sent_ms += rto_ms >> n;
    late_ms = (rto_ms >> n) / 4;
  }
  return n < 2 ? 0 : unanswered;
}

uint32_t net_unacked_ms_of(const struct tcp_info *info) {
  if (info->tcpi_unacked > 0) return unanswered_ms(info);
  /* Before a closed window nothing is on its way but probes (RFC 9293 3.8.6.1), which a live peer answers with the
     window still closed; now and then it leaves one out. */
  return info->tcpi_probes >= WINDOW_PROBES_MAX ? info->tcpi_last_ack_recv : 0;
}

uint32_t net_unacked_ms(int fd) {
  struct tcp_info info;
  return tcp_info_of(fd, &info) ? net_unacked_ms_of(&info) : 0;
}

size_t net_unread(int fd) {
  int n = 0;
  return ioctl(fd, SIOCINQ, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* What a call that moved r bytes says, errno being its reason when r < 0. */
static ssize_t outcome(ssize_t r) {
  if (r >= 0) return r;
  return errno == EAGAIN || errno == EINTR ? NET_AGAIN : NET_RESET;
}

static ssize_t read_outcome(int fd, ssize_t r) {
  if (r != 0) return outcome(r);
  return net_socket_error(fd) == 0 ? 0 : NET_RESET;
}

ssize_t net_recv(int fd, void *p, size_t n) {
  ASSERT(n > 0);
  return read_outcome(fd, recv(fd, p, n, 0));
}

ssize_t net_recv_peek(int fd, void *p, size_t n) {
  ASSERT(n > 0);
  return read_outcome(fd, recv(fd, p, n, MSG_PEEK));
}

ssize_t net_readv(int fd, const struct iovec *iov, int n) { return read_outcome(fd, readv(fd, iov, n)); }

ssize_t net_send(int fd, const void *p, size_t n) { return outcome(send(fd, p, n, MSG_NOSIGNAL)); }

ssize_t net_sendv(int fd, const struct iovec *iov, int n) {
  struct msghdr m = {.msg_iovlen = (size_t)n};
  memcpy(&m.msg_iov, &iov, sizeof iov); /* sendmsg does not write to it; the struct lacks the const */
  return outcome(sendmsg(fd, &m, MSG_NOSIGNAL));
}

ssize_t net_splice(int in, int out, size_t n, bool more) {
  unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0U);
  ssize_t r = splice(in, NULL, out, NULL, n, flags);
  if (r != 0) return outcome(r);
  int error = net_socket_error(in);
  return error == 0 || error == ENOTSOCK ? 0 : NET_RESET;
}

int net_pipe(int fds[2]) {
  if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0) return 0;
  return shortage_note(errno) ? ERR_LIMIT : ERR_IO;
}

int net_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) == 0 ? 0 : NET_RESET; }

void net_close(int fd) {
  if (fd >= 0) close(fd); /* Linux has closed it whatever close returns */
}

void net_reset(int fd) {
  if (fd < 0) return;
  (void)set_linger_reset(fd);
  net_close(fd);
}
