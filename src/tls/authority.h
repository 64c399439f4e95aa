/* Certificates that a relay makes for itself: a name-constrained authority and certificates under it. ECDSA P-256. */
#ifndef TLS_AUTHORITY_H
#define TLS_AUTHORITY_H

#include <openssl/types.h>

#include "base/err.h"
#include "crypto/crypto.h"

struct authority;                  /* certificate and key; immutable, counted by references */
/* A new one, critical name constraint: `domain` and what is under it; 10 years from now_s. */
struct authority *authority_make(const char *domain, int64_t now_s, struct err *e) MUST_USE;
/* The same authority, name and key, with a certificate for the next 10 years: whoever pins the key knows it as
   before. */
struct authority *authority_renew(const struct authority *a, int64_t now_s, struct err *e) MUST_USE;
struct authority *authority_from_pem(const char *cert_pem, size_t cert_n, const char *key_pem, size_t key_n,
                                     struct err *e) MUST_USE;
/* That of a chain's end, without its key: it tells its times and its pin, and issues nothing. */
struct authority *authority_of_chain(const char *chain_pem, size_t n, struct err *e) MUST_USE;
struct authority *authority_ref(struct authority *a);
void authority_unref(struct authority *a);       /* NULL is fine */
bool authority_covers(const struct authority *a, const char *domain);     /* its name constraint is that of domain */
/* Valid, and not near expiry. False also of one from the future: it was made by a clock that was set back since. */
bool authority_is_timely(const struct authority *a, int64_t now_s);
int64_t authority_not_before(const struct authority *a);  /* seconds since 1970 */
/* Malloced, NUL-terminated PEM; the key's is to be wiped and freed by the caller (authority_pem_free). */
int authority_cert_pem(const struct authority *a, char **pem, struct err *e) MUST_USE;
int authority_key_pem(const struct authority *a, char **pem, struct err *e) MUST_USE;
/* A certificate for `names` with a fresh key, valid for `days` from now_s: chain (leaf, then authority) and key as
   PEM. */
int authority_issue(const struct authority *a, const char *const *names, size_t n, int days, int64_t now_s,
                    char **chain_pem, char **key_pem, struct err *e) MUST_USE;
void authority_pem_free(char *pem);
int authority_pin(const struct authority *a, uint8_t spki_sha256[SHA256_BYTES]) MUST_USE;
int authority_pin_of_cert(X509 *cert, uint8_t spki_sha256[SHA256_BYTES]) MUST_USE;
/* The pin of the last certificate of a PEM chain: what a token carries for an operator's own authority. */
int authority_pin_of_chain(const char *chain_pem, size_t n, uint8_t spki_sha256[SHA256_BYTES], bool *self_signed,
                           struct err *e) MUST_USE;

#endif
