/* TLS 1.2's key block, derived once more from the master secret (RFC 5246 6.3). The hard thing is that our nonces must
   never meet those that OpenSSL has used under the same key: it began with one of its choice, seen in its first record,
   and we go on from there. */
#include "tls/tls12_keys.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#include "base/secret.h"

enum {
  RANDOM_BYTES = 32, MASTER_BYTES = 48, KEY_MAX_BYTES = 32, SALT_BYTES = TLS_IV_BYTES - TLS_EXPLICIT_NONCE_BYTES,
  KEY_BLOCK_MAX_BYTES = 2 * (KEY_MAX_BYTES + TLS_IV_BYTES)
};

/* key_block = PRF(master_secret, "key expansion", server_random + client_random). */
static int expand_keys(SSL *ssl, const struct tls_suite *suite, uint8_t *block, size_t n) {
  static const char label[] = "key expansion";
  uint8_t seed[sizeof label - 1 + 2 * RANDOM_BYTES], master[MASTER_BYTES];
  char sha256[] = "SHA256", sha384[] = "SHA384";
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
  EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
  int rc = ERR_NOMEM;
  if (ctx == NULL) goto out;
  memcpy(seed, label, sizeof label - 1);
  SSL_get_server_random(ssl, seed + sizeof label - 1, RANDOM_BYTES);
  SSL_get_client_random(ssl, seed + sizeof label - 1 + RANDOM_BYTES, RANDOM_BYTES);
  size_t master_n = SSL_SESSION_get_master_key(SSL_get0_session(ssl), master, sizeof master);
  const OSSL_PARAM params[] = {
    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, suite->hash == HASH_SHA384 ? sha384 : sha256, 0),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, master_n),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
    OSSL_PARAM_construct_end()};
  rc = EVP_KDF_derive(ctx, block, n, params) == 1 ? 0 : ERR_CRYPTO;
out:
  EVP_KDF_CTX_free(ctx);
  EVP_KDF_free(kdf);
  wipe(master, sizeof master);
  return rc;
}

int tls12_keys_derive(SSL *ssl, const struct tls_suite *suite, const uint8_t *explicit_nonce, uint8_t *client,
                      uint8_t *server) {
  uint8_t block[KEY_BLOCK_MAX_BYTES];
  bool has_explicit = suite->lead > RECORD_HEADER_BYTES;
  size_t key_n = aead_key_bytes(suite->aead), iv_n = has_explicit ? SALT_BYTES : TLS_IV_BYTES;
  int rc = expand_keys(ssl, suite, block, 2 * (key_n + iv_n));
  if (rc == 0) {                   /* client's key, server's key, client's iv, server's iv */
    memcpy(client, block, key_n);
    memcpy(server, block + key_n, key_n);
    memcpy(client + key_n, block + 2 * key_n, iv_n);
    memcpy(server + key_n, block + 2 * key_n + iv_n, iv_n);
    if (has_explicit) {
      uint8_t *own = SSL_is_server(ssl) ? server : client, *other = own == server ? client : server;
      memcpy(own + key_n + SALT_BYTES, explicit_nonce, TLS_EXPLICIT_NONCE_BYTES);
      memset(other + key_n + SALT_BYTES, 0, TLS_EXPLICIT_NONCE_BYTES);
    }
  }
  wipe(block, sizeof block);
  return rc;
}
