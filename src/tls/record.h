/* The TLS 1.3 record layer, one direction: protect and unprotect single records (RFC 8446 5.2), keys and their update (7.2, 7.3).
   No I/O, no buffers of its own: both work in place in the caller's memory. */
#ifndef TLS_RECORD_H
#define TLS_RECORD_H

#include "base/limits.h"
#include "tls/suite.h"

enum record_type { RECORD_CHANGE_CIPHER_SPEC = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_APPLICATION_DATA = 23 };

struct record_keys {               /* owned by one direction of one connection; fields private */
  const struct tls_suite *suite;
  struct aead *aead;
  uint8_t *secret;                 /* from secret_alloc */
  uint8_t iv[12];
  uint64_t sequence;
  bool encrypt;
};

/* secret has hash_bytes(suite->hash) bytes and is copied. */
int record_keys_init(struct record_keys *k, const struct tls_suite *suite, const uint8_t *secret, uint64_t sequence, bool encrypt) MUST_USE;
void record_keys_free(struct record_keys *k);     /* wipes */
int record_keys_update(struct record_keys *k) MUST_USE; /* application_traffic_secret_N+1, sequence 0 */

/* Protects n (at most RECORD_PLAIN_MAX) bytes that the caller placed at record + RECORD_HEADER_BYTES; the record's full length is
   n + RECORD_OVERHEAD_BYTES, for which there must be room. */
int record_seal(struct record_keys *k, enum record_type type, uint8_t *record, size_t n) MUST_USE;

/* Full length of the record that starts at p when its header is there, else 0. */
static inline size_t record_length(const uint8_t *p, size_t n) {
  return n < RECORD_HEADER_BYTES ? 0 : RECORD_HEADER_BYTES + (((size_t)p[3] << 8) | p[4]);
}
/* Unprotects a full record in place. On success *plain points into it. On failure returns ERR_AUTH or ERR_SYNTAX and *alert. */
int record_open(struct record_keys *k, uint8_t *record, size_t len, enum record_type *type, uint8_t **plain, size_t *n, uint8_t *alert) MUST_USE;

#endif
