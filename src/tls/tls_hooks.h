/* What OpenSSL calls back into during a handshake, and what those calls need and leave behind. Internal to this layer:
   a connection embeds a struct tls_hooks, bound to its SSL object. */
#ifndef TLS_TLS_HOOKS_H
#define TLS_TLS_HOOKS_H

#include <openssl/ssl.h>

#include "base/limits.h"
#include "crypto/pin.h"
#include "tls/tls_conn.h"

struct tls_kept_secret {           /* an application traffic secret 0, as it was made or from the key log */
  uint8_t *bytes;                  /* from secret_alloc, TLS_SECRET_MAX_BYTES; NULL until logged */
  size_t n;
  unsigned logged;                 /* how many times; more than once makes a handoff impossible */
};

struct tls_hooks {
  char host[HOST_NAME_MAX_CHARS + 1]; /* server: the only name that a ClientHello may carry; empty: any */
  uint8_t alpn[ALPN_LIST_MAX_BYTES];  /* server: selectable, in order of preference */
  size_t alpn_n;
  struct pin pin;                  /* client */
  enum tls_refusal refusal;        /* server */
  long verify_error;               /* client: X509_V_ERR_*, or TLS_VERIFY_PIN */
  struct tls_kept_secret client, server;
};
enum { TLS_VERIFY_PIN = -1 };      /* no presented certificate has the pinned key */

void tls_hooks_bind(struct tls_hooks *h, SSL *ssl);
/* secret is copied, at the first time. */
void tls_hooks_keep(struct tls_kept_secret *kept, const uint8_t *secret, size_t n);
void tls_hooks_free(struct tls_hooks *h);        /* wipes the secrets */

/* What both ends have in common: suites, groups, no tickets, no compression (of records or certificates), the key
   log. */
int tls_hooks_set_up(SSL_CTX *ctx);
void tls_hooks_set_up_server(SSL_CTX *ctx);
void tls_hooks_set_up_client(SSL_CTX *ctx);

#endif
