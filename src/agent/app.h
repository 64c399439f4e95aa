/* The app behind a tunnel: where it is, which may have to be looked up; whether it has ever been there; and the calls
   to it, one for each visitor who is not connected to it yet. The loop thread's. */
#ifndef AGENT_APP_H
#define AGENT_APP_H

#include "agent/resolve.h"
#include "base/dial_address.h"
#include "base/list.h"
#include "base/seldom.h"

struct adit_tunnel;

struct app {
  bool by_name;                    /* its host is to be looked up, again and again */
  struct addr addrs[RESOLVED_MAX];
  size_t addrs_n;                  /* 0: not known, or no longer believed */
  uint64_t looked_up_ms;
  struct resolve *lookup;
  struct list calls;               /* of app_call.node */
  size_t waiting_n;                /* of them, that have a place among those who wait */
  struct loop_timer retry;         /* until one of those looks for it */
  struct err trouble;              /* why they wait */
  bool reached;                    /* at least once: since then a refusal is a failure */
  bool awaited;                    /* the host was told that visitors wait for it */
  struct seldom warned;
};

struct app_call;
/* fd >= 0: connected, the callee's; was_reset: and reset since, with what had been sent before left to read. -1: the
   app cannot be reached, of which the host was told, or the visitor has left. The call has ended. */
typedef void app_call_fn(struct app_call *call, int fd, bool was_reset);
enum app_call_state { APP_CALL_ENDED, APP_CALL_LOOKUP, APP_CALL_DIAL, APP_CALL_WAIT };
struct app_call {                  /* embedded in its owner; zero-initialise; all fields private */
  enum app_call_state state;
  struct list node;
  struct adit_tunnel *tunnel;
  app_call_fn *fn;
  int visitor_fd;
  uint32_t leaves_by;              /* events of visitor_fd, besides errors, that tell that the visitor has left */
  bool has_place;                  /* among those who wait for an app that has never been there: there is a limit */
  uint64_t began_ms;
  struct dial *dial;
  struct loop_timer timer;         /* APP_CALL_LOOKUP, APP_CALL_WAIT: how long */
  struct loop_io io;               /* of visitor_fd, who may leave while it waits */
};

void app_init(struct adit_tunnel *t);      /* from the host's thread */
void app_look_up(struct adit_tunnel *t);   /* ahead of the first visitor, if it must be */
void app_close(struct adit_tunnel *t);     /* all calls have ended */

/* fn may be called at once. An app that has never been there is waited for, as long as the tunnel's request says, from
   began_ms on. leaves_by: EPOLLRDHUP where the visitor's end of TCP can be no half-close, or 0. */
void app_call(struct adit_tunnel *t, struct app_call *call, int visitor_fd, uint32_t leaves_by, uint64_t began_ms,
              app_call_fn *fn);
bool app_call_is_amid(const struct app_call *call);        /* the app may know of it already */
void app_call_end(struct app_call *call);  /* fn will not be called; fine when it has ended */

#endif
