/* The cryptography that we use, one call a purpose, over OpenSSL. No state beyond OpenSSL's own. */
#ifndef CRYPTO_CRYPTO_H
#define CRYPTO_CRYPTO_H

#include "base/err.h"

enum { SHA256_BYTES = 32, X25519_BYTES = 32, ED25519_KEY_BYTES = 32, ED25519_SIG_BYTES = 64, AEAD_TAG_BYTES = 16 };

enum hash_alg { HASH_SHA256, HASH_SHA384 };
size_t hash_bytes(enum hash_alg h);

int random_bytes(void *p, size_t n) MUST_USE;
int sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES]) MUST_USE;
int hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[SHA256_BYTES]) MUST_USE;

int hkdf_extract(enum hash_alg h, const void *salt, size_t salt_n, const void *ikm, size_t ikm_n,
                 uint8_t *out) MUST_USE;
/* HKDF-Expand-Label of RFC 8446 7.1 with the label prefix "tls13 ". */
int hkdf_expand_label(enum hash_alg h, const uint8_t *secret, const char *label, const void *context, size_t context_n,
                      uint8_t *out, size_t out_n) MUST_USE;
/* HKDF-Expand (RFC 5869) with SHA-256 and a text as info, for our own keys. */
int hkdf_expand(const uint8_t secret[SHA256_BYTES], const char *info, uint8_t *out, size_t out_n) MUST_USE;

int x25519_keypair(uint8_t private_key[X25519_BYTES], uint8_t public_key[X25519_BYTES]) MUST_USE;
/* ERR_CRYPTO for an all-zero result, too */
int x25519_shared(const uint8_t private_key[X25519_BYTES], const uint8_t peer[X25519_BYTES],
                  uint8_t out[X25519_BYTES]) MUST_USE;

int ed25519_keypair(uint8_t seed[ED25519_KEY_BYTES], uint8_t public_key[ED25519_KEY_BYTES]) MUST_USE;
int ed25519_public(const uint8_t seed[ED25519_KEY_BYTES], uint8_t public_key[ED25519_KEY_BYTES]) MUST_USE;
int ed25519_sign(const uint8_t seed[ED25519_KEY_BYTES], const void *p, size_t n,
                 uint8_t sig[ED25519_SIG_BYTES]) MUST_USE;
/* 0 or ERR_AUTH */
int ed25519_verify(const uint8_t public_key[ED25519_KEY_BYTES], const void *p, size_t n,
                   const uint8_t sig[ED25519_SIG_BYTES]) MUST_USE;

/* AEADs of TLS; a context holds one key for one direction of use. */
enum aead_alg { AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305 };
size_t aead_key_bytes(enum aead_alg a);
struct aead;
struct aead *aead_new(enum aead_alg a, const uint8_t *key, bool encrypt) MUST_USE; /* NULL: out of memory */
void aead_free(struct aead *a);                                  /* wipes; NULL is fine */
/* out may be in. seal writes n bytes and the tag; open verifies before it returns 0, else ERR_AUTH. */
int aead_seal(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
              uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]) MUST_USE;
int aead_open(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
              uint8_t *out, const uint8_t tag[AEAD_TAG_BYTES]) MUST_USE;

#endif
