/* Tokens. A token is what a person copies, so it carries a checksum, and every way in which it can be damaged has
   its own words. */
#include "wire/token.h"

#include <string.h>

#include "base/secret.h"
#include "base/text.h"

enum { TOKEN_VERSION = 1, CHECKSUM_BYTES = 4, TOKEN_MAX_BYTES = TOKEN_TEXT_MAX_CHARS * 3 / 4 };

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
  if (t->relays_n == 0 || t->relays_n > TOKEN_RELAYS_MAX) return ERR_USAGE;
  if (t->chain_n == 0 || t->chain_n > CHAIN_MAX_BYTES) return ERR_USAGE;
  struct writer w = writer_of(bytes, sizeof bytes - CHECKSUM_BYTES);
  write_u8(&w, TOKEN_VERSION);
  write_u8(&w, (uint8_t)t->relays_n);
  for (size_t i = 0; i < t->relays_n; i++) relay_write(&w, &t->relays[i]);
  write_bytes(&w, t->seed, sizeof t->seed);
  write_vec16(&w, t->chain, t->chain_n);
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
    return err_set(e, ERR_UNSUPPORTED,
                   "token: made by another version of adit (update adit, or ask the operator for a new token)");
  }
  if (sha256(bytes, n, digest) != 0) return err_set(e, ERR_CRYPTO, "token: the crypto library failed (try again)");
  if (!equal_ct(digest, bytes + n, CHECKSUM_BYTES))
    return err_set(e, ERR_SYNTAX, "token: damaged or cut off (%s)", again);
  struct reader r = reader_of(bytes + 1, n - 1);
  t->relays_n = read_u8(&r);
  if (t->relays_n == 0 || t->relays_n > TOKEN_RELAYS_MAX) goto malformed;
  for (size_t i = 0; i < t->relays_n; i++) {
    if (!relay_read(&r, &t->relays[i])) goto malformed;
  }
  read_copy(&r, t->seed, sizeof t->seed);
  struct reader chain = read_vec16(&r);
  if (!reader_done(&r) || chain.left > CHAIN_MAX_BYTES) goto malformed;
  t->chain_n = chain.left;
  read_copy(&chain, t->chain, t->chain_n);
  return 0;
malformed:
  return err_set(e, ERR_SYNTAX, "token: malformed inside (ask the operator for a new one)");
}

static int token_check(struct token *t, struct err *e) {
  uint8_t public_key[ED25519_KEY_BYTES];
  struct chain chain;
  int r = chain_verify(t->chain, t->chain_n, &chain);
  if (r != 0) return err_set(e, r, "token: the certificate in it does not hold (ask whoever gave it for a new one)");
  t->info = *chain_last(&chain);
  t->narrowed = chain.n - 1;
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
    return err_set(e, ERR_SYNTAX, "token: does not begin with %s (give the word that adit token create printed)",
                   TOKEN_PREFIX);
  }
  int r = base64url_decode(text + prefix, chars - prefix, bytes, sizeof bytes, &n);
  if (r != 0) err_set(e, r, "token: has characters that no token has, or is cut off (copy the whole token again)");
  if (r == 0) r = token_parse(bytes, n, t, e);
  if (r == 0) r = token_check(t, e);
  wipe(bytes, sizeof bytes);
  if (r != 0) wipe(t, sizeof *t);
  return r;
}

/* Narrowing */

int token_name_check(const char *name, struct err *e) {
  size_t n = strnlen(name, TOKEN_NAME_MAX_CHARS + 1);
  if (n == 0 || n > TOKEN_NAME_MAX_CHARS)
    return err_set(e, ERR_USAGE, "token: a name has 1 to %d characters (choose another)", TOKEN_NAME_MAX_CHARS);
  for (size_t i = 0; i < n; i++)
    if (name[i] <= ' ' || name[i] > '~')
      return err_set(e, ERR_USAGE, "token: a name has only printable ASCII characters and no spaces (choose another)");
  uint8_t id[TOKEN_ID_BYTES];
  if (hex_decode(name, id, sizeof id) == 0)
    return err_set(e, ERR_USAGE,
                   "token: this name looks like the id of a token, by which it could be revoked (choose another)");
  return 0;
}

static void narrow_limit(uint32_t wish, uint32_t *limit) {
  if (wish != 0) *limit = wish;
}

/* What the certificate says in place of the token's: all that is not wished for stays as it is. */
static void narrow_info(struct certificate *c, const struct narrowing *wish, int64_t now_s) {
  memset(c->name, 0, sizeof c->name);
  if (wish->name != NULL) memcpy(c->name, wish->name, strnlen(wish->name, TOKEN_NAME_MAX_CHARS));
  c->issued_s = now_s;
  if (wish->life_s != 0) c->expires_s = now_s + wish->life_s;
  narrow_limit(wish->max_tunnels, &c->max_tunnels);
  narrow_limit(wish->limits.max_streams, &c->limits.max_streams);
  narrow_limit(wish->limits.max_visitors_per_s, &c->limits.max_visitors_per_s);
  if (wish->limits.max_bytes_per_s != 0) c->limits.max_bytes_per_s = wish->limits.max_bytes_per_s;
  if (wish->no_raw) c->no_raw = true;
  if (wish->allow_n == 0) return;
  memcpy(c->allow, wish->allow, wish->allow_n * sizeof *c->allow);
  c->allow_n = wish->allow_n;
}

static int narrow_check(const struct token *t, const struct narrowing *wish, int64_t now_s, struct err *e) {
  if (t->narrowed + 1 >= CHAIN_MAX)
    return err_set(e, ERR_USAGE,
                   "token: it was narrowed %d times already, and more is not possible (narrow the one that it is from)",
                   CHAIN_MAX - 1);
  if (t->info.expires_s != 0 && t->info.expires_s <= now_s)
    return err_set(e, ERR_TIMEOUT, "token: it has expired (ask whoever gave it for a new one)");
  if (wish->allow_n > TOKEN_ALLOW_MAX)
    return err_set(e, ERR_USAGE, "allow: at most %d blocks for a token (give fewer)", TOKEN_ALLOW_MAX);
  if (wish->life_s < 0 || wish->life_s > INT64_MAX - now_s)
    return err_set(e, ERR_USAGE, "expires: not a time that lies before us (give a smaller one, from 1 s on)");
  return wish->name == NULL ? 0 : token_name_check(wish->name, e);
}

static int narrow_refuse(const char *what, const struct certificate *own, struct err *e) {
  char end[TIME_TEXT_CHARS + 1];
  if (strcmp(what, "expires") != 0)
    return err_set(e, ERR_USAGE, "%s: it is wider than the token's own (give what lies within that, or leave it out)",
                   what);
  text_of_time(own->expires_s, end);
  return err_set(e, ERR_USAGE, "expires: the token itself is good until %s only (give a shorter time, or leave it out)",
                 end);
}

int token_narrow(struct token *t, const struct narrowing *wish, int64_t now_s, struct err *e) {
  struct certificate c = t->info;
  uint8_t seed[ED25519_KEY_BYTES], digest[SHA256_BYTES];
  int r = narrow_check(t, wish, now_s, e);
  if (r != 0) return r;
  narrow_info(&c, wish, now_s);
  memset(c.operator_key, 0, sizeof c.operator_key);
  const char *wider = certificate_wider(&c, &t->info);
  if (wider != NULL) return narrow_refuse(wider, &t->info, e);
  r = ed25519_keypair(seed, c.public_key);
  if (r == 0) r = chain_extend(t->chain, sizeof t->chain, &t->chain_n, &c, t->seed);
  if (r == 0) r = sha256(t->chain, t->chain_n, digest);
  if (r == 0) {
    memcpy(c.id, digest, sizeof c.id);
    memcpy(t->seed, seed, sizeof t->seed);
    t->info = c;
    t->narrowed++;
  }
  wipe(seed, sizeof seed);
  if (r == 0) return 0;
  return err_set(e, r, "token: its key and certificate could not be made (check the system's crypto library)");
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
