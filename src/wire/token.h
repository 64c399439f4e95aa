/* Tokens and the certificate inside: what an agent needs, in one word. "adit1_" and base64url.

   The certificate is what an agent shows to a relay; the token around it is never sent. An operator's key signs certificates. */
#ifndef WIRE_TOKEN_H
#define WIRE_TOKEN_H

#include "base/addr.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "crypto/pin.h"

#define TOKEN_PREFIX "adit1_"
enum { TOKEN_ID_BYTES = 16, CERTIFICATE_MAX_BYTES = 512 };

/* What an operator grants a token beside tunnels, at each relay. 0: no more than the relay grants everybody. */
struct token_limits {
  uint32_t max_streams;                        /* at once */
  uint32_t max_visitors_per_s;                 /* new ones */
  uint64_t max_bytes_per_s;                    /* of all its streams together, both directions */
};

struct certificate {
  uint8_t id[TOKEN_ID_BYTES];
  char name[TOKEN_NAME_MAX_CHARS + 1];
  uint8_t public_key[ED25519_KEY_BYTES];
  uint32_t max_tunnels;
  int64_t issued_s, expires_s;                 /* expires 0: never */
  struct token_limits limits;
  uint8_t operator_key[ED25519_KEY_BYTES];     /* who signed */
};
/* Encodes and signs. */
int certificate_sign(const struct certificate *c, const uint8_t operator_seed[ED25519_KEY_BYTES], uint8_t *out, size_t cap, size_t *n) MUST_USE;
/* Parses, and verifies the signature by the key that it names: whether that operator is trusted is the caller's question. */
int certificate_verify(const uint8_t *p, size_t n, struct certificate *c) MUST_USE;   /* ERR_SYNTAX, ERR_AUTH */
/* A stranger's: the signature, which costs more than all the rest, is looked at only when one of these operators is the signer,
   else ERR_NOT_NOW. */
int certificate_verify_by(const uint8_t *p, size_t n, const uint8_t (*operators)[ED25519_KEY_BYTES], size_t operators_n,
                          struct certificate *c) MUST_USE;

struct token_relay {
  struct host_port dial;
  char name[HOST_NAME_MAX_CHARS + 1];          /* the relay's own name, for SNI and verification; empty: dial.host */
  struct pin pin;
};
struct token {                                 /* wipe after use */
  struct token_relay relays[TOKEN_RELAYS_MAX];
  size_t relays_n;
  uint8_t seed[ED25519_KEY_BYTES];
  uint8_t certificate[CERTIFICATE_MAX_BYTES];
  size_t certificate_n;
  struct certificate info;                     /* parsed from it */
};
int token_encode(const struct token *t, char *out, size_t cap) MUST_USE;
/* Surrounding white space is fine. Checks that the seed belongs to the certificate. The text says what is wrong. */
int token_decode(const char *text, size_t chars, struct token *t, struct err *e) MUST_USE;

/* Text form of an operator's public key file: "adit-operator-1 <base64url>\n". */
enum { OPERATOR_TEXT_MAX = 96 };
void operator_key_encode(const uint8_t key[ED25519_KEY_BYTES], char out[OPERATOR_TEXT_MAX]);
int operator_key_decode(const char *text, size_t chars, uint8_t key[ED25519_KEY_BYTES]) MUST_USE;

#endif
