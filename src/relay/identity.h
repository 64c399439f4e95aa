/* A certificate with its key, as it is made or read: where the keys are. */
#ifndef RELAY_IDENTITY_H
#define RELAY_IDENTITY_H

#include "crypto/pin.h"
#include "relay/state.h"
#include "tls/tls_server.h"

struct identity_source {           /* texts are the caller's; files: NULL with the state's own authority */
  struct state *state;
  const char *domain, *cert_file, *key_file;
};

struct identity {
  struct tls_server *server;
  struct authority *authority;     /* a reference to the one to use from now on; NULL with files */
  struct pin pin;                  /* what tokens must carry to know this relay */
};
/* From the files, or a wildcard certificate under our own authority; `present` is the authority until now, or NULL. */
int identity_load(const struct identity_source *s, struct authority *present, int64_t now_s, struct identity *out,
                  struct err *e) MUST_USE;
void identity_drop(struct identity *i);
/* One for this name alone, which must be directly under the domain. */
int identity_issue(const struct authority *a, const char *domain, const char *host, int64_t now_s,
                   struct tls_server **out, struct err *e) MUST_USE;

#endif
