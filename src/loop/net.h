/* Sockets for the loop: thin, non-blocking, CLOEXEC; results are ERR_* or a count. Everything that protocol code does
   to a socket goes through here. */
#ifndef LOOP_NET_H
#define LOOP_NET_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/addr.h"

enum {                                           /* beyond every -errno, which net_connect_result gives, too */
  NET_AGAIN = -10000,                            /* would block */
  NET_RESET = -10001                             /* the connection failed or was reset */
};

/* fd; v6 sockets are v6-only. ERR_CONFLICT: in use; ERR_AUTH: not permitted; ERR_UNSUPPORTED: this machine lacks the
   address or its family; ERR_LIMIT: short of descriptors or memory for now; ERR_IO. */
int net_listen_tcp(const struct addr *a, int backlog, bool reuse_port, struct err *e) MUST_USE;
/* The same, set up as a stream socket before the first can connect, for net_accepted_setup. */
int net_listen_streams(const struct addr *a, int backlog, bool reuse_port, struct err *e) MUST_USE;
/* The first at a Unix socket, which whoever can enter its folder may connect to, or with an abstract name everybody. A
   file without a listener is replaced; ERR_CONFLICT: it has one, or is no socket. No threads may run that make
   files. */
int net_listen_unix(const struct addr *a, int backlog, struct err *e) MUST_USE;
/* Whether nobody can send descriptors to that Unix socket, or to one that it accepts. Else a peer can hold up whoever
   reads, since some take their time when they are closed (a TCP socket that lingers). Linux before 6.16 cannot keep
   them out. */
bool net_takes_no_descriptors(int fd);
void net_take_descriptors(int fd);               /* a Unix listener, before anybody connects: they are what it is for */
int net_share(int fd, struct err *e) MUST_USE;   /* another descriptor of the same socket, or ERR_LIMIT */
void net_unlink_unix(const struct addr *a);      /* its file, if it has one */
void net_unlink_left_over(const struct addr *a); /* the same, if nobody listens there */
int net_listen_port(int fd, uint16_t *port) MUST_USE;
/* For a TCP listener whose peers speak first: their connections are told of when there is something to read, or after a
   second without. So who comes costs one turn instead of two. Meanwhile they take places in the kernel's queue of SYNs,
   which the silent could fill: so it is done only where the kernel takes others by SYN cookies then. */
void net_accept_when_heard(int fd);
/* From now on other sockets of this user that ask for reuse_port may listen on the same address: to reserve it alone
   first. */
int net_listen_share(int fd) MUST_USE;
/* fd, NET_AGAIN, NET_RESET (that connection is gone, try the next), or ERR_LIMIT at EMFILE, ENFILE, ENOMEM, ENOBUFS. A
   peer at a Unix socket has its uid in *peer, and no path. */
int net_accept(int listen_fd, struct addr *peer) MUST_USE;
/* Starts a connection: fd, or ERR_LIMIT at those four; ends with EPOLLOUT and then net_connect_result. One to a Unix
   socket stands at once: NET_AGAIN when too many wait to be accepted there, of whose end no event tells; ERR_CLOSED:
   nobody is there (yet); ERR_AUTH, ERR_UNSUPPORTED, ERR_IO, with texts that say what to do. It knows no reset: its
   other end sees the death of this process as an end. */
int net_connect(const struct addr *a, struct err *e) MUST_USE;
/* To an address of this machine, where nothing is on the way: a connection that stands already; or that has stood, and
   was reset since (as net_connect_result tells it). -1: none; net_connect may tell why. */
int net_connect_at_once(const struct addr *a, bool *was_reset) MUST_USE;
/* 0, NET_AGAIN, or -errno; or NET_RESET: it was connected, and the other end has reset it since. What that had sent
   before can still be read, but the end behind it looks clean: the error has been taken out. */
int net_connect_result(int fd) MUST_USE;

/* A stream socket: TCP_NODELAY, keepalive, urgent data in its place among the rest, and SO_LINGER {1,0}, so that death
   of the process is a reset. Of these a Unix socket has what it knows. 0, or ERR_IO with errno. */
int net_stream_setup(int fd) MUST_USE;
/* The same for one that net_accept has just given, of net_listen_streams or a Unix listener: the former's mostly has
   all that from there, and then this costs nothing. A system call for each option would be a fifth of all that a
   visitor takes. */
int net_accepted_setup(int fd, const struct addr *peer) MUST_USE;
/* Acknowledges what has come, now. The kernel puts that off by 40 ms when it thinks that an answer is about to carry
   it, and a peer without TCP_NODELAY sends nothing more until then: so where one has read, and does not answer. */
void net_acknowledge(int fd);
void net_linger_off(int fd);                     /* only when both directions have ended cleanly */
int net_local(int fd, struct addr *a) MUST_USE;
int net_peer(int fd, struct addr *a) MUST_USE;
int net_socket_error(int fd);                    /* SO_ERROR: 0 or the errno, which it clears */
/* For how many milliseconds data has been sent without any answer; 0 when nothing is unacknowledged. */
uint32_t net_unacked_ms(int fd);
struct tcp_info;
uint32_t net_unacked_ms_of(const struct tcp_info *info);   /* the same, of what the kernel says */
size_t net_unread(int fd);                       /* bytes that came and were not read yet */

/* >0 bytes; 0 end of stream, made sure of (SO_ERROR); NET_AGAIN; NET_RESET. */
ssize_t net_recv(int fd, void *p, size_t n) MUST_USE;
ssize_t net_recv_peek(int fd, void *p, size_t n) MUST_USE;
ssize_t net_readv(int fd, const struct iovec *iov, int n) MUST_USE;
ssize_t net_send(int fd, const void *p, size_t n) MUST_USE;     /* >0, NET_AGAIN, NET_RESET; never SIGPIPE */
ssize_t net_sendv(int fd, const struct iovec *iov, int n) MUST_USE;
/* As above; for in == socket: 0 is a checked end of stream. Unlike net_send it may raise SIGPIPE, for which splice has
   no flag: its thread ignores or blocks that signal. */
ssize_t net_splice(int in, int out, size_t n, bool more) MUST_USE;
int net_pipe(int fds[2]) MUST_USE;
int net_shutdown_write(int fd);
void net_close(int fd);                          /* -1 is fine */
void net_reset(int fd);                          /* SO_LINGER {1,0} and close */

#endif
