/* The relay's TLS identity from files or from its own authority, and its renewal: looks again when the files change or
   on SIGHUP; a bad replacement is refused and the old one stays. Blocking; called from the relay's state thread. */
#ifndef RELAY_CERTS_H
#define RELAY_CERTS_H

#include "relay/state.h"
#include "tls/tls_server.h"

struct certs;
/* cert_file and key_file, or both NULL for the state's own authority (a wildcard certificate, renewed by itself). */
int certs_open(struct state *s, const char *domain, const char *cert_file, const char *key_file, struct certs **out,
               struct err *e) MUST_USE;
void certs_close(struct certs *c);
struct tls_server *certs_current(struct certs *c);      /* a new reference; thread-safe */
/* Whether the files have changed since they were last read (stat: mtime, size, inode), or our own certificate is
   due. */
bool certs_changed(struct certs *c, int64_t now_s);
/* Reads again. 0: there is a new one; negative: the old one stays and e says why. */
int certs_reload(struct certs *c, int64_t now_s, struct err *e) MUST_USE;
/* Whether certs_exact can make any: we own the authority. Thread-safe. */
bool certs_makes_exact(const struct certs *c);
/* The one that was made for this name, or NULL. Thread-safe. */
struct tls_server *certs_exact_made(struct certs *c, const char *host);
/* A certificate for exactly this name, where we own the authority: ERR_NOT_NOW where not. Cached, and to be asked for
   anew by each visitor, who so never gets one that has been replaced. Thread-safe. */
int certs_exact(struct certs *c, const char *host, struct tls_server **out, struct err *e) MUST_USE;
/* What a token must carry to know this relay. Thread-safe. */
int certs_pin(struct certs *c, struct pin *pin, struct err *e) MUST_USE;

#endif
