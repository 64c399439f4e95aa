/* The keys of an established TLS 1.2 connection, which OpenSSL has no call for. Internal to this layer. */
#ifndef TLS_TLS12_KEYS_H
#define TLS_TLS12_KEYS_H

#include <openssl/ssl.h>

#include "base/limits.h"
#include "tls/suite.h"

/* What record_keys_init wants of either side, in tls_suite_secret_bytes(suite) bytes. `explicit_nonce` is that of our
   own record number 0 (8 bytes; not looked at where the suite has none). */
int tls12_keys_derive(SSL *ssl, const struct tls_suite *suite, const uint8_t *explicit_nonce, uint8_t *client,
                      uint8_t *server) MUST_USE;

#endif
