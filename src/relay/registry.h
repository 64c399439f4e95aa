/* Who is here: owners (tokens), tunnels by label, and which worker serves which control link. The only state that
   all workers share; one mutex, held for a look-up or REGISTRY_STEPS_MAX steps of a walk, and never across I/O.
   Tunnels and owners are counted by references. */
#ifndef RELAY_REGISTRY_H
#define RELAY_REGISTRY_H

#include "base/roster.h"
#include "pump/rate.h"
#include "relay/context.h"
#include "relay/revocations.h"
#include "relay/shares.h"
#include "relay/usage.h"
#include "wire/frame.h"
#include "wire/link_keys.h"

/* A label is what keeps strangers out: the log shows enough of it to tell tunnels apart and not enough to visit one. */
enum { LABEL_LOG_CHARS = 8 };

/* One token: the last certificate of a chain. Those before it are its parents, up to the root, whose labels, ports
   and shares all its children's are; what is limited counts at each of them. What its certificate says is that of
   the first one shown while the owner is here: only an operator who signs two of one id could make them differ. */
struct owner {
  unsigned refs;                   /* atomic */
  struct roster_entry place;
  struct owner *parent;            /* one reference; NULL: it is the root */
  struct owner *root;              /* itself, too */
  uint8_t id[TOKEN_ID_BYTES];
  char name[CHAIN_NAME_CAP];       /* behind that of its parent: "laptop/build" */
  uint32_t max_tunnels;
  int64_t expires_s;               /* 0: never */
  bool no_raw;
  struct cidr allow[TOKEN_ALLOW_MAX];
  size_t allow_n;
  struct account account;          /* of the relay's shares, with its limits */
  struct usage *usage;
  struct rate own_rate;            /* only with limits.max_bytes_per_s */
  struct rate *rate;               /* of its streams: its own, else its parent's; NULL: none */
  uint32_t tunnels, links;         /* its children's, too; under the registry's lock, as the next two */
  uint32_t certificates;           /* of a root: made for its tunnels since ... */
  uint64_t certificates_since_ms;
  uint32_t waiting;                /* of a root: visitors waiting for a data connection; atomic */
  bool ended;                      /* revoked, by its parent's end, too, or expired; atomic */
};

struct tunnel {
  unsigned refs;                   /* atomic */
  struct roster_entry place;
  struct owner *owner;
  uint8_t holder[TOKEN_ID_BYTES];  /* whose label and port they are: the owner's root, or an embedded relay's user */
  char label[LABEL_CHARS + 1];
  char host[HOST_NAME_MAX_CHARS + 1];
  uint8_t link_id[LINK_ID_BYTES];  /* the link that serves it */
  char agent[AGENT_SOFTWARE_MAX_CHARS + 1];    /* its agent's program and version, as it says */
  struct addr agent_from;          /* and where that dialled from */
  struct worker *worker;           /* the link's */
  uint32_t bind_id;
  uint32_t flags;
  uint32_t incarnation;
  uint64_t serial;                 /* given by registry_put: of two tunnels of one label the later has the higher */
  uint8_t alpn[ALPN_LIST_MAX_BYTES];
  size_t alpn_n;
  struct cidr *admission;          /* allow_n blocks of visitors who are let in, none: all; deny_n of those who are
                                      not */
  size_t allow_n, deny_n;
  uint16_t tcp_port;               /* 0: none. Written by the link's worker, atomically once the tunnel is registered */
  uint64_t opened_ms;
  uint64_t streams_now, streams_total; /* atomic */
  uint32_t waiting;                /* atomic */
  uint32_t refused[NOTICES];       /* visitors, of which the agent has not been told; atomic */
};

/* Through what a stream came in, by value: it outlives its tunnel, and holds nothing of it. */
struct origin {
  struct owner *owner;             /* one reference */
  char label[LABEL_CHARS + 1];
  uint64_t serial;
};

int registry_new(struct relay *r, struct registry **out) MUST_USE;
void registry_free(struct registry *g);

/* A reference to the owner of the last of these n certificates, each of which was proven to be narrowed from the one
   before; ERR_AUTH when one is revoked, ERR_TIMEOUT when one has expired, ERR_NOMEM. */
int registry_owner(struct registry *g, const struct certificate *chain, size_t n, int64_t now_s,
                   struct owner **out) MUST_USE;
/* The same for one who was here already, in another process: if he has lost his right since, he is marked and ended
   like all others. */
int registry_owner_moved(struct registry *g, const struct certificate *chain, size_t n, struct owner **out) MUST_USE;
struct owner *owner_ref(struct owner *o);
void registry_owner_unref(struct registry *g, struct owner *o);
/* Marks as revoked for good. */
int registry_revoke(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) MUST_USE;
/* What revokes, by the right of `by`, a certificate that was narrowed from his and is good until then (0: as long as
   his). ERR_CONFLICT: he has narrowed none, or that one is here and not from his. */
int registry_revocation(struct registry *g, const struct owner *by, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s,
                        struct revocation *out) MUST_USE;
/* Refuses it from now on; *before is what there was, with an id of zeros if nothing. ERR_LIMIT, ERR_NOMEM: nothing has
   changed. */
int registry_revoke_narrowed(struct registry *g, const struct revocation *r, struct revocation *before) MUST_USE;
void registry_revoke_undo(struct registry *g, const struct revocation *r, const struct revocation *before);
/* One that is on the disk already. ERR_NOMEM. */
int registry_revocation_load(struct registry *g, const struct revocation *r) MUST_USE;
/* It is on the disk: whether anybody is here who is to be marked. */
bool registry_revoke_done(struct registry *g, const struct revocation *r);
void registry_revocations_expire(struct registry *g, int64_t until_s);     /* those of what was no good any more then */
/* A program of an embedded relay, by the id of its token. Those of one relay begin with the same bytes, and of such
   tokens only those are good whose programs are here: so nothing is kept of one that has ended. */
enum { PROGRAM_PREFIX_BYTES = 8 };
int registry_admit(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]) MUST_USE;
void registry_dismiss(struct registry *g, const uint8_t id[TOKEN_ID_BYTES]);
/* Marks the owners that have been revoked or have expired; whether there are any that were not marked before. */
bool registry_mark_ended(struct registry *g, int64_t now_s);
static inline bool owner_has_ended(const struct owner *o) { return __atomic_load_n(&o->ended, __ATOMIC_RELAXED); }

/* Counts a certificate that is to be made for a tunnel of this root; false: it has had its share for now. */
bool registry_owner_certifies(struct registry *g, struct owner *o, uint64_t now_ms);

/* Puts a tunnel in its place. *replaced is a reference to the one it takes over from, or NULL. ERR_LIMIT: the owner has
   too many; ERR_CONFLICT: the one that is there has a higher incarnation. On success the registry holds a reference of
   its own. */
int registry_put(struct registry *g, struct tunnel *t, struct tunnel **replaced) MUST_USE;
/* The same for one that had its place in another process, with the serial that it had there. ERR_CONFLICT also when the
   one that is there came later. */
int registry_put_moved(struct registry *g, struct tunnel *t, struct tunnel **replaced) MUST_USE;
/* The last serial that was given, and that all that are given from now on are higher than another process's. */
uint64_t registry_serial(struct registry *g);
void registry_serial_reach(struct registry *g, uint64_t serial);
/* Takes it out, unless another has replaced it already. */
void registry_remove(struct registry *g, struct tunnel *t);
struct tunnel *registry_find(struct registry *g, const char *label);  /* a new reference or NULL */
struct tunnel *tunnel_ref(struct tunnel *t);
/* Before it is put in place; ERR_NOMEM. */
int tunnel_set_admission(struct tunnel *t, const struct cidr *allow, size_t allow_n, const struct cidr *deny,
                         size_t deny_n) MUST_USE;
bool tunnel_admits(const struct tunnel *t, const struct addr *visitor);   /* as its token does, too */
void tunnel_unref(struct registry *g, struct tunnel *t);

/* One more stream of this tunnel and of its token, until origin_leave. */
void origin_enter(struct origin *o, struct tunnel *t);
void origin_leave(struct registry *g, struct origin *o);
/* The same stream, in another process: its owner, label and serial are set, the reference is taken. It is not counted
   once more among all that there have been. */
void origin_resume(struct registry *g, struct origin *o);
/* A reference to the tunnel, or NULL when it is no longer in its place. */
struct tunnel *origin_tunnel(struct registry *g, const struct origin *o);

/* ERR_CONFLICT: that id is there; ERR_LIMIT: the owner has LINKS_SPARE_PER_TOKEN more links than it may have
   tunnels. */
int registry_link_put(struct registry *g, struct owner *o, const uint8_t id[LINK_ID_BYTES], struct worker *w) MUST_USE;
struct worker *registry_link_find(struct registry *g, const uint8_t id[LINK_ID_BYTES]);
void registry_link_remove(struct registry *g, struct owner *o, const uint8_t id[LINK_ID_BYTES]);

/* All tunnels, and what has passed for all tokens, a few at a time: one that is here from the beginning to the end
   is met once. */
struct registry_walk { struct roster_walk tunnels, tokens, narrowed; };  /* private, but as registry_walk_usages says */
void registry_walk_begin(struct registry *g, struct registry_walk *w);
/* References to the next ones; 0: there are no more. */
size_t registry_walk_next(struct registry *g, struct registry_walk *w, struct tunnel *out[REGISTRY_STEPS_MAX]);
/* Copies of the next ones of the walk's tokens, which are the operator's, or of those that were narrowed from them. */
size_t registry_walk_usages(struct registry *g, struct roster_walk *w, struct usage out[REGISTRY_STEPS_MAX]);
void registry_walk_end(struct registry *g, struct registry_walk *w);
int registry_add_usage(struct registry *g, const struct usage *counted) MUST_USE;   /* as usages_add */
int registry_take_usage(struct registry *g, const struct usage *counted) MUST_USE;  /* as usages_take: 0 */

#endif
