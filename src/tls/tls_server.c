/* A server's identity as an SSL_CTX, shared by all loops and counted; and the allocators that make OpenSSL forget. The
   SSL_CTX sends the chain as visitors get it, without trust anchors: whoever has one needs no copy (RFC 8446 4.4.2),
   and some clients refuse whatever comes with one that they cannot parse. An agent knows an anchor only by its hash, so
   control links get the whole chain. */
#include "tls/tls_server.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"
#include "tls/pem.h"
#include "tls/remote_key.h"
#include "tls/tls_hooks.h"
#include "tls/tls_ctx.h"
#include "tls/tls_kdf.h"

enum { CHAIN_NAME_CAP = 200 };

struct tls_server {
  SSL_CTX *ctx;
  STACK_OF(X509) *issuers;         /* the chain as it was given, but for the leaf */
  int64_t not_before_s, not_after_s;
  atomic_uint refs;
};

/* The wildcard is tried with a label that no certificate names. */
static int check_domain(X509 *cert, const char *domain, struct err *e) {
  char under[HOST_NAME_MAX_CHARS + 32];
  unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
  if (X509_check_host(cert, domain, 0, flags, NULL) != 1) {
    return err_set(e, ERR_USAGE, "certificate: it does not cover %s (get one for both %s and *.%s)", domain, domain,
                   domain);
  }
  snprintf(under, sizeof under, "any-label-at-all.%s", domain);
  if (X509_check_host(cert, under, 0, flags, NULL) != 1) {
    return err_set(e, ERR_USAGE, "certificate: it does not cover *.%s (get one for both %s and *.%s)", domain, domain,
                   domain);
  }
  return 0;
}

/* Each is tried, since control links send each; then those stay that visitors get. */
static int use_issuers(SSL_CTX *ctx, STACK_OF(X509) *chain, struct err *e) {
  bool good = true;
  for (int i = 1; good && i < sk_X509_num(chain); i++)
    good = SSL_CTX_add1_chain_cert(ctx, sk_X509_value(chain, i)) == 1;
  if (good) (void)SSL_CTX_clear_chain_certs(ctx);
  for (int i = 1; good && i < sk_X509_num(chain); i++) {
    X509 *issuer = sk_X509_value(chain, i);
    if (X509_self_signed(issuer, 1) != 1) good = SSL_CTX_add1_chain_cert(ctx, issuer) == 1;
  }
  if (good) return 0;
  return err_set(e, ERR_USAGE,
                 "certificate: its chain cannot be used: %s (check the order: each is followed by its issuer)",
                 pem_openssl_reason());
}

static int use_identity(SSL_CTX *ctx, STACK_OF(X509) *chain, EVP_PKEY *key, struct err *e) {
  X509 *leaf = sk_X509_value(chain, 0);
  if (X509_check_private_key(leaf, key) != 1) {
    ERR_clear_error();
    return err_set(e, ERR_USAGE,
                   "certificate: the private key belongs to another one (give the pair that was issued together)");
  }
  if (SSL_CTX_use_certificate(ctx, leaf) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1) {
    return err_set(e, ERR_USAGE, "certificate: it cannot be used: %s (use ECDSA P-256, or RSA of 2048 bits and more)",
                   pem_openssl_reason());
  }
  return use_issuers(ctx, chain, e);
}

/* Takes both; a NULL has been told. */
static struct tls_server *server_of(STACK_OF(X509) *chain, EVP_PKEY *key, const char *domain, struct err *e) {
  struct tls_server *s = NULL;
  if (key == NULL) goto out_chain;
  if (domain != NULL && check_domain(sk_X509_value(chain, 0), domain, e) != 0) goto out_key;
  SSL_CTX *ctx = SSL_CTX_new_ex(NULL, tls_kdf_query(), TLS_server_method());
  if (ctx == NULL || tls_hooks_set_up(ctx) != 0) {
    err_set(e, ERR_CRYPTO, "TLS: OpenSSL cannot be set up: %s (check its configuration)", pem_openssl_reason());
    goto out_ctx;
  }
  tls_hooks_set_up_server(ctx);
  if (use_identity(ctx, chain, key, e) != 0) goto out_ctx;
  s = calloc(1, sizeof *s);
  if (s == NULL) {
    err_set(e, ERR_NOMEM, "TLS: out of memory");
    goto out_ctx;
  }
  s->ctx = ctx;
  ctx = NULL;
  s->not_before_s = pem_time_s(X509_get0_notBefore(sk_X509_value(chain, 0)));
  s->not_after_s = pem_time_s(X509_get0_notAfter(sk_X509_value(chain, 0)));
  X509_free(sk_X509_shift(chain));
  s->issuers = chain;
  chain = NULL;
  atomic_init(&s->refs, 1);
out_ctx:
  SSL_CTX_free(ctx);
out_key:
  EVP_PKEY_free(key);
out_chain:
  sk_X509_pop_free(chain, X509_free);
  return s;
}

struct tls_server *tls_server_new(const char *cert_pem, size_t cert_n, const char *key_pem, size_t key_n,
                                  const char *domain, struct err *e) {
  STACK_OF(X509) *chain = pem_read_chain(cert_pem, cert_n, e);
  return chain == NULL ? NULL : server_of(chain, pem_read_key(key_pem, key_n, e), domain, e);
}

struct tls_server *tls_server_new_remote(const char *cert_pem, size_t cert_n, const struct remote_key *where,
                                         uint64_t handle, struct err *e) {
  STACK_OF(X509) *chain = pem_read_chain(cert_pem, cert_n, e);
  if (chain == NULL) return NULL;
  return server_of(chain, remote_key_new(X509_get0_pubkey(sk_X509_value(chain, 0)), where, handle, e), NULL, e);
}

int tls_server_sign(const struct tls_server *s, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
                    uint8_t *signature, size_t *n) {
  return sign_handshake(SSL_CTX_get0_privatekey(s->ctx), scheme, text, text_n, signature, n);
}

int tls_server_chain(const struct tls_server *s, struct buf *out) {
  BIO *bio = BIO_new(BIO_s_mem());
  char *text;
  int rc = bio != NULL && PEM_write_bio_X509(bio, SSL_CTX_get0_certificate(s->ctx)) == 1 ? 0 : ERR_NOMEM;
  for (int i = 0; rc == 0 && i < sk_X509_num(s->issuers); i++)
    if (PEM_write_bio_X509(bio, sk_X509_value(s->issuers, i)) != 1) rc = ERR_NOMEM;
  long n = rc == 0 ? BIO_get_mem_data(bio, &text) : 0;
  if (rc == 0) rc = buf_append(out, text, (size_t)n);
  BIO_free(bio);
  return rc;
}

struct tls_server *tls_server_ref(struct tls_server *s) {
  atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}

void tls_server_unref(struct tls_server *s) {
  if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
  SSL_CTX_free(s->ctx);
  sk_X509_pop_free(s->issuers, X509_free);
  free(s);
}

int64_t tls_server_not_before(const struct tls_server *s) { return s->not_before_s; }
int64_t tls_server_not_after(const struct tls_server *s) { return s->not_after_s; }

/* Whom the chain may lead to. A machine that knows no public authorities, as containers do, cannot tell whether the
   last certificate was issued by one: so it may, unless it is the leaf, under which no public authority stands. */
static int add_anchors(const struct tls_server *s, X509_STORE *store) {
  X509 *leaf = SSL_CTX_get0_certificate(s->ctx);
  int n = sk_X509_num(s->issuers), good = 1;
  bool knows_public = tls_system_authorities(store, NULL) == 0;
  ERR_clear_error();
  if (X509_self_signed(leaf, 1) == 1) good &= X509_STORE_add_cert(store, leaf);
  for (int i = 0; i < n; i++) {
    X509 *issuer = sk_X509_value(s->issuers, i);
    if (X509_self_signed(issuer, 1) == 1 || (i == n - 1 && !knows_public)) good &= X509_STORE_add_cert(store, issuer);
  }
  return good == 1 ? 0 : ERR_NOMEM;
}

static bool leads_to_no_anchor(const X509_STORE_CTX *ctx) {
  int error = X509_STORE_CTX_get_error(ctx);
  return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
}

/* Of OpenSSL's verification: whoever is last is well, and all that was found is looked at. */
static int take_any_anchor(int ok, X509_STORE_CTX *ctx) { return ok == 1 || leads_to_no_anchor(ctx); }

static int describe_chain(X509_STORE_CTX *ctx, struct err *e) {
  char name[CHAIN_NAME_CAP] = "";
  int error = X509_STORE_CTX_get_error(ctx);
  X509 *at = X509_STORE_CTX_get_current_cert(ctx);
  bool alone = leads_to_no_anchor(ctx);
  if (at != NULL)
    (void)X509_NAME_oneline(alone ? X509_get_issuer_name(at) : X509_get_subject_name(at), name, sizeof name);
  if (alone)
    return err_set(e, ERR_AUTH, "certificate: its chain leads to no authority: the certificate of %s is not in it",
                   name);
  bool timely = error != X509_V_ERR_CERT_HAS_EXPIRED && error != X509_V_ERR_CERT_NOT_YET_VALID;
  return err_set(e, timely ? ERR_AUTH : ERR_TIMEOUT, "certificate: its chain does not hold at %s: %s", name,
                 X509_verify_cert_error_string(error));
}

int tls_server_check_chain(const struct tls_server *s, bool any_authority, int64_t now_s, struct err *e) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *ctx = X509_STORE_CTX_new();
  int rc = ERR_NOMEM;
  if (store == NULL || ctx == NULL || add_anchors(s, store) != 0 ||
      X509_STORE_CTX_init(ctx, store, SSL_CTX_get0_certificate(s->ctx), s->issuers) != 1 ||
      X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER) != 1) {
    rc = err_set(e, rc, "certificate: its chain could not be checked: %s", pem_openssl_reason());
  } else {
    int64_t at_s = now_s > s->not_after_s ? s->not_after_s : now_s < s->not_before_s ? s->not_before_s : now_s;
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN);
    if (any_authority) X509_STORE_CTX_set_verify_cb(ctx, take_any_anchor);
    X509_STORE_CTX_set_time(ctx, 0, (time_t)at_s);
    rc = X509_verify_cert(ctx) == 1 ? 0 : describe_chain(ctx, e);
  }
  ERR_clear_error();
  X509_STORE_CTX_free(ctx);
  X509_STORE_free(store);
  return rc;
}

SSL_CTX *tls_server_ctx(struct tls_server *s) { return s->ctx; }

int tls_server_send_whole_chain(const struct tls_server *s, SSL *ssl) {
  return SSL_set1_chain(ssl, s->issuers) == 1 ? 0 : ERR_CRYPTO;
}

/* OpenSSL frees traffic secrets and exporters without wiping them; with these nothing that it ever held outlives its
   free. */
static void *wiping_malloc(size_t n, const char *file, int line) {
  (void)file;
  (void)line;
  return malloc(n);
}

static void wiping_free(void *p, const char *file, int line) {
  (void)file;
  (void)line;
  if (p == NULL) return;
  wipe(p, malloc_usable_size(p));
  free(p);
}

static void *wiping_realloc(void *p, size_t n, const char *file, int line) {
  if (p == NULL) return wiping_malloc(n, file, line);
  if (n == 0) {
    wiping_free(p, file, line);
    return NULL;
  }
  size_t had = malloc_usable_size(p);
  if (n <= had && n >= had / 2) return p;
  void *moved = malloc(n);         /* never realloc, which leaves the old bytes behind when it moves them */
  if (moved == NULL) return NULL;
  memcpy(moved, p, size_min(had, n));
  wiping_free(p, file, line);
  return moved;
}

int tls_wipe_on_free_install(void) {
  if (CRYPTO_set_mem_functions(wiping_malloc, wiping_realloc, wiping_free) != 1) return ERR_NOT_NOW;
  /* No clean-up at exit: a detached thread (the check of the own name) may be in a handshake at that moment. */
  return OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL) == 1 ? 0 : ERR_NOT_NOW;
}
