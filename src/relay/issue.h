/* Issuing tokens from a state folder: shared by `adit token create` and the embedded relay. */
#ifndef RELAY_ISSUE_H
#define RELAY_ISSUE_H

#include "relay/state.h"

struct issue_request {
  const char *name;                /* 1 to TOKEN_NAME_MAX_CHARS printable ASCII characters without spaces */
  uint32_t max_tunnels;            /* 0: TUNNELS_PER_TOKEN_DEFAULT */
  int64_t expires_s;               /* 0: never */
  struct token_limits limits;
  const uint8_t *id;               /* TOKEN_ID_BYTES; NULL: a new one, as each token has that is listed */
  bool unlisted;                   /* leave no record: for the one-off token of an embedded relay */
  const struct token_relay *relays; size_t relays_n;   /* 1 to TOKEN_RELAYS_MAX, each with its name and pin */
};
int issue_token(struct state *s, const struct issue_request *r, int64_t now_s, char out[TOKEN_TEXT_MAX_CHARS + 1],
                struct err *e) MUST_USE;

/* What tokens say about the relay of this state. Settings: "domain" is its name, "public" HOST:PORT to dial, "pin" the
   word public or 64 hex digits, the SHA-256 of the authority's SubjectPublicKeyInfo. The relay remembers it at every
   start. */
int issue_relay_remember(struct state *s, const struct token_relay *relay, struct err *e) MUST_USE;
/* Of its pin alone, when that changes while it runs. */
int issue_pin_remember(struct state *s, const struct pin *pin, struct err *e) MUST_USE;
/* ERR_NOT_NOW: the relay has not started yet. */
int issue_relay_recall(struct state *s, struct token_relay *relay, struct err *e) MUST_USE;
/* Before that: its name is what the user says, it is dialled by that at port 443, and its authority, by which it is
   known, is made now. Remembered, too, until its start. */
int issue_relay_foresee(struct state *s, const char *domain, struct token_relay *relay, struct err *e) MUST_USE;

#endif
