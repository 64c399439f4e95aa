/* The state of an agent that goes on as its next program, of any bytes: what is taken for one lives, goes out and comes
   in again, and ends; what is not leaves nothing behind. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/link.h"
#include "agent/move.h"
#include "agent/race.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "base/descriptors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TUNNELS_MAX = 4, PARCELS_MAX = 64, TURNS = 3 };
static const char nowhere[] = "@adit-fuzz-nobody";        /* what is dialled, instead of what the input says */

struct world {
  struct adit_client client;
  struct relay_choice choice;
  struct adit_tunnel *tunnels[TUNNELS_MAX];
  size_t tunnels_n;
};

static void nobody_asks(struct adit_client *c) { (void)c; }

static void tunnel_add(struct world *w) {
  struct tunnel_request request = {.flags = TUNNEL_TCP | TUNNEL_PLAIN};
  struct err e;
  strcpy(request.app.path, nowhere);
  int rc = tunnel_new(&w->client, &request, &w->tunnels[w->tunnels_n], &e);
  ASSERT(rc == 0);
  tunnel_attach(w->tunnels[w->tunnels_n++]);
}

static void world_open(struct world *w, const struct list *parcels) {
  static const struct tunnel_handlers handlers = {.open = nobody_asks, .gone = nobody_asks};
  struct adit_client *c = &w->client;
  struct err e;
  *w = (struct world){.client = {.magic = CLIENT_MAGIC, .on_tunnel = &handlers, .choices_n = 1}};
  strcpy(w->choice.dial.path, nowhere);
  c->choices = &w->choice;
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, NULL);
  list_init(&c->handles);
  list_init(&c->tunnels);
  list_init(&c->revokes);
  descriptors_init(&c->descriptors);
  c->loop = loop_new(&e);
  ASSERT(c->loop != NULL && events_init(&c->events, &e) == 0);
  c->pool = pump_pool_new(c->loop, PUMP_SPLICE, &e);
  ASSERT(c->pool != NULL);
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it)
    if (CONTAINER_OF(it, struct parcel, node)->kind == MOVE_TUNNEL && w->tunnels_n < TUNNELS_MAX) tunnel_add(w);
}

static void world_turn(struct world *w) {
  for (int i = 0; i < TURNS; i++) {
    if (w->client.link != NULL) w->client.link->at.to = addr_unix(nowhere);
    loop_turn(w->client.loop, 0);
  }
}

static void world_close(struct world *w) {
  struct adit_client *c = &w->client;
  c->closing = true;
  loop_timer_stop(&c->retry);
  race_stop(c->race);
  link_stop(c->link, true);
  c->link = NULL;
  LIST_FOREACH(&c->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    streams_stop(&t->streams);
    tunnel_close_begin(t, 0);
  }
  while (!list_empty(&c->tunnels)) loop_turn(c->loop, 1);
  loop_turn(c->loop, 0);
  for (size_t i = 0; i < w->tunnels_n; i++) {
    ASSERT(w->tunnels[i]->streams.now == 0);
    tunnel_free(w->tunnels[i]);
  }
  pump_pool_free(c->pool);
  loop_free(c->loop);
  events_free(&c->events);
  descriptors_free(&c->descriptors);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(atomic_load(&c->relay_name));
  free(atomic_load(&c->ca_path));
  free(atomic_load(&c->relay_socket));
}

/* What lives here would live in a next program. */
static void move_again(struct world *w, bool was_whole) {
  struct list parcels;
  struct err e;
  list_init(&parcels);
  int rc = move_pack(&w->client, &parcels);
  ASSERT(rc == 0 && w->client.link == NULL);
  for (size_t i = 0; i < w->tunnels_n; i++) ASSERT(w->tunnels[i]->streams.now == 0);
  rc = move_unpack(&w->client, &parcels, true, &e);
  ASSERT(rc == 0 || !was_whole);
  parcels_free(&parcels);
}

static void take_setup(const struct list *parcels) {
  const struct parcel *p = move_find(parcels, MOVE_SETUP);
  struct setup s;
  setup_init(&s);
  if (p == NULL) return;
  struct reader r = reader_of(buf_data(&p->state), p->state.len);
  if (setup_import(&s, &r) == 0) {
    struct buf again;
    buf_init(&again, PARCEL_MAX_BYTES);
    int rc = setup_export(&s, &again);
    ASSERT(rc == 0);
    buf_free(&again);
  }
  setup_free(&s);
}

static size_t count(const struct list *parcels) {
  size_t n = 0;
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it) n++;
  return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int file = -1;
  struct world w;
  struct list parcels;
  struct err e;
  list_init(&parcels);
  descriptors_keep_in_view();
  if (file < 0) file = memfd_create("state", MFD_CLOEXEC);
  ASSERT(file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
  if (move_read(file, &parcels, true, &e) != 0) return 0;
  if (count(&parcels) <= PARCELS_MAX) {
    take_setup(&parcels);
    world_open(&w, &parcels);
    bool whole = move_unpack(&w.client, &parcels, true, &e) == 0;
    world_turn(&w);
    move_again(&w, whole);
    world_turn(&w);
    world_close(&w);
  }
  parcels_free(&parcels);
  return 0;
}
