/* The control link's frames: round trips, and refusal of everything cut, oversized or out of range. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/ticket.h"
#include "wire/token.h"

static uint8_t bytes[FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES + 64];
static uint64_t seed = 88172645463325252u;

static uint64_t draw(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  return seed ^= seed << 17;
}

static void draw_bytes(void *p, size_t n) {
  for (size_t i = 0; i < n; i++) ((uint8_t *)p)[i] = (uint8_t)draw();
}

static void draw_text(char *p, size_t cap) {
  size_t n = draw() % cap;
  for (size_t i = 0; i < n; i++) p[i] = (char)(' ' + draw() % 95);
  p[n] = 0;
}

static struct frame only_frame(const struct writer *w, uint8_t type) {
  struct frame f;
  assert_false(w->bad);
  assert_int_equal(frame_next(w->base, w->len, FRAME_BODY_MAX_BYTES, &f), 1);
  assert_int_equal(f.type, type);
  assert_int_equal(f.total, w->len);
  return f;
}

/* Every shorter body is refused; a longer one is read as if it were not. Reads a copy of the exact size on the heap,
   so that the address sanitizer sees a step past its end. */
typedef int decode(struct reader body);
static void refuses_cuts(const struct frame *f, decode *fn) {
  for (size_t n = 0; n < f->body.left; n++) {
    uint8_t *copy = test_malloc(n + 1);
    memcpy(copy + 1, f->body.at, n);
    assert_int_equal(fn(reader_of(copy + 1, n)), ERR_SYNTAX);
    test_free(copy);
  }
}

static void ignores_what_follows(const struct frame *f, decode *fn) {
  uint8_t *copy = test_malloc(f->body.left + 3);
  memcpy(copy, f->body.at, f->body.left);
  memset(copy + f->body.left, 0xee, 3);
  assert_int_equal(fn(reader_of(copy, f->body.left + 3)), 0);
  test_free(copy);
}

static void refuses_every_cut(const struct frame *f, decode *fn) {
  refuses_cuts(f, fn);
  ignores_what_follows(f, fn);
}

#define DECODE(name, type) \
  static int name##_cut(struct reader body) { type scratch; return frame_##name##_decode(body, &scratch); }
DECODE(hello, struct frame_hello)
DECODE(welcome, struct frame_welcome)
DECODE(arrived, uint64_t)
DECODE(bind, struct frame_bind)
DECODE(bound, struct frame_bound)
DECODE(unbind, uint32_t)
DECODE(unbound, struct frame_unbound)
DECODE(notice, struct frame_notice)
DECODE(want, uint16_t)
DECODE(short, uint16_t)
DECODE(ping, uint64_t)
DECODE(goodbye, struct frame_goodbye)
DECODE(ticket, struct frame_ticket)
DECODE(revoke, struct frame_revoke)
DECODE(revoked, struct frame_revoked)

static struct writer fresh(void) { return writer_of(bytes, sizeof bytes); }

static void hello_round_trips_and_refuses_every_cut(void **state) {
  (void)state;
  uint8_t certificate[CHAIN_MAX_BYTES];
  for (int i = 0; i < 50; i++) {
    struct frame_hello a = {.version = (uint16_t)(1 + draw() % 65535), .chain = certificate,
                            .chain_n = 1 + draw() % CHAIN_MAX_BYTES}, b;
    draw_bytes(certificate, sizeof certificate);
    draw_bytes(a.share, sizeof a.share);
    draw_bytes(a.signature, sizeof a.signature);
    draw_text(a.software, sizeof a.software);
    struct writer w = fresh();
    frame_hello_encode(&w, &a);
    struct frame f = only_frame(&w, FRAME_HELLO);
    assert_int_equal(frame_hello_decode(f.body, &b), 0);
    assert_int_equal(a.version, b.version);
    assert_memory_equal(a.share, b.share, sizeof a.share);
    assert_memory_equal(a.signature, b.signature, sizeof a.signature);
    assert_string_equal(a.software, b.software);
    assert_int_equal(a.chain_n, b.chain_n);
    assert_memory_equal(certificate, b.chain, b.chain_n);
    if (i == 0) refuses_every_cut(&f, hello_cut);
  }
}

static void hello_refuses_version_zero_and_certificates_out_of_bounds(void **state) {
  (void)state;
  uint8_t certificate[CHAIN_MAX_BYTES + 1] = {0};
  struct frame_hello a = {.version = 0, .chain = certificate, .chain_n = 10}, b;
  struct writer w = fresh();
  frame_hello_encode(&w, &a);
  assert_int_equal(frame_hello_decode(only_frame(&w, FRAME_HELLO).body, &b), ERR_SYNTAX);
  a.version = 1;
  a.chain_n = 0;
  w = fresh();
  frame_hello_encode(&w, &a);
  assert_int_equal(frame_hello_decode(only_frame(&w, FRAME_HELLO).body, &b), ERR_SYNTAX);
  a.chain_n = CHAIN_MAX_BYTES + 1;
  w = fresh();
  frame_hello_encode(&w, &a);
  assert_int_equal(frame_hello_decode(only_frame(&w, FRAME_HELLO).body, &b), ERR_SYNTAX);
}

static void hello_signature_covers_each_of_its_parts(void **state) {
  (void)state;
  uint8_t certificate[40] = {1}, exporter[32] = {2}, signer[ED25519_KEY_BYTES] = {3}, key[ED25519_KEY_BYTES];
  struct frame_hello a = {.version = 1, .chain = certificate, .chain_n = sizeof certificate};
  assert_int_equal(ed25519_public(signer, key), 0);
  assert_int_equal(frame_hello_sign(&a, exporter, signer), 0);
  assert_int_equal(frame_hello_verify(&a, exporter, key), 0);
  uint8_t *const parts[] = {&exporter[31], &certificate[39], &a.share[0], (uint8_t *)&a.version, &a.signature[0],
      &key[0]};
  for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
    *parts[i] ^= 1;
    assert_int_equal(frame_hello_verify(&a, exporter, key), ERR_AUTH);
    *parts[i] ^= 1;
  }
  assert_int_equal(frame_hello_verify(&a, exporter, key), 0);
}

static void welcome_round_trips_and_refuses_every_cut(void **state) {
  (void)state;
  struct frame_welcome a = {.version = 1,
                            .relay = "r5.example.com",
                            .instance = draw(),
                            .heartbeat_ms = 10000,
                            .warm = 2,
                            .flags = WELCOME_WRAPPED},
                       b;
  draw_bytes(a.share, sizeof a.share);
  struct writer w = fresh();
  frame_welcome_encode(&w, &a);
  struct frame f = only_frame(&w, FRAME_WELCOME);
  assert_int_equal(frame_welcome_decode(f.body, &b), 0);
  assert_memory_equal(a.share, b.share, sizeof a.share);
  assert_string_equal(a.relay, b.relay);
  assert_true(a.instance == b.instance && a.heartbeat_ms == b.heartbeat_ms && a.warm == b.warm &&
              a.version == b.version);
  assert_int_equal(b.flags, WELCOME_WRAPPED);
  ignores_what_follows(&f, welcome_cut);
  for (size_t cut = 1; cut < sizeof a.flags; cut++) {
    struct reader body = f.body;
    body.left -= cut;
    assert_int_equal(frame_welcome_decode(body, &b), ERR_SYNTAX);
  }
  f.body.left -= sizeof a.flags;   /* as relays before the flags were there say it */
  refuses_cuts(&f, welcome_cut);
  assert_int_equal(frame_welcome_decode(f.body, &b), 0);
  assert_int_equal(b.flags, 0);
  assert_int_equal(b.warm, 2);
}

static void arrived_round_trips_and_refuses_every_cut(void **state) {
  (void)state;
  uint8_t out[64];
  struct writer w = writer_of(out, sizeof out);
  uint64_t number;
  frame_arrived_encode(&w, 0x0102030405060708);
  struct frame f = only_frame(&w, FRAME_ARRIVED);
  assert_int_equal(frame_arrived_decode(f.body, &number), 0);
  assert_true(number == 0x0102030405060708);
  refuses_every_cut(&f, arrived_cut);
}

static void revoke_and_its_answer_round_trip_and_refuse_every_cut(void **state) {
  (void)state;
  struct frame_revoke a = {.number = 0x80000001, .id = {1, 2, 3, [15] = 16}, .expires_s = INT64_MAX}, b;
  struct frame_revoked c = {.number = 0x80000002, .reason = 999, .text = "why not (do that)"}, d;
  struct writer w = fresh();
  frame_revoke_encode(&w, &a);
  struct frame f = only_frame(&w, FRAME_REVOKE);
  assert_int_equal(frame_revoke_decode(f.body, &b), 0);
  assert_int_equal(b.number, a.number);
  assert_memory_equal(b.id, a.id, sizeof a.id);
  assert_true(b.expires_s == a.expires_s);
  refuses_every_cut(&f, revoke_cut);
  w = fresh();
  a.expires_s = -1;
  frame_revoke_encode(&w, &a);
  assert_int_equal(frame_revoke_decode(only_frame(&w, FRAME_REVOKE).body, &b), ERR_SYNTAX);
  w = fresh();
  frame_revoked_encode(&w, &c);
  f = only_frame(&w, FRAME_REVOKED);
  assert_int_equal(frame_revoked_decode(f.body, &d), 0);
  assert_int_equal(d.number, c.number);
  assert_int_equal(d.reason, c.reason);
  assert_string_equal(d.text, c.text);
  refuses_every_cut(&f, revoked_cut);
}

static void welcome_refuses_a_relay_without_a_name_or_a_pulse(void **state) {
  (void)state;
  struct frame_welcome good = {.version = 1, .relay = "r5.example.com", .heartbeat_ms = 1}, b;
  struct frame_welcome bad[] = {good, good, good, good};
  bad[0].version = 0;
  bad[1].heartbeat_ms = 0;
  bad[2].relay[0] = 0;
  memcpy(bad[3].relay, "a b", 4);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct writer w = fresh();
    frame_welcome_encode(&w, &bad[i]);
    assert_int_equal(frame_welcome_decode(only_frame(&w, FRAME_WELCOME).body, &b), ERR_SYNTAX);
  }
}

static void draw_cidr(struct cidr *c) {
  bool v4 = draw() % 2 == 0;
  *c = (struct cidr){.family = v4 ? 4 : 6, .bits = (uint8_t)(draw() % (v4 ? 33 : 129))};
  draw_bytes(c->bytes, v4 ? 4 : 16);
}

static void bind_round_trips_and_refuses_every_cut(void **state) {
  (void)state;
  uint8_t alpn[255], ticket[TICKET_MAX_BYTES];
  for (int i = 0; i < 50; i++) {
    struct frame_bind a = {.id = (uint32_t)draw(),
                           .flags = (uint32_t)draw(),
                           .alpn = alpn,
                           .alpn_n = draw() % 256,
                           .ticket = ticket,
                           .ticket_n = draw() % (TICKET_MAX_BYTES + 1),
                           .allow_n = draw() % (ALLOW_CIDRS_MAX + 1),
                           .incarnation = (uint32_t)draw(),
                           .deny_n = i % 2 == 0 ? 0 : draw() % ALLOW_CIDRS_MAX + 1},
                      b;
    draw_bytes(alpn, sizeof alpn);
    draw_bytes(ticket, sizeof ticket);
    for (size_t c = 0; c < a.allow_n; c++) draw_cidr(&a.allow[c]);
    for (size_t c = 0; c < a.deny_n; c++) draw_cidr(&a.deny[c]);
    struct writer w = fresh();
    frame_bind_encode(&w, &a);
    struct frame f = only_frame(&w, FRAME_BIND);
    assert_int_equal(frame_bind_decode(f.body, &b), 0);
    assert_true(a.id == b.id && a.flags == b.flags && a.incarnation == b.incarnation);
    assert_true(a.alpn_n == b.alpn_n && a.ticket_n == b.ticket_n && a.allow_n == b.allow_n && a.deny_n == b.deny_n);
    if (b.alpn_n > 0) assert_memory_equal(alpn, b.alpn, b.alpn_n);
    if (b.ticket_n > 0) assert_memory_equal(ticket, b.ticket, b.ticket_n);
    if (b.allow_n > 0) assert_memory_equal(a.allow, b.allow, b.allow_n * sizeof a.allow[0]);
    if (b.deny_n > 0) assert_memory_equal(a.deny, b.deny, b.deny_n * sizeof a.deny[0]);
    if (i < 6 && a.deny_n == 0) refuses_cuts(&f, bind_cut);
    if (i < 6 && a.deny_n > 0) ignores_what_follows(&f, bind_cut);
  }
}

/* One cut is no cut: agents that know nothing of it end there. */
static void blocks_that_are_denied_may_be_missing_but_not_be_cut(void **state) {
  (void)state;
  struct frame_bind a = {.id = 7, .incarnation = 1}, b;
  struct writer w = fresh();
  frame_bind_encode(&w, &a);
  size_t known = w.len - FRAME_HEADER_BYTES;
  a.deny_n = 2;
  draw_cidr(&a.deny[0]);
  draw_cidr(&a.deny[1]);
  w = fresh();
  frame_bind_encode(&w, &a);
  struct frame f = only_frame(&w, FRAME_BIND);
  for (size_t n = known + 1; n < f.body.left; n++)
    assert_int_equal(frame_bind_decode(reader_of(f.body.at, n), &b), ERR_SYNTAX);
  assert_int_equal(frame_bind_decode(reader_of(f.body.at, known), &b), 0);
  assert_int_equal(b.deny_n, 0);
  assert_int_equal(frame_bind_decode(f.body, &b), 0);
  assert_int_equal(b.deny_n, 2);
}

static void bind_refuses_bad_blocks_and_too_much_of_anything(void **state) {
  (void)state;
  uint8_t ticket[TICKET_MAX_BYTES + 1] = {0};
  struct frame_bind a = {.allow_n = ALLOW_CIDRS_MAX + 1}, b;
  struct writer w = fresh();
  frame_bind_encode(&w, &a);
  assert_true(w.bad);
  a = (struct frame_bind){.deny_n = ALLOW_CIDRS_MAX + 1};
  w = fresh();
  frame_bind_encode(&w, &a);
  assert_true(w.bad);
  a = (struct frame_bind){.ticket = ticket, .ticket_n = sizeof ticket};
  w = fresh();
  frame_bind_encode(&w, &a);
  assert_true(w.bad);
  static const struct cidr bad[] = {{.family = 4, .bits = 33}, {.family = 6, .bits = 129}, {.family = 5, .bits = 8},
      {.family = 0}};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    a = (struct frame_bind){.allow = {bad[i]}, .allow_n = 1};
    w = fresh();
    frame_bind_encode(&w, &a);
    assert_int_equal(frame_bind_decode(only_frame(&w, FRAME_BIND).body, &b), ERR_SYNTAX);
    a = (struct frame_bind){.deny = {bad[i]}, .deny_n = 1};
    w = fresh();
    frame_bind_encode(&w, &a);
    assert_int_equal(frame_bind_decode(only_frame(&w, FRAME_BIND).body, &b), ERR_SYNTAX);
  }
  /* What our encoder would not write: 65 blocks, and a ticket of one byte too many. */
  w = fresh();
  write_u64(&w, 0);
  write_u8(&w, 0);
  write_u8(&w, ALLOW_CIDRS_MAX + 1);
  for (int i = 0; i <= ALLOW_CIDRS_MAX; i++) write_bytes(&w, "\4\40\1\2\3\4", 6);
  write_u16(&w, 0);
  write_u32(&w, 0);
  assert_int_equal(frame_bind_decode(reader_of(bytes, w.len), &b), ERR_SYNTAX);
  w = fresh();
  write_u64(&w, 0);
  write_u16(&w, 0);
  write_vec16(&w, ticket, sizeof ticket);
  write_u32(&w, 0);
  assert_int_equal(frame_bind_decode(reader_of(bytes, w.len), &b), ERR_SYNTAX);
}

static const struct frame_bound bound_good = {.id = 7,
                                              .host = "x.r5.example.com",
                                              .port = 443,
                                              .tcp_host = "r5.example.com",
                                              .tcp_port = 20000,
                                              .plain = true,
                                              .ticket = (const uint8_t *)"ticket",
                                              .ticket_n = 6};

static void bound_round_trips_and_refuses_every_cut(void **state) {
  (void)state;
  static const char *const tcp_hosts[] = {"r5.example.com", "127.0.0.1", "::1", ""};
  for (size_t i = 0; i < ARRAY_LEN(tcp_hosts); i++) {
    struct frame_bound a = bound_good, b;
    snprintf(a.tcp_host, sizeof a.tcp_host, "%s", tcp_hosts[i]);
    if (tcp_hosts[i][0] == 0) a.tcp_port = 0;
    struct writer w = fresh();
    frame_bound_encode(&w, &a);
    struct frame f = only_frame(&w, FRAME_BOUND);
    assert_int_equal(frame_bound_decode(f.body, &b), 0);
    assert_string_equal(a.host, b.host);
    assert_string_equal(a.tcp_host, b.tcp_host);
    assert_true(a.id == b.id && a.port == b.port && a.tcp_port == b.tcp_port && a.plain == b.plain &&
                a.ticket_n == b.ticket_n);
    assert_memory_equal(a.ticket, b.ticket, b.ticket_n);
    refuses_every_cut(&f, bound_cut);
  }
}

static void bound_refuses_addresses_that_cannot_be(void **state) {
  (void)state;
  struct frame_bound b, bad[] = {bound_good, bound_good, bound_good, bound_good, bound_good};
  bad[0].host[0] = 0;
  bad[1].port = 0;
  bad[2].tcp_host[0] = 0;
  bad[3].tcp_port = 0;
  memcpy(bad[4].host, "\33[2J", 5);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct writer w = fresh();
    frame_bound_encode(&w, &bad[i]);
    assert_int_equal(frame_bound_decode(only_frame(&w, FRAME_BOUND).body, &b), ERR_SYNTAX);
  }
  struct writer w = fresh();
  frame_bound_encode(&w, &bound_good);
  bytes[w.len - 6 - 2 - 1] = 2; /* `plain` is neither 0 nor 1 */
  assert_int_equal(frame_bound_decode(only_frame(&w, FRAME_BOUND).body, &b), ERR_SYNTAX);
}

static void small_frames_round_trip_and_refuse_every_cut(void **state) {
  (void)state;
  uint32_t id;
  uint16_t count;
  uint64_t cookie;
  struct writer w = fresh();
  frame_unbind_encode(&w, 0xdeadbeef);
  struct frame f = only_frame(&w, FRAME_UNBIND);
  assert_int_equal(frame_unbind_decode(f.body, &id), 0);
  assert_int_equal(id, 0xdeadbeef);
  refuses_every_cut(&f, unbind_cut);
  w = fresh();
  frame_want_encode(&w, 258);
  f = only_frame(&w, FRAME_WANT);
  assert_int_equal(frame_want_decode(f.body, &count), 0);
  assert_int_equal(count, 258);
  refuses_every_cut(&f, want_cut);
  w = fresh();
  frame_short_encode(&w, 259);
  f = only_frame(&w, FRAME_SHORT);
  assert_int_equal(frame_short_decode(f.body, &count), 0);
  assert_int_equal(count, 259);
  refuses_every_cut(&f, short_cut);
  w = fresh();
  frame_ping_encode(&w, FRAME_PONG, 0x0123456789abcdefu);
  f = only_frame(&w, FRAME_PONG);
  assert_int_equal(frame_ping_decode(f.body, &cookie), 0);
  assert_true(cookie == 0x0123456789abcdefu);
  refuses_every_cut(&f, ping_cut);
  struct frame_ticket t = {.id = 9, .ticket = bytes + 1000, .ticket_n = TICKET_MAX_BYTES}, u;
  w = fresh();
  frame_ticket_encode(&w, &t);
  f = only_frame(&w, FRAME_TICKET);
  assert_int_equal(frame_ticket_decode(f.body, &u), 0);
  assert_true(u.id == 9 && u.ticket_n == TICKET_MAX_BYTES);
  refuses_every_cut(&f, ticket_cut);
  t.ticket_n = TICKET_MAX_BYTES + 1;
  w = fresh();
  frame_ticket_encode(&w, &t);
  assert_int_equal(frame_ticket_decode(only_frame(&w, FRAME_TICKET).body, &u), ERR_SYNTAX);
  t.ticket_n = 0;
  w = fresh();
  frame_ticket_encode(&w, &t);
  assert_int_equal(frame_ticket_decode(only_frame(&w, FRAME_TICKET).body, &u), ERR_SYNTAX);
}

static void reasons_carry_text_that_cannot_harm_a_terminal(void **state) {
  (void)state;
  struct frame_unbound a = {.id = 3, .reason = REFUSE_TUNNEL_LIMIT, .text = "at most 5"}, b;
  struct frame_goodbye c = {.reason = REFUSE_DRAINING}, d;
  struct writer w = fresh();
  frame_unbound_encode(&w, &a);
  struct frame f = only_frame(&w, FRAME_UNBOUND);
  assert_int_equal(frame_unbound_decode(f.body, &b), 0);
  assert_true(b.id == 3 && b.reason == REFUSE_TUNNEL_LIMIT);
  assert_string_equal(b.text, "at most 5");
  refuses_every_cut(&f, unbound_cut);
  bytes[w.len - 1] = 0x1b;
  assert_int_equal(frame_unbound_decode(f.body, &b), ERR_SYNTAX);
  bytes[w.len - 1] = 0;
  assert_int_equal(frame_unbound_decode(f.body, &b), ERR_SYNTAX);

  memset(c.text, 'x', sizeof c.text - 1);
  memcpy(c.text, "\33[2J\xc3\xa9", 6);
  w = fresh();
  frame_goodbye_encode(&w, &c);
  f = only_frame(&w, FRAME_GOODBYE);
  assert_int_equal(frame_goodbye_decode(f.body, &d), 0);
  assert_memory_equal(d.text, "?[2J??xxx", 9);
  assert_int_equal(strlen(d.text), 255);
  refuses_every_cut(&f, goodbye_cut);
}

static void a_notice_says_why_and_how_many(void **state) {
  (void)state;
  struct frame_notice a = {.id = 0xfffffffe, .reason = NOTICE_SHARE, .count = 0x80000001}, b;
  struct writer w = fresh();
  frame_notice_encode(&w, &a);
  struct frame f = only_frame(&w, FRAME_NOTICE);
  assert_int_equal(frame_notice_decode(f.body, &b), 0);
  assert_true(b.id == a.id && b.reason == a.reason && b.count == a.count);
  refuses_every_cut(&f, notice_cut);
}

static void every_notice_has_a_name_and_a_remedy_and_a_later_one_is_no_harm(void **state) {
  (void)state;
  for (uint16_t i = NOTICE_NONE + 1; i < NOTICES; i++) {
    assert_string_not_equal(notice_name(i), "unknown");
    assert_non_null(strchr(notice_text(i), '('));
  }
  static const uint16_t strange[] = {NOTICE_NONE, NOTICES, UINT16_MAX};
  for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
    assert_string_equal(notice_name(strange[i]), "unknown");
    assert_non_null(strstr(notice_text(strange[i]), "does not know"));
  }
}

static void next_asks_for_more_until_a_frame_is_whole(void **state) {
  (void)state;
  struct frame f;
  struct writer w = fresh();
  frame_ping_encode(&w, FRAME_PING, 1);
  size_t first = w.len;
  frame_want_encode(&w, 2);
  for (size_t n = 0; n < first; n++) assert_int_equal(frame_next(bytes, n, FRAME_BODY_MAX_BYTES, &f), 0);
  assert_int_equal(frame_next(bytes, w.len, FRAME_BODY_MAX_BYTES, &f), 1);
  assert_int_equal(f.total, first);
  assert_int_equal(frame_next(bytes + first, w.len - first, FRAME_BODY_MAX_BYTES, &f), 1);
  assert_int_equal(f.type, FRAME_WANT);
}

static void next_refuses_a_long_body_before_it_has_come(void **state) {
  (void)state;
  struct frame f;
  static const uint8_t header[] = {99, 0, 0x20, 1}; /* 8193 */
  assert_int_equal(frame_next(header, sizeof header, FRAME_BEFORE_AUTH_MAX_BYTES, &f), ERR_SYNTAX);
  assert_int_equal(frame_next(header, sizeof header, FRAME_BODY_MAX_BYTES, &f), 0);
  assert_int_equal(frame_next(header, 3, FRAME_BEFORE_AUTH_MAX_BYTES, &f), 0);
}

static void next_yields_types_that_we_do_not_know(void **state) {
  (void)state;
  struct frame f;
  static const uint8_t unknown[] = {250, 0, 0, 2, 'h', 'i'};
  assert_int_equal(frame_next(unknown, sizeof unknown, FRAME_BODY_MAX_BYTES, &f), 1);
  assert_true(f.type == 250 && f.total == 6 && f.body.left == 2);
}

static void an_encoder_that_finds_no_room_says_so(void **state) {
  (void)state;
  struct writer w = fresh();
  frame_bound_encode(&w, &bound_good);
  size_t whole = w.len;
  for (size_t n = 0; n < whole; n++) {
    w = writer_of(bytes, n);
    frame_bound_encode(&w, &bound_good);
    assert_true(w.bad);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(hello_round_trips_and_refuses_every_cut),
    cmocka_unit_test(hello_refuses_version_zero_and_certificates_out_of_bounds),
    cmocka_unit_test(hello_signature_covers_each_of_its_parts),
    cmocka_unit_test(welcome_round_trips_and_refuses_every_cut),
    cmocka_unit_test(arrived_round_trips_and_refuses_every_cut),
    cmocka_unit_test(revoke_and_its_answer_round_trip_and_refuse_every_cut),
    cmocka_unit_test(welcome_refuses_a_relay_without_a_name_or_a_pulse),
    cmocka_unit_test(bind_round_trips_and_refuses_every_cut),
    cmocka_unit_test(blocks_that_are_denied_may_be_missing_but_not_be_cut),
    cmocka_unit_test(bind_refuses_bad_blocks_and_too_much_of_anything),
    cmocka_unit_test(bound_round_trips_and_refuses_every_cut),
    cmocka_unit_test(bound_refuses_addresses_that_cannot_be),
    cmocka_unit_test(small_frames_round_trip_and_refuse_every_cut),
    cmocka_unit_test(reasons_carry_text_that_cannot_harm_a_terminal),
    cmocka_unit_test(a_notice_says_why_and_how_many),
    cmocka_unit_test(every_notice_has_a_name_and_a_remedy_and_a_later_one_is_no_harm),
    cmocka_unit_test(next_asks_for_more_until_a_frame_is_whole),
    cmocka_unit_test(next_refuses_a_long_body_before_it_has_come),
    cmocka_unit_test(next_yields_types_that_we_do_not_know),
    cmocka_unit_test(an_encoder_that_finds_no_room_says_so),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
