/* The live line of `adit forward` on a terminal: what it says, as text. No I/O, no clock. */
#ifndef CLI_LIVE_H
#define CLI_LIVE_H

#include "base/base.h"

enum live_link { LIVE_CONNECTING, LIVE_UP, LIVE_RECONNECTING };

struct live {
  uint64_t at_ms;                  /* of the counts from which rates are told; 0: none yet */
  uint64_t visitors_now, visitors_total, to_app_bytes, from_app_bytes;
  uint64_t to_app_per_s, from_app_per_s;
  enum live_link link;
};

/* Takes new counts. Rates are told anew only when at least LIVE_RATE_MS have passed, so that redrawing at an event does
   not make them jump. */
enum { LIVE_RATE_MS = 900 };
void live_update(struct live *l, uint64_t now_ms, uint64_t visitors_now, uint64_t visitors_total, uint64_t to_app_bytes,
                 uint64_t from_app_bytes);
/* The line in fewer than `columns` characters, so that it never wraps: parts that do not fit are left out, the most
   important stand first. */
void live_format(const struct live *l, unsigned columns, char *out, size_t cap);

#endif
