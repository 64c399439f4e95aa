#include "load_visitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool visitor_connect(struct visitor *v) {
  int on = 1;
  v->fd = socket(v->to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(v->o->source)};
  if (v->fd < 0) load_die("socket", strerror(errno));
  if (v->to->ai_family == AF_INET && v->o->source != INADDR_LOOPBACK &&
      bind(v->fd, (struct sockaddr *)&from, sizeof from) != 0)
    load_die("bind", strerror(errno));
  if (connect(v->fd, v->to->ai_addr, v->to->ai_addrlen) != 0) return false;
  (void)setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return true;
}

static bool visitor_handshake(struct visitor *v) {
  v->ssl = SSL_new(v->ctx);
  if (v->ssl == NULL || SSL_set_fd(v->ssl, v->fd) != 1 || SSL_set_tlsext_host_name(v->ssl, v->o->sni) != 1 ||
      SSL_set1_host(v->ssl, v->o->sni) != 1) {
    load_die("TLS", "out of memory");
  }
  return SSL_connect(v->ssl) == 1;
}

static void visitor_free(struct visitor *v) {
  SSL_free(v->ssl);
  v->ssl = NULL;
  (void)close(v->fd);
}

bool visitor_try(struct visitor *v) {
  if (visitor_connect(v) && (v->ctx == NULL || visitor_handshake(v))) return true;
  visitor_free(v);
  return false;
}

void visitor_open(struct visitor *v) {
  if (!visitor_connect(v)) load_die("connect", strerror(errno));
  if (v->ctx != NULL && !visitor_handshake(v))
    load_die("TLS handshake", X509_verify_cert_error_string(SSL_get_verify_result(v->ssl)));
}

void visitor_close(struct visitor *v) {
  if (v->ssl != NULL) (void)SSL_shutdown(v->ssl);
  visitor_free(v);
}

void visitor_write(struct visitor *v, const void *p, size_t n) {
  const uint8_t *at = p;
  while (n > 0) {
    ssize_t r = v->ssl != NULL ? SSL_write(v->ssl, at, (int)n) : send(v->fd, at, n, MSG_NOSIGNAL);
    if (r <= 0) load_die("write", "the connection broke");
    at += r;
    n -= (size_t)r;
  }
}

ssize_t visitor_read_some(struct visitor *v, void *p, size_t n) {
  return v->ssl != NULL ? SSL_read(v->ssl, p, (int)n) : recv(v->fd, p, n, 0);
}

size_t visitor_read(struct visitor *v, void *p, size_t n) {
  ssize_t r = visitor_read_some(v, p, n);
  if (r <= 0) load_die("read", "the connection ended early");
  return (size_t)r;
}

void visitor_ask(struct visitor *v, char kind) {
  char line[LOAD_LINE_MAX_BYTES];
  int n = snprintf(line, sizeof line, "%c %llu\n", kind, (unsigned long long)v->bytes);
  visitor_write(v, line, (size_t)n);
}

static SSL_CTX *visitor_tls(const struct load_options *o) {
  char group[] = LOAD_GROUP;     /* OpenSSL's macro takes no const */
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  if (ctx == NULL || SSL_CTX_set_ciphersuites(ctx, LOAD_SUITE) != 1 || SSL_CTX_set1_groups_list(ctx, group) != 1 ||
      SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
    load_die("TLS", "cannot be set up");
  }
  if (SSL_CTX_load_verify_locations(ctx, o->ca_file, NULL) != 1) load_die(o->ca_file, "holds no authority");
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
  return ctx;
}

void visitor_init(struct visitor *v, const struct load_options *o) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  memset(v, 0, sizeof *v);
  v->o = o;
  if (o->port == NULL || (!o->plain && (o->sni == NULL || o->ca_file == NULL)))
    load_die("usage", "--port, and --sni and --ca or --plain, are needed");
  int r = getaddrinfo(o->host, o->port, &hints, &v->to);
  if (r != 0) load_die(o->host, gai_strerror(r));
  if (!o->plain) v->ctx = visitor_tls(o);
}
