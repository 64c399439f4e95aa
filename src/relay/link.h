/* A control link: one agent's TLS connection, its frames, its tunnels, and its pool of warm data connections. */
#ifndef RELAY_LINK_H
#define RELAY_LINK_H

#include "base/window.h"
#include "link/engine.h"
#include "relay/handshake.h"
#include "relay/owner_move.h"
#include "relay/registry.h"
#include "relay/worker.h"

struct warm_pool {                 /* relay/warm.c */
  struct list idle;                /* struct warm: data connections, the most recently proven first */
  struct list waiting;             /* struct ask */
  size_t idle_n, waiting_n;
  bool arrived;                    /* one has, and the agent was told */
  unsigned target;                 /* how many to keep */
  unsigned hints;                  /* handshakes going on that will want one */
  unsigned asked;                  /* asked of the agent and not arrived */
  uint64_t asked_ms, hinted_ms, grown_ms;
};

struct link;
/* What is above a link, and is told by it. Either may end it, and neither frees it. */
struct link_handlers {
  const struct engine_role *role;  /* what is done for frames */
  void (*every_second)(struct link *l, uint64_t now_ms);  /* while it is up */
  void (*down)(struct link *l);    /* it was up, and is down now */
};

struct link {
  unsigned magic;
  const struct link_handlers *handlers;
  struct worker *worker;
  struct list node;
  unsigned refs;                   /* of jobs under way; this worker's thread only */
  struct handshake handshake;
  struct engine engine;            /* whose state is the link's */
  struct loop_io io;
  struct loop_timer tick;
  struct loop_msg rest_msg;        /* to ourselves, for the next turn */
  bool rest;                       /* it is on its way: frames or records are left, and until then nothing is read */
  bool held;                       /* it came up while this relay hands over: it speaks and hears where it goes to */
  struct loop_deferred deferred;
  int fd;
  struct addr peer;
  struct owner *owner;
  char software[AGENT_SOFTWARE_MAX_CHARS + 1];
  struct list bound;               /* struct bound (relay/bind.h) */
  struct window bind_ids;          /* those that no BIND may have any more */
  size_t bound_n;                  /* with those that are closed and still have a step under way */
  struct list revokes;             /* struct revoke (relay/revoke.h) */
  size_t revokes_n;
  struct warm_pool warm;
  struct newcomer newcomer;        /* until it has proven who it is */
  uint64_t hello_by_ms;            /* whatever comes meanwhile */
  uint64_t renewed_ms;
  bool in_turn;                    /* frames are collected and leave together at the end of the handler */
};

/* Takes fd and the newcomer, who was served. */
void link_accept(struct worker *w, int fd, const struct addr *peer, struct newcomer *newcomer,
                 const struct client_hello *hello, const struct link_handlers *handlers);
/* It has proven who it is (l->owner), and has its keys: up, and from now on before newcomers, at its owner's cost.
   ERR_NOMEM, or ERR_LIMIT: its owner has too many. */
int link_enter(struct link *l) MUST_USE;
struct link *link_find(struct worker *w, const uint8_t id[LINK_ID_BYTES]);
void link_send(struct link *l, const struct writer *w); /* whole frames; may end the link */
void link_end(struct link *l, enum refusal why);  /* GOODBYE, then down */
void link_end_saying(struct link *l, enum refusal why, const char *text);
void link_down(struct link *l);                  /* without a word */
void link_end_owners(struct worker *w); /* those that have ended */
void link_end_all(struct worker *w, enum refusal why);
void links_go_on(struct worker *w);              /* those that were held go on here */
struct link *link_ref(struct link *l);
void link_unref(struct link *l);

/* The link's part of what relay/control.h takes to another process: all but its engine and what is bound. */
enum { LINK_EXPORT_MAX_BYTES = OWNER_EXPORT_MAX_BYTES + AGENT_SOFTWARE_MAX_CHARS + WINDOW_BYTES + 128 };
void link_write(const struct link *l, struct writer *w);
/* A link that nobody knows yet: link_resume gives it its place, or link_discard frees it, and leaves fd alone.
   ERR_SYNTAX, ERR_NOMEM. */
int link_read(struct worker *w, int fd, const struct link_handlers *handlers, struct reader *r,
              struct link **out) MUST_USE;
void link_discard(struct link *l);
/* With its engine, which is up. On failure it has no place. What was heard there is worked on in the next turn. */
int link_resume(struct link *l) MUST_USE;
/* Its engine was exported: it leaves all places here, with descriptor and all that is said of it. */
void link_let_go(struct link *l);

#endif
