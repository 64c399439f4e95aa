/* HTTP's CONNECT (RFC 9110 9.3.6): what is said to a proxy, and its answer, which ends with its head: what follows is
   the connection that was asked for. */
#ifndef WIRE_HTTP_CONNECT_H
#define WIRE_HTTP_CONNECT_H

#include "base/addr.h"
#include "base/cursor.h"
#include "base/limits.h"

/* "Basic " and base64 (RFC 7617). */
enum { PROXY_AUTHORIZATION_CHARS = 6 + 4 * ((PROXY_CREDENTIALS_MAX_BYTES + 2) / 3) };
enum { HTTP_CONNECT_MAX_BYTES = 2 * HOST_NAME_MAX_CHARS + PROXY_AUTHORIZATION_CHARS + 256 };
/* authorization: the header's value; NULL: none. Needs HTTP_CONNECT_MAX_BYTES at most. */
void http_connect_encode(struct writer *w, const struct host_port *to, const char *authorization, const char *software);

struct http_connect_answer {
  unsigned status;                 /* 200 to 599 */
  char reason[48];                 /* printable; may be empty */
  bool takes_basic;                /* some Proxy-Authenticate offers it */
  char scheme[24];                 /* the first that is offered; empty: none */
};
/* How many bytes to have before asking again (never more than belong to the answer's head, so nothing past it is read);
   0 when p[0..n) is a whole one and *a is filled; ERR_SYNTAX: that is not HTTP/1; ERR_LIMIT: it is too long. */
int http_connect_read(const uint8_t *p, size_t n, struct http_connect_answer *a) MUST_USE;

#endif
