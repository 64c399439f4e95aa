/* Raw ports in memory. Free ports stand in an array in no order: a random one is taken by swapping it with the last, so
   that the cost is the same with ten thousand free or with one. The hard thing is the clock: it may step back, and
   ports restored at start do not know the time yet; so quarantine is a list sorted by time, and those ports join it at
   the first call that tells the time. */
#include "relay/ports.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"

enum port_state { PORT_FREE, PORT_HELD, PORT_QUARANTINED, PORT_EXCLUDED };

struct port {
  struct list node;                /* in quarantine, excluded or timeless */
  struct list own;                 /* in quarantine: in its owner's list */
  enum port_state state;
  uint32_t slot;                   /* place in the free array, when free */
  int64_t free_at_s;
  uint8_t owner[TOKEN_ID_BYTES];
  char label[LABEL_CHARS + 1];
};

struct port_owner {                /* one that has ports in quarantine */
  struct list quarantine;          /* longest there first */
  size_t n;
  uint8_t id[TOKEN_ID_BYTES];
};

struct ports {
  uint16_t from, to;
  void (*random)(void *user, void *p, size_t n);
  void *user;
  struct port *table;              /* one a port of the range */
  uint16_t *free;
  uint32_t free_n;
  struct list quarantine;          /* soonest first */
  struct list excluded;            /* soonest first */
  struct list timeless;            /* quarantined, from the first known time on */
  struct map *owners;              /* id -> struct port_owner */
};

static struct port *port_of(const struct ports *p, uint16_t port) {
  return port >= p->from && port <= p->to ? &p->table[port - p->from] : NULL;
}

static uint16_t number_of(const struct ports *p, const struct port *port) {
  return (uint16_t)(p->from + (port - p->table));
}

static void free_push(struct ports *p, struct port *port) {
  port->state = PORT_FREE;
  port->slot = p->free_n;
  p->free[p->free_n++] = number_of(p, port);
}

static void free_remove(struct ports *p, struct port *port) {
  uint16_t last = p->free[--p->free_n];
  p->free[port->slot] = last;
  port_of(p, last)->slot = port->slot;
}

/* Out of memory: then that port is not counted, and waits like any other. */
static void own_add(struct ports *p, struct port *port) {
  struct port_owner *o = map_get(p->owners, port->owner);
  if (o == NULL) {
    o = calloc(1, sizeof *o);
    if (o == NULL) return;
    list_init(&o->quarantine);
    memcpy(o->id, port->owner, sizeof o->id);
    if (map_put(p->owners, o->id, o) != 0) {
      free(o);
      return;
    }
  }
  list_push_tail(&o->quarantine, &port->own);
  o->n++;
}

static void own_remove(struct ports *p, struct port *port) {
  if (list_empty(&port->own)) return;
  struct port_owner *o = map_get(p->owners, port->owner);
  list_remove(&port->own);
  if (--o->n > 0) return;
  (void)map_remove(p->owners, o->id);
  free(o);
}

/* Takes the port out of whatever it is in; the caller gives it its new state. */
static void detach(struct ports *p, struct port *port) {
  switch (port->state) {
    case PORT_FREE: free_remove(p, port); break;
    case PORT_HELD: break;
    case PORT_QUARANTINED: own_remove(p, port); /* fall through */
    case PORT_EXCLUDED: list_remove(&port->node); break;
  }
}

struct ports *ports_new(uint16_t from, uint16_t to, void (*random)(void *user, void *p, size_t n), void *user) {
  ASSERT(from >= RAW_PORT_MIN && from <= to);
  size_t n = (size_t)(to - from) + 1;
  struct ports *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->table = calloc(n, sizeof *p->table);
  p->free = calloc(n, sizeof *p->free);
  p->owners = map_new(TOKEN_ID_BYTES);
  if (p->table == NULL || p->free == NULL || p->owners == NULL) {
    ports_free(p);
    return NULL;
  }
  p->from = from;
  p->to = to;
  p->random = random;
  p->user = user;
  list_init(&p->quarantine);
  list_init(&p->excluded);
  list_init(&p->timeless);
  for (size_t i = 0; i < n; i++) {
    list_init(&p->table[i].node);
    list_init(&p->table[i].own);
    free_push(p, &p->table[i]);
  }
  return p;
}

void ports_free(struct ports *p) {
  if (p == NULL) return;
  size_t at = 0;
  const void *key;
  void *o;
  while (p->owners != NULL && map_next(p->owners, &at, &key, &o)) free(o);
  map_free(p->owners);
  free(p->table);
  free(p->free);
  free(p);
}

/* Sorted insertion from the end: what is put aside comes in the order of time, so this looks at one neighbour. */
static void wait_in(struct list *line, struct port *port, int64_t free_at_s) {
  port->free_at_s = free_at_s;
  struct list *after = line->prev;
  while (after != line && CONTAINER_OF(after, struct port, node)->free_at_s > free_at_s) after = after->prev;
  list_push_head(after, &port->node);
}

static void quarantine_insert(struct ports *p, struct port *port, int64_t free_at_s) {
  port->state = PORT_QUARANTINED;
  wait_in(&p->quarantine, port, free_at_s);
  own_add(p, port);
}

static void free_those_due(struct ports *p, struct list *line, int64_t now_s) {
  while (!list_empty(line)) {
    struct port *port = CONTAINER_OF(line->next, struct port, node);
    if (port->free_at_s > now_s) return;
    detach(p, port);
    free_push(p, port);
  }
}

static void quarantine_advance(struct ports *p, int64_t now_s) {
  while (!list_empty(&p->timeless)) {
    struct port *port = CONTAINER_OF(p->timeless.next, struct port, node);
    list_remove(&port->node);
    quarantine_insert(p, port, now_s + PORT_QUARANTINE_S);
  }
  free_those_due(p, &p->quarantine, now_s);
  free_those_due(p, &p->excluded, now_s);
}

static void set_owner(struct port *port, const uint8_t owner[TOKEN_ID_BYTES], const char *label) {
  memcpy(port->owner, owner, TOKEN_ID_BYTES);
  size_t n = strnlen(label, LABEL_CHARS);
  memcpy(port->label, label, n);
  memset(port->label + n, 0, sizeof port->label - n);
}

static void hold(struct ports *p, struct port *port, const uint8_t owner[TOKEN_ID_BYTES], const char *label) {
  detach(p, port);
  port->state = PORT_HELD;
  set_owner(port, owner, label);
}

void ports_restore(struct ports *p, uint16_t number, const uint8_t owner[TOKEN_ID_BYTES], const char *label,
                   int64_t free_at_s) {
  struct port *port = port_of(p, number);
  /* The range may have been made smaller since the lease was written. */
  if (port == NULL || port->state == PORT_HELD || port->state == PORT_EXCLUDED) return;
  detach(p, port);
  set_owner(port, owner, label);
  if (free_at_s != 0) {
    quarantine_insert(p, port, free_at_s);
    return;
  }
  port->state = PORT_QUARANTINED;
  list_push_tail(&p->timeless, &port->node);
}

int64_t ports_quarantine_left(int64_t free_at_s, int64_t wall_s) {
  if (free_at_s <= wall_s) return 0;
  return free_at_s - wall_s < PORT_QUARANTINE_S ? free_at_s - wall_s : PORT_QUARANTINE_S;
}

/* Uniform in 0..n-1: values of an incomplete last round are drawn again. */
static uint32_t random_below(struct ports *p, uint32_t n) {
  uint32_t v, unfair = (uint32_t)-n % n;       /* 2^32 mod n */
  do
    p->random(p->user, &v, sizeof v);
  while (v < unfair);
  return v % n;
}

int ports_take(struct ports *p, const uint8_t owner[TOKEN_ID_BYTES], const char *label, int64_t now_s,
               uint16_t *number) {
  quarantine_advance(p, now_s);
  if (p->free_n == 0) return ERR_LIMIT;
  *number = p->free[random_below(p, p->free_n)];
  hold(p, port_of(p, *number), owner, label);
  return 0;
}

int ports_take_own(struct ports *p, const uint8_t owner[TOKEN_ID_BYTES], const char *label, size_t own_max,
                   int64_t now_s, uint16_t *number) {
  quarantine_advance(p, now_s);
  const struct port_owner *o = map_get(p->owners, owner);
  if (o == NULL || o->n <= own_max) return ERR_NOT_NOW;
  struct port *port = CONTAINER_OF(o->quarantine.next, struct port, own);
  *number = number_of(p, port);
  hold(p, port, owner, label);
  return 0;
}

int ports_take_back(struct ports *p, uint16_t number, const uint8_t owner[TOKEN_ID_BYTES], const char *label,
                    int64_t now_s) {
  struct port *port = port_of(p, number);
  if (port == NULL) return ERR_USAGE;
  quarantine_advance(p, now_s);
  if (port->state == PORT_HELD || port->state == PORT_EXCLUDED) return ERR_CONFLICT;
  if (port->state == PORT_QUARANTINED &&
      (memcmp(port->owner, owner, TOKEN_ID_BYTES) != 0 || strcmp(port->label, label) != 0))
    return ERR_CONFLICT;
  hold(p, port, owner, label);
  return 0;
}

void ports_release(struct ports *p, uint16_t number, int64_t now_s) {
  struct port *port = port_of(p, number);
  if (port == NULL || port->state != PORT_HELD) return;
  detach(p, port);
  quarantine_insert(p, port, now_s + PORT_QUARANTINE_S);
}

void ports_forget(struct ports *p, uint16_t number) {
  struct port *port = port_of(p, number);
  if (port == NULL || port->state != PORT_HELD) return;
  detach(p, port);
  free_push(p, port);
}

void ports_exclude(struct ports *p, uint16_t number, int64_t now_s) {
  struct port *port = port_of(p, number);
  if (port == NULL) return;
  detach(p, port);
  port->state = PORT_EXCLUDED;
  wait_in(&p->excluded, port, now_s + PORT_EXCLUDED_S);
}
