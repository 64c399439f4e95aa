/* One direction of the TLS 1.3 record layer. The hard thing is what must never happen: a nonce used twice. So the
   sequence number never wraps, a failed seal is the last one (the peer could not count on from it), and a key update puts
   the number back only together with a new key. */
#include "tls/record.h"

#include <string.h>

#include "base/secret.h"

enum { IV_BYTES = 12, KEY_MAX_BYTES = 32, INNER_TYPE_BYTES = 1 };

/* RFC 8446 7.3: key and iv from the current secret. */
static int derive_keys(struct record_keys *k) {
  const struct tls_suite *suite = k->suite;
  uint8_t key[KEY_MAX_BYTES];
  struct aead *aead = NULL;
  int rc = hkdf_expand_label(suite->hash, k->secret, "key", NULL, 0, key, aead_key_bytes(suite->aead));
  if (rc == 0) rc = hkdf_expand_label(suite->hash, k->secret, "iv", NULL, 0, k->iv, IV_BYTES);
  if (rc == 0) {
    aead = aead_new(suite->aead, key, k->encrypt);
    if (aead == NULL) rc = ERR_NOMEM;
  }
  wipe(key, sizeof key);
  if (rc != 0) return rc;
  aead_free(k->aead);
  k->aead = aead;
  return 0;
}

int record_keys_init(struct record_keys *k, const struct tls_suite *suite, const uint8_t *secret, uint64_t sequence,
                     bool encrypt) {
  memset(k, 0, sizeof *k);
  k->suite = suite;
  k->sequence = sequence;
  k->encrypt = encrypt;
  k->secret = secret_alloc(TLS_SECRET_MAX_BYTES);
  if (k->secret == NULL) return ERR_NOMEM;
  memcpy(k->secret, secret, hash_bytes(suite->hash));
  int rc = derive_keys(k);
  if (rc != 0) record_keys_free(k);
  return rc;
}

void record_keys_free(struct record_keys *k) {
  aead_free(k->aead);
  if (k->secret != NULL) secret_free(k->secret, TLS_SECRET_MAX_BYTES);
  wipe(k, sizeof *k);
}

int record_keys_update(struct record_keys *k) {
  uint8_t next[TLS_SECRET_MAX_BYTES];
  size_t n = hash_bytes(k->suite->hash);
  int rc = hkdf_expand_label(k->suite->hash, k->secret, "traffic upd", NULL, 0, next, n);
  if (rc == 0) {
    memcpy(k->secret, next, n);
    rc = derive_keys(k);
    /* Were the old key usable after a failure, the two ends would disagree; at number 2^64-1 it can do nothing more. */
    k->sequence = rc == 0 ? 0 : UINT64_MAX;
  }
  wipe(next, sizeof next);
  return rc;
}

/* RFC 8446 5.3: the sequence number, big-endian and padded to the left, XORed into the iv. */
static void make_nonce(const struct record_keys *k, uint8_t nonce[IV_BYTES]) {
  uint64_t sequence = __builtin_bswap64(k->sequence);
  uint64_t low;
  memcpy(nonce, k->iv, IV_BYTES);
  memcpy(&low, nonce + 4, sizeof low);
  low ^= sequence;
  memcpy(nonce + 4, &low, sizeof low);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "make_nonce swaps bytes");

int record_seal(struct record_keys *k, enum record_type type, uint8_t *record, size_t n) {
  ASSERT(k->encrypt && n <= RECORD_PLAIN_MAX);
  if (k->sequence == UINT64_MAX) return ERR_NOT_NOW;
  uint8_t nonce[IV_BYTES];
  make_nonce(k, nonce);
  size_t inner = n + INNER_TYPE_BYTES, body = inner + AEAD_TAG_BYTES;
  uint8_t *plain = record + RECORD_HEADER_BYTES;
  record[0] = RECORD_APPLICATION_DATA;
  record[1] = 3;
  record[2] = 3;
  record[3] = (uint8_t)(body >> 8);
  record[4] = (uint8_t)body;
  plain[n] = (uint8_t)type;
  int rc = aead_seal(k->aead, nonce, record, RECORD_HEADER_BYTES, plain, inner, plain, plain + inner);
  k->sequence = rc == 0 ? k->sequence + 1 : UINT64_MAX;
  return rc;
}

static int refuse(uint8_t *alert, enum tls_alert why, int code) {
  *alert = (uint8_t)why;
  return code;
}

int record_open(struct record_keys *k, uint8_t *record, size_t len, enum record_type *type, uint8_t **plain, size_t *n,
                uint8_t *alert) {
  ASSERT(!k->encrypt && len >= RECORD_HEADER_BYTES && len == record_length(record, len));
  size_t body = len - RECORD_HEADER_BYTES;
  if (record[0] != RECORD_APPLICATION_DATA) return refuse(alert, ALERT_UNEXPECTED_MESSAGE, ERR_SYNTAX);
  if (body > RECORD_CIPHER_MAX) return refuse(alert, ALERT_RECORD_OVERFLOW, ERR_SYNTAX);
  if (body < AEAD_TAG_BYTES) return refuse(alert, ALERT_BAD_RECORD_MAC, ERR_AUTH);
  if (k->sequence == UINT64_MAX) return refuse(alert, ALERT_INTERNAL_ERROR, ERR_AUTH);
  uint8_t nonce[IV_BYTES];
  make_nonce(k, nonce);
  uint8_t *inner = record + RECORD_HEADER_BYTES;
  size_t inner_n = body - AEAD_TAG_BYTES;
  int rc = aead_open(k->aead, nonce, record, RECORD_HEADER_BYTES, inner, inner_n, inner, inner + inner_n);
  if (rc != 0) return refuse(alert, rc == ERR_AUTH ? ALERT_BAD_RECORD_MAC : ALERT_INTERNAL_ERROR, ERR_AUTH);
  k->sequence++;
  /* RFC 8446 5.4: padding does not lift the limit on the whole inner plaintext. */
  if (inner_n > RECORD_PLAIN_MAX + INNER_TYPE_BYTES) return refuse(alert, ALERT_RECORD_OVERFLOW, ERR_SYNTAX);
  while (inner_n > 0 && inner[inner_n - 1] == 0) inner_n--;
  if (inner_n == 0) return refuse(alert, ALERT_UNEXPECTED_MESSAGE, ERR_SYNTAX);
  *type = (enum record_type)inner[inner_n - 1];
  *plain = inner;
  *n = inner_n - INNER_TYPE_BYTES;
  return 0;
}
