/* See the header. The hard thing: what was exported is nowhere but in its parcel, so whatever fails after the first has
   to take all of them in again, by the same way as the next program. */
#include "agent/move.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/embedded.h"
#include "agent/fork_gate.h"
#include "agent/race.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "agent/warm.h"

enum { EXPORT_VERSION = 1, NUMBER_BYTES = 2, CLIENT_EXPORT_MAX_BYTES = 16384 };
_Static_assert((int)STREAM_EXPORT_MAX_BYTES + NUMBER_BYTES <= (int)PARCEL_MAX_BYTES &&
                   (int)CONTROL_EXPORT_MAX_BYTES <= (int)PARCEL_MAX_BYTES,
               "whatever is exported fits");

const struct parcel *move_find(const struct list *parcels, enum move_kind kind) {
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it) {
    const struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    if (p->kind == kind) return p;
  }
  return NULL;
}

/* ---- what a client knows beside its parts ---- */

static void write_choices(const struct adit_client *c, struct writer *w) {
  write_u16(w, (uint16_t)c->choices_n);
  for (size_t i = 0; i < c->choices_n; i++) {
    write_u8(w, c->choices[i].refused);
    write_u8(w, c->choices[i].tried);
    write_u8(w, c->choices[i].wrap_told);
  }
}

static void write_name(const char *text, struct writer *w) {
  write_u8(w, text != NULL);
  if (text != NULL) write_vec16(w, text, strlen(text));
}

static void client_facts_write(const struct adit_client *c, struct writer *w) {
  uint64_t now_ms = loop_now_ms(c->loop);
  write_u8(w, EXPORT_VERSION);
  write_text8(w, c->home);
  write_choices(c, w);
  write_u32(w, c->last_bind_id);
  write_u8(w, c->waiting);
  write_u8(w, c->interrupted);
  write_vec16(w, c->warned, strlen(c->warned));
  write_u8(w, loop_timer_is_set(&c->retry));
  write_u64(w, loop_timer_is_set(&c->retry) && c->retry.at_ms > now_ms ? c->retry.at_ms - now_ms : 0);
  write_u64(w, c->backoff.since_ms == 0 ? UINT64_MAX : now_ms - c->backoff.since_ms);
  write_u64(w, c->backoff.ceiling_ms);
  write_u32(w, (uint32_t)c->trouble.code);
  write_vec16(w, c->trouble.text, strlen(c->trouble.text));
  write_name(atomic_load(&c->relay_name), w);
  write_name(atomic_load(&c->ca_path), w);
  write_name(atomic_load(&c->relay_socket), w);
}

static void read_choices(struct adit_client *c, struct reader *r) {
  if (read_u16(r) != c->choices_n) r->bad = true;
  for (size_t i = 0; i < c->choices_n; i++) {
    c->choices[i].refused = read_flag(r);
    c->choices[i].tried = read_flag(r);
    c->choices[i].wrap_told = read_flag(r);
  }
}

/* Into to[cap], with a NUL. */
static void read_long_text(struct reader *r, char *to, size_t cap) {
  struct reader v = read_vec16(r);
  if (v.left >= cap) r->bad = true;
  if (r->bad) return;
  to[v.left] = '\0';
  read_copy(&v, to, v.left);
}

static int read_name(_Atomic(char *) *to, struct reader *r) {
  if (!read_flag(r)) return r->bad ? ERR_SYNTAX : 0;
  struct reader v = read_vec16(r);
  if (r->bad || memchr(v.at, 0, v.left) != NULL) return ERR_SYNTAX;
  char *text = strndup((const char *)v.at, v.left);
  if (text == NULL) return ERR_NOMEM;
  free(atomic_exchange(to, text));
  return 0;
}

/* Of the host's threads too, under the lock. */
static void read_trouble(struct adit_client *c, struct reader *r) {
  pthread_mutex_lock(&c->lock);
  c->trouble.code = (int)read_u32(r);
  read_long_text(r, c->trouble.text, sizeof c->trouble.text);
  pthread_mutex_unlock(&c->lock);
}

static int client_facts_read(struct adit_client *c, struct reader *r) {
  uint64_t now_ms = loop_now_ms(c->loop);
  if (read_u8(r) != EXPORT_VERSION) return ERR_SYNTAX;
  read_text8(r, c->home, sizeof c->home);
  read_choices(c, r);
  c->last_bind_id = read_u32(r);
  c->waiting = read_flag(r);
  c->interrupted = read_flag(r);
  read_long_text(r, c->warned, sizeof c->warned);
  bool retries = read_flag(r);
  uint64_t retry_ms = read_u64(r), since_ms = read_u64(r);
  c->backoff = (struct backoff){.since_ms = since_ms < now_ms ? now_ms - since_ms : 0, .ceiling_ms = read_u64(r)};
  read_trouble(c, r);
  if (r->bad || retry_ms > UINT32_MAX || c->backoff.ceiling_ms > UINT32_MAX) return ERR_SYNTAX;
  int rc = read_name(&c->relay_name, r);
  if (rc == 0) rc = read_name(&c->ca_path, r);
  if (rc == 0) rc = read_name(&c->relay_socket, r);
  if (rc == 0 && !reader_done(r)) rc = ERR_SYNTAX;
  return rc == 0 && retries ? client_retry_in(c, retry_ms) : rc;
}

/* ---- out ---- */

static size_t tunnels_n(const struct adit_client *c) {
  size_t n = 0;
  LIST_FOREACH((struct list *)(uintptr_t)&c->tunnels, it) n++;
  return n;
}

static struct adit_tunnel *tunnel_at(struct adit_client *c, size_t number) {
  LIST_FOREACH(&c->tunnels, it)
    if (number-- == 0) return CONTAINER_OF(it, struct adit_tunnel, node);
  return NULL;
}

static bool keeps_are_written(const struct adit_client *c) {
  LIST_FOREACH((struct list *)(uintptr_t)&c->tunnels, it)
    if (keep_is_writing(&CONTAINER_OF(it, struct adit_tunnel, node)->keep)) return false;
  return true;
}

static bool is_calling(const struct adit_client *c) {
  LIST_FOREACH((struct list *)(uintptr_t)&c->tunnels, it)
    if (streams_are_calling(&CONTAINER_OF(it, struct adit_tunnel, node)->streams)) return true;
  return false;
}

/* Something that would have to begin again. */
static bool is_amid(const struct adit_client *c) {
  if (c->race != NULL || (c->link != NULL && !link_is_up(c->link))) return true;
  if (c->link != NULL && warm_are_coming(c->link)) return true;
  if (c->embedded != NULL && !embedded_is_ready(c->embedded)) return true;
  return is_calling(c) || !keeps_are_written(c);
}

/* What cannot begin again. */
static int check_may_move(const struct adit_client *c, struct err *e) {
  if (c->failed != NULL || c->closing || c->cut_off)
    return err_set(e, ERR_NOT_NOW, "the agent is at its end (start it again)");
  if (c->embedded != NULL && !embedded_is_ready(c->embedded))
    return err_set(e, ERR_NOT_NOW, "the embedded relay is not up (try again later)");
  if (!keeps_are_written(c))
    return err_set(e, ERR_NOT_NOW, "the disk has not taken the keep file yet (try again later)");
  return 0;
}

static void drop_what_is_amid(struct adit_client *c) {
  race_stop(c->race);
  c->race = NULL;
  if (c->link == NULL || link_is_up(c->link)) return;
  link_stop(c->link, false);
  c->link = NULL;
  LIST_FOREACH(&c->tunnels, it) tunnel_detach_link(CONTAINER_OF(it, struct adit_tunnel, node));
}

static int pack_setup(struct adit_client *c, struct list *to) {
  struct parcel *p = parcel_new(MOVE_SETUP);
  return p == NULL ? ERR_NOMEM : parcel_end(p, setup_export(&c->setup, &p->state), 0, to);
}

static int pack_client(struct adit_client *c, struct list *to) {
  struct parcel *p = parcel_new(MOVE_CLIENT);
  uint8_t *at = p == NULL ? NULL : buf_reserve(&p->state, CLIENT_EXPORT_MAX_BYTES);
  if (at == NULL) {
    parcel_free(p);
    return ERR_NOMEM;
  }
  struct writer w = writer_of(at, CLIENT_EXPORT_MAX_BYTES);
  client_facts_write(c, &w);
  buf_added(&p->state, w.len);
  return parcel_end(p, w.bad ? ERR_LIMIT : 0, 0, to);
}

static int pack_tunnel(const struct adit_tunnel *t, size_t number, struct list *to) {
  struct parcel *p = parcel_new(MOVE_TUNNEL);
  uint8_t *at = p == NULL ? NULL : buf_reserve(&p->state, NUMBER_BYTES + TUNNEL_EXPORT_MAX_BYTES);
  if (at == NULL) {
    parcel_free(p);
    return ERR_NOMEM;
  }
  struct writer w = writer_of(at, NUMBER_BYTES + TUNNEL_EXPORT_MAX_BYTES);
  write_u16(&w, (uint16_t)number);
  tunnel_export(t, &w);
  ASSERT(!w.bad);
  buf_added(&p->state, w.len);
  return parcel_end(p, 0, 0, to);
}

/* A copy of its descriptor, so that there is nothing to take back. */
static int pack_embedded(const struct adit_client *c, struct list *to) {
  struct parcel *p = parcel_new(MOVE_EMBEDDED);
  uint8_t *at = p == NULL ? NULL : buf_reserve(&p->state, EMBEDDED_EXPORT_BYTES);
  int fd = at == NULL ? -1 : fcntl(embedded_fd(c->embedded), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (fd < 0) {
    parcel_free(p);
    return ERR_NOMEM;
  }
  struct writer w = writer_of(at, EMBEDDED_EXPORT_BYTES);
  embedded_export(c->embedded, &w);
  ASSERT(!w.bad);
  buf_added(&p->state, w.len);
  p->fds[0] = fd;
  return parcel_end(p, 0, 1, to);
}

static int pack_facts(struct adit_client *c, struct list *to) {
  size_t number = 0;
  int rc = pack_setup(c, to);
  if (rc == 0) rc = pack_client(c, to);
  LIST_FOREACH(&c->tunnels, it)
    if (rc == 0) rc = pack_tunnel(CONTAINER_OF(it, struct adit_tunnel, node), number++, to);
  return rc == 0 && c->embedded != NULL ? pack_embedded(c, to) : rc;
}

/* ERR_CLOSED: there was none left. */
static int pack_one_warm(struct link *l, struct list *to) {
  struct parcel *p = parcel_new(MOVE_WARM);
  return p == NULL ? ERR_NOMEM : parcel_end(p, warm_pack(l, &p->state, &p->fds[0]), 1, to);
}

static int pack_link(struct adit_client *c, struct list *to) {
  if (c->link == NULL) return 0;
  int rc = 0;
  while (rc == 0) rc = pack_one_warm(c->link, to);
  struct parcel *p = rc == ERR_CLOSED ? parcel_new(MOVE_LINK) : NULL;
  if (p == NULL) return rc == ERR_CLOSED ? ERR_NOMEM : rc;
  rc = parcel_end(p, control_pack(c->link, &p->state, &p->fds[0]), 1, to);
  if (rc == 0) c->link = NULL;
  return rc;
}

/* ERR_CLOSED: there was none left. */
static int pack_one_stream(struct adit_tunnel *t, size_t number, struct list *to) {
  uint8_t bytes[NUMBER_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct parcel *p = parcel_new(MOVE_STREAM);
  size_t fds_n = 0;
  write_u16(&w, (uint16_t)number);
  if (p == NULL || buf_append(&p->state, bytes, sizeof bytes) != 0) {
    parcel_free(p);
    return ERR_NOMEM;
  }
  int rc = stream_pack(&t->streams, &p->state, p->fds, &fds_n);
  return parcel_end(p, rc, fds_n, to);
}

static int pack_streams(struct adit_client *c, struct list *to) {
  size_t number = 0;
  LIST_FOREACH(&c->tunnels, it) {
    int rc = 0;
    while (rc == 0) rc = pack_one_stream(CONTAINER_OF(it, struct adit_tunnel, node), number, to);
    if (rc != ERR_CLOSED) return rc;
    number++;
  }
  return 0;
}

static int pack_lingers(struct adit_client *c, struct list *to) {
  for (;;) {
    struct parcel *p = parcel_new(MOVE_LINGER);
    uint8_t *at = p == NULL ? NULL : buf_reserve(&p->state, 1);
    bool resets = false;
    int fd = at == NULL ? -1 : pump_linger_take(c->pool, &resets);
    if (fd < 0) {
      parcel_free(p);
      return at == NULL ? ERR_NOMEM : 0;
    }
    *at = resets;
    buf_added(&p->state, 1);
    p->fds[0] = fd;
    (void)parcel_end(p, 0, 1, to);
  }
}

int move_pack(struct adit_client *c, struct list *to) {
  drop_what_is_amid(c);
  int rc = pack_facts(c, to);
  if (rc == 0) rc = pack_link(c, to);
  if (rc == 0) rc = pack_streams(c, to);
  return rc == 0 ? pack_lingers(c, to) : rc;
}

/* ---- in ---- */

static int unpack_tunnel(struct adit_client *c, struct reader *r) {
  struct adit_tunnel *t = tunnel_at(c, read_u16(r));
  return t == NULL || r->bad ? ERR_SYNTAX : tunnel_import(t, r);
}

static int unpack_embedded(struct adit_client *c, struct reader *r, int fd) {
  return c->embedded != NULL ? ERR_SYNTAX : embedded_import(c, c->setup.embedded, r, fd, &c->embedded);
}

static int unpack_link(struct adit_client *c, const struct reader *r, int fd) {
  if (c->link != NULL) return ERR_SYNTAX;
  int rc = control_unpack(c, &client_link_handlers, r->at, r->left, fd, &c->link);
  if (rc == 0) return 0;
  LIST_FOREACH(&c->tunnels, it) tunnel_detach_link(CONTAINER_OF(it, struct adit_tunnel, node));
  return rc;
}

static int unpack_stream(struct adit_client *c, struct reader *r, const struct parcel *p) {
  struct adit_tunnel *t = tunnel_at(c, read_u16(r));
  return t == NULL || r->bad ? ERR_SYNTAX : stream_unpack(t, r->at, r->left, p->fds, p->fds_n);
}

static int unpack_linger(struct adit_client *c, struct reader *r, int fd) {
  bool resets = read_flag(r);
  if (!reader_done(r)) return ERR_SYNTAX;
  pump_linger_give(c->pool, fd, resets);
  return 0;
}

static const size_t fds_wanted[MOVE_KINDS] = {
  [MOVE_EMBEDDED] = 1, [MOVE_LINK] = 1, [MOVE_WARM] = 1, [MOVE_STREAM] = 1, [MOVE_LINGER] = 1};

static int unpack(struct adit_client *c, struct parcel *p) {
  struct reader r = reader_of(buf_data(&p->state), p->state.len);
  if (p->fds_n < fds_wanted[p->kind]) return ERR_SYNTAX;
  int rc = 0;
  switch ((enum move_kind)p->kind) {
    case MOVE_CLIENT: rc = client_facts_read(c, &r); break;
    case MOVE_TUNNEL: rc = unpack_tunnel(c, &r); break;
    case MOVE_EMBEDDED: rc = unpack_embedded(c, &r, p->fds[0]); break;
    case MOVE_LINK: rc = unpack_link(c, &r, p->fds[0]); break;
    case MOVE_WARM: rc = c->link == NULL ? ERR_SYNTAX : warm_unpack(c->link, r.at, r.left, p->fds[0]); break;
    case MOVE_STREAM: rc = unpack_stream(c, &r, p); break;
    case MOVE_LINGER: rc = unpack_linger(c, &r, p->fds[0]); break;
    default: return 0;             /* the host's */
  }
  if (rc == 0) p->fds_n = 0;
  return rc;
}

/* Those of one kind, whatever becomes of one of them; the first failure. */
static int unpack_kind(struct adit_client *c, struct list *parcels, enum move_kind kind) {
  int first = 0;
  LIST_FOREACH(parcels, it) {
    struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    int rc = p->kind == kind ? unpack(c, p) : 0;
    if (first == 0) first = rc;
  }
  return first;
}

/* What the kernel holds for it. */
static int unpack_sockets(struct adit_client *c, struct list *parcels) {
  static const enum move_kind kinds[] = {MOVE_LINK, MOVE_WARM, MOVE_STREAM, MOVE_LINGER};
  int first = 0;
  for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
    int rc = unpack_kind(c, parcels, kinds[i]);
    if (first == 0) first = rc;
  }
  return first;
}

static int check_tunnels(const struct adit_client *c, const struct list *parcels) {
  size_t n = 0;
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it) n += CONTAINER_OF(it, struct parcel, node)->kind == MOVE_TUNNEL;
  return n == tunnels_n(c) && move_find(parcels, MOVE_CLIENT) != NULL ? 0 : ERR_SYNTAX;
}

/* Everything that had to wait for the rest. */
static void go_on(struct adit_client *c) {
  LIST_FOREACH(&c->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    streams_call(t);
    if (t->state != TUNNEL_ENDED) app_look_up(t);
  }
  client_connect(c);
}

/* A stream that cannot be had is not worth the others, unless it can be left where it is. */
int move_unpack(struct adit_client *c, struct list *parcels, bool dry, struct err *e) {
  int rc = check_tunnels(c, parcels);
  if (rc == 0) rc = unpack_kind(c, parcels, MOVE_CLIENT);
  if (rc == 0) rc = unpack_kind(c, parcels, MOVE_TUNNEL);
  if (rc == 0) rc = unpack_kind(c, parcels, MOVE_EMBEDDED);
  if (rc != 0) return err_set(e, rc, "what the agent knows: %s", err_name(rc));
  rc = unpack_sockets(c, parcels);
  return dry && rc != 0 ? err_set(e, rc, "a connection of the agent's: %s", err_name(rc)) : 0;
}

/* ---- the loop's thread ---- */

static void tell(struct adit_client *c, enum move_state state, const struct err *e) {
  pthread_mutex_lock(&c->lock);
  c->move.state = state;
  c->move.err = *e;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

/* Outside the gate: the host may fork meanwhile. */
static void park(struct adit_client *c, enum move_state as, const struct err *e) {
  tell(c, as, e);
  fork_gate_leave();
  pthread_mutex_lock(&c->lock);
  while (c->move.state == as) pthread_cond_wait(&c->changed, &c->lock);
  pthread_mutex_unlock(&c->lock);
  fork_gate_enter();
}

static void take_back(struct adit_client *c) {
  (void)unpack_sockets(c, c->move.parcels);
  go_on(c);
}

static void out_now(struct adit_client *c) {
  struct err e = {0};
  int rc = check_may_move(c, &e);
  if (rc != 0) {
    tell(c, MOVE_FAILED, &e);
    return;
  }
  rc = move_pack(c, c->move.parcels);
  if (rc == 0) park(c, MOVE_PARKED, &e);
  take_back(c);
  (void)err_set(&e, rc, "the agent could not be packed: %s", err_name(rc));
  tell(c, rc == 0 ? MOVE_NONE : MOVE_FAILED, &e);
}

static void out_look(struct loop_timer *timer) {
  struct adit_client *c = CONTAINER_OF(timer, struct adit_client, move.look);
  bool waits = is_amid(c) && loop_now_ms(c->loop) < c->move.until_ms;
  if (!waits || loop_timer_set(c->loop, timer, MOVE_LOOK_MS, out_look) != 0) out_now(c);
}

static void out_run(struct loop *l, struct loop_msg *m) {
  if (l == NULL) return;
  struct adit_client *c = CONTAINER_OF(m, struct adit_client, move.msg);
  c->move.until_ms = loop_now_ms(l) + MOVE_READY_MS;
  out_look(&c->move.look);
}

/* Dry, it stands still whatever came of it: the stand-ins look like a relay and visitors that have gone, and a link
   that is made anew would take the tunnels from the agent that has them. */
static void in_run(struct loop *l, struct loop_msg *m) {
  if (l == NULL) return;
  struct adit_client *c = CONTAINER_OF(m, struct adit_client, move.msg);
  struct err e = {0};
  int rc = move_unpack(c, c->move.parcels, c->move.dry, &e);
  if (c->move.dry) {
    park(c, rc == 0 ? MOVE_PARKED : MOVE_FAILED, &e);
    return;
  }
  if (rc == 0) go_on(c);
  tell(c, rc == 0 ? MOVE_NONE : MOVE_FAILED, &e);
}

/* ---- the host's thread ---- */

/* Asks the loop's thread for something, and waits for what comes of it. */
static enum move_state ask(struct adit_client *c, struct list *parcels, void (*fn)(struct loop *, struct loop_msg *),
                           struct err *e) {
  c->move.parcels = parcels;
  c->move.msg.fn = fn;
  pthread_mutex_lock(&c->lock);
  c->move.state = MOVE_ASKED;
  pthread_mutex_unlock(&c->lock);
  client_post(c, &c->move.msg);
  pthread_mutex_lock(&c->lock);
  while (c->move.state == MOVE_ASKED) pthread_cond_wait(&c->changed, &c->lock);
  enum move_state state = c->move.state;
  if (state == MOVE_FAILED) *e = c->move.err;
  pthread_mutex_unlock(&c->lock);
  return state;
}

int move_out(struct adit_client *c, struct list *parcels, struct err *e) {
  if (ask(c, parcels, out_run, e) == MOVE_PARKED) return 0;
  parcels_free(parcels);
  return e->code;
}

void move_back(struct adit_client *c, struct list *parcels) {
  pthread_mutex_lock(&c->lock);
  c->move.state = MOVE_BACK;
  pthread_cond_broadcast(&c->changed);
  while (c->move.state == MOVE_BACK) pthread_cond_wait(&c->changed, &c->lock);
  pthread_mutex_unlock(&c->lock);
  parcels_free(parcels);
}

int move_in(struct adit_client *c, struct list *parcels, bool dry, struct err *e) {
  c->move.dry = dry;
  enum move_state state = ask(c, parcels, in_run, e);
  parcels_free(parcels);
  return state == MOVE_FAILED ? e->code : 0;
}
