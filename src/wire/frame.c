/* The control link's frames. The hard thing is that both sides come in versions: a decoder reads the fields that it
   knows and leaves what follows them alone, so every field stands where version 1 has put it, for ever. */
#include "wire/frame.h"

#include <string.h>

#include "base/secret.h"
#include "wire/cidr.h"
#include "wire/ticket.h"

int frame_next(const uint8_t *p, size_t n, size_t body_max, struct frame *f) {
  if (n < FRAME_HEADER_BYTES) return 0;
  struct reader r = reader_of(p, n);
  uint8_t type = read_u8(&r);
  size_t length = read_u24(&r);
  if (length > body_max) return ERR_SYNTAX; /* before the body has come: nobody buffers what will be refused */
  if (length > r.left) return 0;
  *f = (struct frame){.type = type, .body = reader_of(r.at, length), .total = FRAME_HEADER_BYTES + length};
  return 1;
}

static size_t frame_open(struct writer *w, enum frame_type type) {
  write_u8(w, (uint8_t)type);
  return write_open_vec(w, 3);
}

static void frame_close(struct writer *w, size_t mark) {
  write_close_vec(w, mark, 3);
  if (!w->bad && w->len - mark - 3 > FRAME_BODY_MAX_BYTES) w->bad = true;
}

static int result(const struct reader *r, bool valid) { return r->bad || !valid ? ERR_SYNTAX : 0; }

/* Texts end in terminals and logs: printable ASCII only. The encoder replaces what the decoder would refuse. */
static bool is_printable(const char *text) {
  for (; *text != 0; text++) {
    if (*text < ' ' || *text > '~') return false;
  }
  return true;
}

static void write_printable(struct writer *w, const char *text, size_t cap) {
  size_t n = strnlen(text, cap - 1);
  write_u8(w, (uint8_t)n);
  for (size_t i = 0; i < n; i++) write_u8(w, text[i] < ' ' || text[i] > '~' ? '?' : (uint8_t)text[i]);
}

static void read_ticket(struct reader *r, const uint8_t **p, size_t *n) {
  struct reader v = read_vec16(r);
  if (v.left > TICKET_MAX_BYTES) r->bad = true;
  *p = v.at;
  *n = v.left;
}

/* HELLO */

void frame_hello_encode(struct writer *w, const struct frame_hello *f) {
  size_t mark = frame_open(w, FRAME_HELLO);
  write_u16(w, f->version);
  write_bytes(w, f->share, sizeof f->share);
  write_vec16(w, f->chain, f->chain_n);
  write_bytes(w, f->signature, sizeof f->signature);
  write_printable(w, f->software, sizeof f->software);
  frame_close(w, mark);
}

int frame_hello_decode(struct reader body, struct frame_hello *f) {
  *f = (struct frame_hello){.version = read_u16(&body)};
  read_copy(&body, f->share, sizeof f->share);
  struct reader chain = read_vec16(&body);
  read_copy(&body, f->signature, sizeof f->signature);
  read_text8(&body, f->software, sizeof f->software);
  f->chain = chain.at;
  f->chain_n = chain.left;
  bool bounded = chain.left > 0 && chain.left <= CHAIN_MAX_BYTES;
  return result(&body, f->version != 0 && bounded && is_printable(f->software));
}

/* With its NUL: no other signed thing begins so. */
static const char hello_context[] = "adit hello v1";
enum { HELLO_COVERED_BYTES = sizeof hello_context + 2 + 32 + X25519_BYTES + SHA256_BYTES };

/* To be wiped: the exporter is in it. */
static int hello_covered(const struct frame_hello *f, const uint8_t exporter[32], uint8_t out[HELLO_COVERED_BYTES]) {
  uint8_t digest[SHA256_BYTES];
  int r = sha256(f->chain, f->chain_n, digest);
  if (r != 0) return r;
  struct writer w = writer_of(out, HELLO_COVERED_BYTES);
  write_bytes(&w, hello_context, sizeof hello_context);
  write_u16(&w, f->version);
  write_bytes(&w, exporter, 32);
  write_bytes(&w, f->share, sizeof f->share);
  write_bytes(&w, digest, sizeof digest);
  ASSERT(!w.bad && w.len == HELLO_COVERED_BYTES);
  return 0;
}

int frame_hello_sign(struct frame_hello *f, const uint8_t exporter[32], const uint8_t seed[ED25519_KEY_BYTES]) {
  uint8_t covered[HELLO_COVERED_BYTES];
  int r = hello_covered(f, exporter, covered);
  if (r == 0) r = ed25519_sign(seed, covered, sizeof covered, f->signature);
  wipe(covered, sizeof covered);
  return r;
}

int frame_hello_verify(const struct frame_hello *f, const uint8_t exporter[32],
                       const uint8_t public_key[ED25519_KEY_BYTES]) {
  uint8_t covered[HELLO_COVERED_BYTES];
  int r = hello_covered(f, exporter, covered);
  if (r == 0) r = ed25519_verify(public_key, covered, sizeof covered, f->signature);
  wipe(covered, sizeof covered);
  return r;
}

/* WELCOME */

void frame_welcome_encode(struct writer *w, const struct frame_welcome *f) {
  size_t mark = frame_open(w, FRAME_WELCOME);
  write_u16(w, f->version);
  write_bytes(w, f->share, sizeof f->share);
  write_text8(w, f->relay);
  write_u64(w, f->instance);
  write_u32(w, f->heartbeat_ms);
  write_u16(w, f->warm);
  if (f->flags != 0) write_u32(w, f->flags);         /* later than the rest, which older relays end with */
  frame_close(w, mark);
}

int frame_welcome_decode(struct reader body, struct frame_welcome *f) {
  *f = (struct frame_welcome){.version = read_u16(&body)};
  read_copy(&body, f->share, sizeof f->share);
  read_text8(&body, f->relay, sizeof f->relay);
  f->instance = read_u64(&body);
  f->heartbeat_ms = read_u32(&body);
  f->warm = read_u16(&body);
  if (body.left > 0) f->flags = read_u32(&body);
  return result(&body, f->version != 0 && host_name_is_valid(f->relay) && f->heartbeat_ms > 0);
}

/* BIND */

void frame_bind_encode(struct writer *w, const struct frame_bind *f) {
  size_t mark = frame_open(w, FRAME_BIND);
  if (f->allow_n > ALLOW_CIDRS_MAX || f->deny_n > ALLOW_CIDRS_MAX || f->ticket_n > TICKET_MAX_BYTES) {
    w->bad = true;
    return;
  }
  write_u32(w, f->id);
  write_u32(w, f->flags);
  write_vec8(w, f->alpn, f->alpn_n);
  cidrs_write(w, f->allow, f->allow_n);
  write_vec16(w, f->ticket, f->ticket_n);
  write_u32(w, f->incarnation);
  if (f->deny_n > 0) cidrs_write(w, f->deny, f->deny_n);   /* later than the rest, which older relays end with */
  frame_close(w, mark);
}

int frame_bind_decode(struct reader body, struct frame_bind *f) {
  *f = (struct frame_bind){.id = read_u32(&body)};
  f->flags = read_u32(&body);
  struct reader alpn = read_vec8(&body);
  f->alpn = alpn.at;
  f->alpn_n = alpn.left;
  cidrs_read(&body, f->allow, ALLOW_CIDRS_MAX, &f->allow_n);
  read_ticket(&body, &f->ticket, &f->ticket_n);
  f->incarnation = read_u32(&body);
  if (body.left > 0) cidrs_read(&body, f->deny, ALLOW_CIDRS_MAX, &f->deny_n);
  return result(&body, true);
}

/* BOUND */

void frame_bound_encode(struct writer *w, const struct frame_bound *f) {
  size_t mark = frame_open(w, FRAME_BOUND);
  write_u32(w, f->id);
  write_text8(w, f->host);
  write_u16(w, f->port);
  write_text8(w, f->tcp_host);
  write_u16(w, f->tcp_port);
  write_u8(w, f->plain ? 1 : 0);
  write_vec16(w, f->ticket, f->ticket_n);
  frame_close(w, mark);
}

int frame_bound_decode(struct reader body, struct frame_bound *f) {
  *f = (struct frame_bound){.id = read_u32(&body)};
  read_text8(&body, f->host, sizeof f->host);
  f->port = read_u16(&body);
  read_text8(&body, f->tcp_host, sizeof f->tcp_host);
  f->tcp_port = read_u16(&body);
  uint8_t plain = read_u8(&body);
  f->plain = plain == 1;
  read_ticket(&body, &f->ticket, &f->ticket_n);
  bool tcp = f->tcp_host[0] == 0 ? f->tcp_port == 0
                                 : f->tcp_port != 0 && (host_is_ip(f->tcp_host) || host_name_is_valid(f->tcp_host));
  return result(&body, tcp && plain <= 1 && host_name_is_valid(f->host) && f->port != 0);
}

/* UNBIND, UNBOUND */

void frame_unbind_encode(struct writer *w, uint32_t id) {
  size_t mark = frame_open(w, FRAME_UNBIND);
  write_u32(w, id);
  frame_close(w, mark);
}

int frame_unbind_decode(struct reader body, uint32_t *id) {
  *id = read_u32(&body);
  return result(&body, true);
}

void frame_unbound_encode(struct writer *w, const struct frame_unbound *f) {
  size_t mark = frame_open(w, FRAME_UNBOUND);
  write_u32(w, f->id);
  write_u16(w, f->reason);
  write_printable(w, f->text, sizeof f->text);
  frame_close(w, mark);
}

int frame_unbound_decode(struct reader body, struct frame_unbound *f) {
  *f = (struct frame_unbound){.id = read_u32(&body)};
  f->reason = read_u16(&body);
  read_text8(&body, f->text, sizeof f->text);
  return result(&body, is_printable(f->text));
}

/* NOTICE */

void frame_notice_encode(struct writer *w, const struct frame_notice *f) {
  size_t mark = frame_open(w, FRAME_NOTICE);
  write_u32(w, f->id);
  write_u16(w, f->reason);
  write_u32(w, f->count);
  frame_close(w, mark);
}

int frame_notice_decode(struct reader body, struct frame_notice *f) {
  *f = (struct frame_notice){.id = read_u32(&body)};
  f->reason = read_u16(&body);
  f->count = read_u32(&body);
  return result(&body, true);
}

/* WANT, SHORT */

static void count_encode(struct writer *w, enum frame_type type, uint16_t count) {
  size_t mark = frame_open(w, type);
  write_u16(w, count);
  frame_close(w, mark);
}

static int count_decode(struct reader body, uint16_t *count) {
  *count = read_u16(&body);
  return result(&body, true);
}

void frame_want_encode(struct writer *w, uint16_t count) { count_encode(w, FRAME_WANT, count); }
int frame_want_decode(struct reader body, uint16_t *count) { return count_decode(body, count); }
void frame_short_encode(struct writer *w, uint16_t count) { count_encode(w, FRAME_SHORT, count); }
int frame_short_decode(struct reader body, uint16_t *count) { return count_decode(body, count); }

/* ARRIVED */

void frame_arrived_encode(struct writer *w, uint64_t number) {
  size_t mark = frame_open(w, FRAME_ARRIVED);
  write_u64(w, number);
  frame_close(w, mark);
}

int frame_arrived_decode(struct reader body, uint64_t *number) {
  *number = read_u64(&body);
  return result(&body, true);
}

/* PING, PONG */

void frame_ping_encode(struct writer *w, enum frame_type ping_or_pong, uint64_t cookie) {
  ASSERT(ping_or_pong == FRAME_PING || ping_or_pong == FRAME_PONG);
  size_t mark = frame_open(w, ping_or_pong);
  write_u64(w, cookie);
  frame_close(w, mark);
}

int frame_ping_decode(struct reader body, uint64_t *cookie) {
  *cookie = read_u64(&body);
  return result(&body, true);
}

/* GOODBYE */

void frame_goodbye_encode(struct writer *w, const struct frame_goodbye *f) {
  size_t mark = frame_open(w, FRAME_GOODBYE);
  write_u16(w, f->reason);
  write_printable(w, f->text, sizeof f->text);
  frame_close(w, mark);
}

int frame_goodbye_decode(struct reader body, struct frame_goodbye *f) {
  *f = (struct frame_goodbye){.reason = read_u16(&body)};
  read_text8(&body, f->text, sizeof f->text);
  return result(&body, is_printable(f->text));
}

/* TICKET */

void frame_ticket_encode(struct writer *w, const struct frame_ticket *f) {
  size_t mark = frame_open(w, FRAME_TICKET);
  write_u32(w, f->id);
  write_vec16(w, f->ticket, f->ticket_n);
  frame_close(w, mark);
}

int frame_ticket_decode(struct reader body, struct frame_ticket *f) {
  *f = (struct frame_ticket){.id = read_u32(&body)};
  read_ticket(&body, &f->ticket, &f->ticket_n);
  return result(&body, f->ticket_n > 0);
}

/* REVOKE, REVOKED */

void frame_revoke_encode(struct writer *w, const struct frame_revoke *f) {
  size_t mark = frame_open(w, FRAME_REVOKE);
  write_u32(w, f->number);
  write_bytes(w, f->id, sizeof f->id);
  write_u64(w, (uint64_t)f->expires_s);
  frame_close(w, mark);
}

int frame_revoke_decode(struct reader body, struct frame_revoke *f) {
  *f = (struct frame_revoke){.number = read_u32(&body)};
  read_copy(&body, f->id, sizeof f->id);
  f->expires_s = (int64_t)read_u64(&body);
  return result(&body, f->expires_s >= 0);
}

void frame_revoked_encode(struct writer *w, const struct frame_revoked *f) {
  size_t mark = frame_open(w, FRAME_REVOKED);
  write_u32(w, f->number);
  write_u16(w, f->reason);
  write_printable(w, f->text, sizeof f->text);
  frame_close(w, mark);
}

int frame_revoked_decode(struct reader body, struct frame_revoked *f) {
  *f = (struct frame_revoked){.number = read_u32(&body)};
  f->reason = read_u16(&body);
  read_text8(&body, f->text, sizeof f->text);
  return result(&body, is_printable(f->text));
}
