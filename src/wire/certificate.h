/* Certificates: what the holder of a key may do, signed. An operator's key signs the one that a token begins with;
   whoever holds the key in it may sign a narrower one for another key, and that one's holder once more. So there are
   chains: the operator's certificate first, each of the others by the key of the one before it, and no wider. A
   chain is what an agent shows to a relay. */
#ifndef WIRE_CERTIFICATE_H
#define WIRE_CERTIFICATE_H

#include "base/addr.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "crypto/crypto.h"

enum { TOKEN_ID_BYTES = 16, CERTIFICATE_MAX_BYTES = 512, CHAIN_MAX_BYTES = CHAIN_MAX * CERTIFICATE_MAX_BYTES };
enum { CHAIN_NAME_CAP = CHAIN_MAX * (TOKEN_NAME_MAX_CHARS + 1) };   /* the names of all, with slashes between them */

/* What a token grants beside tunnels, at each relay. 0: no more than the relay grants everybody. */
struct token_limits {
  uint32_t max_streams;                        /* at once */
  uint32_t max_visitors_per_s;                 /* new ones */
  uint64_t max_bytes_per_s;                    /* of all its streams together, both directions */
};

struct certificate {
  uint8_t id[TOKEN_ID_BYTES];                  /* the operator's choice; of a narrower one it follows from the chain */
  char name[TOKEN_NAME_MAX_CHARS + 1];         /* of a narrower one it may be empty */
  uint8_t public_key[ED25519_KEY_BYTES];
  uint32_t max_tunnels;
  int64_t issued_s, expires_s;                 /* expires 0: never */
  struct token_limits limits;
  bool no_raw;                                 /* no raw ports. This and the next two are of narrower ones only */
  struct cidr allow[TOKEN_ALLOW_MAX];          /* where visitors may come from; none: everywhere */
  size_t allow_n;
  uint8_t operator_key[ED25519_KEY_BYTES];     /* who signed the first; of narrower ones zero */
};

/* Encodes and signs an operator's. */
int certificate_sign(const struct certificate *c, const uint8_t operator_seed[ED25519_KEY_BYTES], uint8_t *out,
                     size_t cap, size_t *n) MUST_USE;

/* What of `c` reaches further than in `parent`, in a word ("max_tunnels"); NULL: nothing does. */
const char *certificate_wider(const struct certificate *c, const struct certificate *parent);

struct chain {
  struct certificate at[CHAIN_MAX];
  size_t n;
};
/* Appends a narrower certificate, signed with the seed that belongs to the last one's key, to the chain of *n bytes
   at p. Its id, its operator's key, and whether it is narrower, are not looked at. */
int chain_extend(uint8_t *p, size_t cap, size_t *n, const struct certificate *c,
                 const uint8_t seed[ED25519_KEY_BYTES]) MUST_USE;
/* Parses a whole chain, at most CHAIN_MAX_BYTES, and then verifies its signatures: of the first by the key that it
   names. Whether that operator is trusted is the caller's question. ERR_SYNTAX: malformed, or one is wider than the
   one before it; ERR_AUTH: a signature does not hold. */
int chain_verify(const uint8_t *p, size_t n, struct chain *c) MUST_USE;
/* A stranger's: the signatures, which cost more than all the rest, are looked at only when one of these operators is
   the signer of the first, else ERR_NOT_NOW; and of each only when the one before it held. */
int chain_verify_by(const uint8_t *p, size_t n, const uint8_t (*operators)[ED25519_KEY_BYTES], size_t operators_n,
                    struct chain *c) MUST_USE;
static inline const struct certificate *chain_last(const struct chain *c) { return &c->at[c->n - 1]; }

#endif
