/* Looking up names. The hard thing: getaddrinfo cannot be interrupted, so a cancelled lookup goes on in its thread and
   must find nothing of ours but its own request. Whoever comes second, the thread or the canceller, frees that. */
#include "agent/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/detached.h"
#include "base/shortage.h"

struct resolve {
  struct loop_msg msg;
  pthread_mutex_t lock;
  struct loop *loop;               /* NULL once cancelled */
  bool posted;
  struct host_port host;
  resolve_fn *fn;
  void *user;
  struct addr addrs[RESOLVED_MAX];
  size_t n;
  struct err err;
  int shortage;                    /* errno, when that is why; for the loop's thread to note */
};

size_t resolve_now(const struct host_port *hp, struct addr out[RESOLVED_MAX]) {
  char text[300];
  /* RFC 6761 6.3: localhost is always the loopback address, whatever a resolver says. */
  if (strcasecmp(hp->host, "localhost") == 0) {
    snprintf(text, sizeof text, "127.0.0.1:%u", hp->port);
    if (addr_parse(text, &out[0], NULL) != 0) return 0;
    snprintf(text, sizeof text, "[::1]:%u", hp->port);
    return addr_parse(text, &out[1], NULL) == 0 ? 2 : 1;
  }
  if (!host_is_ip(hp->host)) return 0;
  host_port_format(hp, text, sizeof text);
  return addr_parse(text, &out[0], NULL) == 0 ? 1 : 0;
}

static void resolve_free(struct resolve *r) {
  pthread_mutex_destroy(&r->lock);
  free(r);
}

/* In the loop's thread, or with l == NULL when the loop is freed. */
static void resolve_deliver(struct loop *l, struct loop_msg *m) {
  struct resolve *r = CONTAINER_OF(m, struct resolve, msg);
  pthread_mutex_lock(&r->lock);   /* pairs with the thread's unlock: it is done with r */
  bool wanted = r->loop != NULL && l != NULL;
  pthread_mutex_unlock(&r->lock);
  if (wanted) (void)shortage_note(r->shortage);
  if (wanted) r->fn(r->user, r->addrs, r->n, &r->err);
  resolve_free(r);
}

static void resolve_lookup(struct resolve *r) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
  errno = 0;
  int g = getaddrinfo(r->host.host, NULL, &hints, &list);
  r->shortage = g == 0 ? 0 : errno;
  if (g != 0 && shortage_remedy(r->shortage) != NULL) {
    err_set_errno(&r->err, "it cannot be looked up");
    return;
  }
  if (g != 0) {
    err_set(&r->err, ERR_IO, "%s (check the name, and that DNS works here)", gai_strerror(g));
    return;
  }
  for (const struct addrinfo *a = list; a != NULL && r->n < RESOLVED_MAX; a = a->ai_next) {
    if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof(struct addr)) continue;
    memcpy(&r->addrs[r->n].u, a->ai_addr, a->ai_addrlen);
    addr_set_port(&r->addrs[r->n++], r->host.port);
  }
  freeaddrinfo(list);
  if (r->n == 0) err_set(&r->err, ERR_IO, "it has no address (check the name)");
}

static void *resolve_thread(void *arg) {
  struct resolve *r = arg;
  resolve_lookup(r);
  pthread_mutex_lock(&r->lock);
  bool wanted = r->loop != NULL;
  r->posted = wanted;
  if (wanted) loop_post(r->loop, &r->msg);
  pthread_mutex_unlock(&r->lock);
  if (!wanted) resolve_free(r);
  return NULL;
}

struct resolve *resolve_start(struct loop *l, const struct host_port *hp, resolve_fn *fn, void *user) {
  struct resolve *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  pthread_mutex_init(&r->lock, NULL);
  r->msg.fn = resolve_deliver;
  r->loop = l;
  r->host = *hp;
  r->fn = fn;
  r->user = user;
  if (detached_start("adit-resolve", resolve_thread, r) == 0) return r;
  resolve_free(r);
  return NULL;
}

void resolve_cancel(struct resolve *r) {
  if (r == NULL) return;
  pthread_mutex_lock(&r->lock);
  r->loop = NULL;                  /* the thread frees r; or, when posted, the message does */
  pthread_mutex_unlock(&r->lock);
}
