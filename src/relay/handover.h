/* The words of an upgrade besides what is moved (relay/carrier.h has the frames, docs/upgrade.md the whole):

     new                          old
     HELLO formats, build  ->
                           <-     WELCOME format, what the relay is; the claim on its state folder
                           <-     LISTENER role, address; one for each listening socket
                           <-     GIVEN
     READY                 ->                                     REFUSED why: at any time until then
                           <-     COMMIT                          from here on the old one gives out nothing any more
                           <-     LINK, WARM, RAW, VISITOR        each for itself; all of a kind before the next
     TAKEN, for each       ->
                           <-     TOTALS                          what was counted
                           <-     SERVE
     TAKEN                 ->                                     the doors are open
                           <-     STREAM, and whatever of all these gets ready only now
     TAKEN, for each       ->
                           <-     TOTALS                          what was counted since
                           <-     END                             the old one has nothing left */
#ifndef RELAY_HANDOVER_H
#define RELAY_HANDOVER_H

#include "base/addr.h"
#include "base/cursor.h"
#include "relay/formats.h"

enum { HANDOVER_BUILD_MAX_CHARS = 64 };

struct handover_hello {
  struct formats formats;
  uint32_t pid;
  char build[HANDOVER_BUILD_MAX_CHARS + 1];      /* for the log */
};
void handover_hello_encode(struct writer *w, const struct handover_hello *h);
int handover_hello_decode(struct reader r, struct handover_hello *h) MUST_USE;
/* In what a relay hands over to who said that: the newest format that both know; 0: there is none. */
uint16_t handover_format(const struct handover_hello *h);

struct handover_welcome {
  uint16_t format;
  uint64_t instance;
  uint64_t started_ms;             /* CLOCK_MONOTONIC */
};
void handover_welcome_encode(struct writer *w, const struct handover_welcome *h);
int handover_welcome_decode(struct reader r, struct handover_welcome *h) MUST_USE;

struct handover_commit {
  uint64_t serial;                 /* the last that a tunnel was given */
};
void handover_commit_encode(struct writer *w, const struct handover_commit *c);
int handover_commit_decode(struct reader r, struct handover_commit *c) MUST_USE;

struct handover_taken {
  uint16_t kind;
  bool lost;                       /* it could not be, and was closed */
};
void handover_taken_encode(struct writer *w, const struct handover_taken *t);
int handover_taken_decode(struct reader r, struct handover_taken *t) MUST_USE;

enum handover_role { ROLE_PUBLIC = 1, ROLE_REDIRECT, ROLE_AGENTS, ROLE_ADMIN, ROLE_UPGRADE_DOOR, ROLES };
struct handover_listener {
  enum handover_role role;
  struct addr at;                  /* AF_UNSPEC for the upgrade door */
};
void handover_listener_encode(struct writer *w, const struct handover_listener *l);
int handover_listener_decode(struct reader r, struct handover_listener *l) MUST_USE;

#endif
