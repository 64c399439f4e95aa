/* An agent: one thread, one loop, one link to one relay, and the tunnels that it serves. Its own file keeps the phases
   (choosing a relay, linked, waiting to retry, closing); race, link, tunnel and stream do the rest and report here.

   Fields are the loop thread's alone unless said otherwise. */
#ifndef AGENT_CLIENT_H
#define AGENT_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "adit.h"
#include "agent/backoff.h"
#include "agent/bell.h"
#include "agent/descriptors.h"
#include "agent/events.h"
#include "agent/setup.h"
#include "agent/spares.h"
#include "base/list.h"
#include "base/seldom.h"
#include "loop/loop.h"
#include "pump/pump.h"
#include "tls/tls_conn.h"
#include "wire/frame.h"

enum { CLIENT_MAGIC = 0x61646974 };

struct race;
struct link;
struct embedded;
struct tunnel_handlers;

/* Between two programs (agent/move.h). */
enum move_state {
  MOVE_NONE,
  MOVE_ASKED,                      /* of the loop's thread: out, or in */
  MOVE_PARKED,                     /* all is out, or was only looked at: the loop's thread does nothing */
  MOVE_BACK,                       /* it takes all in again */
  MOVE_FAILED                      /* see err */
};
struct client_move {
  enum move_state state;           /* under client->lock, as is err */
  struct err err;
  struct loop_msg msg;
  struct loop_timer look;
  uint64_t until_ms;
  struct list *parcels;            /* the host's, which waits, or of a parked client leaves it alone */
  bool dry;
};

struct trouble {                   /* why there is no tunnel yet, in the words of adit.h */
  int code;                        /* enum adit_errno; 0: none */
  char text[ERR_TEXT_MAX];
};

struct adit_client {
  unsigned magic;
  uint64_t process;                /* fork_gate_process(), which serves it; a forked child only closes its copies */
  struct descriptors descriptors;

  struct setup setup;              /* immutable once the thread runs; an embedded relay adds its token first */
  struct loop *loop;
  struct pump_pool *pool;
  struct tls_client *tls;
  struct tls_client *proxy_tls;    /* this machine's authorities, for an https:// proxy; made when needed */
  pthread_t thread;
  struct events events;
  struct bell bell;                /* by which the host's threads call it */
  struct loop_io bell_io;
  char **environment;              /* of the time when the client was made, for an embedded relay; NULL: it has none */

  pthread_mutex_t lock;            /* guards what follows, and what tunnel.h says */
  pthread_cond_t changed;
  struct list handles;             /* of adit_tunnel.handle: every tunnel that the host has not closed */
  int started;                     /* 0: the thread is still starting; 1: it runs; negative: it failed, see start_err */
  struct err start_err;
  struct trouble trouble;
  unsigned troubles;               /* how many there have been: whoever asks wants to hear of none older than itself */
  _Atomic(char *) relay_name, ca_path, relay_socket;   /* set once */

  struct list tunnels;             /* of adit_tunnel.node */
  const struct tunnel_handlers *on_tunnel;
  struct list revokes;             /* struct revoke (agent/revoke.h): changed by the loop's thread, under the lock */
  void (*on_revoke)(struct adit_client *c);      /* one has come */
  uint32_t last_bind_id;
  size_t app_waiting_n;            /* visitors of all tunnels that wait for their apps */
  struct relay_choice *choices;
  size_t choices_n;
  char home[HOST_NAME_MAX_CHARS + 1];    /* the relay that our addresses belong to; empty: free to choose */
  struct race *race;
  struct link *link;
  struct embedded *embedded;
  struct backoff backoff;
  struct loop_timer retry;
  char warned[ERR_TEXT_MAX];       /* the last connection failure that was told: each is told once in a row */
  bool waiting;                    /* it was told that tunnels will open as soon as a relay can be reached */
  struct seldom shortage;          /* that descriptors have run out */
  unsigned shortages;              /* so often it was found so */
  struct spares spares;            /* one for each data connection, for its app */
  bool interrupted;                /* RECONNECTING was told and RESTORED is due */
  const char *failed;              /* for good, and why, in one word: it was refused, or its embedded relay has ended */
  bool cut_off;                    /* the host has closed the bell: nobody can call us any more, so we look ourselves */
  bool closing, finished;
  struct client_move move;
  struct loop_msg close_msg;
  uint64_t close_drain_ms;
};

/* Takes the setup. */
int client_start(struct setup *setup, struct adit_client **out, struct err *e) MUST_USE;
/* From the host's thread: closes all tunnels, joins, frees. */
void client_close(struct adit_client *c, uint32_t drain_ms);

/* From the host's thread: a message to the client's. */
void client_post(struct adit_client *c, struct loop_msg *m);

struct tls_client *client_tls_for_proxy(struct adit_client *c, struct err *e) MUST_USE;

/* Its phases, for agent/move.c. */
extern const struct link_handlers client_link_handlers;
void client_connect(struct adit_client *c);      /* fine when connected, connecting, or waiting to */
int client_retry_in(struct adit_client *c, uint64_t ms) MUST_USE;

/* What the parts report. */
/* relay_socket: where it takes other agents of this machine, as they name it; empty: nowhere. */
void client_embedded_ready(struct adit_client *c, const char *token, const char *ca_path, const char *relay_socket);
void client_embedded_failed(struct adit_client *c, int code, const struct err *e);   /* code: enum adit_errno */

#endif
