/* The AEADs of TLS. The key schedule is computed once, when the context is made; a record costs one init with its nonce
   and the passes over its bytes. Ciphers are fetched at the first use, and again if that failed: the memory that was
   short then may be there now. OpenSSL frees its cipher state with OPENSSL_clear_free, so that freeing the context
   wipes the key. */
#include <limits.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/secret.h"
#include "crypto/crypto.h"

struct aead {
  EVP_CIPHER_CTX *ctx;
  bool encrypt;
};

static const char *const names[] = {[AEAD_AES_128_GCM] = "AES-128-GCM",
                                    [AEAD_AES_256_GCM] = "AES-256-GCM",
                                    [AEAD_CHACHA20_POLY1305] = "ChaCha20-Poly1305"};
static _Atomic(EVP_CIPHER *) fetched[ARRAY_LEN(names)];

/* Of two threads that come first, one gives its own back. */
static void fetch(size_t i) {
  EVP_CIPHER *none = NULL, *mine = atomic_load(&fetched[i]) == NULL ? EVP_CIPHER_fetch(NULL, names[i], NULL) : NULL;
  if (mine != NULL && !atomic_compare_exchange_strong(&fetched[i], &none, mine)) EVP_CIPHER_free(mine);
}

/* NULL: it cannot be had now. All are fetched with the first, at the beginning of a link: a host that calls exit()
   later, while our threads run, takes apart what OpenSSL would look them up in. */
static const EVP_CIPHER *cipher_of(enum aead_alg a) {
  const EVP_CIPHER *there = atomic_load(&fetched[a]);
  if (there != NULL) return there;
  for (size_t i = 0; i < ARRAY_LEN(names); i++) fetch(i);
  return atomic_load(&fetched[a]);
}

size_t aead_key_bytes(enum aead_alg a) { return a == AEAD_AES_128_GCM ? 16 : 32; }

struct aead *aead_new(enum aead_alg a, const uint8_t *key, bool encrypt) {
  const EVP_CIPHER *cipher = cipher_of(a);
  if (cipher == NULL) return NULL;
  struct aead *aead = malloc(sizeof *aead);
  if (aead == NULL) return NULL;
  aead->encrypt = encrypt;
  aead->ctx = EVP_CIPHER_CTX_new();
  if (aead->ctx == NULL || EVP_CipherInit_ex2(aead->ctx, cipher, key, NULL, encrypt ? 1 : 0, NULL) != 1) {
    aead_free(aead);
    return NULL;
  }
  return aead;
}

void aead_free(struct aead *a) {
  if (a == NULL) return;
  EVP_CIPHER_CTX_free(a->ctx);
  free(a);
}

static int run(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
               uint8_t *out) {
  int done = 0;
  if (n > INT_MAX || ad_n > INT_MAX) return ERR_LIMIT;
  if (EVP_CipherInit_ex2(a->ctx, NULL, NULL, nonce, -1, NULL) != 1) return ERR_CRYPTO;
  if (ad_n > 0 && EVP_CipherUpdate(a->ctx, NULL, &done, ad, (int)ad_n) != 1) return ERR_CRYPTO;
  if (n > 0 && EVP_CipherUpdate(a->ctx, out, &done, in, (int)n) != 1) return ERR_CRYPTO;
  return 0;
}

int aead_seal(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
              uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]) {
  ASSERT(a->encrypt);
  uint8_t rest[16];
  int rest_n = 0;
  int r = run(a, nonce, ad, ad_n, in, n, out);
  if (r != 0) return r;
  if (EVP_CipherFinal_ex(a->ctx, rest, &rest_n) != 1) return ERR_CRYPTO;
  return EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, tag) == 1 ? 0 : ERR_CRYPTO;
}

int aead_open(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
              uint8_t *out, const uint8_t tag[AEAD_TAG_BYTES]) {
  ASSERT(!a->encrypt);
  uint8_t rest[16], expected[AEAD_TAG_BYTES]; /* the ctrl takes no const pointer */
  int rest_n = 0;
  for (size_t i = 0; i < sizeof expected; i++) expected[i] = tag[i];
  int r = run(a, nonce, ad, ad_n, in, n, out);
  if (r == 0 && EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_BYTES, expected) != 1) r = ERR_CRYPTO;
  if (r == 0 && EVP_CipherFinal_ex(a->ctx, rest, &rest_n) != 1) r = ERR_AUTH;
  if (r != 0) wipe(out, n); /* bytes that nobody vouches for must not be used by mistake */
  return r;
}
