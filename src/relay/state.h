/* What a relay keeps on disk, behind a small interface: issued tokens, revocations, port leases (SQLite, state.db) and
   key files (0600): operator.key, operator.pub, ticket.key, authority.pem, authority.key. Opening makes what is
   missing. Calls block: the relay makes them from one thread of its own, never from an event loop; a visitor's path
   never waits for it. `adit token` uses the same calls while a relay runs (WAL, busy timeout). */
#ifndef RELAY_STATE_H
#define RELAY_STATE_H

#include "relay/revocations.h"
#include "tls/authority.h"
#include "wire/ticket.h"
#include "wire/token.h"

struct state;
/* Makes dir (0700), database and keys where there were none. ERR_NOT_NOW: what there was has been lost. */
int state_open(const char *dir, struct state **out, struct err *e) MUST_USE;
/* The same, and what has been lost is made anew. `lost` names it, with commas, and is empty if nothing was.
   ERR_CONFLICT: a relay serves from what is left. */
enum { STATE_LOST_CAP = 80 };
int state_open_anew(const char *dir, char lost[STATE_LOST_CAP], struct state **out, struct err *e) MUST_USE;
bool state_was_used(const char *dir); /* whether there is anything to be opened, or to be told lost */
void state_close(struct state *s);
/* A relay serves from the folder: from now until state_unclaim or state_close no other may (leases and the authority
   are one relay's). ERR_CONFLICT: another does. */
int state_claim(struct state *s, struct err *e) MUST_USE;
/* Takes over a predecessor's claim with its descriptor, which is taken in any case. ERR_CONFLICT: it is that of another
   folder. */
int state_inherit_claim(struct state *s, int claim, struct err *e) MUST_USE;
int state_claim_descriptor(const struct state *s);
void state_unclaim(struct state *s);
/* Whether folder and database are still what was opened. ERR_NOT_NOW: removed or replaced, and so is what is
   written. */
int state_check_place(struct state *s, struct err *e) MUST_USE;
bool state_has_successor(const struct state *s); /* after state_unclaim: whether another relay has claimed it */

/* The operator's key of this state. */
int state_operator_seed(struct state *s, uint8_t seed[ED25519_KEY_BYTES], struct err *e) MUST_USE;
int state_operator_public(struct state *s, uint8_t key[ED25519_KEY_BYTES], struct err *e) MUST_USE;
/* Ticket keys, current first, then the previous; replaced when older than TICKET_LIFE_S. */
int state_ticket_keys(struct state *s, int64_t now_s, struct ticket_key keys[2], size_t *n, struct err *e) MUST_USE;
/* The authority for domain, made when missing (or when the domain has changed: the old one is kept aside under a dated
   name), and renewed, with its key, when its time is over or has not come. */
int state_authority(struct state *s, const char *domain, int64_t now_s, struct authority **out, struct err *e) MUST_USE;
/* A certificate for now for an authority that came from here: its key is never replaced for a clock's sake. */
int state_authority_renew(struct state *s, const struct authority *a, int64_t now_s, struct authority **out,
                          struct err *e) MUST_USE;
/* The relay's settings that `adit token create` needs, remembered by the relay at its start, or by token create with
   defaults. */
int state_set(struct state *s, const char *key, const char *value, struct err *e) MUST_USE;
/* ERR_NOT_NOW: it is not there. */
int state_get(struct state *s, const char *key, char *value, size_t cap, struct err *e) MUST_USE;

struct state_token {
  uint8_t id[TOKEN_ID_BYTES];
  char name[TOKEN_NAME_MAX_CHARS + 1];   /* empty: not issued here, and nothing more is known than that it is revoked */
  uint32_t max_tunnels;
  int64_t issued_s, expires_s, revoked_s;
  struct token_limits limits;
};
/* ERR_CONFLICT: a live one has that name. */
int state_token_add(struct state *s, const struct certificate *c, struct err *e) MUST_USE;
int state_token_list(struct state *s, int (*each)(void *user, const struct state_token *t), void *user,
                     struct err *e) MUST_USE;
/* ERR_NOT_NOW: there is none of that name or id. */
int state_token_revoke(struct state *s, const char *name_or_id_hex, int64_t now_s, struct err *e) MUST_USE;
/* Revoked ids; calls each for every one. */
int state_revoked(struct state *s, int (*each)(void *user, const uint8_t id[TOKEN_ID_BYTES]), void *user,
                  struct err *e) MUST_USE;
/* What holders of tokens have revoked of those that were narrowed from theirs. Putting one, in place of an earlier one,
   lets go of those that were made with what it revokes, of the same root. */
int state_narrowed_put(struct state *s, const struct revocation *r, struct err *e) MUST_USE;
int state_narrowed_expire(struct state *s, int64_t until_s, struct err *e) MUST_USE; /* as revocations_expire */
int state_narrowed_each(struct state *s, int (*each)(void *user, const struct revocation *r), void *user,
                        struct err *e) MUST_USE;
/* *version changes when tokens or revocations may have changed, and not with the leases that are written here: cheap to
   poll. */
int state_version(struct state *s, uint64_t *version) MUST_USE;

/* Port leases: committed before the port is announced. */
struct port_lease {
  uint16_t port;
  uint8_t owner[TOKEN_ID_BYTES];
  char label[LABEL_CHARS + 1];
  int64_t free_at_s; /* 0: held; else quarantined until then, for its owner only */
};
/* Several changes as one: none of them is on disk before state_finish has returned 0. */
int state_begin(struct state *s, struct err *e) MUST_USE;
/* commits when rc is 0; else takes all back, returns rc */
int state_finish(struct state *s, int rc, struct err *e) MUST_USE;
int state_lease_put(struct state *s, const struct port_lease *lease, struct err *e) MUST_USE;
int state_lease_drop(struct state *s, uint16_t port, struct err *e) MUST_USE;
int state_lease_each(struct state *s, int (*each)(void *user, const struct port_lease *lease), void *user,
                     struct err *e) MUST_USE;

#endif
