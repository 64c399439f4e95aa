/* The first ClientHello, parsed by us because the tunnel hangs on it. The hard thing is to see exactly what OpenSSL
   will see in the same bytes: a lenient reading here would let a visitor name one host to us and another to the
   handshake. */
#include "tls/client_hello.h"

#include <string.h>

#include "base/addr.h"
#include "base/cursor.h"
#include "tls/record.h"
#include "tls/suite.h"

enum {
  HANDSHAKE_CLIENT_HELLO = 1, HANDSHAKE_HEADER_BYTES = 4, EXTENSION_SERVER_NAME = 0, EXTENSION_ALPN = 16,
  EXTENSION_SUPPORTED_VERSIONS = 43, EXTENSION_TYPES = 1 << 16, NAME_TYPE_HOST = 0, VERSION_TLS13 = 0x0304
};

static int refuse(uint8_t *alert, enum tls_alert why) {
  *alert = (uint8_t)why;
  return why == ALERT_RECORD_OVERFLOW ? ERR_LIMIT : ERR_SYNTAX;
}

void client_hello_init(struct client_hello *ch) {
  memset(ch, 0, sizeof *ch);
  buf_init(&ch->raw, CLIENT_HELLO_MAX_BYTES);
  buf_init(&ch->body, CLIENT_HELLO_MAX_BYTES);
}

void client_hello_free(struct client_hello *ch) {
  buf_free(&ch->raw);
  buf_free(&ch->body);
}

size_t client_hello_want(const struct client_hello *ch) {
  if (ch->complete) return 0;
  return ch->record_left > 0 ? ch->record_left : RECORD_HEADER_BYTES - ch->header_n;
}

/* RFC 6066 3: exactly one name, of type host_name, as OpenSSL requires it, too. */
int client_hello_parse_sni(const uint8_t *p, size_t n, char out[HOST_NAME_MAX_CHARS + 1]) {
  struct reader r = reader_of(p, n);
  struct reader list = read_vec16(&r);
  uint8_t type = read_u8(&list);
  struct reader name = read_vec16(&list);
  out[0] = 0;
  if (!reader_done(&r) || !reader_done(&list) || type != NAME_TYPE_HOST || name.left == 0) return ERR_SYNTAX;
  if (name.at[name.left - 1] == '.') name.left--;
  if (name.left > HOST_NAME_MAX_CHARS || memchr(name.at, 0, name.left) != NULL) return 0;
  for (size_t i = 0; i < name.left; i++) {
    char c = (char)name.at[i];
    out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
  }
  out[name.left] = 0;
  if (!host_name_is_valid(out)) out[0] = 0;
  return 0;
}

/* RFC 7301 3.1. What does not fit is left out, entry by entry: nobody offers a kilobyte of names that we speak. */
static int parse_alpn(struct client_hello *ch, struct reader *r) {
  struct reader list = read_vec16(r);
  if (!reader_done(r) || list.left == 0) return ERR_SYNTAX;
  while (list.left > 0) {
    struct reader name = read_vec8(&list);
    if (list.bad || name.left == 0) return ERR_SYNTAX;
    if (ch->alpn_n + 1 + name.left > sizeof ch->alpn) continue;
    ch->alpn[ch->alpn_n++] = (uint8_t)name.left;
    memcpy(ch->alpn + ch->alpn_n, name.at, name.left);
    ch->alpn_n += name.left;
  }
  ch->has_alpn = true;
  return 0;
}

static int parse_versions(struct client_hello *ch, struct reader *r) {
  struct reader list = read_vec8(r);
  if (!reader_done(r) || list.left == 0 || list.left % 2 != 0) return ERR_SYNTAX;
  while (list.left > 0) {
    if (read_u16(&list) == VERSION_TLS13) ch->offers_tls13 = true;
  }
  return 0;
}

/* RFC 8446 4.2: no extension twice. OpenSSL sees that of those that it knows only. */
static bool is_new(uint64_t seen[EXTENSION_TYPES / 64], uint16_t type) {
  uint64_t bit = (uint64_t)1 << type % 64, before = seen[type / 64];
  seen[type / 64] |= bit;
  return (before & bit) == 0;
}

static int parse_extensions(struct client_hello *ch, struct reader list, uint8_t *alert) {
  uint64_t seen[EXTENSION_TYPES / 64] = {0};
  while (list.left > 0) {
    uint16_t type = read_u16(&list);
    struct reader r = read_vec16(&list);
    if (list.bad) return refuse(alert, ALERT_DECODE_ERROR);
    if (!is_new(seen, type)) return refuse(alert, ALERT_ILLEGAL_PARAMETER);
    int rc = 0;
    if (type == EXTENSION_SERVER_NAME) {
      ch->has_sni = true;
      rc = client_hello_parse_sni(r.at, r.left, ch->sni);
    } else if (type == EXTENSION_ALPN) {
      rc = parse_alpn(ch, &r);
    } else if (type == EXTENSION_SUPPORTED_VERSIONS) {
      rc = parse_versions(ch, &r);
    }
    if (rc != 0) return refuse(alert, ALERT_DECODE_ERROR);
  }
  return 0;
}

/* RFC 8446 4.1.2. */
static int parse_hello(struct client_hello *ch, const uint8_t *p, size_t n, uint8_t *alert) {
  struct reader r = reader_of(p, n);
  read_u16(&r);                    /* legacy_version: OpenSSL judges it */
  read_bytes(&r, 32);
  struct reader session = read_vec8(&r);
  struct reader suites = read_vec16(&r);
  struct reader compression = read_vec8(&r);
  if (r.bad || session.left > 32 || suites.left == 0 || suites.left % 2 != 0 || compression.left == 0) {
    return refuse(alert, ALERT_DECODE_ERROR);
  }
  if (r.left == 0) return 0;       /* before TLS 1.3 there may be no extensions at all */
  struct reader extensions = read_vec16(&r);
  if (!reader_done(&r)) return refuse(alert, ALERT_DECODE_ERROR);
  return parse_extensions(ch, extensions, alert);
}

/* Looks whether the message is whole, after each record. */
static int check_body(struct client_hello *ch, uint8_t *alert) {
  const uint8_t *p = buf_data(&ch->body);
  size_t n = ch->body.len;
  if (n == 0) return 0;
  if (p[0] != HANDSHAKE_CLIENT_HELLO) return refuse(alert, ALERT_UNEXPECTED_MESSAGE);
  if (n < HANDSHAKE_HEADER_BYTES) return 0;
  size_t length = ((size_t)p[1] << 16) | ((size_t)p[2] << 8) | p[3];
  if (length > CLIENT_HELLO_MAX_BYTES - HANDSHAKE_HEADER_BYTES) return refuse(alert, ALERT_RECORD_OVERFLOW);
  if (n < HANDSHAKE_HEADER_BYTES + length) return 0;
  /* RFC 8446 5.1: nothing may follow in the record, for the keys may change after this message. */
  if (n > HANDSHAKE_HEADER_BYTES + length) return refuse(alert, ALERT_UNEXPECTED_MESSAGE);
  int rc = parse_hello(ch, p + HANDSHAKE_HEADER_BYTES, length, alert);
  if (rc == 0) ch->complete = true;
  return rc;
}

static int begin_record(struct client_hello *ch, uint8_t *alert) {
  const uint8_t *h = ch->header;
  size_t length = record_length(h, RECORD_HEADER_BYTES) - RECORD_HEADER_BYTES;
  if (h[0] != RECORD_HANDSHAKE || length == 0) return refuse(alert, ALERT_UNEXPECTED_MESSAGE);
  if (h[1] != 3) return refuse(alert, ALERT_PROTOCOL_VERSION);
  if (length > RECORD_PLAIN_MAX) return refuse(alert, ALERT_RECORD_OVERFLOW);
  ch->record_left = length;
  ch->header_n = 0;
  return 0;
}

int client_hello_feed(struct client_hello *ch, const uint8_t *p, size_t n, uint8_t *alert) {
  while (n > 0) {
    size_t take = size_min(n, client_hello_want(ch));
    if (take == 0) return refuse(alert, ALERT_UNEXPECTED_MESSAGE);
    int rc = buf_append(&ch->raw, p, take);
    if (rc == 0 && ch->record_left > 0) rc = buf_append(&ch->body, p, take);
    if (rc != 0) return refuse(alert, rc == ERR_NOMEM ? ALERT_INTERNAL_ERROR : ALERT_RECORD_OVERFLOW);
    if (ch->record_left > 0) {
      ch->record_left -= take;
      if (ch->record_left == 0) rc = check_body(ch, alert);
    } else {
      memcpy(ch->header + ch->header_n, p, take);
      ch->header_n += take;
      if (ch->header_n == RECORD_HEADER_BYTES) rc = begin_record(ch, alert);
    }
    if (rc != 0) return rc;
    p += take;
    n -= take;
  }
  return 0;
}

bool client_hello_offers_alpn(const struct client_hello *ch, const char *protocol) {
  size_t n = strlen(protocol);
  for (size_t at = 0; at < ch->alpn_n; at += 1u + ch->alpn[at]) {
    if (ch->alpn[at] == n && memcmp(ch->alpn + at + 1, protocol, n) == 0) return true;
  }
  return false;
}

void tls_plain_alert(uint8_t alert, uint8_t out[PLAIN_ALERT_BYTES]) {
  const uint8_t record[PLAIN_ALERT_BYTES] = {RECORD_ALERT, 3, 3, 0, 2, 2, alert};
  memcpy(out, record, sizeof record);
}
