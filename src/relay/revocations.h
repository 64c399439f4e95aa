/* Revocations of narrowed tokens, each by the holder of a token that it is from. One holds for a certificate behind the
   revoker's own in a chain, and for no other: so nobody has to prove that it is his, and whoever makes up ids revokes
   nothing. Bounded for each root (NARROWED_REVOKED_PER_TOKEN_MAX); the holder of a narrowed token, as a container is,
   cannot use up what its root has. Not thread-safe. */
#ifndef RELAY_REVOCATIONS_H
#define RELAY_REVOCATIONS_H

#include "wire/certificate.h"

struct revocation {
  uint8_t root[TOKEN_ID_BYTES];    /* for whom it counts */
  uint8_t revoker[TOKEN_ID_BYTES];
  uint8_t id[TOKEN_ID_BYTES];      /* of what is revoked */
  int64_t expires_s;               /* when that is no good in any case; 0: never */
};

struct revocations;
struct revocations *revocations_new(void) MUST_USE;      /* NULL when out of memory */
void revocations_free(struct revocations *s);            /* NULL is fine */
/* Whether there may be one more, or it is there already. */
bool revocations_have_room(const struct revocations *s, const struct revocation *r);
/* In place of an earlier one. ERR_NOMEM: nothing has changed. */
int revocations_put(struct revocations *s, const struct revocation *r) MUST_USE;
/* Whoever is revoked by his root needs no revocations of his own any more: these go. */
void revocations_remove_below(struct revocations *s, const struct revocation *r);
/* NULL: there is none. Valid until the next change. */
const struct revocation *revocations_find(const struct revocations *s, const uint8_t revoker[TOKEN_ID_BYTES],
                                          const uint8_t id[TOKEN_ID_BYTES]);
void revocations_remove(struct revocations *s, const struct revocation *r);
/* Of the next `steps`, in turn, removes those of what was no good any more then. */
void revocations_expire(struct revocations *s, int64_t until_s, size_t steps);
size_t revocations_count(const struct revocations *s);

#endif
