/* Tickets: a relay's MAC over what an agent may take back. Opaque to the agent. */
#ifndef WIRE_TICKET_H
#define WIRE_TICKET_H

#include "base/limits.h"
#include "wire/token.h"

enum { TICKET_MAX_BYTES = 512, TICKET_KEY_BYTES = 32 };
struct ticket_key { uint32_t id; uint8_t key[TICKET_KEY_BYTES]; };
struct ticket {
  char relay[HOST_NAME_MAX_CHARS + 1];
  uint8_t owner[TOKEN_ID_BYTES];
  char label[LABEL_CHARS + 1];
  uint16_t tcp_port;                           /* 0: none */
  uint32_t incarnation;
  int64_t expires_s;
};
int ticket_encode(const struct ticket *t, const struct ticket_key *key, uint8_t out[TICKET_MAX_BYTES],
                  size_t *n) MUST_USE;
/* Verifies under one of the keys (current first, then previous). The caller compares relay, owner and expiry. */
int ticket_decode(const uint8_t *p, size_t n, const struct ticket_key *keys, size_t keys_n, struct ticket *t) MUST_USE;

#endif
