# 29 lines
# found by: OPEN was taken twice
# When something fails as OPEN is written, a raw visitor is handed to another data connection.
/^static int handoff_fresh/i\
struct again {\
  struct ask ask;\
  struct stream_params p;\
  struct loop_io peer_io;\
};\
\
static void again_answered(struct ask *a) {\
  struct again *g = CONTAINER_OF(a, struct again, ask);\
  g->p.data = a->data;\
  g->p.wire_io = &a->io;\
  g->p.peer_io = &g->peer_io;\
  if (a->data.wire.fd >= 0 && stream_hand_off(&g->p) == 0) return;\
  net_reset(g->p.peer_fd);\
  share_give_visitor(&g->p.worker->relay->shares, &g->p.tunnel->owner->account);\
}\
\
static bool again(const struct stream_params *p) {\
  struct again *g = p->conn == NULL && p->taken == NULL ? calloc(1, sizeof *g) : NULL;\
  if (g == NULL) return false;\
  g->p = *p;\
  (void)tunnel_ref(p->tunnel);\
  share_count_visitor(&p->worker->relay->shares, &p->tunnel->owner->account);\
  warm_ask(&g->ask, p->worker, p->tunnel, again_answered);\
  return true;\
}\

/^  loop_io_del(p->peer_io);$/,/^  net_reset(p->peer_fd);$/s/net_reset(p->peer_fd);/if (!again(p)) net_reset(p->peer_fd);/
/^#include "relay\/visitor.h"/a\
#include "relay/warm.h"
