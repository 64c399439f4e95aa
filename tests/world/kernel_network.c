#include "kernel_network.h"

#include <string.h>

#include "base/base.h"
#include "kernel_tcp.h"

enum { PORT_FROM = 32768, PORT_TO = 60999, LOCALHOST_NET = 127 };

static const struct weather fine = {.delay_min_ns = 100 * WORLD_NS_PER_US, .delay_max_ns = 20 * WORLD_NS_PER_MS};
struct weather weather;

static struct host *hosts[NETWORK_HOSTS_MAX];
static unsigned hosts_n;
static uint64_t cuts[NETWORK_HOSTS_MAX];   /* by number, a bit for each other's */

void network_calm(void) { weather = fine; }

void network_begin(void) {
  network_calm();
  hosts_n = 0;
  memset(cuts, 0, sizeof cuts);
  connections_begin();
}

void network_join(struct host *h) {
  struct host_net *n = world_alloc(sizeof *n);
  ASSERT(hosts_n < NETWORK_HOSTS_MAX);
  n->host = h;
  n->number = hosts_n;
  n->next_port = PORT_FROM;
  for (int i = 0; i < PORT_LISTS; i++) list_init(&n->ports[i]);
  list_init(&n->names);
  h->net = n;
  hosts[hosts_n++] = h;
}

bool network_is_loopback(uint32_t ip) { return ip >> 24 == LOCALHOST_NET; }

struct host *network_find(const struct host *from, uint32_t ip) {
  if (network_is_loopback(ip)) ip = from->ip;
  for (unsigned i = 0; i < hosts_n; i++) {
    if (hosts[i]->ip == ip) return hosts[i];
  }
  return NULL;
}

bool network_reaches(const struct host *a, const struct host *b) {
  return !a->net->down && !b->net->down && (cuts[a->net->number] >> b->net->number & 1) == 0;
}

static uint64_t between(uint64_t min, uint64_t max) { return max > min ? min + world_below(max - min + 1) : min; }

uint64_t network_delay_ns(const struct host *a, const struct host *b) {
  return a == b ? between(0, weather.loopback_delay_max_ns) : between(weather.delay_min_ns, weather.delay_max_ns);
}

/* Ports */

struct list *network_port_list(const struct host *h, uint16_t port) { return &h->net->ports[port % PORT_LISTS]; }

static bool port_is_used(const struct host *h, uint16_t port) {
  LIST_FOREACH(network_port_list(h, port), it) {
    if (CONTAINER_OF(it, struct tcp, of_port)->port == port) return true;
  }
  return false;
}

uint16_t network_free_port(struct host *h) {
  for (int i = PORT_FROM; i <= PORT_TO; i++) {
    uint16_t port = h->net->next_port;
    h->net->next_port = port == PORT_TO ? PORT_FROM : (uint16_t)(port + 1);
    if (!port_is_used(h, port)) return port;
  }
  return 0;
}

/* What goes wrong */

/* Whoever has a connection that nothing passes on any more is about to notice. */
static void watch_silent(void) {
  LIST_FOREACH(&connections, it) {
    struct connection *c = CONTAINER_OF(it, struct connection, of_all);
    if (connection_passes(c)) continue;
    for (int i = 0; i < 2; i++) {
      if (c->end[i] != NULL) tcp_watch(c->end[i]);
    }
  }
}

void network_cut(struct host *a, struct host *b, bool cut) {
  uint64_t bit_a = UINT64_C(1) << a->net->number, bit_b = UINT64_C(1) << b->net->number;
  world_trace(cut ? "cut" : "joined", a->ip, b->ip);
  cuts[a->net->number] = cut ? cuts[a->net->number] | bit_b : cuts[a->net->number] & ~bit_b;
  cuts[b->net->number] = cut ? cuts[b->net->number] | bit_a : cuts[b->net->number] & ~bit_a;
  if (cut) watch_silent();
}

static void vanish_connections(const struct host *h) {
  LIST_FOREACH(&connections, it) {
    struct connection *c = CONTAINER_OF(it, struct connection, of_all);
    connection_hold(c);
    for (int i = 0; i < 2; i++) {
      if (c->host[i] == h && c->end[i] != NULL) tcp_vanish(c->end[i]);
    }
    connection_release(c);
  }
}

void network_host_down(struct host *h) {
  world_trace("host is down", h->ip, 0);
  h->net->down = true;
  vanish_connections(h);
  for (int i = 0; i < PORT_LISTS; i++) {
    struct list *ports = &h->net->ports[i];
    while (!list_empty(ports)) tcp_vanish(CONTAINER_OF(ports->next, struct tcp, of_port));
  }
  watch_silent();
}

void network_host_up(struct host *h) {
  world_trace("host is up", h->ip, 0);
  h->net->down = false;
}

bool network_host_is_up(const struct host *h) { return !h->net->down; }

static struct connection *pick(void) {
  struct connection *found = NULL;
  uint64_t n = 0;
  LIST_FOREACH(&connections, it) {
    struct connection *c = CONTAINER_OF(it, struct connection, of_all);
    bool stands = c->handshake == HANDSHAKE_DONE && c->end[0] != NULL && c->end[1] != NULL;
    if (stands && c->host[0] != c->host[1] && world_below(++n) == 0) found = c;
  }
  return found;
}

bool network_reset_one(void) {
  struct connection *c = pick();
  if (c == NULL) return false;
  world_trace("reset on the way", c->id, 0);
  connection_hold(c);
  for (int i = 0; i < 2; i++) {
    if (c->end[i] != NULL) tcp_was_reset(c->end[i]);
  }
  connection_release(c);
  return true;
}

bool network_stall_one(void) {
  struct connection *c = pick();
  if (c == NULL) return false;
  world_trace("stalled", c->id, 0);
  c->stalled = true;
  watch_silent();
  return true;
}

void network_unstall(void) {
  world_trace("unstalled", 0, 0);
  LIST_FOREACH(&connections, it) CONTAINER_OF(it, struct connection, of_all)->stalled = false;
}

void network_heal(void) {
  memset(cuts, 0, sizeof cuts);
  network_unstall();
}

unsigned network_connections(void) { return connections_n; }
