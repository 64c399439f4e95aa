/* Who may have how many of the relay's descriptors, so that nobody takes them all. Thread-safe, without locks.

   An owner may have at most SHARE_OF_FREE times as many as are free. Alone it gets two thirds of all, two get two
   fifths each, and so on: something is always left for whoever comes next, and nothing has to be taken from anybody.
   The last part, one in SHARE_RESERVE_PART, is for control links, raw ports and data connections: they are few, and
   without them no visitor can be served. What the admin port, strangers, pipes and lingering sockets may have is not
   in it at all. */
#ifndef RELAY_SHARES_H
#define RELAY_SHARES_H

#include "base/base.h"
#include "wire/frame.h"
#include "wire/token.h"

struct shares {
  uint64_t total;                  /* constant once the workers run */
  uint64_t used;                   /* atomic */
};

/* How the descriptors that a relay has left at its start are divided. */
struct division {
  uint64_t owners;                 /* the total of its shares */
  unsigned strangers, pipes, lingers;            /* of each worker; a pipe has two descriptors */
};
struct division shares_divide(uint64_t descriptors, unsigned workers);

struct account {                   /* of an owner; all zero but the first two, which are constant; atomic */
  struct account *parent;          /* of whom its token was narrowed from: all visitors count for that, too. NULL:
                                      none */
  struct token_limits limits;
  uint64_t descriptors;            /* of one without a parent; whoever has one takes that one's */
  uint64_t visitors;               /* from the ClientHello, or the connection to a raw port, to the stream's end */
  uint64_t visitors_until_us;      /* until when it has used up its visitors per second */
};

/* Descriptors for control links, raw ports and data connections. */
bool share_take(struct shares *s, struct account *a, unsigned descriptors) MUST_USE;
void share_give(struct shares *s, struct account *a, unsigned descriptors);
/* For a visitor and its data connection. NOTICE_NONE, or why it may not come in. */
enum notice share_take_visitor(struct shares *s, struct account *a, uint64_t now_us) MUST_USE;
void share_give_visitor(struct shares *s, struct account *a);
/* The same for what was let in by another process: it is counted, and not asked again. */
void share_count(struct shares *s, struct account *a, unsigned descriptors);
void share_count_visitor(struct shares *s, struct account *a);

#endif
