/* Reading PEM texts without ever asking a terminal for a passphrase. Internal to this layer. */
#ifndef TLS_PEM_H
#define TLS_PEM_H

#include <openssl/x509.h>

#include "base/err.h"

/* At least one certificate; the caller frees with sk_X509_pop_free. */
STACK_OF(X509) *pem_read_chain(const char *text, size_t n, struct err *e) MUST_USE;
EVP_PKEY *pem_read_key(const char *text, size_t n, struct err *e) MUST_USE;
int64_t pem_time_s(const ASN1_TIME *t);          /* seconds since 1970; 0 when it cannot be read */
/* Why OpenSSL failed last, for a text; clears its queue. */
const char *pem_openssl_reason(void);

#endif
