/* The HTTP proxy through which relays are dialled: what its URL says, and which hosts are spared it. */
#ifndef AGENT_HTTP_PROXY_H
#define AGENT_HTTP_PROXY_H

#include "base/addr.h"
#include "base/limits.h"

struct http_proxy {
  bool tls;                        /* https://: it is spoken to inside TLS */
  struct host_port at;
  char *authorization;             /* of Proxy-Authorization, from secret_alloc; NULL: without a user */
  char name[HOST_NAME_MAX_CHARS + 32]; /* the URL without user and password, for texts */
};
/* [http://|https://][USER[:PASSWORD]@]HOST[:PORT][/], user and password percent-encoded; ports as curl has them: 1080
   and 443. The text of *e never holds the URL, which may hold a password. NULL with *e on failure. */
struct http_proxy *http_proxy_new(const char *url, struct err *e) MUST_USE;
void http_proxy_free(struct http_proxy *p);      /* wipes; NULL is fine */
/* NO_PROXY as curl reads it: "*", or hosts (with all below them), addresses and blocks of them, between commas or
   spaces. */
bool http_proxy_spares(const char *no_proxy, const char *host);

#endif
