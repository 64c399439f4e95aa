/* Where an app or a relay is dialled, as people write it: "8000", "db:8000", "[2001:db8::5]:8000",
   "unix:/run/app.sock". */
#ifndef BASE_DIAL_ADDRESS_H
#define BASE_DIAL_ADDRESS_H

#include "base/addr.h"
#include "base/limits.h"

struct dial_address {
  struct host_port tcp;            /* a bare PORT is that of localhost, both loopback addresses; port 0: a Unix
                                      socket */
  char path[UNIX_PATH_MAX_BYTES + 1];   /* as written; "@NAME" is one without a file (unix(7), abstract) */
};

enum { DIAL_ADDRESS_TEXT_CHARS = 300 };   /* the longest text of one, its NUL included */

int dial_address_parse_app(const char *text, struct dial_address *out, struct err *e) MUST_USE;
/* "relay.example.com", at port 443, "HOST:PORT" or "unix:PATH". */
int dial_address_parse_relay(const char *text, struct dial_address *out, struct err *e) MUST_USE;
/* The PATH of unix:PATH, of which `what` is to be reached. */
int dial_address_parse_unix(const char *what, const char *text, char path[UNIX_PATH_MAX_BYTES + 1],
                            struct err *e) MUST_USE;
bool dial_address_text_is_unix(const char *text);
/* The path of a Unix socket, from the root on: what lies between is left as it was written, and may change. */
int dial_address_make_absolute(const char *what, struct dial_address *a, struct err *e) MUST_USE;
static inline bool dial_address_is_unix(const struct dial_address *a) { return a->tcp.port == 0; }
/* "8000", or what means the same: "localhost:8000". */
bool dial_address_is_local_port(const struct dial_address *a);
/* The short form, which parses again: "localhost:8000". */
void dial_address_format(const struct dial_address *a, char *out, size_t cap);
/* What is tried, for messages: "127.0.0.1:8000 or [::1]:8000". */
void dial_address_describe(const struct dial_address *a, char *out, size_t cap);
/* Whether both may lead to one listener, as far as can be seen without asking a resolver or the file system. */
bool dial_address_same(const struct dial_address *a, const struct dial_address *b);

#endif
