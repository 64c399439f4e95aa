/* The check blocks on DNS and on a connection, so it has a thread of its own, which owns copies of all it needs. */
#include "relay/name_check.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/shortage.h"
#include "base/text.h"
#include "loop/net.h"
#include "tls/tls_conn.h"
#include "wire/frame.h"

enum { NAME_CHECK_TIMEOUT_MS = 5000, NAME_CHECK_CHUNK_BYTES = 4096 };

struct name_check {
  char domain[HOST_NAME_MAX_CHARS + 1];
  char name[HOST_NAME_MAX_CHARS + 1];
  uint16_t port;
  struct pin pin;
};

static int wait_for(int fd, short events) {
  struct pollfd p = {.fd = fd, .events = events};
  return poll(&p, 1, NAME_CHECK_TIMEOUT_MS) == 1 ? 0 : ERR_TIMEOUT;
}

static int send_output(int fd, struct tls_conn *t) {
  size_t n;
  const uint8_t *out;
  while (out = tls_conn_output(t, &n), n > 0) {
    ssize_t sent = net_send(fd, out, n);
    if (sent == NET_AGAIN && wait_for(fd, POLLOUT) == 0) continue;
    if (sent < 0) return ERR_CLOSED;
    tls_conn_output_sent(t, (size_t)sent);
  }
  return 0;
}

/* A control link's handshake, as an agent would make it: only this relay, or one with its keys, can complete it. */
static int shake(int fd, struct tls_conn *t, struct err *e) {
  uint8_t chunk[NAME_CHECK_CHUNK_BYTES];
  enum tls_status status = tls_conn_feed(t, NULL, 0, e);
  while (status == TLS_GOING_ON) {
    if (send_output(fd, t) != 0) return err_set(e, ERR_CLOSED, "the connection was closed");
    ssize_t n = net_recv(fd, chunk, size_min(sizeof chunk, tls_conn_want(t)));
    if (n == NET_AGAIN) {
      if (wait_for(fd, POLLIN) != 0) return err_set(e, ERR_TIMEOUT, "no answer");
      continue;
    }
    if (n <= 0) return err_set(e, ERR_CLOSED, "the connection was closed");
    status = tls_conn_feed(t, chunk, (size_t)n, e);
  }
  return status == TLS_DONE ? 0 : e->code;
}

static int check_address(const struct name_check *c, const struct addr *at, struct err *e) {
  struct tls_client *client = NULL;
  struct tls_conn *t = NULL;
  int fd = net_connect(at, e);
  int rc = fd < 0 ? fd : wait_for(fd, POLLOUT);
  if (rc == 0 && net_connect_result(fd) != 0) rc = err_set(e, ERR_CLOSED, "the connection was refused");
  if (rc == 0) rc = (client = tls_client_new(NULL, e)) != NULL ? 0 : e->code;
  if (rc == 0) rc = (t = tls_conn_client(client, c->domain, &c->pin, WIRE_ALPN, e)) != NULL ? 0 : e->code;
  if (rc == 0) rc = shake(fd, t, e);
  tls_conn_free(t);
  tls_client_free(client);
  net_close(fd < 0 ? -1 : fd);
  return rc;
}

static void check(const struct name_check *c) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  char port[8], where[64] = "";
  struct err e = {0};
  (void)snprintf(port, sizeof port, "%u", c->port);
  errno = 0;
  int rc = getaddrinfo(c->name, port, &hints, &list);
  if (rc != 0) {
    const char *remedy = shortage_remedy(errno);
    log_event(LOG_WARN, "name_does_not_resolve", "name", c->name, "error", gai_strerror(rc), "what_to_do",
              remedy != NULL ? remedy : "make a wildcard DNS record (*.DOMAIN) that points to this relay", NULL);
    return;
  }
  for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
    struct addr at;
    memset(&at, 0, sizeof at);
    if (a->ai_addrlen > sizeof at.u) continue;
    memcpy(&at.u, a->ai_addr, a->ai_addrlen);
    if (check_address(c, &at, &e) == 0) continue;
    addr_format(&at, where, sizeof where);
    log_event(LOG_WARN, "name_leads_elsewhere", "name", c->name, "address", where, "error", e.text, "what_to_do",
              "point the wildcard DNS record (*.DOMAIN) at this relay, or open its port in the firewall", NULL);
  }
  freeaddrinfo(list);
}

static void *name_check_main(void *arg) {
  check(arg);
  free(arg);
  return NULL;
}

void name_check_start(struct relay *r) {
  struct name_check *c = calloc(1, sizeof *c);
  uint8_t random[LABEL_RANDOM_BYTES];
  char label[LABEL_CHARS + 1];
  pthread_t thread;
  struct err e;
  if (c == NULL) return;
  c->port = r->public_port;
  if (random_bytes(random, sizeof random) != 0 || certs_pin(r->certs, &c->pin, &e) != 0) goto fail;
  base32_encode(random, sizeof random, label);
  (void)snprintf(c->domain, sizeof c->domain, "%s", r->options->domain);
  int n = snprintf(c->name, sizeof c->name, "%s.%s", label, r->options->domain);
  if (n < 0 || (size_t)n >= sizeof c->name || pthread_create(&thread, NULL, name_check_main, c) != 0) goto fail;
  (void)pthread_detach(thread);
  return;
fail:
  free(c);
}
