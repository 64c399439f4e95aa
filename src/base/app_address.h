/* Where an app listens, as people write it: "8000", "db:8000", "[2001:db8::5]:8000", "unix:/run/app.sock". */
#ifndef BASE_APP_ADDRESS_H
#define BASE_APP_ADDRESS_H

#include "base/addr.h"
#include "base/limits.h"

struct app_address {
  struct host_port tcp;            /* a bare PORT is that of localhost, both loopback addresses; port 0: a Unix socket */
  char path[UNIX_PATH_MAX_BYTES + 1];   /* as written; "@NAME" is one without a file (unix(7), abstract) */
};

enum { APP_ADDRESS_TEXT_CHARS = 300 };   /* the longest text of one, its NUL included */

int app_address_parse(const char *text, struct app_address *out, struct err *e) MUST_USE;
static inline bool app_address_is_unix(const struct app_address *a) { return a->tcp.port == 0; }
/* "8000", or what means the same: "localhost:8000". */
bool app_address_is_local_port(const struct app_address *a);
/* The short form, which parses again: "localhost:8000". */
void app_address_format(const struct app_address *a, char *out, size_t cap);
/* What is tried, for messages: "127.0.0.1:8000 or [::1]:8000". */
void app_address_describe(const struct app_address *a, char *out, size_t cap);
/* Whether both may lead to one listener, as far as can be seen without asking a resolver or the file system. */
bool app_address_same(const struct app_address *a, const struct app_address *b);

#endif
