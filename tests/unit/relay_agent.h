/* A relay with one control link, whose agent is played here, turn by turn of the worker's loop. */
#ifndef TESTS_RELAY_AGENT_H
#define TESTS_RELAY_AGENT_H

#include <stdio.h>
#include <time.h>

#include "relay_pair.h"
#include "relay/control.h"
#include "relay/keeper.h"
#include "tls/sealed.h"
#include "wire/token.h"

enum { RAW_FROM = 23100, RAW_TO = 23139 };

struct fixture {
  char dir[64];
  struct one_relay here;
  uint8_t operator_key[1][ED25519_KEY_BYTES];
  struct link *link;
  int fd;                          /* the agent's end */
  struct sealed *sealed;
  struct buf in, frames;
};

static inline void agent_send(struct fixture *f, const uint8_t *p, size_t n) {
  while (n > 0) {
    ssize_t sent = net_send(f->fd, p, n);
    assert_true(sent > 0);
    p += sent;
    n -= (size_t)sent;
  }
}

static inline void agent_output(struct fixture *f, struct tls_conn *tls) {
  size_t n;
  const uint8_t *p = tls_conn_output(tls, &n);
  agent_send(f, p, n);
  tls_conn_output_sent(tls, n);
}

static inline void agent_seal(struct fixture *f, const struct writer *w,
                       uint8_t record[RECORD_HEADER_BYTES + RECORD_CIPHER_MAX]) {
  assert_false(w->bad);
  memcpy(record + RECORD_HEADER_BYTES, w->base, w->len);
  assert_int_equal(sealed_write(f->sealed, record, w->len), 0);
}

static inline void agent_say(struct fixture *f, const struct writer *w) {
  uint8_t record[RECORD_HEADER_BYTES + RECORD_CIPHER_MAX];
  agent_seal(f, w, record);
  agent_send(f, record, w->len + RECORD_OVERHEAD_BYTES);
}

/* How many frames of that type have come. */
static inline unsigned agent_hears(struct fixture *f, enum frame_type type) {
  unsigned count = 0;
  for (;;) {
    size_t consumed, n;
    uint8_t *plain, *room = buf_reserve(&f->in, RECORD_CIPHER_MAX);
    assert_non_null(room);
    ssize_t got = net_recv(f->fd, room, RECORD_CIPHER_MAX);
    if (got > 0) buf_added(&f->in, (size_t)got);
    while (sealed_read(f->sealed, buf_data(&f->in), f->in.len, &consumed, &plain, &n) <= SEALED_NOTHING &&
           consumed > 0) {
      if (n > 0) assert_int_equal(buf_append(&f->frames, plain, n), 0);
      buf_consume(&f->in, consumed);
    }
    if (got <= 0) break;
  }
  struct frame frame;
  while (frame_next(buf_data(&f->frames), f->frames.len, FRAME_BODY_MAX_BYTES, &frame) == 1) {
    count += frame.type == type;
    buf_consume(&f->frames, frame.total);
  }
  return count;
}

/* The ClientHello goes to the relay as its door would hand it over. */
static inline void not_wanted(struct newcomer *n) {
  (void)n;
  fail();
}

static inline void connect_link(struct fixture *f, struct tls_conn *tls, int relay_fd) {
  struct client_hello hello;
  struct source_key source = {{1}};
  struct newcomer newcomer;
  struct addr peer;
  struct err e = {0};
  uint8_t alert;
  size_t n;
  assert_int_equal(tls_conn_feed(tls, NULL, 0, &e), TLS_GOING_ON);
  const uint8_t *p = tls_conn_output(tls, &n);
  client_hello_init(&hello);
  for (size_t at = 0, part; (part = client_hello_want(&hello)) > 0; at += part) {
    assert_true(at + part <= n);
    assert_int_equal(client_hello_feed(&hello, p + at, part, &alert), 0);
  }
  tls_conn_output_sent(tls, n);
  assert_int_equal(addr_parse("127.0.0.1:1", &peer, &e), 0);
  assert_int_equal(newcomer_enter(f->here.worker.newcomers, &newcomer, NEWCOMER_STRANGERS, &source, 1, not_wanted), 0);
  control_accept(&f->here.worker, relay_fd, &peer, &newcomer, &hello);
  client_hello_free(&hello);
  f->link = CONTAINER_OF(f->here.worker.links.next, struct link, node);
}

static inline void shake(struct fixture *f, struct tls_conn *tls) {
  enum tls_status status = TLS_GOING_ON;
  struct err e = {0};
  while (status == TLS_GOING_ON) {
    uint8_t bytes[4096];
    loop_turn(f->here.worker.loop, 0);
    ssize_t n = net_recv(f->fd, bytes, size_min(tls_conn_want(tls), sizeof bytes));
    if (n == NET_AGAIN) continue;
    assert_true(n > 0);
    status = tls_conn_feed(tls, bytes, (size_t)n, &e);
    agent_output(f, tls);
  }
  assert_int_equal(status, TLS_DONE);
}

static inline void say_hello(struct fixture *f, const uint8_t exporter[TLS_EXPORTER_BYTES]) {
  struct certificate c = {.id = {1}, .name = "alice", .max_tunnels = 3};
  uint8_t operator_seed[ED25519_KEY_BYTES] = {1}, seed[ED25519_KEY_BYTES] = {2}, private_key[X25519_BYTES];
  uint8_t certificate[CERTIFICATE_MAX_BYTES], bytes[FRAME_BEFORE_AUTH_MAX_BYTES];
  struct frame_hello h = {.version = WIRE_VERSION, .chain = certificate};
  struct writer w = writer_of(bytes, sizeof bytes);
  assert_int_equal(ed25519_public(operator_seed, f->operator_key[0]), 0);
  memcpy(c.operator_key, f->operator_key[0], sizeof c.operator_key);
  assert_int_equal(ed25519_public(seed, c.public_key), 0);
  assert_int_equal(certificate_sign(&c, operator_seed, certificate, sizeof certificate, &h.chain_n), 0);
  assert_int_equal(x25519_keypair(private_key, h.share), 0);
  assert_int_equal(frame_hello_sign(&h, exporter, seed), 0);
  frame_hello_encode(&w, &h);
  agent_say(f, &w);
}

/* Up to HELLO, which is on its way. */
static inline void link_knocks(struct fixture *f) {
  struct err e = {0};
  struct pin pin;
  struct tls_takeover t;
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  f->fd = fds[1];
  assert_int_equal(certs_pin(f->here.relay.certs, &pin, &e), 0);
  struct tls_client *client = tls_client_new(NULL, &e);
  assert_non_null(client);
  struct tls_conn *tls = tls_conn_client(client, f->here.options.domain, &pin, WIRE_ALPN, &e);
  assert_non_null(tls);
  connect_link(f, tls, fds[0]);
  shake(f, tls);
  assert_int_equal(tls_conn_take_over(tls, &t), 0);
  f->sealed = sealed_new(&(struct sealed_params){
      .suite = tls_suite_find(t.suite), .read_secret = t.server_secret, .write_secret = t.client_secret});
  assert_non_null(f->sealed);
  tls_conn_free(tls);
  tls_client_free(client);
  say_hello(f, t.exporter);
}

static inline void link_comes_up(struct fixture *f) {
  link_knocks(f);
  while (agent_hears(f, FRAME_WELCOME) == 0) loop_turn(f->here.worker.loop, 0);
  assert_int_equal(f->link->engine.state, LINK_UP);
}

/* With a keeper for raw ports, which a relay without options for them has no need of. */
static inline void state_begins(struct fixture *f, struct one_relay *r) {
  struct err e = {0};
  if (state_open(f->dir, &r->relay.state, &e) != 0 ||
      certs_open(r->relay.state, NULL, r->options.domain, NULL, NULL, time(NULL), &r->relay.certs, &e) != 0 ||
      (r->options.tcp_port_from != 0 &&
       (keeper_new(&r->relay, &r->relay.keeper, &e) != 0 || keeper_read_again(r->relay.keeper, &e) != 0 ||
        keeper_run(r->relay.keeper, &e) != 0)))
    fail_msg("%s", e.text);
}

static inline void keeper_ends(struct one_relay *r) {
  keeper_stop(r->relay.keeper);
  for (int round = 0; round < 4; round++) {
    keeper_settle(r->relay.keeper);
    worker_settle(&r->worker);
  }
  keeper_free(r->relay.keeper);
  r->relay.keeper = NULL;
}

static inline void state_ends(struct one_relay *r) {
  if (r->relay.certs != NULL) certs_close(r->relay.certs);
  if (r->relay.state != NULL) state_close(r->relay.state);
}

static inline struct fixture *relay_set_up(bool raw) {
  struct fixture *f = calloc(1, sizeof *f);
  assert_non_null(f);
  strcpy(f->dir, "/tmp/adit-test-XXXXXX");
  assert_non_null(mkdtemp(f->dir));
  one_relay_open(&f->here, PUMP_SPLICE);
  f->here.options.tcp_port_from = raw ? RAW_FROM : 0;
  f->here.options.tcp_port_to = RAW_TO;
  f->here.options.plain_allowed = true;
  f->here.relay.operators = f->operator_key;
  f->here.relay.operators_n = 1;
  buf_init(&f->in, 1 << 20);
  buf_init(&f->frames, 1 << 20);
  state_begins(f, &f->here);
  return f;
}

static inline struct fixture *link_set_up(bool raw) {
  struct fixture *f = relay_set_up(raw);
  link_comes_up(f);
  return f;
}

static inline int link_tear_down(struct fixture *f) {
  char command[128];
  one_relay_close(&f->here);
  net_close(f->fd);
  sealed_free(f->sealed);
  buf_free(&f->in);
  buf_free(&f->frames);
  state_ends(&f->here);
  snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
  int rc = system(command);
  free(f);
  return rc;
}

#endif
