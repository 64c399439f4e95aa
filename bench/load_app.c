/* The app: an epoll server that understands what its visitors' first line asks for. "D <bytes>" streams so many, "U
   <bytes>" swallows so many and answers OK, "P" echoes whatever comes, "B" answers one byte; "GET" is HTTP/1.1, a small
   page for each request of the connection, or for one where the path is /close. Several threads share the port by
   SO_REUSEPORT. With a certificate it terminates TLS itself, which is the bench's "direct TLS". */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IO_AGAIN = -1, IO_FAILED = -2, TURN_CHUNKS = 8, EVENTS_MAX = 64 };

struct app {
  SSL_CTX *tls;                  /* NULL: plain TCP */
  uint8_t data[LOAD_CHUNK_BYTES];
};

struct thread {
  struct app *app;
  int epoll, listener;
};

enum mode { MODE_LINE, MODE_DOWN, MODE_UP, MODE_ECHO, MODE_HTTP, MODE_DRAIN, MODE_END };

struct conn {
  int fd;
  SSL *ssl;
  uint32_t events;
  enum mode mode;
  uint64_t left;                 /* of D or U */
  bool line_empty, last;         /* HTTP: nothing but CR since the last line's end; one request only */
  size_t have, sent;             /* of buf, still to be written when have > sent */
  uint8_t buf[16384];
};

/* What SSL waits for (its handshake may write when we read) is what epoll is to wait for. */
static ssize_t tls_result(struct conn *c, int r) {
  if (r > 0) return r;
  int why = SSL_get_error(c->ssl, r);
  ERR_clear_error();
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
    c->events = why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
    return IO_AGAIN;
  }
  return why == SSL_ERROR_ZERO_RETURN ? 0 : IO_FAILED;
}

static ssize_t conn_read(struct conn *c, void *p, size_t n) {
  if (c->ssl != NULL) return tls_result(c, SSL_read(c->ssl, p, (int)n));
  ssize_t r = recv(c->fd, p, n, 0);
  if (r >= 0) return r;
  c->events = EPOLLIN;
  return errno == EAGAIN ? IO_AGAIN : IO_FAILED;
}

static ssize_t conn_write(struct conn *c, const void *p, size_t n) {
  if (c->ssl != NULL) return tls_result(c, SSL_write(c->ssl, p, (int)n));
  ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL);
  if (r >= 0) return r;
  c->events = EPOLLOUT;
  return errno == EAGAIN ? IO_AGAIN : IO_FAILED;
}

static ssize_t conn_flush(struct conn *c) {
  while (c->sent < c->have) {
    ssize_t r = conn_write(c, c->buf + c->sent, c->have - c->sent);
    if (r <= 0) return r == 0 ? IO_FAILED : r;
    c->sent += (size_t)r;
  }
  c->have = c->sent = 0;
  return 1;
}

static void conn_answer(struct conn *c, const char *text, enum mode next) {
  c->mode = next;
  c->have = strlen(text);
  c->sent = 0;
  memcpy(c->buf, text, c->have);
}

/* Answers each request whose end is among n bytes of the buffer; nothing but their ends is looked at. */
static void conn_http(struct conn *c, size_t n) {
  static const char page[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
  static const char last_page[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
  unsigned requests = 0;
  for (size_t i = 0; i < n; i++) {
    if (c->buf[i] == '\n') {
      if (c->line_empty) requests++;
      c->line_empty = !c->line_empty;
    } else if (c->buf[i] != '\r') {
      c->line_empty = false;
    }
  }
  c->mode = c->last && requests > 0 ? MODE_END : MODE_HTTP;
  for (; requests > 0 && c->have + sizeof last_page < sizeof c->buf; requests--) {
    const char *text = c->last ? last_page : page;
    memcpy(c->buf + c->have, text, strlen(text));
    c->have += strlen(text);
  }
}

/* The line is read byte by byte where it matters not: what follows it in the same segment belongs to the mode. */
static ssize_t conn_line(struct conn *c) {
  ssize_t r = conn_read(c, c->buf + c->have, LOAD_LINE_MAX_BYTES - 1 - c->have);
  if (r <= 0) return r == 0 ? IO_FAILED : r;
  c->have += (size_t)r;
  uint8_t *end = memchr(c->buf, '\n', c->have);
  if (end == NULL) return c->have < LOAD_LINE_MAX_BYTES - 1 ? 1 : IO_FAILED;
  size_t line = (size_t)(end - c->buf) + 1, rest = c->have - line;
  char kind = (char)c->buf[0];
  *end = '\0';
  if (line > 2) c->left = strtoull((const char *)c->buf + 1, NULL, 10);
  c->last = strncmp((const char *)c->buf, "GET /close", 10) == 0;
  memmove(c->buf, c->buf + line, rest);
  c->have = c->sent = 0;
  switch (kind) {
    case 'D': c->mode = MODE_DOWN; return 1;
    case 'P': c->mode = MODE_ECHO; c->have = rest; return 1;
    case 'B': conn_answer(c, "!", MODE_DRAIN); return 1;
    case 'G':
      c->line_empty = true;
      conn_http(c, rest);
      return 1;
    case 'U':
      c->mode = MODE_UP;
      c->left -= rest < c->left ? rest : c->left;
      if (c->left == 0) conn_answer(c, "OK\n", MODE_DRAIN);
      return 1;
    default: return IO_FAILED;
  }
}

/* One step: > 0 go on, 0 the visitor ended, IO_AGAIN, IO_FAILED. */
static ssize_t conn_step(const struct app *app, struct conn *c) {
  static __thread uint8_t scrap[LOAD_CHUNK_BYTES];
  ssize_t r = c->mode == MODE_LINE ? 1 : conn_flush(c);
  if (r <= 0) return r;
  switch (c->mode) {
    case MODE_LINE: return conn_line(c);
    case MODE_DOWN:
      r = conn_write(c, app->data, c->left < sizeof app->data ? (size_t)c->left : sizeof app->data);
      if (r > 0) c->left -= (uint64_t)r;
      if (c->left == 0) c->mode = MODE_DRAIN;
      return r;
    case MODE_UP:
      r = conn_read(c, scrap, sizeof scrap);
      if (r > 0) c->left -= (uint64_t)r < c->left ? (uint64_t)r : c->left;
      if (c->left == 0) conn_answer(c, "OK\n", MODE_DRAIN);
      return r;
    case MODE_ECHO:
      r = conn_read(c, c->buf, sizeof c->buf);
      if (r > 0) c->have = (size_t)r;
      return r;
    case MODE_HTTP:
      r = conn_read(c, c->buf, sizeof c->buf);
      if (r > 0) conn_http(c, (size_t)r);
      return r;
    case MODE_DRAIN: return conn_read(c, scrap, sizeof scrap);
    case MODE_END: return 0;
  }
  return IO_FAILED;
}

static void conn_close(struct conn *c, bool clean) {
  if (c->ssl != NULL && clean) (void)SSL_shutdown(c->ssl);
  SSL_free(c->ssl);
  (void)close(c->fd);
  free(c);
}

static void conn_event(struct thread *t, struct conn *c) {
  uint32_t before = c->events;
  for (int i = 0; i < TURN_CHUNKS; i++) {
    ssize_t r = conn_step(t->app, c);
    if (r > 0) continue;
    if (r != IO_AGAIN) {
      conn_close(c, r == 0);
      return;
    }
    struct epoll_event e = {.events = c->events, .data.ptr = c};
    if (c->events != before) (void)epoll_ctl(t->epoll, EPOLL_CTL_MOD, c->fd, &e);
    return;
  }
  /* Its turn is over with more to do. Writable is what it is almost always, and a plaintext inside OpenSSL has no
     event. */
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
  c->events = e.events;
  if (before != c->events) (void)epoll_ctl(t->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void app_accept(struct thread *t) {
  for (int fd; (fd = accept4(t->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) load_die("app", "out of memory");
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->events = EPOLLIN;
    if (t->app->tls != NULL) {
      c->ssl = SSL_new(t->app->tls);
      if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1) load_die("app", "TLS");
      SSL_set_accept_state(c->ssl);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &e) != 0) load_die("epoll", strerror(errno));
  }
}

static void *app_thread(void *arg) {
  struct thread *t = arg;
  struct epoll_event events[EVENTS_MAX];
  for (;;) {
    int n = epoll_wait(t->epoll, events, EVENTS_MAX, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr == NULL) app_accept(t);
      else conn_event(t, events[i].data.ptr);
    }
  }
  return NULL;
}

static void app_listen(struct thread *t, const char *host, in_port_t *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = *port};
  socklen_t len = sizeof a;
  int on = 1;
  t->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  (void)setsockopt(t->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (inet_pton(AF_INET, host, &a.sin_addr) != 1) load_die(host, "not an IPv4 address");
  if (bind(t->listener, (const struct sockaddr *)&a, sizeof a) != 0 || listen(t->listener, 4096) != 0) {
    load_die("listen", strerror(errno));
  }
  (void)getsockname(t->listener, (struct sockaddr *)&a, &len);
  *port = a.sin_port;
  t->epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->listener, &e) != 0) load_die("epoll", strerror(errno));
}

static SSL_CTX *app_tls(const struct load_options *o) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) != 1) {
    load_die(o->cert_file, "cannot be used as a certificate");
  }
  (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  (void)SSL_CTX_set_num_tickets(ctx, 0);
  (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
  return ctx;
}

int load_app(const struct load_options *o) {
  static struct app app;
  static struct thread threads[256];
  in_port_t port = 0;
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  for (size_t i = 0; i < sizeof app.data; i++) app.data[i] = (uint8_t)(i * 131 >> 3);
  if (o->cert_file != NULL && o->key_file != NULL) app.tls = app_tls(o);
  for (unsigned i = 0; i < o->streams; i++) {
    threads[i].app = &app;
    app_listen(&threads[i], o->host, &port);
  }
  for (unsigned i = 1; i < o->streams; i++) {
    pthread_t id;
    if (pthread_create(&id, NULL, app_thread, &threads[i]) != 0) load_die("app", "no thread");
  }
  (void)printf("{\"port\":%u}\n", (unsigned)ntohs(port));
  (void)fflush(stdout);
  (void)app_thread(&threads[0]);
  return 0;
}
