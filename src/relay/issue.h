/* Issuing tokens from a state folder: shared by `adit token create` and the embedded relay. */
#ifndef RELAY_ISSUE_H
#define RELAY_ISSUE_H

#include "relay/state.h"

struct issue_request {
  const char *name;
  uint32_t max_tunnels;            /* 0: TUNNELS_PER_TOKEN_DEFAULT */
  int64_t expires_s;               /* 0: never */
  const struct token_relay *relays; size_t relays_n;  /* none: the state's own */
};
int issue_token(struct state *s, const struct issue_request *r, int64_t now_s, char out[TOKEN_TEXT_MAX_CHARS + 1], struct err *e) MUST_USE;

#endif
