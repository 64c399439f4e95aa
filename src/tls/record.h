/* The record layer, one direction: protect and unprotect single records of TLS 1.3 (RFC 8446 5.2) and of TLS 1.2 with
   an AEAD (RFC 5246 6.2.3.3, RFC 5288, RFC 7905), keys and, in TLS 1.3, their update (RFC 8446 7.2, 7.3). No I/O, no
   buffers of its own: all work in place in the caller's memory. */
#ifndef TLS_RECORD_H
#define TLS_RECORD_H

#include "base/limits.h"
#include "tls/suite.h"

enum record_type {
  RECORD_CHANGE_CIPHER_SPEC = 20,
  RECORD_ALERT = 21,
  RECORD_HANDSHAKE = 22,
  RECORD_APPLICATION_DATA = 23
};

struct record_keys {               /* owned by one direction of one connection; fields private */
  const struct tls_suite *suite;
  struct aead *aead;               /* NULL: nothing has come or gone under these keys for a while, or yet */
  uint8_t *secret;                 /* from secret_alloc, as record_keys_init got it: what the keys are made from, and in
                                      TLS 1.3 the next ones */
  uint8_t iv[TLS_IV_BYTES];
  uint64_t sequence;
  bool encrypt;
};

/* secret has tls_suite_secret_bytes(suite) bytes and is copied. In TLS 1.2 it is the key and 12 bytes of iv. With
   AES-GCM these are the salt (4) and the explicit nonce that a record numbered 0 has or had (8): the one with number n
   has the sum of that and n, so that none is used twice. Whoever reads takes the explicit nonce from the record. */
int record_keys_init(struct record_keys *k, const struct tls_suite *suite, const uint8_t *secret, uint64_t sequence,
                     bool encrypt) MUST_USE;
void record_keys_rest(struct record_keys *k);     /* gives back most of its memory until the next record */
void record_keys_free(struct record_keys *k);     /* wipes */
int record_keys_update(struct record_keys *k) MUST_USE; /* TLS 1.3: application_traffic_secret_N+1, sequence 0 */

/* Protects n (at most RECORD_PLAIN_MAX) bytes that the caller placed at record + suite->lead; the record's full length
   is n + suite->overhead, for which there must be room. */
int record_seal(struct record_keys *k, enum record_type type, uint8_t *record, size_t n) MUST_USE;

/* Full length of the record that starts at p when its header is there, else 0. */
static inline size_t record_length(const uint8_t *p, size_t n) {
  return n < RECORD_HEADER_BYTES ? 0 : RECORD_HEADER_BYTES + (((size_t)p[3] << 8) | p[4]);
}
/* Unprotects a full record in place. On success *plain points into it. On failure returns ERR_AUTH or ERR_SYNTAX and
   *alert. */
int record_open(struct record_keys *k, uint8_t *record, size_t len, enum record_type *type, uint8_t **plain, size_t *n,
                uint8_t *alert) MUST_USE;

#endif
