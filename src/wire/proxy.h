/* PROXY protocol (haproxy proxy-protocol.txt 2.2): reading v1 and v2, writing v2. */
#ifndef WIRE_PROXY_H
#define WIRE_PROXY_H

#include "base/addr.h"
#include "base/limits.h"

struct proxy_header {
  struct addr source, destination;
  bool local; /* LOCAL or UNKNOWN: addresses unset */
  size_t total;
};
/* How many bytes to have before asking again (never more than belong to the header, so nothing past it is read); 0 when
   p[0..n) is a whole header and *h is filled; ERR_SYNTAX. */
int proxy_read(const uint8_t *p, size_t n, struct proxy_header *h) MUST_USE;
/* v2, with the ALPN TLV when alpn_n > 0. Returns its length (at most PROXY_HEADER_MAX_BYTES). */
size_t proxy_write_v2(const struct addr *source, const struct addr *destination, const uint8_t *alpn, size_t alpn_n,
                      uint8_t out[PROXY_HEADER_MAX_BYTES]);

#endif
