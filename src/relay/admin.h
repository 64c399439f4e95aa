/* The admin port: /healthz, /metrics, /status by libevent's evhttp in a thread of its own. */
#ifndef RELAY_ADMIN_H
#define RELAY_ADMIN_H

#include "base/addr.h"
#include "relay/metrics.h"

enum { STATUS_BATCH_MAX = 64 };

/* What there is to tell. Called in the admin's thread, and each is cheap: whoever asks must not hold up the relay. */
struct admin_source {
  void *user;
  bool (*draining)(void *user);
  void (*numbers)(void *user, struct status *s);
  /* All tunnels, then all tokens, then those narrowed from them, a batch at a time: NULL when out of memory; 0 at the
     end. */
  void *(*walk_begin)(void *user);
  size_t (*walk_next)(void *user, void *walk, struct status_tunnel out[STATUS_BATCH_MAX]);
  size_t (*walk_tokens)(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]);
  size_t (*walk_narrowed)(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]);
  void (*walk_end)(void *user, void *walk);
  void (*shortage)(void *user, int error);       /* a listener for shortage_listen */
};

struct admin;
/* A socket that listens; ERR_CONFLICT: somebody else has the address. */
int admin_listen(const struct addr *listen, struct err *e) MUST_USE;
/* Takes fd, which listens there, also one of a relay that was here before us. */
int admin_start(int fd, const struct addr *listen, const struct admin_source *source, struct admin **out,
                struct err *e) MUST_USE;
/* At a Unix socket that listens, which is taken, for programs of this user in our namespaces (relay/shared.h). */
int admin_start_private(int fd, const struct admin_source *source, struct admin **out, struct err *e) MUST_USE;
uint16_t admin_port(const struct admin *a);       /* the one that it listens on, also when 0 was asked for; 0: a
                                                    Unix socket */
int admin_descriptor(const struct admin *a);     /* that it listens at */
void admin_stop(struct admin *a);                /* waits for its thread; NULL is fine */
/* Whoever comes from now on is a successor's, which has the same socket; who has come in is told the numbers of now.
   From any thread, before one of those above is called; waits until it is so; NULL is fine. */
void admin_close_door(struct admin *a);
void admin_leave(struct admin *a);               /* likewise, and who has come in has ADMIN_LEAVE_MS for an answer */

#endif
