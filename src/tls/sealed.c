/* An established TLS connection without its handshake. The hard thing is KeyUpdate (RFC 8446 4.6.3) without
   deadlock: while our writes are blocked the peer may ask again and again, so an answer is a flag and not a message in
   a queue; however many were asked for, one is written, before the next data. */
#include "tls/sealed.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum {
  HANDSHAKE_HELLO_REQUEST = 0,
  HANDSHAKE_CLIENT_HELLO = 1,
  HANDSHAKE_NEW_SESSION_TICKET = 4,
  HANDSHAKE_HEADER_BYTES = 4,
  HANDSHAKE_KEY_UPDATE = 24,
  KEY_UPDATE_BYTES = 5,
  ALERT_BYTES = 2,
  ALERT_LEVEL_WARNING = 1,
  ALERT_LEVEL_FATAL = 2,
  EXPORT_VERSION = 1,
  RENEGOTIATIONS_MAX = 4 /* a client may try it once for old habit's sake; each attempt costs us a record */
};

enum read_state { READ_OPEN, READ_ENDED, READ_RESET, READ_FAILED };
enum write_state { WRITE_OPEN, WRITE_ALERT_OWED, WRITE_ENDED };

struct sealed {
  struct record_keys in, out;
  size_t fragment_max;
  enum read_state read_state;
  enum write_state write_state;
  bool from_server;
  bool owes_key_update;            /* the peer asked for one */
  bool owes_refusal;               /* TLS 1.2: the peer wants to renegotiate */
  unsigned renegotiations;
  uint8_t hello_header[HANDSHAKE_HEADER_BYTES]; /* TLS 1.2: of a message that may come in several records */
  size_t hello_header_n, hello_left;
  uint8_t alert_level, alert;      /* what is owed in WRITE_ALERT_OWED */
};

_Static_assert((int)SEALED_OWED_MAX >= 2 * RECORD_OVERHEAD_BYTES + KEY_UPDATE_BYTES + ALERT_BYTES,
               "a KeyUpdate and an alert fit");
_Static_assert((int)SEALED_OWED_MAX >= 2 * (RECORD_OVERHEAD_MAX + ALERT_BYTES), "two alerts fit");

struct sealed *sealed_new(const struct sealed_params *p) {
  struct sealed *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->from_server = p->from_server;
  s->fragment_max = p->fragment_max == 0 ? RECORD_PLAIN_MAX : size_min(p->fragment_max, RECORD_PLAIN_MAX);
  if (record_keys_init(&s->in, p->suite, p->read_secret, p->read_sequence, false) != 0) goto fail;
  if (record_keys_init(&s->out, p->suite, p->write_secret, p->write_sequence, true) != 0) goto fail_in;
  return s;
fail_in:
  record_keys_free(&s->in);
fail:
  free(s);
  return NULL;
}

void sealed_rest(struct sealed *s) {
  record_keys_rest(&s->in);
  record_keys_rest(&s->out);
}

static bool is_tls13(const struct sealed *s) { return s->out.suite->version == TLS_VERSION_13; }

void sealed_free(struct sealed *s) {
  if (s == NULL) return;
  record_keys_free(&s->in);
  record_keys_free(&s->out);
  wipe(s, sizeof *s);
  free(s);
}

static enum sealed_result fail_read(struct sealed *s, uint8_t alert) {
  s->read_state = READ_FAILED;
  sealed_fail(s, alert);
  return SEALED_FAILED;
}

/* RFC 8446 4.6.1: nothing but whole ones, as servers send them. */
static bool are_tickets(const uint8_t *p, size_t n) {
  while (n >= HANDSHAKE_HEADER_BYTES && p[0] == HANDSHAKE_NEW_SESSION_TICKET) {
    size_t message = HANDSHAKE_HEADER_BYTES + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
    if (message > n) return false;
    p += message;
    n -= message;
  }
  return n == 0;
}

/* A byte of a message's header. False: it is none that may come. */
static bool take_hello_header(struct sealed *s, uint8_t byte) {
  uint8_t *h = s->hello_header;
  h[s->hello_header_n++] = byte;
  if (h[0] != (s->from_server ? HANDSHAKE_HELLO_REQUEST : HANDSHAKE_CLIENT_HELLO)) return false;
  if (s->hello_header_n < HANDSHAKE_HEADER_BYTES) return true;
  s->hello_header_n = 0;
  s->hello_left = (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
  if (s->write_state == WRITE_OPEN) s->owes_refusal = true;
  return ++s->renegotiations <= RENEGOTIATIONS_MAX && (!s->from_server || s->hello_left == 0);
}

/* RFC 5246 7.4.1 and 7.2.2: a ClientHello, or a server's HelloRequest, is declined by a warning, unread. Messages may
   be cut into records anywhere. */
static enum sealed_result decline_handshake(struct sealed *s, const uint8_t *p, size_t n) {
  if (n == 0) return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
  for (size_t at = 0; at < n;) {
    size_t body = size_min(n - at, s->hello_left);
    s->hello_left -= body;
    at += body;
    if (at < n && !take_hello_header(s, p[at++])) return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
  }
  return SEALED_NOTHING;
}

/* RFC 8446 4.6.3 and 5.1: the one handshake message that may come, alone in its record because the key changes after
   it. */
static enum sealed_result read_handshake(struct sealed *s, const uint8_t *p, size_t n) {
  if (!is_tls13(s)) return decline_handshake(s, p, n);
  if (s->from_server && n > 0 && are_tickets(p, n)) return SEALED_NOTHING;
  if (n == 0 || p[0] != HANDSHAKE_KEY_UPDATE) return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
  if (n >= 4 && (p[1] != 0 || p[2] != 0 || p[3] != 1)) return fail_read(s, ALERT_DECODE_ERROR);
  if (n != KEY_UPDATE_BYTES) return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
  if (p[4] > 1) return fail_read(s, ALERT_ILLEGAL_PARAMETER);
  if (record_keys_update(&s->in) != 0) return fail_read(s, ALERT_INTERNAL_ERROR);
  if (p[4] == 1 && s->write_state == WRITE_OPEN) s->owes_key_update = true;
  return SEALED_NOTHING;
}

/* RFC 8446 6: every alert but close_notify and user_canceled is fatal, whatever its level says. In TLS 1.2 the level
   says it. */
static enum sealed_result read_alert(struct sealed *s, const uint8_t *p, size_t n) {
  if (n == 0) return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
  if (n != ALERT_BYTES) return fail_read(s, ALERT_DECODE_ERROR);
  bool warns = p[0] == ALERT_LEVEL_WARNING;
  if (p[1] == ALERT_CLOSE_NOTIFY && (is_tls13(s) || warns)) {
    s->read_state = READ_ENDED;
    return SEALED_EOF;
  }
  if (is_tls13(s) ? p[1] == ALERT_USER_CANCELED : warns) return SEALED_NOTHING;
  s->read_state = READ_RESET;
  return SEALED_PEER_ALERT;
}

/* A header that no legal record has; told before its body is waited for. RFC 8446 5.4: the limit, also a reduced one,
   is on the whole inner plaintext with its type and padding; and a tag is all that protection adds. */
static uint8_t header_alert(const struct sealed *s, const uint8_t *header) {
  uint8_t least = is_tls13(s) ? RECORD_APPLICATION_DATA : RECORD_ALERT;
  if (header[0] < least || header[0] > RECORD_APPLICATION_DATA) return ALERT_UNEXPECTED_MESSAGE;
  if (record_length(header, RECORD_HEADER_BYTES) > s->fragment_max + sealed_overhead(s)) return ALERT_RECORD_OVERFLOW;
  return 0;
}

enum sealed_result sealed_read(struct sealed *s, uint8_t *buf, size_t len, size_t *consumed, uint8_t **plain,
                               size_t *n) {
  *consumed = 0;
  *plain = NULL;
  *n = 0;
  if (s->read_state == READ_ENDED) return SEALED_EOF;
  if (s->read_state == READ_RESET) return SEALED_PEER_ALERT;
  if (s->read_state == READ_FAILED) return SEALED_FAILED;
  if (len < RECORD_HEADER_BYTES) return SEALED_MORE;
  uint8_t alert = header_alert(s, buf);
  if (alert != 0) return fail_read(s, alert);
  size_t full = record_length(buf, len);
  if (len < full) return SEALED_MORE;

  enum record_type type;
  uint8_t *content;
  size_t content_n;
  if (record_open(&s->in, buf, full, &type, &content, &content_n, &alert) != 0) return fail_read(s, alert);
  *consumed = full;
  switch (type) {
    case RECORD_APPLICATION_DATA:
      if (content_n == 0) return SEALED_NOTHING;
      *plain = content;
      *n = content_n;
      return SEALED_DATA;
    case RECORD_HANDSHAKE: return read_handshake(s, content, content_n);
    case RECORD_ALERT: return read_alert(s, content, content_n);
    case RECORD_CHANGE_CIPHER_SPEC: break;
  }
  return fail_read(s, ALERT_UNEXPECTED_MESSAGE);
}

/* TLS 1.2 has no way to. */
static bool owes_update(const struct sealed *s) {
  return s->owes_key_update || (is_tls13(s) && s->out.sequence >= RECORDS_PER_KEY_MAX);
}

bool sealed_owes(const struct sealed *s) {
  if (s->write_state == WRITE_OPEN) return owes_update(s) || s->owes_refusal;
  return s->write_state == WRITE_ALERT_OWED;
}

/* Our update never asks for one in return: how much the peer sends under its key is the peer's care. */
static size_t write_key_update(struct sealed *s, uint8_t *out) {
  static const uint8_t message[KEY_UPDATE_BYTES] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1, 0};
  memcpy(out + RECORD_HEADER_BYTES, message, sizeof message);
  if (record_seal(&s->out, RECORD_HANDSHAKE, out, sizeof message) != 0) return 0;
  if (record_keys_update(&s->out) != 0) return 0;
  s->owes_key_update = false;
  return RECORD_OVERHEAD_BYTES + sizeof message;
}

static size_t write_alert(struct sealed *s, uint8_t level, uint8_t alert, uint8_t *out) {
  out[sealed_lead(s)] = level;
  out[sealed_lead(s) + 1] = alert;
  if (record_seal(&s->out, RECORD_ALERT, out, ALERT_BYTES) != 0) return 0;
  return sealed_overhead(s) + ALERT_BYTES;
}

size_t sealed_write_owed(struct sealed *s, uint8_t *out) {
  size_t n = 0;
  if (s->write_state == WRITE_ENDED) return 0;
  /* A fatal alert makes an update pointless; before close_notify the peer still gets the answer that it asked for. */
  bool fatal = s->write_state == WRITE_ALERT_OWED && s->alert_level == ALERT_LEVEL_FATAL;
  if (!fatal && owes_update(s)) {
    n = write_key_update(s, out);
    if (n == 0) {                  /* out of memory amid a change of keys: no record can follow, not even an alert */
      s->write_state = WRITE_ENDED;
      s->read_state = READ_FAILED;
      return 0;
    }
  }
  if (!fatal && s->owes_refusal) n = write_alert(s, ALERT_LEVEL_WARNING, ALERT_NO_RENEGOTIATION, out);
  s->owes_refusal = false;
  if (s->write_state == WRITE_ALERT_OWED) {
    s->write_state = WRITE_ENDED;
    n += write_alert(s, s->alert_level, s->alert, out + n);
  }
  return n;
}

int sealed_write(struct sealed *s, uint8_t *record, size_t n) {
  if (s->write_state != WRITE_OPEN || sealed_owes(s)) return ERR_NOT_NOW;
  if (n == 0 || n > s->fragment_max) return ERR_USAGE;
  return record_seal(&s->out, RECORD_APPLICATION_DATA, record, n);
}

size_t sealed_fragment_max(const struct sealed *s) { return s->fragment_max; }
size_t sealed_lead(const struct sealed *s) { return s->out.suite->lead; }
size_t sealed_overhead(const struct sealed *s) { return s->out.suite->overhead; }

void sealed_close(struct sealed *s) {
  if (s->write_state != WRITE_OPEN) return;
  s->write_state = WRITE_ALERT_OWED;
  s->alert_level = ALERT_LEVEL_WARNING;
  s->alert = ALERT_CLOSE_NOTIFY;
}

void sealed_fail(struct sealed *s, uint8_t alert) {
  if (s->write_state == WRITE_ENDED) return;
  /* The first fatal alert stays; one that comes before an owed close_notify is written takes its place. */
  if (s->write_state == WRITE_ALERT_OWED && s->alert_level == ALERT_LEVEL_FATAL) return;
  s->write_state = WRITE_ALERT_OWED;
  s->alert_level = ALERT_LEVEL_FATAL;
  s->alert = alert;
}

bool sealed_write_ended(const struct sealed *s) { return s->write_state == WRITE_ENDED; }

/* To another process and back. In this order: version, suite, both secrets with their sequence numbers, and the rest of
   the struct. */

static void export_keys(const struct record_keys *k, struct writer *w) {
  write_bytes(w, k->secret, tls_suite_secret_bytes(k->suite));
  write_u64(w, k->sequence);
}

void sealed_export(struct sealed *s, struct writer *w) {
  write_u8(w, EXPORT_VERSION);
  write_u16(w, s->out.suite->id);
  export_keys(&s->in, w);
  export_keys(&s->out, w);
  write_u16(w, (uint16_t)s->fragment_max);
  write_u8(w, (uint8_t)s->read_state);
  write_u8(w, (uint8_t)s->write_state);
  write_u8(w, s->from_server);
  write_u8(w, s->owes_key_update);
  write_u8(w, s->owes_refusal);
  write_u8(w, (uint8_t)s->renegotiations);
  write_vec8(w, s->hello_header, s->hello_header_n);
  write_u32(w, (uint32_t)s->hello_left);
  write_u8(w, s->alert_level);
  write_u8(w, s->alert);
  sealed_free(s);
}

/* A value that this end could not have come to by itself is none: what is owed is sealed without asking again. */
static bool import_is_sound(const struct sealed *s) {
  if (s->fragment_max == 0 || s->fragment_max > RECORD_PLAIN_MAX) return false;
  if (s->read_state > READ_FAILED || s->write_state > WRITE_ENDED) return false;
  bool known_level = s->alert_level == ALERT_LEVEL_WARNING || s->alert_level == ALERT_LEVEL_FATAL;
  if (s->write_state == WRITE_ALERT_OWED && !known_level) return false;
  if (is_tls13(s)) return !s->owes_refusal && s->renegotiations == 0 && s->hello_header_n == 0 && s->hello_left == 0;
  return !s->owes_key_update && s->renegotiations <= RENEGOTIATIONS_MAX + 1 && s->hello_left < 1 << 24;
}

static void import_rest(struct sealed *s, struct reader *r) {
  s->fragment_max = read_u16(r);
  s->read_state = (enum read_state)read_u8(r);
  s->write_state = (enum write_state)read_u8(r);
  s->from_server = read_flag(r);
  s->owes_key_update = read_flag(r);
  s->owes_refusal = read_flag(r);
  s->renegotiations = read_u8(r);
  struct reader header = read_vec8(r);
  if (header.left >= HANDSHAKE_HEADER_BYTES) r->bad = true;
  else s->hello_header_n = header.left;
  read_copy(&header, s->hello_header, s->hello_header_n);
  s->hello_left = read_u32(r);
  s->alert_level = read_u8(r);
  s->alert = read_u8(r);
}

int sealed_import(struct reader *r, struct sealed **out) {
  bool known = read_u8(r) == EXPORT_VERSION;
  const struct tls_suite *suite = tls_suite_find(read_u16(r));
  if (!known || suite == NULL) return ERR_SYNTAX;
  struct sealed_params p = {.suite = suite};
  p.read_secret = read_bytes(r, tls_suite_secret_bytes(suite));
  p.read_sequence = read_u64(r);
  p.write_secret = read_bytes(r, tls_suite_secret_bytes(suite));
  p.write_sequence = read_u64(r);
  struct sealed rest = {.out.suite = suite};
  import_rest(&rest, r);
  if (r->bad || !import_is_sound(&rest)) return ERR_SYNTAX;
  struct sealed *s = sealed_new(&p);
  if (s == NULL) return ERR_NOMEM;
  rest.in = s->in;
  rest.out = s->out;
  *s = rest;
  wipe(&rest, sizeof rest);
  *out = s;
  return 0;
}
