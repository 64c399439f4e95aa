/* What the client connections of one process share. The hard thing is time: loading the whole bundle of public
   authorities costs more than the rest of a start together, so they are looked up one by one, by the hash of their
   name, and only when a connection asks for public authorities at all. */
#include <dirent.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/environment.h"
#include "tls/pem.h"
#include "tls/tls_ctx.h"
#include "tls/tls_hooks.h"

struct tls_client {
  SSL_CTX *ctx;
  pthread_mutex_t lock;            /* over store_loaded and the loading of the system's authorities */
  bool store_loaded;
};

static int load_file(X509_STORE *store, const char *path, struct err *e) {
  if (X509_STORE_load_file(store, path) == 1) return 0;
  return err_set(e, ERR_USAGE, "%s: no certificates can be read from it: %s (give a PEM file of authorities)", path,
                 pem_openssl_reason());
}

struct tls_client *tls_client_new(const char *ca_file, struct err *e) {
  struct tls_client *c = calloc(1, sizeof *c);
  if (c == NULL) goto nomem;
  c->ctx = SSL_CTX_new(TLS_client_method());
  if (c->ctx == NULL || tls_hooks_set_up(c->ctx) != 0) {
    err_set(e, ERR_CRYPTO, "TLS: OpenSSL cannot be set up: %s (check its configuration)", pem_openssl_reason());
    goto fail;
  }
  tls_hooks_set_up_client(c->ctx);
  /* A file that the user names is read at once, so that a wrong one is noticed even when every relay is pinned. */
  if (ca_file != NULL && load_file(SSL_CTX_get_cert_store(c->ctx), ca_file, e) != 0) goto fail;
  c->store_loaded = ca_file != NULL;
  pthread_mutex_init(&c->lock, NULL);
  return c;
nomem:
  err_set(e, ERR_NOMEM, "TLS: out of memory");
fail:
  if (c != NULL) {
    SSL_CTX_free(c->ctx);
  }
  free(c);
  return NULL;
}

void tls_client_free(struct tls_client *c) {
  if (c == NULL) return;
  SSL_CTX_free(c->ctx);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

/* Whether a folder has links named after hashes ("5ed36f99.0"), as `openssl rehash` makes them. */
static bool has_hashed_links(const char *dir) {
  DIR *d = opendir(dir);
  bool found = false;
  if (d == NULL) return false;
  for (struct dirent *entry; !found && (entry = readdir(d)) != NULL;) {
    const char *name = entry->d_name;
    found = strlen(name) == 10 && strspn(name, "0123456789abcdef") == 8 && strcmp(name + 8, ".0") == 0;
  }
  closedir(d);
  return found;
}

int tls_system_authorities(X509_STORE *store, struct err *e) {
  const char *file = secure_getenv(X509_get_default_cert_file_env());
  const char *dir = secure_getenv(X509_get_default_cert_dir_env());
  bool any = false;
  if (environment_check(X509_get_default_cert_file_env(), file, e) != 0 ||
      environment_check(X509_get_default_cert_dir_env(), dir, e) != 0) return ERR_USAGE;
  if (file != NULL) {
    if (load_file(store, file, e) != 0) return e == NULL ? ERR_USAGE : e->code;
    any = true;
  }
  /* As OpenSSL does it: a variable replaces its own default only. But a named file alone spares the folder. */
  if (dir == NULL && file == NULL) dir = X509_get_default_cert_dir();
  if (dir != NULL && has_hashed_links(dir)) {
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_hash_dir());
    if (lookup == NULL || X509_LOOKUP_add_dir(lookup, dir, X509_FILETYPE_PEM) != 1) {
      return err_set(e, ERR_CRYPTO, "%s: %s", dir, pem_openssl_reason());
    }
    return 0;
  }
  if (any) return 0;
  /* OpenSSL's own place; then where distributions keep theirs, since a program with OpenSSL inside may run on another
     one than it was built on: Debian, Fedora and Red Hat before and now, openSUSE, Alpine. */
  const char *const bundles[] = {
      X509_get_default_cert_file(),       "/etc/ssl/certs/ca-certificates.crt",
      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
      "/etc/ssl/ca-bundle.pem",           "/etc/ssl/cert.pem"};
  for (size_t i = 0; i < ARRAY_LEN(bundles); i++) {
    if (access(bundles[i], R_OK) == 0) return load_file(store, bundles[i], e);
  }
  return err_set(e, ERR_USAGE,
                 "public authorities: none on this machine (install ca-certificates, or give a file of authorities)");
}

SSL_CTX *tls_client_ctx(struct tls_client *c, enum pin_kind kind, struct err *e) {
  if (kind == PIN_SPKI_SHA256) return c->ctx;
  int rc = 0;
  pthread_mutex_lock(&c->lock);
  if (!c->store_loaded) {
    X509_STORE *store = SSL_CTX_get_cert_store(c->ctx);
    rc = tls_system_authorities(store, e);
    c->store_loaded = rc == 0;
  }
  pthread_mutex_unlock(&c->lock);
  ERR_clear_error();
  return rc == 0 ? c->ctx : NULL;
}
