/* Who has taken the relay over may still ask for signatures. What he gets are those of handshakes and no others: no
   certificate, no token, no ciphertext of somebody's can be passed off as one. */
#include "tls/handshake_sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#include "base/err.h"

/* RFC 8446 4.4.3 */
static bool is_certificate_verify(const uint8_t *text, size_t n) {
  static const char context[] = "TLS 1.3, server CertificateVerify";    /* its NUL is the separator */
  enum { SPACES = 64, HASH_MIN_BYTES = 32, HASH_MAX_BYTES = 64 };
  if (n < SPACES + sizeof context + HASH_MIN_BYTES || n > SPACES + sizeof context + HASH_MAX_BYTES) return false;
  for (size_t i = 0; i < SPACES; i++)
    if (text[i] != ' ') return false;
  return memcmp(text + SPACES, context, sizeof context) == 0;
}

/* RFC 8422 5.4: both randoms, then named_curve, a group, a point with its length. */
static bool is_key_exchange(const uint8_t *text, size_t n) {
  enum { RANDOMS_BYTES = 64, NAMED_CURVE = 3 };
  return n > RANDOMS_BYTES + 4 && text[RANDOMS_BYTES] == NAMED_CURVE &&
         n == RANDOMS_BYTES + 4u + text[RANDOMS_BYTES + 3];
}

bool sign_text_is_handshake(const uint8_t *text, size_t n) {
  return is_certificate_verify(text, n) || is_key_exchange(text, n);
}

static bool pad(EVP_PKEY_CTX *ctx, enum sign_padding padding) {
  if (padding == SIGN_NO_PADDING) return true;
  if (padding == SIGN_PKCS1) return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0;
  return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
}

int sign_handshake(EVP_PKEY *key, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
                   uint8_t *signature, size_t *n) {
  static const char *const names[SIGN_HASHES] = {NULL, "SHA224", "SHA256", "SHA384", "SHA512"};
  EVP_PKEY_CTX *of_key = NULL;
  if (scheme->hash >= SIGN_HASHES || scheme->padding >= SIGN_PADDINGS || !sign_text_is_handshake(text, text_n))
    return ERR_USAGE;
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  int rc = ctx == NULL ? ERR_NOMEM : ERR_USAGE;
  if (ctx != NULL && EVP_DigestSignInit_ex(ctx, &of_key, names[scheme->hash], NULL, NULL, key, NULL) == 1 &&
      pad(of_key, scheme->padding) && EVP_DigestSign(ctx, signature, n, text, text_n) == 1)
    rc = 0;
  EVP_MD_CTX_free(ctx);
  ERR_clear_error();
  return rc;
}
