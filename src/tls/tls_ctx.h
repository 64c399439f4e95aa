/* What a connection needs of the server and client objects. Internal to this layer. */
#ifndef TLS_TLS_CTX_H
#define TLS_TLS_CTX_H

#include <openssl/ssl.h>

#include "tls/tls_conn.h"

SSL_CTX *tls_server_ctx(struct tls_server *s);
/* On this connection the chain is sent as it was given, with the trust anchor that visitors do not get. */
int tls_server_send_whole_chain(const struct tls_server *s, SSL *ssl) MUST_USE;
/* Lets the store find the public authorities that this machine has, or those of SSL_CERT_FILE and SSL_CERT_DIR. */
int tls_system_authorities(X509_STORE *store, struct err *e) MUST_USE;
/* Loads the store of public authorities when the pin asks for it and it is not there yet; thread-safe. */
SSL_CTX *tls_client_ctx(struct tls_client *c, enum pin_kind kind, struct err *e) MUST_USE;

#endif
