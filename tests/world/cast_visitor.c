/* Visitors: each connects once, talks and leaves. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "cast.h"
#include "talk.h"

/* Whoever is told nothing any more gives up after a while. */
static void keep_alive(int fd) {
  static const int options[][3] = {{SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 5},
                                   {IPPROTO_TCP, TCP_KEEPINTVL, 1}, {IPPROTO_TCP, TCP_KEEPCNT, 5}};
  for (size_t i = 0; i < ARRAY_LEN(options); i++)
    (void)setsockopt(fd, options[i][0], options[i][1], &options[i][2], sizeof options[i][2]);
}

static int connect_to(uint16_t port) {
  const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(host_find(CAST_DOMAIN)->ip)};
  int error = 0;
  socklen_t n = sizeof error;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  keep_alive(fd);
  if (connect(fd, (const struct sockaddr *)(const void *)&to, sizeof to) == 0) return fd;
  struct pollfd p = {.fd = fd, .events = POLLOUT};
  bool ended = errno == EINPROGRESS && poll(&p, 1, TALK_PATIENCE_MS) == 1 &&
               getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0;
  if (ended && error == 0) return fd;
  (void)close(fd);
  return -1;
}

static void note(enum talk_end end) {
  if (end == TALK_WHOLE) cast.whole++;
  else cast.broken++;
  world_trace("visitor leaves", end, cast.whole);
}

int cast_raw_visitor(void *arg) {
  (void)arg;
  struct wire w = {.fd = connect_to(cast.raw_port)};
  if (w.fd < 0) {
    cast.unreached++;
    return EXIT_FAILURE;
  }
  note(talk_as_visitor(&w, cast.talk_max_bytes, cast.breaks_off_one_in));
  (void)close(w.fd);
  return EXIT_SUCCESS;
}

/* Certificates are the tests' business of elsewhere. */
static SSL_CTX *context(void) {
  static SSL_CTX *ctx;
  if (ctx == NULL) ctx = SSL_CTX_new(TLS_client_method());
  ASSERT(ctx != NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return ctx;
}

int cast_tls_visitor(void *arg) {
  (void)arg;
  struct wire w = {.fd = connect_to(CAST_RELAY_PORT)};
  if (w.fd >= 0) w.ssl = talk_tls(context(), w.fd, cast.tunnel_host);
  if (w.ssl == NULL) {
    cast.unreached++;
    return EXIT_FAILURE;
  }
  note(talk_as_visitor(&w, cast.talk_max_bytes, cast.breaks_off_one_in));
  SSL_free(w.ssl);
  (void)close(w.fd);
  return EXIT_SUCCESS;
}
