/* SHA-256, HMAC and HKDF. HMAC is built here over two digests: OpenSSL's EVP_MAC costs a fetch and several allocations
   for each call, which is more than the hashing of the short inputs that we have. Digests are fetched at the first use,
   so that a process that needs none pays nothing at its start; and again if that failed: the memory that was short then
   may be there now. */
#include <openssl/evp.h>
#include <stdatomic.h>
#include <string.h>

#include "base/secret.h"
#include "crypto/crypto.h"

enum { HASH_MAX_BYTES = 48, BLOCK_MAX_BYTES = 128, LABEL_INFO_MAX_BYTES = 2 + 1 + 255 + 1 + 255, INFO_MAX_BYTES = 255 };

static const char *const names[] = {[HASH_SHA256] = "SHA256", [HASH_SHA384] = "SHA384"};
static _Atomic(EVP_MD *) fetched[ARRAY_LEN(names)];

/* Of two threads that come first, one gives its own back. */
static void fetch(size_t i) {
  EVP_MD *none = NULL, *mine = atomic_load(&fetched[i]) == NULL ? EVP_MD_fetch(NULL, names[i], NULL) : NULL;
  if (mine != NULL && !atomic_compare_exchange_strong(&fetched[i], &none, mine)) EVP_MD_free(mine);
}

/* NULL: it cannot be had now. All are fetched with the first, as the ciphers of aead.c, and for the same reason. */
static const EVP_MD *digest_of(enum hash_alg h) {
  const EVP_MD *there = atomic_load(&fetched[h]);
  if (there != NULL) return there;
  for (size_t i = 0; i < ARRAY_LEN(names); i++) fetch(i);
  return atomic_load(&fetched[h]);
}

size_t hash_bytes(enum hash_alg h) { return h == HASH_SHA256 ? 32 : 48; }
static size_t block_bytes(enum hash_alg h) { return h == HASH_SHA256 ? 64 : 128; }

struct part { const void *p; size_t n; };

static int hash_parts(EVP_MD_CTX *ctx, const EVP_MD *md, const struct part *parts, size_t count, uint8_t *out) {
  if (md == NULL || EVP_DigestInit_ex2(ctx, md, NULL) != 1) return ERR_CRYPTO;
  for (size_t i = 0; i < count; i++) {
    if (parts[i].n > 0 && EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) != 1) return ERR_CRYPTO;
  }
  return EVP_DigestFinal_ex(ctx, out, NULL) == 1 ? 0 : ERR_CRYPTO;
}

int sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES]) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (ctx == NULL) return ERR_NOMEM;
  struct part part = {p, n};
  int r = hash_parts(ctx, digest_of(HASH_SHA256), &part, 1, out);
  EVP_MD_CTX_free(ctx);
  return r;
}

/* RFC 2104 over up to three parts of input. */
static int hmac_parts(enum hash_alg h, const void *key, size_t key_n, const struct part *parts, size_t count,
                      uint8_t *out) {
  ASSERT(count <= 3);
  const EVP_MD *md = digest_of(h);
  size_t block = block_bytes(h);
  uint8_t pad[BLOCK_MAX_BYTES] = {0}, inner[HASH_MAX_BYTES];
  int r;
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (ctx == NULL) return ERR_NOMEM;

  struct part long_key = {key, key_n};
  if (key_n > block) {
    r = hash_parts(ctx, md, &long_key, 1, pad);
    if (r != 0) goto out;
  } else if (key_n > 0) {
    memcpy(pad, key, key_n);
  }
  for (size_t i = 0; i < block; i++) pad[i] ^= 0x36;
  struct part all[4] = {{pad, block}};
  for (size_t i = 0; i < count; i++) all[i + 1] = parts[i];
  r = hash_parts(ctx, md, all, count + 1, inner);
  if (r != 0) goto out;
  for (size_t i = 0; i < block; i++) pad[i] ^= 0x36 ^ 0x5c;
  struct part last[2] = {{pad, block}, {inner, hash_bytes(h)}};
  r = hash_parts(ctx, md, last, 2, out);
out:
  EVP_MD_CTX_free(ctx); /* clears its state, which depends on the key */
  wipe(pad, sizeof pad);
  wipe(inner, sizeof inner);
  return r;
}

int hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[SHA256_BYTES]) {
  struct part part = {p, n};
  return hmac_parts(HASH_SHA256, key, key_n, &part, 1, out);
}

/* RFC 5869 2.2: no salt means a salt of zeros, which is what HMAC makes of an empty key. */
int hkdf_extract(enum hash_alg h, const void *salt, size_t salt_n, const void *ikm, size_t ikm_n, uint8_t *out) {
  struct part part = {ikm, ikm_n};
  return hmac_parts(h, salt, salt_n, &part, 1, out);
}

/* RFC 5869 2.3 */
static int expand(enum hash_alg h, const uint8_t *secret, const void *info, size_t info_n, uint8_t *out, size_t out_n) {
  size_t hash = hash_bytes(h), prev_n = 0;
  uint8_t prev[HASH_MAX_BYTES];
  int r = 0;
  if (out_n > 255 * hash) return ERR_LIMIT;
  for (uint8_t counter = 1; out_n > 0; counter++) {
    struct part parts[3] = {{prev, prev_n}, {info, info_n}, {&counter, 1}};
    r = hmac_parts(h, secret, hash, parts, 3, prev);
    if (r != 0) break;
    size_t n = size_min(out_n, hash);
    memcpy(out, prev, n);
    out += n;
    out_n -= n;
    prev_n = hash;
  }
  wipe(prev, sizeof prev);
  return r;
}

/* RFC 8446 7.1: struct { uint16 length; opaque label<7..255> = "tls13 " + label; opaque context<0..255>; } */
int hkdf_expand_label(enum hash_alg h, const uint8_t *secret, const char *label, const void *context, size_t context_n,
                      uint8_t *out, size_t out_n) {
  static const char prefix[] = "tls13 ";
  uint8_t info[LABEL_INFO_MAX_BYTES];
  size_t at = 0, label_n = strlen(label);
  if (out_n > UINT16_MAX || label_n + sizeof prefix - 1 > 255 || context_n > 255) return ERR_LIMIT;
  info[at++] = (uint8_t)(out_n >> 8);
  info[at++] = (uint8_t)out_n;
  info[at++] = (uint8_t)(sizeof prefix - 1 + label_n);
  memcpy(info + at, prefix, sizeof prefix - 1);
  at += sizeof prefix - 1;
  memcpy(info + at, label, label_n);
  at += label_n;
  info[at++] = (uint8_t)context_n;
  if (context_n > 0) memcpy(info + at, context, context_n);
  at += context_n;
  return expand(h, secret, info, at, out, out_n);
}

int hkdf_expand(const uint8_t secret[SHA256_BYTES], const char *info, uint8_t *out, size_t out_n) {
  size_t n = strlen(info);
  if (n > INFO_MAX_BYTES) return ERR_LIMIT;
  return expand(HASH_SHA256, secret, info, n, out, out_n);
}
