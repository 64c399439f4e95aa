/* The flood: connections that each send a ClientHello, wait for an answer and reset. With --rate so many are begun in a
   second, whatever becomes of them; without it there are always --streams of them. Ends at SIGTERM, or with the time
   that alarm() gives. */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FLOOD_MAX = 8192, FLOOD_PATIENCE_MS = 1000, HELLO_MAX_BYTES = 4096, EVENTS_MAX = 256 };

struct bather {                  /* one connection */
  int fd;                        /* -1: free */
  bool said;
  uint64_t since_ns;
};

struct flood {
  const struct load_options *o;
  struct sockaddr_in to, from;
  uint8_t hello[HELLO_MAX_BYTES];
  size_t hello_n;
  int epoll_fd;
  struct bather all[FLOOD_MAX];
  unsigned now;
  uint64_t begun, answered, refused, late;
};

static volatile sig_atomic_t ended;
static void end(int signal_number) { ended = signal_number; }

static void hello_make(struct flood *f) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  SSL *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
  BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
  if (ssl == NULL || in == NULL || out == NULL || SSL_set_tlsext_host_name(ssl, f->o->sni) != 1)
    load_die("TLS", "out of memory");
  SSL_set_bio(ssl, in, out);
  (void)SSL_connect(ssl);
  int n = BIO_read(out, f->hello, sizeof f->hello);
  if (n <= 0) load_die("TLS", "no ClientHello");
  f->hello_n = (size_t)n;
  SSL_free(ssl);
  SSL_CTX_free(ctx);
}

static void bather_end(struct flood *f, struct bather *b) {
  struct linger reset = {.l_onoff = 1};
  (void)setsockopt(b->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  (void)close(b->fd);
  b->fd = -1;
  f->now--;
}

static void bather_begin(struct flood *f, struct bather *b) {
  struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = b};
  b->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (b->fd < 0) load_die("flood", strerror(errno));
  b->said = false;
  b->since_ns = load_now_ns();
  f->now++;
  f->begun++;
  if (bind(b->fd, (struct sockaddr *)&f->from, sizeof f->from) != 0 ||
      epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, b->fd, &ev) != 0)
    load_die("flood", strerror(errno));
  if (connect(b->fd, (struct sockaddr *)&f->to, sizeof f->to) != 0 && errno != EINPROGRESS) {
    f->refused++;
    bather_end(f, b);
  }
}

static void bather_event(struct flood *f, struct bather *b, uint32_t events) {
  char answer[16];
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = b};
  if (b->said && recv(b->fd, answer, sizeof answer, 0) > 0) {
    f->answered++;
    bather_end(f, b);
  } else if (b->said || (events & (EPOLLERR | EPOLLHUP)) != 0 || send(b->fd, f->hello, f->hello_n, MSG_NOSIGNAL) < 0 ||
             epoll_ctl(f->epoll_fd, EPOLL_CTL_MOD, b->fd, &ev) != 0) {
    f->refused++;
    bather_end(f, b);
  } else {
    b->said = true;
  }
}

static void begin_due(struct flood *f, uint64_t start_ns) {
  uint64_t due = f->o->rate > 0 ? (load_now_ns() - start_ns) * f->o->rate / 1000000000u
                                : f->begun + f->o->streams - f->now;
  for (unsigned i = 0; i < FLOOD_MAX && f->begun < due; i++) {
    if (f->all[i].fd < 0) bather_begin(f, &f->all[i]);
  }
  if (f->o->rate > 0 && f->begun < due) f->begun = due;    /* more than can be had at a time are not made up for */
}

static void end_late(struct flood *f) {
  uint64_t now_ns = load_now_ns();
  for (unsigned i = 0; i < FLOOD_MAX; i++) {
    struct bather *b = &f->all[i];
    if (b->fd < 0 || now_ns - b->since_ns < FLOOD_PATIENCE_MS * 1000000ull) continue;
    f->late++;
    bather_end(f, b);
  }
}

int load_flood(const struct load_options *o) {
  struct flood *f = calloc(1, sizeof *f);
  struct epoll_event events[EVENTS_MAX];
  if (f == NULL || o->port == NULL || o->sni == NULL) load_die("flood", "--port and --sni are needed");
  f->o = o;
  f->to = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(o->port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  f->from = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(o->source)};
  for (unsigned i = 0; i < FLOOD_MAX; i++) f->all[i].fd = -1;
  hello_make(f);
  f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  (void)signal(SIGTERM, end);
  (void)signal(SIGALRM, end);
  uint64_t start_ns = load_now_ns(), looked_ns = start_ns;
  while (!ended) {
    begin_due(f, start_ns);
    int n = epoll_wait(f->epoll_fd, events, EVENTS_MAX, 1);
    for (int i = 0; i < n; i++) bather_event(f, events[i].data.ptr, events[i].events);
    if (load_now_ns() - looked_ns < 100000000u) continue;
    looked_ns = load_now_ns();
    end_late(f);
  }
  double seconds = (double)(load_now_ns() - start_ns) / 1e9;
  (void)printf("{\"mode\":\"flood\",\"seconds\":%.3f,\"begun_per_s\":%.1f,\"answered_per_s\":%.1f,\"refused_per_s\":%."
               "1f,\"late_per_s\":%.1f}\n",
               seconds, (double)f->begun / seconds, (double)f->answered / seconds, (double)f->refused / seconds,
               (double)f->late / seconds);
  return 0;
}
