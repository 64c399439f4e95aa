/* The relay's TLS identity from files or from its own authority, and its renewal: looks again when the files change or
   on SIGHUP; a bad replacement is refused and the old one stays. Times are the wall clock's, which may be set while we
   run: a certificate of our own from the future is as bad as one that has expired. Blocking; called from the relay's
   state thread. */
#ifndef RELAY_CERTS_H
#define RELAY_CERTS_H

#include "relay/state.h"
#include "tls/tls_server.h"

struct certs;
struct key_process;
/* cert_file and key_file, or both NULL for the state's own authority (a wildcard certificate, renewed by itself). The
   keys stay in the key process, or are here if that is NULL. The state and that process must outlive it. */
int certs_open(struct state *s, struct key_process *keys, const char *domain, const char *cert_file,
               const char *key_file, int64_t now_s, struct certs **out, struct err *e) MUST_USE;
void certs_close(struct certs *c);
struct tls_server *certs_current(struct certs *c);      /* a new reference; thread-safe */
/* To be asked regularly: whether the files have changed since they were last read, and not since the last look, so that
   who replaces one after the other is not caught in between; or whether a replacement that was refused for its time has
   become valid; or whether our own certificate is due. */
bool certs_changed(struct certs *c, int64_t now_s);
/* Reads again. 0: there is a new one; negative: the old one stays and e says why. */
int certs_reload(struct certs *c, int64_t now_s, struct err *e) MUST_USE;
/* To be called regularly: logs it when the present one is not valid yet or any more, once. */
void certs_warn(struct certs *c, int64_t now_s);
/* Whether certs_exact can make any: we own the authority. Thread-safe. */
bool certs_makes_exact(const struct certs *c);
/* The one that was made for this name and is valid now, or NULL. Thread-safe. */
struct tls_server *certs_exact_made(struct certs *c, const char *host, int64_t now_s);
/* A certificate for exactly this name, where we own the authority: ERR_NOT_NOW where not. Cached, and to be asked for
   anew by each visitor, who so never gets one that has been replaced. Thread-safe. */
int certs_exact(struct certs *c, const char *host, int64_t now_s, struct tls_server **out, struct err *e) MUST_USE;
/* What a token must carry to know this relay. Thread-safe. */
int certs_pin(struct certs *c, struct pin *pin, struct err *e) MUST_USE;

#endif
