/* A TCP connection: what goes on between two ends. Each direction is a lane: bytes that were written, sent, that
   arrived and were read, in that order, in one ring. It delays packets, cuts them, sends them again when nothing
   answers, and knows FIN and RST; what those mean to an end is kernel_tcp.c's. */
#ifndef WORLD_KERNEL_CONNECTION_H
#define WORLD_KERNEL_CONNECTION_H

#include "kernel_network.h"
#include "kernel_ring.h"

enum { FLIGHTS_MAX = 8 };

struct flight {                    /* a packet on its way */
  uint64_t end;                    /* the position behind its bytes */
  uint64_t at_ns;
  bool fin, reset;
};

struct lane {
  struct connection *c;
  int from;                        /* which end sends here */
  struct ring ring;                /* read: ring.from; written: ring.to */
  uint64_t sent, arrived, acked;
  size_t send_max, receive_max;    /* bytes that lie on either side */
  bool fin, fin_sent, fin_arrived, fin_acked;
  bool breaks_off;                 /* a reset goes out together with a FIN */
  bool closed;                     /* nothing more is sent */
  struct flight flights[FLIGHTS_MAX];
  unsigned first, flights_n;
  struct world_event arrival, ack;
  uint64_t last_at_ns;             /* when the last one arrives: they keep their order */
  uint64_t sent_at_ns;             /* when something was sent last, also again */
  unsigned backoff;                /* how often it was sent again without an answer */
};

enum handshake { SYN_GOES, SYN_ACK_GOES, ACK_GOES, REFUSAL_GOES, HANDSHAKE_DONE };

struct connection {
  struct list of_all;
  uint64_t id;
  struct host *host[2];            /* [1]: NULL if there is none of that address */
  struct tcp *end[2];              /* 0 has connected; NULL: gone */
  bool vanished[2];                /* gone without a word, with its host */
  bool stalled;                    /* nothing passes any more */
  uint16_t port;                   /* that was dialled, at that address */
  uint32_t ip;
  enum handshake handshake;
  struct world_event event;        /* the handshake's next packet, or that it is sent again */
  unsigned tries;
  struct lane lane[2];
  unsigned held;                   /* not to be freed yet */
};

void connections_begin(void);      /* of a run: there are none */
struct connection *connection_new(struct tcp *from, struct host *from_host, struct host *to_host, uint32_t ip,
                                  uint16_t port);
void connection_hold(struct connection *c);
void connection_release(struct connection *c);       /* and frees it if nobody has it any more */
void connection_leave(struct connection *c, int side);         /* that end is no more */
bool connection_passes(const struct connection *c);
void connection_begin(struct connection *c);         /* the handshake */

size_t lane_unread(const struct lane *l);            /* arrived, not read yet */
size_t lane_unacked(const struct lane *l);           /* with what was not sent yet; a FIN is one */
size_t lane_room(const struct lane *l);
void lane_push(struct lane *l);                      /* sends what there is and fits */
void lane_reset(struct lane *l);                     /* a RST goes out, behind what was sent already; nothing more */
void lane_stop(struct lane *l);                      /* nothing more goes, and nothing arrives */
bool lane_waits_for_window(const struct lane *l);
bool lane_is_busy(const struct lane *l);             /* something is on its way, or its acknowledgement */
uint64_t lane_rto_ns(unsigned backoff);

#endif
