/* An authority of a relay's own. The hard thing is to make trusting it harmless: its critical name constraint lets it
   speak for one domain and nothing else, so that a stolen key of it endangers nobody who once imported it. */
#include "tls/authority.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"
#include "base/limits.h"
#include "base/secret.h"
#include "tls/pem.h"

enum { SERIAL_BITS = 128, CLOCK_SKEW_S = 3600, DAY_S = 24 * 3600, AUTHORITY_DAYS = 3652, COMMON_NAME_MAX_CHARS = 64 };

struct authority {
  X509 *cert;
  EVP_PKEY *key;
  atomic_uint refs;
};

static struct authority *authority_new(struct err *e) {
  struct authority *a = calloc(1, sizeof *a);
  if (a == NULL) err_set(e, ERR_NOMEM, "authority: out of memory");
  else atomic_init(&a->refs, 1);
  return a;
}

static int fail(struct err *e, const char *what) {
  return err_set(e, ERR_CRYPTO, "%s: %s", what, pem_openssl_reason());
}

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value) {
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  if (extension == NULL) return ERR_CRYPTO;
  int ok = X509_add_ext(cert, extension, -1);
  X509_EXTENSION_free(extension);
  return ok == 1 ? 0 : ERR_CRYPTO;
}

static int set_serial(X509 *cert) {
  BIGNUM *n = BN_new();
  int ok = n != NULL && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
           BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
  BN_free(n);
  return ok ? 0 : ERR_CRYPTO;
}

/* Serial and times; a little in the past, because clocks differ. */
static int begin_life(X509 *cert, int64_t now_s, long days) {
  time_t begins = (time_t)(now_s - CLOCK_SKEW_S), ends = (time_t)(now_s + days * (int64_t)DAY_S);
  bool good = set_serial(cert) == 0 && ASN1_TIME_set(X509_getm_notBefore(cert), begins) != NULL &&
              ASN1_TIME_set(X509_getm_notAfter(cert), ends) != NULL;
  return good ? 0 : ERR_CRYPTO;
}

static X509 *begin_cert(EVP_PKEY *key, int64_t now_s, long days) {
  X509 *cert = X509_new();
  if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || begin_life(cert, now_s, days) != 0 ||
      X509_set_pubkey(cert, key) != 1) {
    X509_free(cert);
    return NULL;
  }
  return cert;
}

/* Names longer than X.520 allows are left to the subjectAltName. */
static int set_subject(X509 *cert, const char *common_name) {
  if (strlen(common_name) > COMMON_NAME_MAX_CHARS) return 0;
  X509_NAME *name = X509_get_subject_name(cert);
  const unsigned char *text = (const unsigned char *)common_name;
  return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1 ? 0 : ERR_CRYPTO;
}

static int fill_authority(X509 *cert, EVP_PKEY *key, const char *domain) {
  char text[HOST_NAME_MAX_CHARS + 128], unique[9];
  uint8_t id[4];
  if (random_bytes(id, sizeof id) != 0) return ERR_CRYPTO;
  snprintf(unique, sizeof unique, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
  /* Two authorities for one domain need two names, or a client that has both takes the wrong one. */
  snprintf(text, sizeof text, "adit authority %s", unique);
  if (set_subject(cert, text) != 0 || X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1) return ERR_CRYPTO;
  snprintf(text, sizeof text,
           "critical,permitted;DNS:%s,excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0", domain);
  if (add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") != 0) return ERR_CRYPTO;
  if (add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") != 0) return ERR_CRYPTO;
  if (add_extension(cert, cert, NID_name_constraints, text) != 0) return ERR_CRYPTO;
  if (add_extension(cert, cert, NID_subject_key_identifier, "hash") != 0) return ERR_CRYPTO;
  return X509_sign(cert, key, EVP_sha256()) > 0 ? 0 : ERR_CRYPTO;
}

struct authority *authority_make(const char *domain, int64_t now_s, struct err *e) {
  if (!host_name_is_valid(domain)) {
    err_set(e, ERR_USAGE, "%s: not a domain name", domain);
    return NULL;
  }
  struct authority *a = authority_new(e);
  if (a == NULL) return NULL;
  a->key = EVP_EC_gen("P-256");
  a->cert = a->key == NULL ? NULL : begin_cert(a->key, now_s, AUTHORITY_DAYS);
  if (a->cert != NULL && fill_authority(a->cert, a->key, domain) == 0) return a;
  fail(e, "authority: it cannot be made");
  authority_unref(a);
  return NULL;
}

struct authority *authority_renew(const struct authority *old, int64_t now_s, struct err *e) {
  struct authority *a = authority_new(e);
  if (a == NULL) return NULL;
  if (EVP_PKEY_up_ref(old->key) == 1) a->key = old->key;
  a->cert = a->key == NULL ? NULL : X509_dup(old->cert);
  if (a->cert != NULL && begin_life(a->cert, now_s, AUTHORITY_DAYS) == 0 &&
      X509_sign(a->cert, a->key, EVP_sha256()) > 0)
    return a;
  fail(e, "authority: it cannot be renewed");
  authority_unref(a);
  return NULL;
}

struct authority *authority_from_pem(const char *cert_pem, size_t cert_n, const char *key_pem, size_t key_n,
                                     struct err *e) {
  STACK_OF(X509) *chain = pem_read_chain(cert_pem, cert_n, e);
  if (chain == NULL) return NULL;
  struct authority *a = authority_new(e);
  if (a != NULL) {
    a->cert = sk_X509_shift(chain);
    a->key = pem_read_key(key_pem, key_n, e);
  }
  sk_X509_pop_free(chain, X509_free);
  if (a == NULL) return NULL;
  if (a->key != NULL) {
    /* Its own signature stands for every bit of the certificate. */
    if (X509_check_private_key(a->cert, a->key) == 1 && X509_check_ca(a->cert) == 1 &&
        X509_verify(a->cert, a->key) == 1)
      return a;
    ERR_clear_error();
    err_set(e, ERR_USAGE,
            "authority: damaged, or certificate and key do not belong together (restore both from one backup)");
  }
  authority_unref(a);
  return NULL;
}

struct authority *authority_of_chain(const char *chain_pem, size_t n, struct err *e) {
  STACK_OF(X509) *chain = pem_read_chain(chain_pem, n, e);
  if (chain == NULL) return NULL;
  struct authority *a = authority_new(e);
  if (a != NULL) a->cert = sk_X509_pop(chain);
  sk_X509_pop_free(chain, X509_free);
  return a;
}

struct authority *authority_ref(struct authority *a) {
  atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
  return a;
}

void authority_unref(struct authority *a) {
  if (a == NULL || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1) return;
  X509_free(a->cert);
  EVP_PKEY_free(a->key);
  free(a);
}

bool authority_covers(const struct authority *a, const char *domain) {
  NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(a->cert, NID_name_constraints, NULL, NULL);
  bool found = false;
  if (constraints == NULL) return false;
  if (sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees) == 1) {
    const GENERAL_NAME *name = sk_GENERAL_SUBTREE_value(constraints->permittedSubtrees, 0)->base;
    if (name->type == GEN_DNS) {
      size_t n = (size_t)ASN1_STRING_length(name->d.dNSName);
      found = n == strlen(domain) && strncasecmp((const char *)ASN1_STRING_get0_data(name->d.dNSName), domain, n) == 0;
    }
  }
  NAME_CONSTRAINTS_free(constraints);
  return found;
}

int64_t authority_not_before(const struct authority *a) { return pem_time_s(X509_get0_notBefore(a->cert)); }

bool authority_is_timely(const struct authority *a, int64_t now_s) {
  int64_t left_s = pem_time_s(X509_get0_notAfter(a->cert)) - now_s;
  return authority_not_before(a) <= now_s && left_s > (int64_t)AUTHORITY_RENEW_BEFORE_DAYS * DAY_S;
}

/* The BIO's bytes as a malloced text; the BIO's own copy is wiped, since it may be a key. */
static int take_text(BIO *bio, bool written, char **pem, struct err *e) {
  char *data = NULL;
  long n = BIO_get_mem_data(bio, &data);
  *pem = NULL;
  if (written && n > 0) *pem = malloc((size_t)n + 1);
  if (*pem != NULL) {
    memcpy(*pem, data, (size_t)n);
    (*pem)[n] = 0;
  }
  if (data != NULL && n > 0) wipe(data, (size_t)n);
  BIO_free(bio);
  return *pem != NULL ? 0 : fail(e, "PEM: it cannot be written");
}

static int key_to_pem(EVP_PKEY *key, char **pem, struct err *e) {
  BIO *bio = BIO_new(BIO_s_secmem());
  bool written = bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
  return take_text(bio, written, pem, e);
}

int authority_cert_pem(const struct authority *a, char **pem, struct err *e) {
  BIO *bio = BIO_new(BIO_s_mem());
  bool written = bio != NULL && PEM_write_bio_X509(bio, a->cert) == 1;
  return take_text(bio, written, pem, e);
}

int authority_key_pem(const struct authority *a, char **pem, struct err *e) { return key_to_pem(a->key, pem, e); }

/* "DNS:a,DNS:b", malloced; only valid names and their wildcards, so that nothing else can be smuggled into the
   extension. */
static char *san_text(const char *const *names, size_t n, bool critical) {
  size_t room = 16;
  for (size_t i = 0; i < n; i++) room += strlen(names[i]) + 5;
  char *text = malloc(room);
  if (text == NULL) return NULL;
  size_t used = (size_t)snprintf(text, room, "%s", critical ? "critical" : "");
  for (size_t i = 0; i < n; i++) {
    const char *bare = strncmp(names[i], "*.", 2) == 0 ? names[i] + 2 : names[i];
    if (!host_name_is_valid(bare)) {
      free(text);
      return NULL;
    }
    used += (size_t)snprintf(text + used, room - used, "%sDNS:%s", used > 0 ? "," : "", names[i]);
  }
  return text;
}

static int fill_leaf(const struct authority *a, X509 *cert, const char *const *names, size_t n) {
  /* RFC 5280 4.1.2.6: with an empty subject the names are critical. */
  char *san = san_text(names, n, strlen(names[0]) > COMMON_NAME_MAX_CHARS);
  int rc = san == NULL ? ERR_USAGE : 0;
  if (rc == 0) rc = set_subject(cert, names[0]);
  if (rc == 0 && X509_set_issuer_name(cert, X509_get_subject_name(a->cert)) != 1) rc = ERR_CRYPTO;
  if (rc == 0) rc = add_extension(cert, a->cert, NID_basic_constraints, "critical,CA:FALSE");
  if (rc == 0) rc = add_extension(cert, a->cert, NID_key_usage, "critical,digitalSignature");
  if (rc == 0) rc = add_extension(cert, a->cert, NID_ext_key_usage, "serverAuth");
  if (rc == 0) rc = add_extension(cert, a->cert, NID_subject_alt_name, san);
  if (rc == 0) rc = add_extension(cert, a->cert, NID_subject_key_identifier, "hash");
  if (rc == 0) rc = add_extension(cert, a->cert, NID_authority_key_identifier, "keyid:always");
  if (rc == 0 && X509_sign(cert, a->key, EVP_sha256()) <= 0) rc = ERR_CRYPTO;
  free(san);
  return rc;
}

int authority_issue(const struct authority *a, const char *const *names, size_t n, int days, int64_t now_s,
                    char **chain_pem, char **key_pem, struct err *e) {
  *chain_pem = NULL;
  *key_pem = NULL;
  if (n == 0) return err_set(e, ERR_USAGE, "certificate: no names for it");
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *cert = key == NULL ? NULL : begin_cert(key, now_s, days);
  int rc = ERR_CRYPTO;
  if (cert == NULL || fill_leaf(a, cert, names, n) != 0) {
    fail(e, "certificate: it cannot be made");
    goto out;
  }
  BIO *bio = BIO_new(BIO_s_mem());
  bool written = bio != NULL && PEM_write_bio_X509(bio, cert) == 1 && PEM_write_bio_X509(bio, a->cert) == 1;
  rc = take_text(bio, written, chain_pem, e);
  if (rc == 0) rc = key_to_pem(key, key_pem, e);
  if (rc != 0) {
    free(*chain_pem);
    *chain_pem = NULL;
  }
out:
  X509_free(cert);
  EVP_PKEY_free(key);
  return rc;
}

void authority_pem_free(char *pem) {
  if (pem == NULL) return;
  wipe(pem, strlen(pem));
  free(pem);
}

int authority_pin_of_cert(X509 *cert, uint8_t spki_sha256[SHA256_BYTES]) {
  unsigned char *der = NULL;
  int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
  if (n <= 0) {
    ERR_clear_error();
    return ERR_CRYPTO;
  }
  int rc = sha256(der, (size_t)n, spki_sha256);
  OPENSSL_free(der);
  return rc;
}

int authority_pin(const struct authority *a, uint8_t spki_sha256[SHA256_BYTES]) {
  return authority_pin_of_cert(a->cert, spki_sha256);
}

int authority_pin_of_chain(const char *chain_pem, size_t n, uint8_t spki_sha256[SHA256_BYTES], bool *self_signed,
                           struct err *e) {
  STACK_OF(X509) *chain = pem_read_chain(chain_pem, n, e);
  if (chain == NULL) return ERR_SYNTAX;
  X509 *last = sk_X509_value(chain, sk_X509_num(chain) - 1);
  *self_signed = X509_self_signed(last, 1) == 1;
  int rc = authority_pin_of_cert(last, spki_sha256);
  ERR_clear_error();
  sk_X509_pop_free(chain, X509_free);
  return rc == 0 ? 0 : err_set(e, rc, "certificate: its key cannot be read");
}
