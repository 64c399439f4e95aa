/* The cipher suites that we hand off: all of TLS 1.3's that OpenSSL speaks, and TLS 1.2's with the same AEADs and
   forward secrecy. */
#ifndef TLS_SUITE_H
#define TLS_SUITE_H

#include "crypto/crypto.h"

enum { TLS_VERSION_12 = 0x0303, TLS_VERSION_13 = 0x0304, TLS_IV_BYTES = 12, TLS_EXPLICIT_NONCE_BYTES = 8 };

struct tls_suite {
  uint16_t id, version;
  enum aead_alg aead;
  enum hash_alg hash;
  uint8_t lead;                    /* of a record, before its plaintext: the header, and an explicit nonce if there is
                                      one */
  uint8_t overhead;                /* of a record beyond its plaintext: RECORD_OVERHEAD_BYTES in TLS 1.3, at most
                                      RECORD_OVERHEAD_MAX */
  const char *name;
};
const struct tls_suite *tls_suite_find(uint16_t id);   /* NULL when unknown */
/* Of what one direction is known by: a traffic secret in TLS 1.3; key and iv, one behind the other, in TLS 1.2. */
size_t tls_suite_secret_bytes(const struct tls_suite *s);

/* Alert descriptions of RFC 8446 6 and RFC 5246 7.2 that we send. */
enum tls_alert {
  ALERT_CLOSE_NOTIFY = 0, ALERT_UNEXPECTED_MESSAGE = 10, ALERT_BAD_RECORD_MAC = 20, ALERT_RECORD_OVERFLOW = 22,
  ALERT_HANDSHAKE_FAILURE = 40, ALERT_ILLEGAL_PARAMETER = 47, ALERT_DECODE_ERROR = 50, ALERT_PROTOCOL_VERSION = 70,
  ALERT_INTERNAL_ERROR = 80, ALERT_USER_CANCELED = 90, ALERT_NO_RENEGOTIATION = 100, ALERT_UNRECOGNIZED_NAME = 112,
  ALERT_NO_APPLICATION_PROTOCOL = 120
};

#endif
