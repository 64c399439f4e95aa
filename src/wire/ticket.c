/* Tickets. Only the relay that made one, or its successor with the same keys, reads it: the MAC is verified first, and
   what stands inside is still parsed as if a stranger had written it. */
#include "wire/ticket.h"

#include <string.h>

#include "base/secret.h"
#include "base/text.h"

enum { TICKET_VERSION = 1, TICKET_MAC_BYTES = SHA256_BYTES };
static const char ticket_context[] = "adit ticket v1"; /* with its NUL, before the bytes under the MAC */

static int ticket_mac(const struct ticket_key *key, const uint8_t *body, size_t n, uint8_t mac[TICKET_MAC_BYTES]) {
  uint8_t text[sizeof ticket_context + TICKET_MAX_BYTES];
  memcpy(text, ticket_context, sizeof ticket_context);
  memcpy(text + sizeof ticket_context, body, n);
  return hmac_sha256(key->key, sizeof key->key, text, sizeof ticket_context + n, mac);
}

int ticket_encode(const struct ticket *t, const struct ticket_key *key, uint8_t out[TICKET_MAX_BYTES], size_t *n) {
  uint8_t mac[TICKET_MAC_BYTES];
  *n = 0;
  if (!host_name_is_valid(t->relay) || !label_is_valid(t->label) || t->expires_s < 0) return ERR_USAGE;
  struct writer w = writer_of(out, TICKET_MAX_BYTES);
  write_u8(&w, TICKET_VERSION);
  write_u32(&w, key->id);
  write_text8(&w, t->relay);
  write_bytes(&w, t->owner, sizeof t->owner);
  write_text8(&w, t->label);
  write_u16(&w, t->tcp_port);
  write_u32(&w, t->incarnation);
  write_u64(&w, (uint64_t)t->expires_s);
  int r = ticket_mac(key, out, w.len, mac);
  if (r != 0) return r;
  write_bytes(&w, mac, sizeof mac);
  ASSERT(!w.bad);
  *n = w.len;
  return 0;
}

static int ticket_parse(struct reader r, struct ticket *t) {
  read_text8(&r, t->relay, sizeof t->relay);
  read_copy(&r, t->owner, sizeof t->owner);
  read_text8(&r, t->label, sizeof t->label);
  t->tcp_port = read_u16(&r);
  t->incarnation = read_u32(&r);
  t->expires_s = (int64_t)read_u64(&r);
  bool valid = host_name_is_valid(t->relay) && label_is_valid(t->label) && t->expires_s >= 0;
  return reader_done(&r) && valid ? 0 : ERR_SYNTAX;
}

int ticket_decode(const uint8_t *p, size_t n, const struct ticket_key *keys, size_t keys_n, struct ticket *t) {
  memset(t, 0, sizeof *t);
  if (n <= TICKET_MAC_BYTES || n > TICKET_MAX_BYTES) return ERR_SYNTAX;
  size_t body = n - TICKET_MAC_BYTES;
  struct reader r = reader_of(p, body);
  uint8_t version = read_u8(&r);
  uint32_t key_id = read_u32(&r);
  if (r.bad || version != TICKET_VERSION) return ERR_SYNTAX;
  for (size_t i = 0; i < keys_n; i++) {
    uint8_t mac[TICKET_MAC_BYTES];
    if (keys[i].id != key_id) continue;
    int rc = ticket_mac(&keys[i], p, body, mac);
    if (rc == 0 && !equal_ct(mac, p + body, sizeof mac)) continue;
    if (rc == 0) rc = ticket_parse(r, t);
    if (rc != 0) memset(t, 0, sizeof *t);
    return rc;
  }
  return ERR_AUTH;
}
