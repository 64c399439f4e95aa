/* A server's TLS identity: certificate chain and key with everything OpenSSL needs, immutable once made, counted by
   references, shared by all loops. A reload makes a new one; connections keep the one that they began with. */
#ifndef TLS_TLS_SERVER_H
#define TLS_TLS_SERVER_H

#include "base/buf.h"
#include "base/err.h"
#include "crypto/crypto.h"

struct remote_key;                 /* tls/remote_key.h */
struct sign_scheme;                /* tls/handshake_sign.h */
struct tls_server;
/* PEM texts. Fails with a text for the user when they do not match, or the certificate does not cover both `domain` and
   `*.domain` (domain NULL: not checked). */
struct tls_server *tls_server_new(const char *cert_pem, size_t cert_n, const char *key_pem, size_t key_n,
                                  const char *domain, struct err *e) MUST_USE;
/* The same with a key that is elsewhere; there it was looked at already. */
struct tls_server *tls_server_new_remote(const char *cert_pem, size_t cert_n, const struct remote_key *where,
                                         uint64_t handle, struct err *e) MUST_USE;
/* Where the key is: see sign_handshake. */
int tls_server_sign(const struct tls_server *s, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
                    uint8_t *signature, size_t *n) MUST_USE;
int tls_server_chain(const struct tls_server *s, struct buf *out) MUST_USE;    /* the whole chain, as PEM */
/* Whether the chain leads to a self-signed certificate in it, or to an authority of this machine's: a client that knows
   the authority would accept it then, as far as its times at now_s go, but for those of the leaf. With any_authority it
   may lead to one that neither has, of which clients know. ERR_AUTH: it does not; ERR_TIMEOUT: it would at another
   time. */
int tls_server_check_chain(const struct tls_server *s, bool any_authority, int64_t now_s, struct err *e) MUST_USE;
struct tls_server *tls_server_ref(struct tls_server *s);
void tls_server_unref(struct tls_server *s);     /* NULL is fine */
int64_t tls_server_not_before(const struct tls_server *s); /* seconds since 1970 */
int64_t tls_server_not_after(const struct tls_server *s); /* seconds since 1970 */

/* Must run before OpenSSL's first allocation: memory that OpenSSL frees is wiped. ERR_NOT_NOW when it is too late.
   OpenSSL's own clean-up at exit is left out. For the relay's process only. */
int tls_wipe_on_free_install(void) MUST_USE;

#endif
