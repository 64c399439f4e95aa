/* A control link of one relay that goes on in another: its agent, who is asked all along, notices nothing. */
#include "relay_agent.h"

#include "base/log.h"
#include "relay/bind.h"
#include "relay/raw.h"
#include "relay/stray.h"
#include "relay/taken.h"
#include "relay/visitor.h"
#include "relay/warm.h"

enum { ID = 5 };

static struct one_relay there;
static struct link *moved;

static void there_opens(struct fixture *f) {
  one_relay_open(&there, PUMP_SPLICE);
  there.options.tcp_port_from = f->here.options.tcp_port_from;
  there.options.tcp_port_to = f->here.options.tcp_port_to;
  there.options.plain_allowed = true;
  if (f->here.options.tcp_port_from == 0) return;
  keeper_ends(&f->here);           /* who has left the state to the other */
  state_begins(f, &there);
}

static int set_up_as(void **state, struct fixture *f) {
  *state = f;
  moved = NULL;
  memset(&there, 0, sizeof there);
  return 0;
}

static int set_up(void **state) { return set_up_as(state, link_set_up(false)); }
static int set_up_raw(void **state) { return set_up_as(state, link_set_up(true)); }
static int set_up_alone(void **state) { return set_up_as(state, relay_set_up(false)); }

static int tear_down(void **state) {
  if (there.worker.loop != NULL) {
    one_relay_close(&there);
    assert_int_equal(there.worker.metrics.links_now + there.worker.metrics.tunnels_now, 0);
    state_ends(&there);
  }
  return link_tear_down(*state);
}

static struct worker *present(struct fixture *f) { return moved != NULL ? &there.worker : &f->here.worker; }

/* Steps under way come back while there is a keeper whom they give back to what they got; they are nobody's. */
static void export_link(struct fixture *f, struct buf *bytes, int *fd) {
  struct link *l = link_ref(f->link);
  buf_init(bytes, CONTROL_EXPORT_MAX_BYTES);
  assert_int_equal(control_export(f->link, bytes, fd), 0);
  assert_true(list_empty(&f->here.worker.links));
  for (int i = 0; i < 1000 && l->bound_n > 0; i++) loop_turn(f->here.worker.loop, 1);
  assert_int_equal(l->bound_n, 0);
  link_unref(l);
  loop_turn(f->here.worker.loop, 0);
}

static void import_link(struct buf *bytes, int fd) {
  assert_int_equal(control_import(&there.worker, buf_data(bytes), bytes->len, fd), 0);
  buf_free(bytes);
  moved = CONTAINER_OF(there.worker.links.next, struct link, node);
}

static void move(struct fixture *f) {
  struct buf bytes;
  int fd;
  export_link(f, &bytes, &fd);
  if (there.worker.loop == NULL) there_opens(f);
  import_link(&bytes, fd);
}

static void answers_ping(struct fixture *f) {
  uint8_t bytes[16];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, FRAME_PING, 1);
  agent_say(f, &w);
  unsigned heard = 0;
  for (int i = 0; i < 100 && heard == 0; i++) {
    loop_turn(present(f)->loop, 1);
    heard = agent_hears(f, FRAME_PONG);
  }
  assert_int_equal(heard, 1);
}

static void agent_asks(struct fixture *f, uint32_t id, uint32_t flags) {
  uint8_t bytes[512];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct frame_bind bind = {.id = id, .flags = flags, .alpn = (const uint8_t *)"\x08http/1.1", .alpn_n = 9};
  bind.allow[0] = (struct cidr){.family = 4, .bits = 8, .bytes = {10}};
  bind.allow_n = 1;
  frame_bind_encode(&w, &bind);
  agent_say(f, &w);
}

static void comes(struct fixture *f, enum frame_type type) {
  unsigned heard = 0;
  for (int i = 0; i < 1000 && heard == 0; i++) {
    loop_turn(present(f)->loop, 1);
    heard = agent_hears(f, type);
  }
  assert_int_equal(heard, 1);
}

static struct tunnel *tunnel_at(struct link *l) {
  return CONTAINER_OF(l->bound.next, struct bound, node)->tunnel;
}

static void an_idle_link_moves_with_all_that_it_is(void **state) {
  struct fixture *f = *state;
  uint8_t id[LINK_ID_BYTES];
  char software[sizeof f->link->software];
  memcpy(id, f->link->engine.id, sizeof id);
  strcpy(f->link->software, "agent/1");
  memcpy(software, f->link->software, sizeof software);
  struct addr peer = f->link->peer;
  move(f);
  assert_memory_equal(moved->engine.id, id, sizeof id);
  assert_string_equal(moved->software, software);
  assert_true(addr_equal(&moved->peer, &peer));
  assert_string_equal(moved->owner->name, "alice");
  assert_ptr_equal(link_find(&there.worker, id), moved);
  assert_ptr_equal(registry_link_find(there.relay.registry, id), &there.worker);
  assert_null(registry_link_find(f->here.relay.registry, id));
  assert_int_equal(there.worker.metrics.links_now, 1);
  assert_int_equal(f->here.worker.metrics.links_now, 0);
  assert_int_equal(f->here.relay.shares.used, 0);
  answers_ping(f);
}

static void what_was_heard_and_not_worked_on_is_answered(void **state) {
  enum { PINGS = 3 * LINK_FRAMES_PER_TURN_MAX };
  struct fixture *f = *state;
  uint8_t bytes[4096];
  struct writer w = writer_of(bytes, sizeof bytes);
  for (int i = 0; i < PINGS; i++) frame_ping_encode(&w, FRAME_PING, (uint64_t)i);
  agent_say(f, &w);
  loop_turn(f->here.worker.loop, -1);
  unsigned heard = agent_hears(f, FRAME_PONG);
  assert_int_equal(heard, LINK_FRAMES_PER_TURN_MAX);
  move(f);
  for (int i = 0; i < 100 && heard < PINGS; i++) {
    loop_turn(there.worker.loop, 1);
    heard += agent_hears(f, FRAME_PONG);
  }
  assert_int_equal(heard, PINGS);
  answers_ping(f);
}

static void half_a_record_waits_for_its_rest(void **state) {
  struct fixture *f = *state;
  uint8_t bytes[64], record[RECORD_HEADER_BYTES + RECORD_CIPHER_MAX];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, FRAME_PING, 1);
  agent_seal(f, &w, record);
  agent_send(f, record, 7);
  loop_turn(f->here.worker.loop, -1);
  move(f);
  agent_send(f, record + 7, w.len + RECORD_OVERHEAD_BYTES - 7);
  comes(f, FRAME_PONG);
}

static void its_tunnels_lead_to_it_there_and_their_names_stay_good_here(void **state) {
  struct fixture *f = *state;
  agent_asks(f, ID, 0);
  comes(f, FRAME_BOUND);
  struct tunnel *t = tunnel_at(f->link);
  t->streams_total = 7;
  t->refused[NOTICE_LOST] = 3;
  char label[LABEL_CHARS + 1];
  memcpy(label, t->label, sizeof label);
  uint64_t serial = t->serial;
  move(f);
  assert_int_equal(f->here.worker.metrics.tunnels_now, 0);
  assert_int_equal(there.worker.metrics.tunnels_now, 1);
  struct tunnel *left = registry_find(f->here.relay.registry, label), *is = registry_find(there.relay.registry, label);
  assert_non_null(left);
  assert_non_null(is);
  assert_ptr_equal(is, tunnel_at(moved));
  assert_ptr_equal(is->worker, &there.worker);
  assert_memory_equal(is->link_id, moved->engine.id, sizeof is->link_id);
  assert_string_equal(is->host, left->host);
  assert_memory_equal(is->holder, left->holder, sizeof is->holder);
  assert_int_equal(is->bind_id, ID);
  assert_int_equal(is->serial, serial);
  assert_int_equal(is->streams_total, 7);
  assert_int_equal(is->refused[NOTICE_LOST], 3);
  assert_int_equal(is->alpn_n, 9);
  assert_memory_equal(is->alpn, "\x08http/1.1", 9);
  assert_int_equal(is->allow_n, 1);
  assert_memory_equal(is->admission, left->admission, sizeof *is->admission);
  assert_true(registry_serial(there.relay.registry) >= serial);
  tunnel_unref(f->here.relay.registry, left);
  tunnel_unref(there.relay.registry, is);
  /* Closed there, by its agent, who may not use its number again. */
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_unbind_encode(&w, ID);
  agent_say(f, &w);
  comes(f, FRAME_UNBOUND);
  assert_null(registry_find(there.relay.registry, label));
  agent_asks(f, ID, 0);
  comes(f, FRAME_GOODBYE);
}

static void a_link_may_come_back(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  int fd;
  agent_asks(f, ID, 0);
  comes(f, FRAME_BOUND);
  export_link(f, &bytes, &fd);
  assert_int_equal(control_import(&f->here.worker, buf_data(&bytes), bytes.len, fd), 0);
  buf_free(&bytes);
  assert_int_equal(f->here.worker.metrics.tunnels_now, 1);
  answers_ping(f);
  struct link *l = CONTAINER_OF(f->here.worker.links.next, struct link, node);
  assert_int_equal(l->owner->tunnels, 1);
  f->link = l;
  move(f);
  answers_ping(f);
}

static void a_name_that_leads_elsewhere_since_is_superseded(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  struct tunnel *replaced;
  int fd;
  agent_asks(f, ID, 0);
  comes(f, FRAME_BOUND);
  struct tunnel *later = bind_tunnel_new(f->link);
  memcpy(later->label, tunnel_at(f->link)->label, sizeof later->label);
  later->incarnation = 9;
  export_link(f, &bytes, &fd);
  there_opens(f);
  registry_owner_unref(f->here.relay.registry, later->owner);
  later->owner = relay_owner(&there, &(struct certificate){.id = {9}, .max_tunnels = 1}, 1);
  registry_serial_reach(there.relay.registry, 100);
  assert_int_equal(registry_put(there.relay.registry, later, &replaced), 0);
  import_link(&bytes, fd);
  comes(f, FRAME_UNBOUND);
  struct tunnel *is = registry_find(there.relay.registry, later->label);
  assert_ptr_equal(is, later);
  tunnel_unref(there.relay.registry, is);
  registry_remove(there.relay.registry, later);
  tunnel_unref(there.relay.registry, later);
  answers_ping(f);
}

/* Raw ports */

static uint16_t raw_port(struct link *l) { return tunnel_at(l)->tcp_port; }

static void move_raw(struct fixture *f) {
  struct buf bytes;
  int fds[RAW_FAMILIES];
  size_t n;
  buf_init(&bytes, RAW_EXPORT_MAX_BYTES);
  assert_int_equal(raw_export(&f->here.worker, &bytes, fds, &n), 0);
  assert_int_equal(raw_export(&f->here.worker, &bytes, fds, &n), ERR_CLOSED);
  move(f);
  assert_ptr_equal(raw_import_at(&there.relay, buf_data(&bytes), bytes.len), &there.worker);
  assert_int_equal(raw_import(&there.worker, buf_data(&bytes), bytes.len, fds, n - 1), ERR_SYNTAX);
  assert_int_equal(raw_import(&there.worker, buf_data(&bytes), bytes.len, fds, n), 0);
  assert_int_equal(raw_import(&there.worker, buf_data(&bytes), bytes.len, fds, n), ERR_CONFLICT);
  for (size_t i = 0; i < bytes.len; i++) assert_null(raw_import_at(&there.relay, buf_data(&bytes), i));
  buf_free(&bytes);
}

/* Who knocks while nobody is there is taken in where the port comes to; and its keeper knows whose it is. */
static void a_raw_port_moves_and_nobody_is_refused(void **state) {
  struct fixture *f = *state;
  struct addr at;
  struct err e;
  char text[32];
  agent_asks(f, ID, TUNNEL_TCP | TUNNEL_PLAIN);
  comes(f, FRAME_BOUND);
  uint16_t port = raw_port(f->link);
  snprintf(text, sizeof text, "127.0.0.1:%u", port);
  assert_int_equal(addr_parse(text, &at, &e), 0);
  tunnel_at(f->link)->allow_n = 0;
  uint64_t used = f->here.relay.shares.used;
  move_raw(f);
  int visitor = net_connect(&at, &e);
  assert_true(visitor >= 0);
  for (int i = 0; i < 1000 && there.worker.metrics.raw_visitors_total == 0; i++) loop_turn(there.worker.loop, 1);
  assert_int_equal(there.worker.metrics.raw_visitors_total, 1);
  assert_true(there.relay.shares.used > used);
  net_close(visitor);
  for (int i = 0; i < 1000 && CONTAINER_OF(moved->bound.next, struct bound, node)->steps > 0; i++)
    loop_turn(there.worker.loop, 1);
  /* The port is held: another tunnel is given another. */
  agent_asks(f, ID + 1, TUNNEL_TCP | TUNNEL_PLAIN);
  comes(f, FRAME_BOUND);
  struct bound *second = CONTAINER_OF(moved->bound.prev, struct bound, node);
  assert_true(second->tunnel->tcp_port != port && second->tunnel->tcp_port != 0);
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_unbind_encode(&w, ID);
  agent_say(f, &w);
  comes(f, FRAME_UNBOUND);
  for (int i = 0; i < 1000 && map_get(there.worker.raw_ports, &port) != NULL; i++) loop_turn(there.worker.loop, 1);
  assert_null(map_get(there.worker.raw_ports, &port));
}

static void a_port_whose_link_ends_before_it_is_adopted_is_closed(void **state) {
  struct fixture *f = *state;
  agent_asks(f, ID, TUNNEL_TCP | TUNNEL_PLAIN);
  comes(f, FRAME_BOUND);
  uint16_t port = raw_port(f->link);
  move_raw(f);
  assert_int_equal(CONTAINER_OF(moved->bound.next, struct bound, node)->steps, 1);
  link_down(moved);
  for (int i = 0; i < 1000 && map_get(there.worker.raw_ports, &port) != NULL; i++) loop_turn(there.worker.loop, 1);
  assert_null(map_get(there.worker.raw_ports, &port));
}

/* Its step was under way: it begins anew, and is answered there. */
static void a_bind_under_way_is_answered(void **state) {
  struct fixture *f = *state;
  agent_asks(f, ID, TUNNEL_TCP | TUNNEL_PLAIN);
  loop_turn(f->here.worker.loop, -1);
  if (list_empty(&f->link->bound)) loop_turn(f->here.worker.loop, -1);
  assert_int_equal(agent_hears(f, FRAME_BOUND), 0);
  move(f);
  comes(f, FRAME_BOUND);
  assert_true(raw_port(moved) >= RAW_FROM && raw_port(moved) <= RAW_TO);
  answers_ping(f);
}

/* Visitors */

static int far_visitor;

/* One who came in by the port when the link had gone: the tunnel is known here by its name only. */
/* While its keeper writes nothing, as amid a handover. */
static void a_revocation_under_way_is_answered(void **state) {
  struct fixture *f = *state;
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct frame_revoke revoke = {.number = 7, .id = {9}};
  keeper_rest(f->here.relay.keeper);
  frame_revoke_encode(&w, &revoke);
  agent_say(f, &w);
  for (int i = 0; i < 100 && f->link->revokes_n == 0; i++) loop_turn(f->here.worker.loop, 1);
  assert_int_equal(f->link->revokes_n, 1);
  assert_int_equal(agent_hears(f, FRAME_REVOKED), 0);
  move(f);
  comes(f, FRAME_REVOKED);
  const struct certificate chain[] = {{.id = {1}, .name = "alice", .max_tunnels = 3}, {.id = {9}, .max_tunnels = 3}};
  struct owner *o;
  assert_int_equal(registry_owner(there.relay.registry, chain, 2, 1, &o), ERR_AUTH);
}

static void waits_here(struct fixture *f, struct tunnel *t) {
  struct addr peer;
  struct err e;
  int ours;
  assert_int_equal(addr_parse("10.1.2.3:4", &peer, &e), 0);
  socket_pair(&ours, &far_visitor);
  visitor_accept_raw(&f->here.worker, ours, &peer, &peer, tunnel_ref(t));
  for (int i = 0; i < 4; i++) loop_turn(f->here.worker.loop, 1);
  assert_int_equal(f->here.worker.metrics.visitors_waiting_now, 1);
}

static void export_visitor(struct fixture *f, struct buf *bytes, int *fd) {
  buf_init(bytes, VISITOR_EXPORT_MAX_BYTES);
  assert_int_equal(visitor_export(&f->here.worker, bytes, fd), 0);
  assert_int_equal(f->here.worker.metrics.visitors_waiting_now + f->here.worker.visitors_n, 0);
}

static void a_visitor_who_waits_has_his_stream_where_the_link_is(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  int fd, agent, data;
  struct preface p = {.number = 0};
  struct number_keys keys;
  uint8_t preface[PREFACE_BYTES], open[OPEN_MAX_BYTES];
  agent_asks(f, ID, TUNNEL_TCP | TUNNEL_PLAIN);
  comes(f, FRAME_BOUND);
  struct tunnel *left = tunnel_ref(tunnel_at(f->link));
  move_raw(f);
  waits_here(f, left);
  export_visitor(f, &bytes, &fd);
  assert_int_equal(visitor_export(&f->here.worker, &bytes, &data), ERR_LIMIT);
  for (size_t n = 0; n < bytes.len; n++)
    assert_int_equal(visitor_import(&there.worker, buf_data(&bytes), n, fd), ERR_SYNTAX);
  assert_int_equal(visitor_import(&there.worker, buf_data(&bytes), bytes.len, fd), 0);
  buf_free(&bytes);
  comes(f, FRAME_WANT);
  socket_pair(&data, &agent);
  assert_int_equal(link_keys_peek(moved->engine.keys, p.number, 0, &keys), 0);
  assert_int_equal(preface_encode(moved->engine.id, p.number, &keys, preface), 0);
  assert_int_equal(preface_decode(preface, &p), 0);
  warm_arrived(&there.worker, (struct wire){.fd = data}, &p);
  assert_int_equal(there.worker.metrics.streams_now, 1);
  ssize_t n = net_recv(agent, open, sizeof open);
  struct open_message m;
  assert_true(n > 0);
  assert_int_equal(open_decode(open, (size_t)n, &keys, &m), 0);
  assert_int_equal(m.kind, STREAM_RAW_PLAIN);
  assert_int_equal(m.tunnel_id, ID);
  net_close(agent);
  net_close(far_visitor);
  tunnel_unref(f->here.relay.registry, left);
}

static void a_visitor_whose_tunnel_is_not_there_stays_whose_he_was(void **state) {
  struct fixture *f = *state;
  struct buf bytes;
  int fd;
  agent_asks(f, ID, TUNNEL_TCP | TUNNEL_PLAIN);
  comes(f, FRAME_BOUND);
  struct tunnel *left = tunnel_ref(tunnel_at(f->link));
  move_raw(f);
  waits_here(f, left);
  export_visitor(f, &bytes, &fd);
  link_down(moved);
  assert_int_equal(visitor_import(&there.worker, buf_data(&bytes), bytes.len, fd), ERR_CLOSED);
  assert_int_equal(there.worker.visitors_n, 0);
  assert_int_equal(visitor_import(&f->here.worker, buf_data(&bytes), bytes.len, fd), 0);
  assert_int_equal(f->here.worker.metrics.visitors_waiting_now, 1);
  buf_free(&bytes);
  net_close(far_visitor);
  tunnel_unref(f->here.relay.registry, left);
}

static void what_was_taken_out_of_tls_is_the_same_again_and_nothing_else_is(void **state) {
  (void)state;
  struct open_message m = {.kind = STREAM_TLS13, .suite = 0x1302, .secret_n = 48, .client_secret = {1},
                           .server_secret = {2}, .client_sequence = 3, .server_sequence = 4, .fragment_max = 512,
                           .alpn = "h2", .alpn_n = 2}, is = {.kind = 0};
  uint8_t bytes[TAKEN_EXPORT_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  taken_write(&m, &w);
  struct reader r = reader_of(bytes, w.len);
  assert_int_equal(taken_read(&r, &is), 0);
  assert_true(reader_done(&r));
  assert_memory_equal(&is, &m, sizeof m);
  for (size_t n = 0; n < w.len; n++) {
    r = reader_of(bytes, n);
    assert_int_equal(taken_read(&r, &is), ERR_SYNTAX);
  }
  bytes[0] = STREAM_TLS12;         /* which that suite is none of */
  r = reader_of(bytes, w.len);
  assert_int_equal(taken_read(&r, &is), ERR_SYNTAX);
}

/* Warm connections */

static struct preface preface_of(const struct fixture *f, uint64_t number) {
  struct preface p;
  struct number_keys keys;
  uint8_t preface[PREFACE_BYTES];
  assert_int_equal(link_keys_peek(f->link->engine.keys, number, 0, &keys), 0);
  assert_int_equal(preface_encode(f->link->engine.id, number, &keys, preface), 0);
  assert_int_equal(preface_decode(preface, &p), 0);
  return p;
}

static void warm_ones_move_in_their_order(void **state) {
  enum { SOME = 3 };
  struct fixture *f = *state;
  int far[SOME], ours[SOME], fd[SOME], link_fd;
  struct buf bytes[SOME], link_bytes;
  for (int i = 0; i < SOME; i++) {
    struct preface p = preface_of(f, (uint64_t)i);
    socket_pair(&ours[i], &far[i]);
    warm_arrived(&f->here.worker, (struct wire){.fd = ours[i]}, &p);
  }
  assert_int_equal(f->link->warm.idle_n, SOME);
  f->link->warm.target = 8;
  for (int i = 0; i < SOME; i++) {
    buf_init(&bytes[i], WARM_EXPORT_MAX_BYTES);
    assert_int_equal(warm_export(f->link, &bytes[i], &fd[i]), 0);
    assert_int_equal(fd[i], ours[i]);
  }
  assert_int_equal(warm_export(f->link, &bytes[0], &link_fd), ERR_CLOSED);
  export_link(f, &link_bytes, &link_fd);
  there_opens(f);
  assert_int_equal(warm_import(&there.worker, buf_data(&bytes[0]), bytes[0].len, fd[0]), ERR_CLOSED);
  import_link(&link_bytes, link_fd);
  for (int i = 0; i < SOME; i++) {
    for (size_t n = 0; n < bytes[i].len; n++)
      assert_int_not_equal(warm_import(&there.worker, buf_data(&bytes[i]), n, fd[i]), 0);
    assert_int_equal(warm_import(&there.worker, buf_data(&bytes[i]), bytes[i].len, fd[i]), 0);
    buf_free(&bytes[i]);
  }
  assert_int_equal(moved->warm.idle_n, SOME);
  assert_int_equal(moved->warm.target, 8);
  assert_true(moved->warm.arrived);
  assert_int_equal(warm_export(moved, &link_bytes, &link_fd), 0);      /* from the last to the first */
  assert_int_equal(link_fd, ours[0]);
  buf_free(&link_bytes);
  net_close(link_fd);
  for (int i = 0; i < SOME; i++) net_close(far[i]);
}

static void a_data_connection_whose_link_has_gone_follows_it(void **state) {
  struct fixture *f = *state;
  struct worker *here = &f->here.worker;
  struct preface p = preface_of(f, 0), forged = preface_of(f, 1);
  int ours, far, fd, forged_ours, forged_far;
  struct buf bytes;
  buf_init(&bytes, STRAY_EXPORT_MAX_BYTES);
  forged.mac[0] ^= 1;
  move(f);
  socket_pair(&ours, &far);
  socket_pair(&forged_ours, &forged_far);
  f->here.relay.hands_over = true;
  warm_arrived(here, (struct wire){.fd = ours}, &p);
  assert_int_equal(stray_export(here, &bytes, &fd), 0);
  assert_int_equal(fd, ours);
  for (size_t n = 0; n < bytes.len; n++)
    assert_int_equal(stray_import(&there.worker, buf_data(&bytes), n, fd), ERR_SYNTAX);
  assert_int_equal(stray_import(&there.worker, buf_data(&bytes), bytes.len, fd), 0);
  assert_int_equal(moved->warm.idle_n, 1);
  buf_cut(&bytes, 0);
  warm_arrived(here, (struct wire){.fd = forged_ours}, &forged);
  assert_int_equal(stray_export(here, &bytes, &fd), 0);
  assert_int_equal(stray_import(&there.worker, buf_data(&bytes), bytes.len, fd), 0);
  assert_int_equal(moved->warm.idle_n, 1);
  assert_int_equal(there.worker.metrics.data_connections_refused_total, 1);
  assert_int_equal(stray_export(here, &bytes, &fd), ERR_CLOSED);
  buf_free(&bytes);
  net_close(far);
  net_close(forged_far);
}

/* A stranger may say any preface. */
static void strays_are_bounded_and_end_with_the_handover(void **state) {
  struct fixture *f = *state;
  struct worker *here = &f->here.worker;
  const struct preface p = {.number = 1};
  int ours, far[STRAYS_MAX + 2];
  f->here.relay.hands_over = true;
  for (int i = 0; i < STRAYS_MAX + 1; i++) {
    socket_pair(&ours, &far[i]);
    warm_arrived(here, (struct wire){.fd = ours}, &p);
  }
  assert_int_equal(here->strays_n, STRAYS_MAX);
  assert_int_equal(here->metrics.data_connections_refused_total, 1);
  f->here.relay.hands_over = false;
  strays_come_home(here);
  assert_int_equal(here->strays_n, 0);
  socket_pair(&ours, &far[STRAYS_MAX + 1]);
  warm_arrived(here, (struct wire){.fd = ours}, &p);
  assert_int_equal(here->metrics.data_connections_refused_total, STRAYS_MAX + 2);
  for (int i = 0; i < STRAYS_MAX + 2; i++) net_close(far[i]);
}

/* Links that come up amid a handover */

static void comes_up_held(struct fixture *f) {
  f->here.relay.hands_over = true;
  link_knocks(f);
  agent_asks(f, ID, 0);
  while (f->link->engine.state != LINK_UP) loop_turn(f->here.worker.loop, 1);
  for (int i = 0; i < 3; i++) loop_turn(f->here.worker.loop, 0);
  assert_int_equal(agent_hears(f, FRAME_WELCOME), 0);
  assert_int_equal(f->here.worker.metrics.tunnels_total, 0);
}

static void one_that_comes_up_amid_a_handover_is_welcomed_where_it_goes_to(void **state) {
  struct fixture *f = *state;
  comes_up_held(f);
  move(f);
  comes(f, FRAME_BOUND);           /* behind WELCOME */
  assert_int_equal(there.worker.metrics.tunnels_now, 1);
}

static void one_that_came_up_amid_a_handover_that_failed_is_welcomed_here(void **state) {
  struct fixture *f = *state;
  comes_up_held(f);
  f->here.relay.hands_over = false;
  links_go_on(&f->here.worker);
  comes(f, FRAME_BOUND);
  answers_ping(f);
}

/* Bytes that are none */

static void try(const uint8_t *state, size_t n, bool must_fail) {
  int fd, far;
  socket_pair(&fd, &far);
  int rc = control_import(&there.worker, state, n, fd);
  assert_false(rc == 0 && must_fail);
  if (rc != 0) net_close(fd);
  loop_turn(there.worker.loop, 0);
  link_end_all(&there.worker, REFUSE_DRAINING);
  loop_turn(there.worker.loop, 0);
  assert_int_equal(there.relay.shares.used, 0);
  assert_int_equal(there.worker.metrics.links_now + there.worker.metrics.tunnels_now, 0);
  net_close(far);
}

static void no_part_and_no_damage_of_its_bytes_harms(void **state) {
  struct fixture *f = *state;
  log_setup(LOG_OFF, false);
  struct buf bytes;
  int fd;
  agent_asks(f, ID, 0);
  comes(f, FRAME_BOUND);
  export_link(f, &bytes, &fd);
  there_opens(f);
  there.relay.keeper = NULL;
  uint8_t *p = buf_data(&bytes);
  for (size_t n = 0; n < bytes.len; n++) try(p, n, true);
  for (size_t i = 0; i < bytes.len; i++) {
    p[i] ^= 0x80;
    try(p, bytes.len, false);
    p[i] ^= 0x82;
    try(p, bytes.len, false);
    p[i] ^= 2;
  }
  import_link(&bytes, fd);
  answers_ping(f);
  log_setup(LOG_INFO, false);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TA(f) cmocka_unit_test_setup_teardown(f, set_up_alone, tear_down)
#define TR(f) cmocka_unit_test_setup_teardown(f, set_up_raw, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(an_idle_link_moves_with_all_that_it_is),
                                     T(what_was_heard_and_not_worked_on_is_answered),
                                     T(half_a_record_waits_for_its_rest),
                                     T(its_tunnels_lead_to_it_there_and_their_names_stay_good_here),
                                     T(a_link_may_come_back),
                                     T(a_name_that_leads_elsewhere_since_is_superseded),
                                     TR(a_raw_port_moves_and_nobody_is_refused),
                                     TR(a_port_whose_link_ends_before_it_is_adopted_is_closed),
                                     TR(a_bind_under_way_is_answered),
                                     TR(a_revocation_under_way_is_answered),
                                     TR(a_visitor_who_waits_has_his_stream_where_the_link_is),
                                     TR(a_visitor_whose_tunnel_is_not_there_stays_whose_he_was),
                                     T(what_was_taken_out_of_tls_is_the_same_again_and_nothing_else_is),
                                     T(warm_ones_move_in_their_order),
                                     T(a_data_connection_whose_link_has_gone_follows_it),
                                     T(strays_are_bounded_and_end_with_the_handover),
                                     TA(one_that_comes_up_amid_a_handover_is_welcomed_where_it_goes_to),
                                     TA(one_that_came_up_amid_a_handover_that_failed_is_welcomed_here),
                                     T(no_part_and_no_damage_of_its_bytes_harms)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
