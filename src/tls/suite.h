/* The TLS 1.3 cipher suites that we hand off. */
#ifndef TLS_SUITE_H
#define TLS_SUITE_H

#include "crypto/crypto.h"

struct tls_suite {
  uint16_t id;                     /* 0x1301, 0x1302, 0x1303 */
  enum aead_alg aead;
  enum hash_alg hash;
  const char *name;
};
const struct tls_suite *tls_suite_find(uint16_t id);   /* NULL when unknown */

/* Alert descriptions of RFC 8446 6 that we send. */
enum tls_alert {
  ALERT_CLOSE_NOTIFY = 0, ALERT_UNEXPECTED_MESSAGE = 10, ALERT_BAD_RECORD_MAC = 20, ALERT_RECORD_OVERFLOW = 22,
  ALERT_HANDSHAKE_FAILURE = 40, ALERT_ILLEGAL_PARAMETER = 47, ALERT_DECODE_ERROR = 50, ALERT_PROTOCOL_VERSION = 70,
  ALERT_INTERNAL_ERROR = 80, ALERT_USER_CANCELED = 90, ALERT_UNRECOGNIZED_NAME = 112, ALERT_NO_APPLICATION_PROTOCOL = 120
};

#endif
