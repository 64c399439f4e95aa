/* One direction of the record layer. The hard thing is what must never happen: a nonce used twice. So the sequence
   number never wraps, a failed seal is the last one (the peer could not count on from it), and a key update puts the
   number back only together with a new key. */
#include "tls/record.h"

#include <string.h>

#include "base/cursor.h"
#include "base/secret.h"

enum {
  KEY_MAX_BYTES = 32,
  INNER_TYPE_BYTES = 1,
  SALT_BYTES = TLS_IV_BYTES - TLS_EXPLICIT_NONCE_BYTES,
  AD_MAX_BYTES = 13
};

static bool is_tls13(const struct record_keys *k) { return k->suite->version == TLS_VERSION_13; }
static bool has_explicit_nonce(const struct record_keys *k) { return k->suite->lead > RECORD_HEADER_BYTES; }

/* RFC 8446 7.3: key and iv from the current secret. */
static int derive_keys(struct record_keys *k) {
  const struct tls_suite *suite = k->suite;
  uint8_t key[KEY_MAX_BYTES];
  struct aead *aead = NULL;
  int rc = hkdf_expand_label(suite->hash, k->secret, "key", NULL, 0, key, aead_key_bytes(suite->aead));
  if (rc == 0) rc = hkdf_expand_label(suite->hash, k->secret, "iv", NULL, 0, k->iv, TLS_IV_BYTES);
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

static int take_keys(struct record_keys *k) {
  memcpy(k->iv, k->secret + aead_key_bytes(k->suite->aead), TLS_IV_BYTES);
  k->aead = aead_new(k->suite->aead, k->secret, k->encrypt);
  return k->aead != NULL ? 0 : ERR_NOMEM;
}

int record_keys_init(struct record_keys *k, const struct tls_suite *suite, const uint8_t *secret, uint64_t sequence,
                     bool encrypt) {
  memset(k, 0, sizeof *k);
  k->suite = suite;
  k->sequence = sequence;
  k->encrypt = encrypt;
  k->secret = secret_alloc(TLS_SECRET_MAX_BYTES);
  if (k->secret == NULL) return ERR_NOMEM;
  memcpy(k->secret, secret, tls_suite_secret_bytes(suite));
  return 0;
}

/* A cipher with its key's schedule is some 1,000 bytes, which one that idles does without. */
static int ready_keys(struct record_keys *k) {
  if (k->aead != NULL) return 0;
  return is_tls13(k) ? derive_keys(k) : take_keys(k);
}

void record_keys_rest(struct record_keys *k) {
  aead_free(k->aead);
  k->aead = NULL;
}

void record_keys_free(struct record_keys *k) {
  aead_free(k->aead);
  if (k->secret != NULL) secret_free(k->secret, TLS_SECRET_MAX_BYTES);
  wipe(k, sizeof *k);
}

int record_keys_update(struct record_keys *k) {
  ASSERT(is_tls13(k));
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

/* RFC 8446 5.3 and RFC 7905 2: the sequence number, big-endian and padded to the left, XORed into the iv. RFC 5288 3:
   the salt, and what stands in the record. */
static void make_nonce(const struct record_keys *k, const uint8_t *explicit_nonce, uint8_t nonce[TLS_IV_BYTES]) {
  uint64_t sequence = __builtin_bswap64(k->sequence);
  uint64_t low;
  memcpy(nonce, k->iv, TLS_IV_BYTES);
  if (explicit_nonce != NULL) {
    memcpy(nonce + SALT_BYTES, explicit_nonce, TLS_EXPLICIT_NONCE_BYTES);
    return;
  }
  memcpy(&low, nonce + 4, sizeof low);
  low ^= sequence;
  memcpy(nonce + 4, &low, sizeof low);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "make_nonce swaps bytes");

/* Into the record, of the number that is next. */
static void write_explicit_nonce(const struct record_keys *k, uint8_t *at) {
  uint64_t base;
  memcpy(&base, k->iv + SALT_BYTES, sizeof base);
  base = __builtin_bswap64(__builtin_bswap64(base) + k->sequence);
  memcpy(at, &base, sizeof base);
}

/* What is authenticated besides: the header in TLS 1.3 (RFC 8446 5.2); number, type, version and plaintext's length in
   TLS 1.2 (RFC 5246 6.2.3.3). */
static const uint8_t *make_ad(const struct record_keys *k, const uint8_t *header, size_t n, uint8_t room[AD_MAX_BYTES],
                              size_t *ad_n) {
  *ad_n = RECORD_HEADER_BYTES;
  if (is_tls13(k)) return header;
  struct writer w = writer_of(room, AD_MAX_BYTES);
  write_u64(&w, k->sequence);
  write_bytes(&w, header, 3);
  write_u16(&w, (uint16_t)n);
  *ad_n = w.len;
  return room;
}

int record_seal(struct record_keys *k, enum record_type type, uint8_t *record, size_t n) {
  ASSERT(k->encrypt && n <= RECORD_PLAIN_MAX);
  if (k->sequence == UINT64_MAX) return ERR_NOT_NOW;
  int rc = ready_keys(k);
  if (rc != 0) {
    k->sequence = UINT64_MAX;
    return rc;
  }
  const struct tls_suite *suite = k->suite;
  uint8_t nonce[TLS_IV_BYTES], room[AD_MAX_BYTES];
  size_t ad_n, inner = is_tls13(k) ? n + INNER_TYPE_BYTES : n, body = n + suite->overhead - RECORD_HEADER_BYTES;
  uint8_t *plain = record + suite->lead, *explicit_nonce = has_explicit_nonce(k) ? record + RECORD_HEADER_BYTES : NULL;
  record[0] = is_tls13(k) ? RECORD_APPLICATION_DATA : (uint8_t)type;
  record[1] = 3;
  record[2] = 3;
  record[3] = (uint8_t)(body >> 8);
  record[4] = (uint8_t)body;
  if (is_tls13(k)) plain[n] = (uint8_t)type;
  if (explicit_nonce != NULL) write_explicit_nonce(k, explicit_nonce);
  make_nonce(k, explicit_nonce, nonce);
  const uint8_t *ad = make_ad(k, record, n, room, &ad_n);
  rc = aead_seal(k->aead, nonce, ad, ad_n, plain, inner, plain, plain + inner);
  k->sequence = rc == 0 ? k->sequence + 1 : UINT64_MAX;
  return rc;
}

static int refuse(uint8_t *alert, enum tls_alert why, int code) {
  *alert = (uint8_t)why;
  return code;
}

/* Before anything is computed. */
static int check_header(const struct record_keys *k, const uint8_t *record, size_t body, uint8_t *alert) {
  if (is_tls13(k)) {
    if (record[0] != RECORD_APPLICATION_DATA) return refuse(alert, ALERT_UNEXPECTED_MESSAGE, ERR_SYNTAX);
  } else {
    if (record[0] < RECORD_ALERT || record[0] > RECORD_APPLICATION_DATA)
      return refuse(alert, ALERT_UNEXPECTED_MESSAGE, ERR_SYNTAX);
    if (record[1] != 3 || record[2] != 3) return refuse(alert, ALERT_PROTOCOL_VERSION, ERR_SYNTAX);
  }
  if (body > RECORD_CIPHER_MAX) return refuse(alert, ALERT_RECORD_OVERFLOW, ERR_SYNTAX);
  if (body < (size_t)k->suite->lead - RECORD_HEADER_BYTES + AEAD_TAG_BYTES)
    return refuse(alert, ALERT_BAD_RECORD_MAC, ERR_AUTH);
  return k->sequence == UINT64_MAX ? refuse(alert, ALERT_INTERNAL_ERROR, ERR_AUTH) : 0;
}

/* RFC 8446 5.4: the type is the last byte that is not zero; padding does not lift the limit on the whole. */
static int take_inner_type(const uint8_t *inner, size_t *n, enum record_type *type, uint8_t *alert) {
  size_t left = *n;
  if (left > RECORD_PLAIN_MAX + INNER_TYPE_BYTES) return refuse(alert, ALERT_RECORD_OVERFLOW, ERR_SYNTAX);
  while (left > 0 && inner[left - 1] == 0) left--;
  if (left == 0) return refuse(alert, ALERT_UNEXPECTED_MESSAGE, ERR_SYNTAX);
  *type = (enum record_type)inner[left - 1];
  *n = left - INNER_TYPE_BYTES;
  return 0;
}

int record_open(struct record_keys *k, uint8_t *record, size_t len, enum record_type *type, uint8_t **plain, size_t *n,
                uint8_t *alert) {
  ASSERT(!k->encrypt && len >= RECORD_HEADER_BYTES && len == record_length(record, len));
  int rc = check_header(k, record, len - RECORD_HEADER_BYTES, alert);
  if (rc != 0) return rc;
  if (ready_keys(k) != 0) return refuse(alert, ALERT_INTERNAL_ERROR, ERR_NOMEM);
  uint8_t nonce[TLS_IV_BYTES], room[AD_MAX_BYTES], *inner = record + k->suite->lead;
  size_t ad_n, inner_n = len - k->suite->lead - AEAD_TAG_BYTES;
  make_nonce(k, has_explicit_nonce(k) ? record + RECORD_HEADER_BYTES : NULL, nonce);
  const uint8_t *ad = make_ad(k, record, inner_n, room, &ad_n);
  rc = aead_open(k->aead, nonce, ad, ad_n, inner, inner_n, inner, inner + inner_n);
  if (rc != 0) return refuse(alert, rc == ERR_AUTH ? ALERT_BAD_RECORD_MAC : ALERT_INTERNAL_ERROR, ERR_AUTH);
  k->sequence++;
  *type = (enum record_type)record[0];
  if (is_tls13(k)) rc = take_inner_type(inner, &inner_n, type, alert);
  else if (inner_n > RECORD_PLAIN_MAX) rc = refuse(alert, ALERT_RECORD_OVERFLOW, ERR_SYNTAX);
  if (rc != 0) return rc;
  *plain = inner;
  *n = inner_n;
  return 0;
}
