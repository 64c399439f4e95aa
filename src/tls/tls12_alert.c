/* OpenSSL sends an alert of choice only from inside a handshake, but a visitor whose app refused him is owed
   internal_error, also over TLS 1.2. So the server's write key is derived once more from the master secret (RFC 5246
   6.3), used for this last record, and wiped. The hard thing is that nonce and number must be fresh: OpenSSL writes
   nothing after it. */
#include "tls/tls12_alert.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#include "base/cursor.h"
#include "base/secret.h"
#include "crypto/crypto.h"
#include "tls/record.h"

enum {
  RANDOM_BYTES = 32, MASTER_BYTES = 48, KEY_MAX_BYTES = 32, FIXED_IV_MAX_BYTES = 12, GCM_SALT_BYTES = 4,
  GCM_EXPLICIT_BYTES = 8, KEY_BLOCK_MAX_BYTES = 2 * (KEY_MAX_BYTES + FIXED_IV_MAX_BYTES), VERSION_TLS12 = 0x0303,
  ALERT_BYTES = 2, LEVEL_FATAL = 2
};

static int find_alg(const SSL_CIPHER *cipher, enum aead_alg *alg) {
  switch (SSL_CIPHER_get_cipher_nid(cipher)) {
    case NID_aes_128_gcm: *alg = AEAD_AES_128_GCM; return 0;
    case NID_aes_256_gcm: *alg = AEAD_AES_256_GCM; return 0;
    case NID_chacha20_poly1305: *alg = AEAD_CHACHA20_POLY1305; return 0;
    default: return ERR_NOT_NOW;
  }
}

/* key_block = PRF(master_secret, "key expansion", server_random + client_random). */
static int expand_keys(SSL *ssl, const SSL_CIPHER *cipher, uint8_t *block, size_t n) {
  static const char label[] = "key expansion";
  uint8_t seed[sizeof label - 1 + 2 * RANDOM_BYTES], master[MASTER_BYTES];
  char digest[32];
  const EVP_MD *md = SSL_CIPHER_get_handshake_digest(cipher);
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
  EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
  int rc = ERR_CRYPTO;
  if (md == NULL || ctx == NULL || strlen(EVP_MD_get0_name(md)) >= sizeof digest) goto out;
  strcpy(digest, EVP_MD_get0_name(md));
  memcpy(seed, label, sizeof label - 1);
  SSL_get_server_random(ssl, seed + sizeof label - 1, RANDOM_BYTES);
  SSL_get_client_random(ssl, seed + sizeof label - 1 + RANDOM_BYTES, RANDOM_BYTES);
  size_t master_n = SSL_SESSION_get_master_key(SSL_get0_session(ssl), master, sizeof master);
  const OSSL_PARAM params[] = {
    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, master_n),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
    OSSL_PARAM_construct_end()};
  if (EVP_KDF_derive(ctx, block, n, params) == 1) rc = 0;
out:
  EVP_KDF_CTX_free(ctx);
  EVP_KDF_free(kdf);
  wipe(master, sizeof master);
  return rc;
}

/* RFC 5288 3: salt and an explicit part, which is sent, at random here; RFC 7905 2: the number XORed into the iv. */
static int make_nonce(enum aead_alg alg, const uint8_t *iv, uint64_t sequence, uint8_t nonce[12]) {
  if (alg != AEAD_CHACHA20_POLY1305) {
    memcpy(nonce, iv, GCM_SALT_BYTES);
    return random_bytes(nonce + GCM_SALT_BYTES, GCM_EXPLICIT_BYTES);
  }
  memcpy(nonce, iv, 12);
  for (int i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(sequence >> (8 * i));
  return 0;
}

/* RFC 5246 6.2.3.3: number, type, version and length are authenticated. */
static int seal(struct aead *aead, enum aead_alg alg, const uint8_t *iv, uint64_t sequence, uint8_t alert,
                uint8_t *out, size_t *n) {
  uint8_t nonce[12], ad[13], tag[AEAD_TAG_BYTES], content[ALERT_BYTES] = {LEVEL_FATAL, alert};
  size_t explicit_n = alg == AEAD_CHACHA20_POLY1305 ? 0 : GCM_EXPLICIT_BYTES;
  int rc = make_nonce(alg, iv, sequence, nonce);
  if (rc != 0) return rc;
  struct writer a = writer_of(ad, sizeof ad);
  write_u64(&a, sequence);
  write_u8(&a, RECORD_ALERT);
  write_u16(&a, VERSION_TLS12);
  write_u16(&a, ALERT_BYTES);
  rc = aead_seal(aead, nonce, ad, sizeof ad, content, sizeof content, content, tag);
  if (rc != 0) return rc;
  struct writer w = writer_of(out, TLS12_ALERT_MAX_BYTES);
  write_u8(&w, RECORD_ALERT);
  write_u16(&w, VERSION_TLS12);
  write_u16(&w, (uint16_t)(explicit_n + sizeof content + sizeof tag));
  write_bytes(&w, nonce + GCM_SALT_BYTES, explicit_n);
  write_bytes(&w, content, sizeof content);
  write_bytes(&w, tag, sizeof tag);
  *n = w.len;
  return w.bad || a.bad ? ERR_LIMIT : 0;
}

int tls12_alert_seal(SSL *ssl, uint64_t sequence, uint8_t alert, uint8_t out[TLS12_ALERT_MAX_BYTES], size_t *n) {
  uint8_t block[KEY_BLOCK_MAX_BYTES];
  enum aead_alg alg = AEAD_AES_128_GCM;
  const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
  int rc = cipher == NULL ? ERR_NOT_NOW : find_alg(cipher, &alg);
  if (rc != 0) return rc;
  size_t key_n = aead_key_bytes(alg), iv_n = alg == AEAD_CHACHA20_POLY1305 ? FIXED_IV_MAX_BYTES : GCM_SALT_BYTES;
  rc = expand_keys(ssl, cipher, block, 2 * (key_n + iv_n));
  if (rc == 0) {                   /* client key, server key, client iv, server iv */
    struct aead *aead = aead_new(alg, block + key_n, true);
    rc = aead == NULL ? ERR_NOMEM : seal(aead, alg, block + 2 * key_n + iv_n, sequence, alert, out, n);
    aead_free(aead);
  }
  wipe(block, sizeof block);
  return rc;
}
