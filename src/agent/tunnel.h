/* One app port with its public address. Made by the host's thread, then the loop thread's until it is gone. */
#ifndef AGENT_TUNNEL_H
#define AGENT_TUNNEL_H

#include "agent/app.h"
#include "agent/client.h"
#include "agent/keep.h"
#include "agent/stream.h"
#include "base/seldom.h"

enum { TUNNEL_MAGIC = 0x74756e6e };

enum tunnel_state {
  TUNNEL_UNBOUND,                  /* to be bound as soon as there is a link */
  TUNNEL_BINDING,                  /* asked */
  TUNNEL_OPEN,
  TUNNEL_ENDED                     /* for good; streams may go on */
};

/* What the host has been shown of it, in the order in which it goes: a link that is lost changes none of it. */
enum tunnel_shown { SHOWN_OPENING, SHOWN_OPEN, SHOWN_ENDED, SHOWN_GONE };
enum tunnel_finish { FINISH_UNASKED, FINISH_ASKED, FINISH_DONE };   /* tunnel_finish; done: the last stream has ended */

/* In the order in which it goes; from the second on nobody new comes in. */
enum tunnel_exit {
  TUNNEL_STAYS,
  TUNNEL_FINISHES,                 /* and stays when its last stream has ended, until tunnel_close */
  TUNNEL_CLOSES,
  TUNNEL_LEAVES                    /* is gone at the end of this turn */
};

/* Immutable; replaced as a whole when the relay gives another, and kept, because the host may hold its strings. */
struct tunnel_address {
  struct tunnel_address *older;
  char url[HOST_NAME_MAX_CHARS + 24];
  char host[HOST_NAME_MAX_CHARS + 1];
  char tcp_host[HOST_NAME_MAX_CHARS + 1];
  uint16_t port, tcp_port;
};

struct tunnel_request {            /* what the host asked for, checked */
  struct dial_address app;          /* a Unix socket's path is absolute */
  char *app_file;                  /* and this is it by its folder's real path, to tell two apart; NULL: none */
  char name[TUNNEL_NAME_MAX_BYTES + 1];  /* for people; may be empty */
  uint64_t app_wait_ms;            /* how long a visitor waits for an app that has never been there */
  int64_t retry_ms;                /* so long it may take to open; negative: as long as it takes; 0: the host decides */
  uint32_t flags;                  /* enum tunnel_flags */
  bool proxy_protocol;
  uint8_t alpn[ALPN_LIST_MAX_BYTES];
  size_t alpn_n;
  struct cidr allow[ALLOW_CIDRS_MAX], deny[ALLOW_CIDRS_MAX];
  size_t allow_n, deny_n;
  char *keep_file;
};

struct adit_tunnel {
  unsigned magic;
  struct adit_client *client;
  struct tunnel_request request;
  char app_text[DIAL_ADDRESS_TEXT_CHARS];
  uint32_t id;                     /* of its BIND; 0: the next has a new one */
  _Atomic(struct tunnel_address *) address;
  _Atomic uint64_t app_failures;

  struct loop_msg attach_msg, finish_msg, close_msg;   /* from the host's thread to the loop's */
  uint64_t close_drain_ms;

  /* Under client->lock. */
  struct list handle;
  enum tunnel_shown shown;
  unsigned troubles_before;        /* of the client's: they are not this tunnel's */
  enum tunnel_finish finish;
  struct trouble end;
  const char *end_reason;          /* one word; NULL while it has not ended, and when the host closed it */

  struct list node;
  enum tunnel_state state;
  struct streams streams;
  struct keep keep;
  uint64_t ticket_refused_ms;
  size_t addresses_n;
  bool told;                       /* the host was told the address */
  bool sealed_instead;             /* of plain, which was asked for */
  struct app app;
  struct seldom notice_warned;
  struct loop_timer retry, drain;
  struct loop_timer opening;       /* of retry_ms */
  struct loop_deferred defer;
  enum tunnel_exit exit;
};

/* Host's thread (tunnel_host.c). tunnel_new takes the request's strings, also when it fails. */
void tunnel_request_free(struct tunnel_request *request);
int tunnel_new(struct adit_client *c, struct tunnel_request *request, struct adit_tunnel **out, struct err *e) MUST_USE;
void tunnel_free(struct adit_tunnel *t);

/* Puts it among the client's handles, ERR_CONFLICT when its app is forwarded already, and hands it to the loop
   thread. */
int tunnel_publish(struct adit_tunnel *t, struct err *e) MUST_USE;
/* Lets no new visitor in and waits until the last has left: 0, or ERR_TIMEOUT. May be called again; tunnel_close
   follows. */
int tunnel_finish(struct adit_tunnel *t, const struct timespec *deadline) MUST_USE;
/* Waits until it is gone, then frees it. */
void tunnel_close(struct adit_tunnel *t, uint64_t drain_ms);

/* Loop thread. */

/* What tunnels report to their client. */
struct tunnel_handlers {
  void (*comes)(struct adit_tunnel *t);                    /* it has been published: attach it, connect, bind */
  void (*open)(struct adit_client *c);                     /* visitors can reach one of them, once more maybe */
  void (*gone)(struct adit_client *c);                     /* one of them, whose memory is the host's thread's now */
};
void tunnel_attach(struct adit_tunnel *t);                 /* joins its client's tunnels */
void tunnel_detach_link(struct adit_tunnel *t);            /* the link is gone */
void tunnel_fail(struct adit_tunnel *t, int code, const char *reason, const char *text);   /* final */
void tunnel_finish_begin(struct adit_tunnel *t);           /* TUNNEL_FINISHES */
void tunnel_close_begin(struct adit_tunnel *t, uint64_t drain_ms);   /* TUNNEL_CLOSES */
bool tunnel_is_closing(const struct adit_tunnel *t);       /* nobody new comes in */
bool tunnel_wants_bind(const struct adit_tunnel *t);
bool tunnel_retries(const struct adit_tunnel *t);          /* never open so far, and its host wants it to try on */
/* Asks for it, or, when the link has no room, stays unbound until that asks. */
void tunnel_bind(struct adit_tunnel *t, struct link *l);
void tunnel_bound(struct adit_tunnel *t, const struct frame_bound *f);
void tunnel_unbound(struct adit_tunnel *t, enum refusal reason, const char *came);
void tunnel_ticket(struct adit_tunnel *t, const uint8_t *ticket, size_t n);
/* The relay has refused visitors. */
void tunnel_noticed(struct adit_tunnel *t, uint16_t reason, uint32_t count);
struct adit_tunnel *tunnel_find(struct adit_client *c, uint32_t id);
void tunnel_stream_ended(struct streams *s);               /* of struct streams */

/* To another program and back, without its streams (tunnel_move.c): what its host has been told, and what its relay
   knows of it. */
enum { TUNNEL_EXPORT_MAX_BYTES = 8192 };
void tunnel_export(const struct adit_tunnel *t, struct writer *w);
/* Into one that was attached. ERR_SYNTAX, ERR_NOMEM. */
int tunnel_import(struct adit_tunnel *t, struct reader *r) MUST_USE;
struct tunnel_address *tunnel_address_new(const struct frame_bound *f) MUST_USE;       /* NULL: out of memory */
/* Its timers, for so long; 0: at once. */
int tunnel_retry_in(struct adit_tunnel *t, uint64_t ms) MUST_USE;
int tunnel_open_within(struct adit_tunnel *t, uint64_t ms) MUST_USE;

#endif
