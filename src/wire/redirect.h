/* The one answer of the port for plain HTTP: the same place by https (RFC 9110 15.4.9). A request is read as it comes,
   and nothing of it is kept but its target and its host. */
#ifndef WIRE_REDIRECT_H
#define WIRE_REDIRECT_H

#include "base/buf.h"
#include "base/limits.h"

struct redirect {                  /* all fields private */
  struct buf line, target;         /* each of REDIRECT_LINE_MAX_BYTES at most */
  char host[HOST_NAME_MAX_CHARS + 1];
  size_t got;
  bool has_host, has_field;        /* "Host:" came, or the target names one */
};

enum { REDIRECT_MORE = 0, REDIRECT_FOUND = 308 };

void redirect_init(struct redirect *r);
void redirect_free(struct redirect *r);
size_t redirect_bytes(const struct redirect *r);               /* the memory behind it */
/* REDIRECT_MORE; or, and then it is not to be fed any further, REDIRECT_FOUND: the head of the request is there, else
   the status of a refusal. */
int redirect_feed(struct redirect *r, const uint8_t *p, size_t n) MUST_USE;
/* Appends the whole answer to what redirect_feed returned: a redirect to `port` for the domain's own name and those
   that its tunnels have; 421 for others. Returns its status; ERR_LIMIT, ERR_NOMEM when `out` does not hold it. */
int redirect_answer(const struct redirect *r, int status, const char *domain, uint16_t port, struct buf *out) MUST_USE;

#endif
