/* X25519 (RFC 7748) and Ed25519 (RFC 8032), one call a purpose. The key objects that OpenSSL wants live only within a
   call; it wipes their private parts when they are freed. */
#include <openssl/evp.h>
#include <string.h>

#include "base/secret.h"
#include "crypto/crypto.h"

static EVP_PKEY *private_of(const char *type, const uint8_t bytes[32]) {
  return EVP_PKEY_new_raw_private_key_ex(NULL, type, NULL, bytes, 32);
}

/* The public half of a private key, and the private key drawn first when `fresh`. */
static int keypair(const char *type, bool fresh, uint8_t private_key[32], uint8_t public_key[32]) {
  size_t n = 32;
  if (fresh && random_bytes(private_key, 32) != 0) return ERR_CRYPTO;
  EVP_PKEY *key = private_of(type, private_key);
  int r = key != NULL && EVP_PKEY_get_raw_public_key(key, public_key, &n) == 1 && n == 32 ? 0 : ERR_CRYPTO;
  EVP_PKEY_free(key);
  if (fresh && r != 0) wipe(private_key, 32);
  return r;
}

int x25519_keypair(uint8_t private_key[X25519_BYTES], uint8_t public_key[X25519_BYTES]) {
  return keypair("X25519", true, private_key, public_key);
}

int x25519_shared(const uint8_t private_key[X25519_BYTES], const uint8_t peer[X25519_BYTES],
                  uint8_t out[X25519_BYTES]) {
  static const uint8_t zero[X25519_BYTES];
  size_t n = X25519_BYTES;
  int r = ERR_CRYPTO;
  EVP_PKEY_CTX *ctx = NULL;
  EVP_PKEY *mine = private_of("X25519", private_key);
  EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, peer, X25519_BYTES);
  if (mine == NULL || theirs == NULL) goto out;
  ctx = EVP_PKEY_CTX_new_from_pkey(NULL, mine, NULL);
  if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, theirs) != 1) goto out;
  if (EVP_PKEY_derive(ctx, out, &n) != 1 || n != X25519_BYTES) goto out;
  if (!equal_ct(out, zero, sizeof zero)) r = 0; /* RFC 7748 6.1: a peer of small order contributes nothing */
out:
  if (r != 0) wipe(out, X25519_BYTES);
  EVP_PKEY_CTX_free(ctx);
  EVP_PKEY_free(theirs);
  EVP_PKEY_free(mine);
  return r;
}

int ed25519_keypair(uint8_t seed[ED25519_KEY_BYTES], uint8_t public_key[ED25519_KEY_BYTES]) {
  return keypair("ED25519", true, seed, public_key);
}

int ed25519_public(const uint8_t seed[ED25519_KEY_BYTES], uint8_t public_key[ED25519_KEY_BYTES]) {
  uint8_t copy[ED25519_KEY_BYTES];
  memcpy(copy, seed, sizeof copy);
  int r = keypair("ED25519", false, copy, public_key);
  wipe(copy, sizeof copy);
  return r;
}

int ed25519_sign(const uint8_t seed[ED25519_KEY_BYTES], const void *p, size_t n, uint8_t sig[ED25519_SIG_BYTES]) {
  size_t sig_n = ED25519_SIG_BYTES;
  EVP_PKEY *key = private_of("ED25519", seed);
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  int r = key != NULL && ctx != NULL && EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, NULL, key, NULL) == 1 &&
                  EVP_DigestSign(ctx, sig, &sig_n, p, n) == 1 && sig_n == ED25519_SIG_BYTES
              ? 0
              : ERR_CRYPTO;
  EVP_MD_CTX_free(ctx);
  EVP_PKEY_free(key);
  return r;
}

int ed25519_verify(const uint8_t public_key[ED25519_KEY_BYTES], const void *p, size_t n,
                   const uint8_t sig[ED25519_SIG_BYTES]) {
  EVP_PKEY *key = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, public_key, ED25519_KEY_BYTES);
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  int r = key != NULL && ctx != NULL && EVP_DigestVerifyInit_ex(ctx, NULL, NULL, NULL, NULL, key, NULL) == 1 &&
                  EVP_DigestVerify(ctx, sig, ED25519_SIG_BYTES, p, n) == 1
              ? 0
              : ERR_AUTH;
  EVP_MD_CTX_free(ctx);
  EVP_PKEY_free(key);
  return r;
}
