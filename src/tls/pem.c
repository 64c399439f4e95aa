/* PEM in, OpenSSL objects out. */
#include "tls/pem.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

enum { CHAIN_CERTIFICATES_MAX = 16 };

const char *pem_openssl_reason(void) {
  unsigned long code = ERR_peek_last_error();
  const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == NULL ? "no reason given" : reason;
}

/* Instead of OpenSSL's own, which would ask on the terminal. */
static int no_passphrase(char *to, int size, int writing, void *unused) {
  (void)to;
  (void)size;
  (void)writing;
  (void)unused;
  return -1;
}

STACK_OF(X509) *pem_read_chain(const char *text, size_t n, struct err *e) {
  STACK_OF(X509) *chain = sk_X509_new_null();
  BIO *bio = n > INT_MAX ? NULL : BIO_new_mem_buf(text, (int)n);
  if (chain == NULL || bio == NULL) goto fail;
  for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL;) {
    if (sk_X509_num(chain) >= CHAIN_CERTIFICATES_MAX || sk_X509_push(chain, cert) == 0) {
      X509_free(cert);
      goto fail;
    }
  }
  /* The end of the text shows as "no start line"; any other reason is a certificate that cannot be read. */
  if (sk_X509_num(chain) == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) goto fail;
  ERR_clear_error();
  BIO_free(bio);
  return chain;
fail:
  err_set(e, ERR_SYNTAX, "certificate: not a PEM chain: %s (give the certificate first, then those that issued it)",
          pem_openssl_reason());
  BIO_free(bio);
  sk_X509_pop_free(chain, X509_free);
  return NULL;
}

EVP_PKEY *pem_read_key(const char *text, size_t n, struct err *e) {
  BIO *bio = n > INT_MAX ? NULL : BIO_new_mem_buf(text, (int)n);
  EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
  BIO_free(bio);
  if (key == NULL) {
    err_set(e, ERR_SYNTAX, "private key: not PEM without a passphrase: %s (give an unencrypted key)",
            pem_openssl_reason());
  }
  ERR_clear_error();
  return key;
}

int64_t pem_time_s(const ASN1_TIME *t) {
  struct tm tm = {0};
  if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1) return 0;
  return (int64_t)timegm(&tm);
}
