/* What has passed for each token since the relay started, all that were narrowed from it included. A record outlives
   its owner, since an agent comes and goes, but of those who are gone only the last stay: USAGES_KEPT_MAX of the
   operator's tokens, with them NARROWED_KEPT_PER_TOKEN_MAX that were narrowed from each, of which
   NARROWED_KEPT_PER_NARROWED_MAX from one that was narrowed itself, and NARROWED_KEPT_MAX of these in all. Not
   thread-safe but for the counters, which whoever is in the owner's streams adds to. */
#ifndef RELAY_USAGE_H
#define RELAY_USAGE_H

#include "base/list.h"
#include "base/roster.h"
#include "pump/pump.h"
#include "wire/certificate.h"

struct resting { struct list list; size_t n; };            /* private: those whose owners are gone, the first first */

struct usage {
  struct list resting, resting_of_root, resting_of_parent; /* private, as the next two: nodes of such */
  struct resting narrowed;                                 /* from it; from a root also those further down */
  struct roster_entry place;
  struct usage *parent, *root;                             /* what it was narrowed from: NULL and itself */
  uint8_t id[TOKEN_ID_BYTES], root_id[TOKEN_ID_BYTES];
  char name[CHAIN_NAME_CAP];                               /* the owner's */
  uint64_t streams_now, streams_total;                     /* atomic */
  struct tally from_visitors, to_visitors;                 /* as they leave the relay */
};

void usage_stream_begins(struct usage *r);
void usage_stream_ends(struct usage *r);
void usage_stream_resumes(struct usage *r);      /* one that had begun in another process */

struct usage usage_now(const struct usage *r);   /* a copy of what it tells */

struct usages;
struct usages *usages_new(void) MUST_USE;        /* NULL when out of memory */
void usages_free(struct usages *u);              /* with all records; NULL is fine */
/* The record of a token whose owner is here from now on; parent is that of the one that it was narrowed from, whose
   owner is here, too, for as long, or NULL. NULL when out of memory. */
struct usage *usages_enter(struct usages *u, const uint8_t id[TOKEN_ID_BYTES], struct usage *parent);
void usages_leave(struct usages *u, struct usage *r);    /* he is gone, with all his streams */
/* What another process has counted, as usage_now gives it, is added to the record of that token. One that is not here
   gets a record, which rests; what was narrowed from a token that is not known here is left out. ERR_NOMEM. */
int usages_add(struct usages *u, const struct usage *counted) MUST_USE;
void usages_take(struct usages *u, const struct usage *counted);         /* the contrary, if its record is here */
struct roster *usages_tokens(struct usages *u);          /* the operator's; of usage.place, as the next */
struct roster *usages_narrowed(struct usages *u);

#endif
