/* Who has taken the relay over may still ask for signatures. What he gets are those of handshakes and no others: no
   certificate, no token, no ciphertext of somebody's can be passed off as one. */
#include "tls/handshake_sign.h"

#include <openssl/ec.h>
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

/* Half of such a point follows from the other half, and so cannot be chosen. */
static bool is_point(int curve, const uint8_t *p, size_t n) {
  EC_GROUP *group = EC_GROUP_new_by_curve_name(curve);
  EC_POINT *point = group == NULL ? NULL : EC_POINT_new(group);
  bool good = point != NULL && p[0] == POINT_CONVERSION_UNCOMPRESSED &&
              EC_POINT_oct2point(group, point, p, n, NULL) == 1;
  EC_POINT_free(point);
  EC_GROUP_free(group);
  ERR_clear_error();
  return good;
}

/* RFC 8422 5.4: both randoms, then named_curve, a group, a point with its length. Of the groups that a relay speaks.
   Whoever chooses all that can be chosen has 100 bytes with X25519 and P-256 and 116 with P-384: too few for what a
   certificate with a name and a key of his own says, should this key be one that signs certificates. */
static bool is_key_exchange(const uint8_t *text, size_t n) {
  enum { RANDOMS_BYTES = 64, HEADER_BYTES = 4, X25519_BYTES = 32 };
  static const struct { uint8_t header[HEADER_BYTES]; int curve; } groups[] = {
    {{3, 0, 29, X25519_BYTES}, NID_undef}, {{3, 0, 23, 65}, NID_X9_62_prime256v1}, {{3, 0, 24, 97}, NID_secp384r1}};
  if (n < RANDOMS_BYTES + HEADER_BYTES) return false;
  const uint8_t *header = text + RANDOMS_BYTES, *point = header + HEADER_BYTES;
  if (n != RANDOMS_BYTES + HEADER_BYTES + (size_t)header[HEADER_BYTES - 1]) return false;
  for (size_t i = 0; i < ARRAY_LEN(groups); i++)
    if (memcmp(header, groups[i].header, HEADER_BYTES) == 0)
      return groups[i].curve == NID_undef || is_point(groups[i].curve, point, header[HEADER_BYTES - 1]);
  return false;
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
  const size_t room = *n;
  int rc = ctx == NULL ? ERR_NOMEM : ERR_USAGE;
  if (ctx != NULL && EVP_DigestSignInit_ex(ctx, &of_key, names[scheme->hash], NULL, NULL, key, NULL) == 1 &&
      pad(of_key, scheme->padding) && EVP_DigestSign(ctx, signature, n, text, text_n) == 1)
    rc = *n <= room ? 0 : ERR_NOMEM;     /* without memory, OpenSSL 3.0 makes an ECDSA signature of -1 bytes */
  EVP_MD_CTX_free(ctx);
  ERR_clear_error();
  return rc;
}
