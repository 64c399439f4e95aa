/* Certificates and chains of them. They are shown to relays by strangers, so everything is bounded and compared
   before the first signature is looked at, and one byte that differs breaks it. What binds a narrower certificate to
   its place is that it is signed together with the digest of all that stands before it; the same digest, over itself
   as well, is its id. */
#include "wire/certificate.h"

#include <string.h>

#include "wire/cidr.h"

/* An operator's without limits is of the first version, which every relay and agent knows. */
enum { VERSION_PLAIN = 1, VERSION_LIMITS = 2, VERSION_NARROWER = 3 };
enum { FLAG_NO_RAW = 1 };
static const char operator_context[] = "adit certificate v1"; /* with its NUL, before the signed bytes */
static const char narrower_context[] = "adit narrower v1";    /* likewise; then the digest of the chain so far */

_Static_assert(200 + TOKEN_ALLOW_MAX * 18 <= CERTIFICATE_MAX_BYTES, "the longest certificate fits");

static bool name_is_valid(const char *name) {
  for (; *name != 0; name++) {
    if (*name < ' ' || *name > '~') return false;
  }
  return true;
}

static bool has_limits(const struct token_limits *l) {
  return l->max_streams != 0 || l->max_visitors_per_s != 0 || l->max_bytes_per_s != 0;
}

/* Writing */

static void limits_write(struct writer *w, const struct token_limits *l) {
  write_u32(w, l->max_streams);
  write_u32(w, l->max_visitors_per_s);
  write_u64(w, l->max_bytes_per_s);
}

static void grant_write(struct writer *w, const struct certificate *c) {
  write_text8(w, c->name);
  write_bytes(w, c->public_key, sizeof c->public_key);
  write_u32(w, c->max_tunnels);
  write_u64(w, (uint64_t)c->issued_s);
  write_u64(w, (uint64_t)c->expires_s);
}

static void operators_write(struct writer *w, const struct certificate *c,
                            const uint8_t operator_key[ED25519_KEY_BYTES]) {
  write_u8(w, has_limits(&c->limits) ? VERSION_LIMITS : VERSION_PLAIN);
  write_bytes(w, c->id, sizeof c->id);
  grant_write(w, c);
  if (has_limits(&c->limits)) limits_write(w, &c->limits);
  write_bytes(w, operator_key, ED25519_KEY_BYTES);
}

static void narrower_write(struct writer *w, const struct certificate *c) {
  write_u8(w, VERSION_NARROWER);
  grant_write(w, c);
  limits_write(w, &c->limits);
  write_u8(w, c->no_raw ? FLAG_NO_RAW : 0);
  cidrs_write(w, c->allow, c->allow_n);
}

/* The signed text: context, for a narrower one the digest of what stands before it, the certificate without its
   signature. */
enum { SIGNED_MAX_BYTES = sizeof operator_context + SHA256_BYTES + CERTIFICATE_MAX_BYTES };

static size_t signed_text(const uint8_t *before, const uint8_t *body, size_t n, uint8_t out[SIGNED_MAX_BYTES]) {
  struct writer w = writer_of(out, SIGNED_MAX_BYTES);
  if (before == NULL) write_bytes(&w, operator_context, sizeof operator_context);
  else write_bytes(&w, narrower_context, sizeof narrower_context);
  if (before != NULL) write_bytes(&w, before, SHA256_BYTES);
  write_bytes(&w, body, n);
  ASSERT(!w.bad);
  return w.len;
}

/* Appends the signature of what w holds. */
static int sign(struct writer *w, const uint8_t *before, const uint8_t seed[ED25519_KEY_BYTES]) {
  uint8_t text[SIGNED_MAX_BYTES], sig[ED25519_SIG_BYTES];
  if (w->bad) return ERR_LIMIT;
  int r = ed25519_sign(seed, text, signed_text(before, w->base, w->len, text), sig);
  if (r != 0) return r;
  write_bytes(w, sig, sizeof sig);
  return w->bad ? ERR_LIMIT : 0;
}

int certificate_sign(const struct certificate *c, const uint8_t operator_seed[ED25519_KEY_BYTES], uint8_t *out,
                     size_t cap, size_t *n) {
  uint8_t operator_key[ED25519_KEY_BYTES];
  *n = 0;
  if (c->name[0] == 0 || !name_is_valid(c->name) || c->expires_s < 0) return ERR_USAGE;
  int r = ed25519_public(operator_seed, operator_key);
  if (r != 0) return r;
  struct writer w = writer_of(out, size_min(cap, CERTIFICATE_MAX_BYTES));
  operators_write(&w, c, operator_key);
  r = sign(&w, NULL, operator_seed);
  if (r == 0) *n = w.len;
  return r;
}

int chain_extend(uint8_t *p, size_t cap, size_t *n, const struct certificate *c,
                 const uint8_t seed[ED25519_KEY_BYTES]) {
  uint8_t before[SHA256_BYTES];
  if (!name_is_valid(c->name) || c->issued_s < 0 || c->expires_s < 0) return ERR_USAGE;
  if (c->allow_n > TOKEN_ALLOW_MAX || *n > cap) return ERR_USAGE;
  int r = sha256(p, *n, before);
  if (r != 0) return r;
  struct writer w = writer_of(p + *n, size_min(cap - *n, CERTIFICATE_MAX_BYTES));
  narrower_write(&w, c);
  r = sign(&w, before, seed);
  if (r == 0) *n += w.len;
  return r;
}

/* Reading: what it says, whoever wrote it */

static void limits_read(struct reader *r, struct token_limits *l) {
  l->max_streams = read_u32(r);
  l->max_visitors_per_s = read_u32(r);
  l->max_bytes_per_s = read_u64(r);
}

static void grant_read(struct reader *r, struct certificate *c) {
  read_text8(r, c->name, sizeof c->name);
  read_copy(r, c->public_key, sizeof c->public_key);
  c->max_tunnels = read_u32(r);
  c->issued_s = (int64_t)read_u64(r);
  c->expires_s = (int64_t)read_u64(r);
  if (!name_is_valid(c->name) || c->issued_s < 0 || c->expires_s < 0) r->bad = true;
}

/* Each certificate has one form: the second version is for those with limits only. */
static void operators_read(struct reader *r, uint8_t version, struct certificate *c) {
  read_copy(r, c->id, sizeof c->id);
  grant_read(r, c);
  if (version == VERSION_LIMITS) limits_read(r, &c->limits);
  read_copy(r, c->operator_key, sizeof c->operator_key);
  if (c->name[0] == 0 || version != (has_limits(&c->limits) ? VERSION_LIMITS : VERSION_PLAIN)) r->bad = true;
}

static void narrower_read(struct reader *r, uint8_t version, struct certificate *c) {
  grant_read(r, c);
  limits_read(r, &c->limits);
  uint8_t flags = read_u8(r);
  c->no_raw = (flags & FLAG_NO_RAW) != 0;
  cidrs_read(r, c->allow, TOKEN_ALLOW_MAX, &c->allow_n);
  if (version != VERSION_NARROWER || flags > FLAG_NO_RAW) r->bad = true;
}

/* One, with its signature, at the place in a chain. Returns where its signature begins. */
static const uint8_t *read_one(struct reader *r, size_t place, struct certificate *c) {
  const uint8_t *begins = r->at;
  memset(c, 0, sizeof *c);
  uint8_t version = read_u8(r);
  if (place == 0) operators_read(r, version, c);
  else narrower_read(r, version, c);
  const uint8_t *sig = read_bytes(r, ED25519_SIG_BYTES);
  if (!r->bad && (size_t)(r->at - begins) > CERTIFICATE_MAX_BYTES) r->bad = true;
  return sig;
}

/* Narrower */

static bool is_more(uint64_t n, uint64_t most) { return most != 0 && (n == 0 || n > most); }   /* 0: without end */

static bool comes_from_elsewhere(const struct certificate *c, const struct certificate *parent) {
  if (parent->allow_n == 0) return false;
  for (size_t i = 0; i < c->allow_n; i++) {
    if (!cidrs_cover(parent->allow, parent->allow_n, &c->allow[i])) return true;
  }
  return c->allow_n == 0;
}

const char *certificate_wider(const struct certificate *c, const struct certificate *parent) {
  const struct token_limits *l = &c->limits, *most = &parent->limits;
  if (is_more((uint64_t)c->expires_s, (uint64_t)parent->expires_s)) return "expires";
  if (c->max_tunnels > parent->max_tunnels) return "max_tunnels";
  if (is_more(l->max_streams, most->max_streams)) return "max_streams";
  if (is_more(l->max_visitors_per_s, most->max_visitors_per_s)) return "max_visitors_per_s";
  if (is_more(l->max_bytes_per_s, most->max_bytes_per_s)) return "max_rate";
  if (parent->no_raw && !c->no_raw) return "raw";
  return comes_from_elsewhere(c, parent) ? "allow" : NULL;
}

/* Chains */

struct spans { const uint8_t *from, *sig[CHAIN_MAX]; };   /* of one that was read: each ends behind its signature */

static int chain_read(const uint8_t *p, size_t n, struct chain *c, struct spans *spans) {
  struct reader r = reader_of(p, n);
  c->n = 0;
  if (n == 0 || n > CHAIN_MAX_BYTES) return ERR_SYNTAX;
  spans->from = p;
  while (!r.bad && r.left > 0) {
    if (c->n == CHAIN_MAX) return ERR_SYNTAX;
    spans->sig[c->n] = read_one(&r, c->n, &c->at[c->n]);
    if (!r.bad && c->n > 0 && certificate_wider(&c->at[c->n], &c->at[c->n - 1]) != NULL) return ERR_SYNTAX;
    c->n++;
  }
  return r.bad ? ERR_SYNTAX : 0;
}

static int chain_check_signatures(struct chain *c, const struct spans *spans) {
  uint8_t text[SIGNED_MAX_BYTES], digest[SHA256_BYTES];
  const uint8_t *begins = spans->from;
  for (size_t i = 0; i < c->n; i++) {
    const uint8_t *sig = spans->sig[i], *key = i == 0 ? c->at[0].operator_key : c->at[i - 1].public_key;
    size_t n = signed_text(i == 0 ? NULL : digest, begins, (size_t)(sig - begins), text);
    int r = ed25519_verify(key, text, n, sig);
    begins = sig + ED25519_SIG_BYTES;
    if (r == 0) r = sha256(spans->from, (size_t)(begins - spans->from), digest);
    if (r != 0) return r;
    if (i > 0) memcpy(c->at[i].id, digest, sizeof c->at[i].id);
  }
  return 0;
}

int chain_verify(const uint8_t *p, size_t n, struct chain *c) {
  struct spans spans;
  int r = chain_read(p, n, c, &spans);
  return r != 0 ? r : chain_check_signatures(c, &spans);
}

int chain_verify_by(const uint8_t *p, size_t n, const uint8_t (*operators)[ED25519_KEY_BYTES], size_t operators_n,
                    struct chain *c) {
  struct spans spans;
  int r = chain_read(p, n, c, &spans);
  if (r != 0) return r;
  for (size_t i = 0; i < operators_n; i++) {
    if (memcmp(operators[i], c->at[0].operator_key, ED25519_KEY_BYTES) == 0) return chain_check_signatures(c, &spans);
  }
  return ERR_NOT_NOW;
}
