/* The visitors: blocking OpenSSL clients, a thread for each stream, so that what is measured is the other side. All of
   them verify the certificate and never resume a session. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct visitor {
  const struct load_options *o;
  SSL_CTX *ctx;
  struct addrinfo *to;
  SSL *ssl;
  int fd;
  uint64_t bytes;                /* down, up: this stream's share */
  uint64_t *ns;                  /* connect: one sample for each of count connections */
  unsigned count;
  pthread_barrier_t *ready;
  void (*run)(struct visitor *v);
};

static void visitor_open(struct visitor *v) {
  int on = 1;
  v->fd = socket(v->to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(v->o->source)};
  if (v->fd >= 0 && v->to->ai_family == AF_INET && v->o->source != INADDR_LOOPBACK &&
      bind(v->fd, (struct sockaddr *)&from, sizeof from) != 0)
    load_die("bind", strerror(errno));
  if (v->fd < 0 || connect(v->fd, v->to->ai_addr, v->to->ai_addrlen) != 0) load_die("connect", strerror(errno));
  (void)setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  v->ssl = SSL_new(v->ctx);
  if (v->ssl == NULL || SSL_set_fd(v->ssl, v->fd) != 1 || SSL_set_tlsext_host_name(v->ssl, v->o->sni) != 1 ||
      SSL_set1_host(v->ssl, v->o->sni) != 1) {
    load_die("TLS", "out of memory");
  }
  if (SSL_connect(v->ssl) != 1) load_die("TLS handshake", X509_verify_cert_error_string(SSL_get_verify_result(v->ssl)));
}

static void visitor_close(struct visitor *v) {
  (void)SSL_shutdown(v->ssl);
  SSL_free(v->ssl);
  (void)close(v->fd);
}

static void visitor_write(struct visitor *v, const void *p, size_t n) {
  if (SSL_write(v->ssl, p, (int)n) != (int)n) load_die("write", "the connection broke");
}

static size_t visitor_read(struct visitor *v, void *p, size_t n) {
  int r = SSL_read(v->ssl, p, (int)n);
  if (r <= 0) load_die("read", "the connection ended early");
  return (size_t)r;
}

static void visitor_ask(struct visitor *v, char kind) {
  char line[LOAD_LINE_MAX_BYTES];
  int n = snprintf(line, sizeof line, "%c %llu\n", kind, (unsigned long long)v->bytes);
  visitor_write(v, line, (size_t)n);
}

static void run_down(struct visitor *v) {
  uint8_t buf[LOAD_CHUNK_BYTES];
  visitor_ask(v, 'D');
  for (uint64_t left = v->bytes; left > 0;) left -= visitor_read(v, buf, left < sizeof buf ? (size_t)left : sizeof buf);
}

static void run_up(struct visitor *v) {
  static const uint8_t buf[LOAD_CHUNK_BYTES];
  char answer[3];
  visitor_ask(v, 'U');
  for (uint64_t left = v->bytes; left > 0;) {
    size_t n = left < sizeof buf ? (size_t)left : sizeof buf;
    visitor_write(v, buf, n);
    left -= n;
  }
  for (size_t n = 0; n < sizeof answer;) n += visitor_read(v, answer + n, sizeof answer - n);
  if (memcmp(answer, "OK\n", 3) != 0) load_die("up", "wrong answer");
}

/* From before connect() to the answer's first byte. */
static void run_connect(struct visitor *v) {
  for (unsigned i = 0; i < v->count; i++) {
    char answer;
    uint64_t start = load_now_ns();
    visitor_open(v);
    visitor_write(v, "B\n", 2);
    (void)visitor_read(v, &answer, 1);
    v->ns[i] = load_now_ns() - start;
    visitor_close(v);
  }
}

static void *visitor_thread(void *arg) {
  struct visitor *v = arg;
  bool streams = v->run != run_connect;
  if (streams) visitor_open(v);
  (void)pthread_barrier_wait(v->ready);
  v->run(v);
  (void)pthread_barrier_wait(v->ready);
  if (streams) visitor_close(v);
  return NULL;
}

static void visitor_init(struct visitor *v, const struct load_options *o) {
  char group[] = LOAD_GROUP;     /* OpenSSL's macro takes no const */
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  memset(v, 0, sizeof *v);
  v->o = o;
  if (o->port == NULL || o->sni == NULL || o->ca_file == NULL) load_die("usage", "--port, --sni and --ca are needed");
  int r = getaddrinfo(o->host, o->port, &hints, &v->to);
  if (r != 0) load_die(o->host, gai_strerror(r));
  v->ctx = SSL_CTX_new(TLS_client_method());
  if (v->ctx == NULL || SSL_CTX_set_ciphersuites(v->ctx, LOAD_SUITE) != 1 ||
      SSL_CTX_set1_groups_list(v->ctx, group) != 1 || SSL_CTX_set_min_proto_version(v->ctx, TLS1_3_VERSION) != 1) {
    load_die("TLS", "cannot be set up");
  }
  if (SSL_CTX_load_verify_locations(v->ctx, o->ca_file, NULL) != 1) load_die(o->ca_file, "holds no authority");
  SSL_CTX_set_verify(v->ctx, SSL_VERIFY_PEER, NULL);
}

/* The seconds from when all were ready to when all were done. */
static double visitors_run(const struct load_options *o, void (*run)(struct visitor *), uint64_t *ns) {
  struct visitor first, *all = calloc(o->streams, sizeof *all);
  pthread_t *threads = calloc(o->streams, sizeof *threads);
  pthread_barrier_t ready;
  if (all == NULL || threads == NULL || pthread_barrier_init(&ready, NULL, o->streams + 1) != 0)
    load_die("start", "out of memory");
  visitor_init(&first, o);
  for (unsigned i = 0; i < o->streams; i++) {
    all[i] = first;
    all[i].run = run;
    all[i].ready = &ready;
    all[i].bytes = o->bytes / o->streams;
    all[i].count = o->count / o->streams;
    if (ns != NULL) all[i].ns = ns + (size_t)i * all[i].count;
    if (pthread_create(&threads[i], NULL, visitor_thread, &all[i]) != 0) load_die("start", "no thread");
  }
  (void)pthread_barrier_wait(&ready);
  uint64_t start = load_now_ns();
  (void)pthread_barrier_wait(&ready);
  uint64_t took = load_now_ns() - start;
  for (unsigned i = 0; i < o->streams; i++) (void)pthread_join(threads[i], NULL);
  return (double)took / 1e9;
}

static int load_stream(const struct load_options *o, const char *name, void (*run)(struct visitor *)) {
  double seconds = visitors_run(o, run, NULL);
  uint64_t bytes = o->bytes / o->streams * o->streams;
  (void)printf("{\"mode\":\"%s\",\"bytes\":%llu,\"seconds\":%.4f,\"gb_per_s\":%.4f}\n", name, (unsigned long long)bytes,
               seconds, (double)bytes / 1e9 / seconds);
  return 0;
}

int load_down(const struct load_options *o) { return load_stream(o, "down", run_down); }

int load_up(const struct load_options *o) { return load_stream(o, "up", run_up); }

int load_connect(const struct load_options *o) {
  size_t n = o->count / o->streams * o->streams;
  uint64_t *ns = calloc(n + 1, sizeof *ns);
  if (ns == NULL || n == 0) load_die("connect", "wrong count");
  double seconds = visitors_run(o, run_connect, ns);
  (void)printf("{\"mode\":\"connect\",\"count\":%zu,\"seconds\":%.4f,\"per_s\":%.1f,", n, seconds, (double)n / seconds);
  load_print_percentiles(ns, n);
  (void)puts("}");
  return 0;
}

int load_ping(const struct load_options *o) {
  struct visitor v;
  uint8_t message[LOAD_PING_BYTES] = {0};
  uint64_t *ns = calloc(o->count, sizeof *ns);
  if (ns == NULL) load_die("ping", "out of memory");
  visitor_init(&v, o);
  visitor_open(&v);
  visitor_write(&v, "P\n", 2);
  for (unsigned i = 0; i < o->count; i++) {
    uint64_t start = load_now_ns();
    visitor_write(&v, message, sizeof message);
    for (size_t n = 0; n < sizeof message;) n += visitor_read(&v, message + n, sizeof message - n);
    ns[i] = load_now_ns() - start;
  }
  (void)printf("{\"mode\":\"ping\",\"count\":%u,", o->count);
  load_print_percentiles(ns, o->count);
  (void)puts("}");
  visitor_close(&v);
  return 0;
}
