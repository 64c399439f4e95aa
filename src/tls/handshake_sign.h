/* What a server's private key is for, and nothing else: the signature of a TLS handshake. */
#ifndef TLS_HANDSHAKE_SIGN_H
#define TLS_HANDSHAKE_SIGN_H

#include <openssl/types.h>

#include "base/base.h"

enum sign_hash { SIGN_NO_HASH, SIGN_SHA224, SIGN_SHA256, SIGN_SHA384, SIGN_SHA512, SIGN_HASHES };
enum sign_padding { SIGN_NO_PADDING, SIGN_PKCS1, SIGN_PSS, SIGN_PADDINGS };
struct sign_scheme { enum sign_hash hash; enum sign_padding padding; };

enum { SIGN_TEXT_MAX_BYTES = 512, SIGNATURE_MAX_BYTES = 2048 };   /* an RSA key of 16384 bits */

/* Whether a relay signs such a text: TLS 1.3's CertificateVerify, or TLS 1.2's ServerKeyExchange with one of its
   groups. */
bool sign_text_is_handshake(const uint8_t *text, size_t n);
/* ERR_USAGE: the text is none of a handshake, or the scheme none of such a key. *n: room, then the length. */
int sign_handshake(EVP_PKEY *key, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
                   uint8_t *signature, size_t *n) MUST_USE;

#endif
