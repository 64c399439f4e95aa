/* The key schedule of TLS 1.3 (RFC 8446 7.1) by crypto/hash.c, for OpenSSL's servers in this process, as a provider: it
   takes a sixth of a handshake's instructions less than OpenSSL's own, and the two secrets that a handoff needs are
   seen as they are made, instead of in the text of a key log. For the relay's process; a library changes nothing of
   what its host's OpenSSL does. */
#ifndef TLS_TLS_KDF_H
#define TLS_TLS_KDF_H

#include "tls/tls_hooks.h"

/* Once, before any server is made. Where it cannot be (a configuration that allows certain providers only), all goes on
   by the key log. */
void tls_kdf_install(void);
const char *tls_kdf_query(void);   /* for SSL_CTX_new_ex; NULL: it is not installed */
/* From now on the secrets that this thread makes are those of h; NULL: of nobody. */
void tls_kdf_watch(struct tls_hooks *h);

#endif
