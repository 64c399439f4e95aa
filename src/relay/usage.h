/* What has passed for each of the operator's tokens since the relay started, all that were narrowed from it
   included. A record outlives its owner, since an agent comes and goes, but of those who are gone only the last
   USAGES_KEPT_MAX stay. Not thread-safe but for the counters, which whoever is in the owner's streams adds to. */
#ifndef RELAY_USAGE_H
#define RELAY_USAGE_H

#include "base/list.h"
#include "base/roster.h"
#include "wire/certificate.h"

struct usage {
  struct list resting;             /* private, as the next two: among those whose owner is gone */
  struct roster_entry place;
  uint8_t id[TOKEN_ID_BYTES];
  char name[TOKEN_NAME_MAX_CHARS + 1];
  uint64_t streams_now, streams_total;                     /* atomic, as the next one */
  uint64_t bytes_from_visitors, bytes_to_visitors;         /* as they leave the relay */
};

struct usage usage_now(const struct usage *r);   /* a copy of what it tells */

struct usages;
struct usages *usages_new(void) MUST_USE;        /* NULL when out of memory */
void usages_free(struct usages *u);              /* with all records; NULL is fine */
/* The record of a token whose owner is here from now on; NULL when out of memory. */
struct usage *usages_enter(struct usages *u, const uint8_t id[TOKEN_ID_BYTES], const char *name);
void usages_leave(struct usages *u, struct usage *r);    /* he is gone, with all his streams */
struct roster *usages_all(struct usages *u);     /* of usage.place */

#endif
