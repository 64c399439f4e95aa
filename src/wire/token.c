/* Tokens and certificates. A certificate is shown to relays, so it is signed, and refused when one byte differs; a token
   is what a person copies, so it carries a checksum, and every way in which it can be damaged has its own words. */
#include "wire/token.h"

#include <string.h>

#include "base/secret.h"
#include "base/text.h"

/* A certificate without limits is of the first version, which every relay and agent knows. */
enum { CERTIFICATE_VERSION = 1, CERTIFICATE_VERSION_LIMITS = 2 };
enum { TOKEN_VERSION = 1, CHECKSUM_BYTES = 4, TOKEN_MAX_BYTES = TOKEN_TEXT_MAX_CHARS * 3 / 4 };
static const char certificate_context[] = "adit certificate v1"; /* with its NUL, before the signed bytes */

/* Certificate */

static bool name_is_valid(const char *name) {
  if (name[0] == 0) return false;
  for (; *name != 0; name++) {
    if (*name < ' ' || *name > '~') return false;
  }
  return true;
}

static bool has_limits(const struct token_limits *l) {
  return l->max_streams != 0 || l->max_visitors_per_s != 0 || l->max_bytes_per_s != 0;
}

static void limits_write(struct writer *w, const struct token_limits *l) {
  write_u32(w, l->max_streams);
  write_u32(w, l->max_visitors_per_s);
  write_u64(w, l->max_bytes_per_s);
}

static void limits_read(struct reader *r, struct token_limits *l) {
  l->max_streams = read_u32(r);
  l->max_visitors_per_s = read_u32(r);
  l->max_bytes_per_s = read_u64(r);
}

/* The signed text: context, then the certificate without its signature. Returns its length. */
static size_t signed_text(const uint8_t *body, size_t n, uint8_t out[sizeof certificate_context + CERTIFICATE_MAX_BYTES]) {
  memcpy(out, certificate_context, sizeof certificate_context);
  memcpy(out + sizeof certificate_context, body, n);
  return sizeof certificate_context + n;
}

int certificate_sign(const struct certificate *c, const uint8_t operator_seed[ED25519_KEY_BYTES], uint8_t *out, size_t cap, size_t *n) {
  uint8_t operator_key[ED25519_KEY_BYTES], text[sizeof certificate_context + CERTIFICATE_MAX_BYTES], sig[ED25519_SIG_BYTES];
  *n = 0;
  if (!name_is_valid(c->name) || c->expires_s < 0) return ERR_USAGE;
  int r = ed25519_public(operator_seed, operator_key);
  if (r != 0) return r;
  struct writer w = writer_of(out, size_min(cap, CERTIFICATE_MAX_BYTES));
  write_u8(&w, has_limits(&c->limits) ? CERTIFICATE_VERSION_LIMITS : CERTIFICATE_VERSION);
  write_bytes(&w, c->id, sizeof c->id);
  write_text8(&w, c->name);
  write_bytes(&w, c->public_key, sizeof c->public_key);
  write_u32(&w, c->max_tunnels);
  write_u64(&w, (uint64_t)c->issued_s);
  write_u64(&w, (uint64_t)c->expires_s);
  if (has_limits(&c->limits)) limits_write(&w, &c->limits);
  write_bytes(&w, operator_key, sizeof operator_key);
  if (w.bad) return ERR_LIMIT;
  r = ed25519_sign(operator_seed, text, signed_text(out, w.len, text), sig);
  if (r != 0) return r;
  write_bytes(&w, sig, sizeof sig);
  if (w.bad) return ERR_LIMIT;
  *n = w.len;
  return 0;
}

/* What it says, whoever wrote it. */
static int certificate_read(const uint8_t *p, size_t n, struct certificate *c) {
  memset(c, 0, sizeof *c);
  if (n <= ED25519_SIG_BYTES || n > CERTIFICATE_MAX_BYTES) return ERR_SYNTAX;
  struct reader r = reader_of(p, n - ED25519_SIG_BYTES);
  uint8_t version = read_u8(&r);
  read_copy(&r, c->id, sizeof c->id);
  read_text8(&r, c->name, sizeof c->name);
  read_copy(&r, c->public_key, sizeof c->public_key);
  c->max_tunnels = read_u32(&r);
  c->issued_s = (int64_t)read_u64(&r);
  c->expires_s = (int64_t)read_u64(&r);
  if (version == CERTIFICATE_VERSION_LIMITS) limits_read(&r, &c->limits);
  read_copy(&r, c->operator_key, sizeof c->operator_key);
  if (!reader_done(&r) || !name_is_valid(c->name) || c->issued_s < 0 || c->expires_s < 0) return ERR_SYNTAX;
  /* Each certificate has one form: the second version is for those with limits only. */
  if (version != (has_limits(&c->limits) ? CERTIFICATE_VERSION_LIMITS : CERTIFICATE_VERSION)) return ERR_SYNTAX;
  return 0;
}

/* Of one that has been read. */
static int certificate_check_signature(const uint8_t *p, size_t n, const struct certificate *c) {
  uint8_t text[sizeof certificate_context + CERTIFICATE_MAX_BYTES];
  size_t body = n - ED25519_SIG_BYTES;
  return ed25519_verify(c->operator_key, text, signed_text(p, body, text), p + body);
}

int certificate_verify(const uint8_t *p, size_t n, struct certificate *c) {
  int r = certificate_read(p, n, c);
  return r != 0 ? r : certificate_check_signature(p, n, c);
}

int certificate_verify_by(const uint8_t *p, size_t n, const uint8_t (*operators)[ED25519_KEY_BYTES], size_t operators_n,
                          struct certificate *c) {
  int r = certificate_read(p, n, c);
  if (r != 0) return r;
  for (size_t i = 0; i < operators_n; i++) {
    if (memcmp(operators[i], c->operator_key, ED25519_KEY_BYTES) == 0) return certificate_check_signature(p, n, c);
  }
  return ERR_NOT_NOW;
}

/* Token */

static void relay_write(struct writer *w, const struct token_relay *relay) {
  write_text8(w, relay->dial.host);
  write_u16(w, relay->dial.port);
  write_text8(w, relay->name);
  write_u8(w, relay->pin.kind);
  if (relay->pin.kind == PIN_SPKI_SHA256) write_bytes(w, relay->pin.spki_sha256, sizeof relay->pin.spki_sha256);
}

static bool relay_read(struct reader *r, struct token_relay *relay) {
  read_text8(r, relay->dial.host, sizeof relay->dial.host);
  relay->dial.port = read_u16(r);
  read_text8(r, relay->name, sizeof relay->name);
  relay->pin.kind = read_u8(r);
  if (relay->pin.kind == PIN_SPKI_SHA256) read_copy(r, relay->pin.spki_sha256, sizeof relay->pin.spki_sha256);
  if (r->bad || relay->dial.port == 0 || relay->pin.kind > PIN_SPKI_SHA256) return false;
  if (!host_is_ip(relay->dial.host) && !host_name_is_valid(relay->dial.host)) return false;
  return relay->name[0] == 0 || host_name_is_valid(relay->name);
}

int token_encode(const struct token *t, char *out, size_t cap) {
  uint8_t bytes[TOKEN_MAX_BYTES], digest[SHA256_BYTES];
  size_t prefix = strlen(TOKEN_PREFIX);
  if (cap > 0) out[0] = 0;
  if (t->relays_n == 0 || t->relays_n > TOKEN_RELAYS_MAX || t->certificate_n == 0 || t->certificate_n > CERTIFICATE_MAX_BYTES) return ERR_USAGE;
  struct writer w = writer_of(bytes, sizeof bytes - CHECKSUM_BYTES);
  write_u8(&w, TOKEN_VERSION);
  write_u8(&w, (uint8_t)t->relays_n);
  for (size_t i = 0; i < t->relays_n; i++) relay_write(&w, &t->relays[i]);
  write_bytes(&w, t->seed, sizeof t->seed);
  write_vec16(&w, t->certificate, t->certificate_n);
  int r = w.bad ? ERR_LIMIT : sha256(bytes, w.len, digest);
  if (r != 0) goto done;
  memcpy(bytes + w.len, digest, CHECKSUM_BYTES);
  size_t n = w.len + CHECKSUM_BYTES, chars = prefix + (n * 8 + 5) / 6;
  if (chars > TOKEN_TEXT_MAX_CHARS || prefix + 4 * (n + 2) / 3 + 1 > cap) {
    r = ERR_LIMIT;
    goto done;
  }
  memcpy(out, TOKEN_PREFIX, prefix);
  base64url_encode(bytes, n, out + prefix);
done:
  wipe(bytes, sizeof bytes);
  return r;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static int token_parse(const uint8_t *bytes, size_t n, struct token *t, struct err *e) {
  static const char again[] = "copy the whole token again";
  uint8_t digest[SHA256_BYTES];
  if (n <= CHECKSUM_BYTES) return err_set(e, ERR_SYNTAX, "token: too short (%s)", again);
  n -= CHECKSUM_BYTES;
  if (bytes[0] != TOKEN_VERSION) {
    return err_set(e, ERR_UNSUPPORTED, "token: made by another version of adit (update adit, or ask the operator for a new token)");
  }
  if (sha256(bytes, n, digest) != 0) return err_set(e, ERR_CRYPTO, "token: the crypto library failed (try again)");
  if (!equal_ct(digest, bytes + n, CHECKSUM_BYTES)) return err_set(e, ERR_SYNTAX, "token: damaged or cut off (%s)", again);
  struct reader r = reader_of(bytes + 1, n - 1);
  t->relays_n = read_u8(&r);
  if (t->relays_n == 0 || t->relays_n > TOKEN_RELAYS_MAX) goto malformed;
  for (size_t i = 0; i < t->relays_n; i++) {
    if (!relay_read(&r, &t->relays[i])) goto malformed;
  }
  read_copy(&r, t->seed, sizeof t->seed);
  struct reader certificate = read_vec16(&r);
  if (!reader_done(&r) || certificate.left > CERTIFICATE_MAX_BYTES) goto malformed;
  t->certificate_n = certificate.left;
  read_copy(&certificate, t->certificate, t->certificate_n);
  return 0;
malformed:
  return err_set(e, ERR_SYNTAX, "token: malformed inside (ask the operator for a new one)");
}

static int token_check(struct token *t, struct err *e) {
  uint8_t public_key[ED25519_KEY_BYTES];
  int r = certificate_verify(t->certificate, t->certificate_n, &t->info);
  if (r != 0) return err_set(e, r, "token: the certificate in it does not hold (ask the operator for a new one)");
  r = ed25519_public(t->seed, public_key);
  if (r != 0) return err_set(e, r, "token: the crypto library failed (try again)");
  if (!equal_ct(public_key, t->info.public_key, sizeof public_key)) {
    return err_set(e, ERR_AUTH, "token: its key does not belong to its certificate (ask the operator for a new one)");
  }
  return 0;
}

int token_decode(const char *text, size_t chars, struct token *t, struct err *e) {
  uint8_t bytes[TOKEN_MAX_BYTES];
  size_t n = 0, prefix = strlen(TOKEN_PREFIX);
  memset(t, 0, sizeof *t);
  while (chars > 0 && is_space(text[0])) text++, chars--;
  while (chars > 0 && is_space(text[chars - 1])) chars--;
  if (chars == 0) return err_set(e, ERR_SYNTAX, "token: empty (give the word that adit token create printed)");
  if (chars > TOKEN_TEXT_MAX_CHARS) {
    return err_set(e, ERR_LIMIT, "token: longer than %d characters (give one token only)", TOKEN_TEXT_MAX_CHARS);
  }
  if (chars < prefix || memcmp(text, TOKEN_PREFIX, prefix) != 0) {
    return err_set(e, ERR_SYNTAX, "token: does not begin with %s (give the word that adit token create printed)", TOKEN_PREFIX);
  }
  int r = base64url_decode(text + prefix, chars - prefix, bytes, sizeof bytes, &n);
  if (r != 0) err_set(e, r, "token: has characters that no token has, or is cut off (copy the whole token again)");
  if (r == 0) r = token_parse(bytes, n, t, e);
  if (r == 0) r = token_check(t, e);
  wipe(bytes, sizeof bytes);
  if (r != 0) wipe(t, sizeof *t);
  return r;
}

/* Operator's public key file */

static const char operator_prefix[] = "adit-operator-1 ";

void operator_key_encode(const uint8_t key[ED25519_KEY_BYTES], char out[OPERATOR_TEXT_MAX]) {
  size_t n = sizeof operator_prefix - 1;
  memcpy(out, operator_prefix, n);
  n += base64url_encode(key, ED25519_KEY_BYTES, out + n);
  out[n] = '\n';
  out[n + 1] = 0;
}

int operator_key_decode(const char *text, size_t chars, uint8_t key[ED25519_KEY_BYTES]) {
  size_t prefix = sizeof operator_prefix - 1, n = 0;
  while (chars > 0 && is_space(text[chars - 1])) chars--;
  if (chars < prefix || chars > OPERATOR_TEXT_MAX || memcmp(text, operator_prefix, prefix) != 0) return ERR_SYNTAX;
  if (base64url_decode(text + prefix, chars - prefix, key, ED25519_KEY_BYTES, &n) != 0) return ERR_SYNTAX;
  return n == ED25519_KEY_BYTES ? 0 : ERR_SYNTAX;
}
