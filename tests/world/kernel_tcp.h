/* TCP sockets: states, errors, what poll says, as net/ipv4/tcp.c has it. */
#ifndef WORLD_KERNEL_TCP_H
#define WORLD_KERNEL_TCP_H

#include "kernel_connection.h"
#include "kernel_socket.h"

enum tcp_state {
  TCP_FRESH,                       /* neither listening nor connected */
  TCP_LISTENS,
  TCP_CONNECTS,
  TCP_STANDS,                      /* with what has ended in either direction */
  TCP_OVER                         /* reset, timed out, refused; or both ends have come, and ours was acknowledged */
};

struct tcp {
  struct socket socket;
  struct host *host;
  uint32_t ip, peer_ip;
  uint16_t port, peer_port;
  enum tcp_state state;
  struct list of_port;
  bool shut_read, shut_write;      /* by shutdown, or both by an error */
  bool told;                       /* that it stands, by connect */
  bool wants_room;                 /* was told that there is none, by poll or by a send */
  bool orphan;                     /* no descriptor leads here any more */

  struct connection *c;
  int side;
  uint64_t heard_ns;               /* when a packet of the peer's came last */
  unsigned probes;                 /* that were sent since, to a peer without a window, or one that was idle */
  struct world_event event;        /* probing; or accepting one that has not spoken */

  struct list waiting, young;      /* of a listener: connections to accept; those that may not be yet */
  unsigned waiting_n, backlog;
  struct list of_listener;
  struct tcp *listener;            /* whose it is until it is accepted */
  bool queued;
};

struct socket *tcp_new(struct host *h);

/* From the connection. Each of the first four may end the socket. */
void tcp_was_reset(struct tcp *t);
void tcp_failed(struct tcp *t, int error);
void tcp_timed_out(struct tcp *t);
void tcp_arrived(struct tcp *t, bool fin);
void tcp_acknowledged(struct tcp *t);
bool tcp_refuses(struct tcp *t, bool data);          /* a packet: then that is over, too */
bool tcp_is_over(const struct tcp *t);
enum syn_answer { SYN_TAKEN, SYN_REFUSED, SYN_DROPPED };
enum syn_answer tcp_syn(struct connection *c);       /* makes the other end */
void tcp_connected(struct tcp *t);
void tcp_established(struct tcp *t);                 /* the other end of one that has connected */

/* From the network. */
void tcp_watch(struct tcp *t);     /* nothing passes: it will notice */
void tcp_vanish(struct tcp *t);    /* with its host */

#endif
