/* Tokens: what an agent needs, in one word. "adit1_" and base64url. The chain of certificates inside is what an
   agent shows to a relay; the token around it is never sent. */
#ifndef WIRE_TOKEN_H
#define WIRE_TOKEN_H

#include "crypto/pin.h"
#include "wire/certificate.h"

#define TOKEN_PREFIX "adit1_"

struct token_relay {
  struct host_port dial;
  char name[HOST_NAME_MAX_CHARS + 1];          /* the relay's own name, for SNI and verification; empty: dial.host */
  struct pin pin;
};
struct token {                                 /* wipe after use */
  struct token_relay relays[TOKEN_RELAYS_MAX];
  size_t relays_n;
  uint8_t seed[ED25519_KEY_BYTES];
  uint8_t chain[CHAIN_MAX_BYTES];
  size_t chain_n;
  struct certificate info;                     /* the last one's, parsed from it */
  size_t narrowed;                             /* how often */
};
int token_encode(const struct token *t, char *out, size_t cap) MUST_USE;
/* Surrounding white space is fine. Checks that the seed belongs to the last certificate. The text says what is
   wrong. */
int token_decode(const char *text, size_t chars, struct token *t, struct err *e) MUST_USE;

/* A name for listings, logs and revoking: 1 to TOKEN_NAME_MAX_CHARS printable ASCII characters without spaces, and
   not like an id. */
int token_name_check(const char *name, struct err *e) MUST_USE;

/* What a token made from another may not do that this one may; 0 or NULL: as that. */
struct narrowing {
  const char *name;                            /* NULL: none of its own */
  int64_t life_s;
  uint32_t max_tunnels;
  struct token_limits limits;
  bool no_raw;
  const struct cidr *allow;                    /* within those of the token, if it has any */
  size_t allow_n;
};
/* Makes *t such a token, for a new key. ERR_USAGE: the wish is wider than the token, or not possible; ERR_TIMEOUT:
   it has expired. *t is as it was then. */
int token_narrow(struct token *t, const struct narrowing *wish, int64_t now_s, struct err *e) MUST_USE;

/* Text form of an operator's public key file: "adit-operator-1 <base64url>\n". */
enum { OPERATOR_TEXT_MAX = 96 };
void operator_key_encode(const uint8_t key[ED25519_KEY_BYTES], char out[OPERATOR_TEXT_MAX]);
int operator_key_decode(const char *text, size_t chars, uint8_t key[ED25519_KEY_BYTES]) MUST_USE;

#endif
