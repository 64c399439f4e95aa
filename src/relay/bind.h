/* BIND: from a request on a control link to a tunnel that visitors can reach, and back. The steps that may take time
   (the port's lease in the state, its listener on another worker) are messages; the answer BOUND goes out after the
   last. */
#ifndef RELAY_BIND_H
#define RELAY_BIND_H

#include "relay/link.h"

struct bound {                     /* one tunnel of a link; in link->bound */
  struct list node;
  struct link *link;
  struct tunnel *tunnel;           /* one reference */
  bool announced;                  /* BOUND was sent */
  bool gone;                       /* closed, or moved, while a step was under way */
  bool moved;                      /* to another process, where a port that it has stays its */
  struct job *job;                 /* asks the keeper for a port */
  bool leased;                     /* it has one, of which it has to be told when it is not needed any more */
  bool port_is_new;                /* another may be tried when this one cannot be listened on */
  unsigned steps;                  /* messages under way: this memory stays until they are back */
  unsigned tries;
  uint64_t renewed_ms;             /* when its ticket was last renewed */
  uint64_t told_ms;                /* when its agent was last told of refused visitors */
};

void bind_request(struct link *l, const struct frame_bind *f);
void bind_close(struct link *l, uint32_t id);    /* UNBIND; answers UNBOUND */
void bind_close_all(struct link *l);
/* New tickets for all that got none since l->renewed_ms. False: the link does not take them all now. */
bool bind_renew(struct link *l);
/* Once a second: tells the agent of visitors that were refused, and of each tunnel at most once in NOTICE_EVERY_MS. */
void bind_tell_refused(struct link *l, uint64_t now_ms);


/* The tunnel of a link that its agent has asked for, or of one that comes from another process: nothing but its link
   is set. NULL when out of memory. */
struct tunnel *bind_tunnel_new(struct link *l) MUST_USE;
/* Its link has gone to another process, with its tunnels (relay/bound_move.h). Their names stay good here for visitors
   who are amid their handshakes, until the registry goes. */
void bind_let_go(struct link *l);
/* One that came with its link, which is up: it is given its place, and its agent is told if that is taken. The link may
   end at that. */
void bind_resume(struct bound *b);

#endif
