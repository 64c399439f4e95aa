/* A fatal alert of our choice on an established TLS 1.2 connection. Internal to this layer. */
#ifndef TLS_TLS12_ALERT_H
#define TLS_TLS12_ALERT_H

#include <openssl/ssl.h>

#include "base/base.h"

enum { TLS12_ALERT_MAX_BYTES = 5 + 8 + 2 + 16 };
/* Seals the record that follows `sequence` protected ones of the server's; *n is its length. ERR_NOT_NOW for a suite
   that is not one of our AEADs. */
int tls12_alert_seal(SSL *ssl, uint64_t sequence, uint8_t alert, uint8_t out[TLS12_ALERT_MAX_BYTES],
                     size_t *n) MUST_USE;

#endif
