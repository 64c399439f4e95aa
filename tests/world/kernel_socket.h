/* What TCP and Unix sockets have in common: kinds, options, an error that is told once. */
#ifndef WORLD_KERNEL_SOCKET_H
#define WORLD_KERNEL_SOCKET_H

#include <sys/socket.h>

#include "kernel.h"

enum { MESSAGE_FILES_MAX = 253 };  /* the kernel's SCM_MAX_FD */

/* What one call sends, or receives. */
struct message {
  const struct iovec *iov;
  int iov_n;
  int flags;                       /* MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC; which of these came about, when received */
  struct file *files[MESSAGE_FILES_MAX];     /* sent: borrowed; received: one reference each */
  unsigned files_n;
  const struct sockaddr *to;       /* NULL: whoever it is connected with */
  socklen_t to_len;
};

/* Values that are kept, and mostly mean nothing here. */
enum socket_number {
  NUMBER_OOBINLINE, NUMBER_KEEPALIVE, NUMBER_REUSEADDR, NUMBER_REUSEPORT, NUMBER_SNDBUF, NUMBER_RCVBUF,
  NUMBER_PASSRIGHTS, NUMBER_NODELAY, NUMBER_KEEPIDLE, NUMBER_KEEPINTVL, NUMBER_KEEPCNT, NUMBER_DEFER_ACCEPT,
  NUMBER_QUICKACK, NUMBERS
};

struct socket {
  struct file file;
  const struct socket_kind *kind;
  int domain, type;
  int error;                       /* positive; 0: none */
  struct waiters *room;            /* of connect's -EAGAIN: woken when it is worth trying again */
  struct linger linger;
  int number[NUMBERS];
};

enum whose_name { NAME_OWN, NAME_PEER, NAME_ACCEPTED /* the peer's, also of one that has gone again */ };

struct socket_kind {
  int (*bind)(struct socket *s, const struct sockaddr *a, socklen_t n);
  int (*listen)(struct socket *s, int backlog);
  int (*connect)(struct socket *s, const struct sockaddr *a, socklen_t n);     /* -EINPROGRESS; -EAGAIN: try again */
  int (*accept)(struct socket *s, struct socket **out);          /* -EAGAIN */
  bool (*may_accept)(struct socket *s);
  int (*shut)(struct socket *s, int how);
  ssize_t (*send)(struct socket *s, struct message *m);
  ssize_t (*receive)(struct socket *s, struct message *m);
  int (*name)(struct socket *s, enum whose_name whose, struct sockaddr_storage *out);      /* its length */
  int (*get)(struct socket *s, int level, int name, void *value, socklen_t *n);
};

struct socket *socket_of(struct file *f);            /* NULL: it is none */
void socket_begin(struct socket *s, const struct socket_kind *kind, const struct file_kind *file_kind, int domain,
                  int type);
int socket_take_error(struct socket *s);             /* negative or 0 */
int socket_set(struct socket *s, int level, int name, const void *value, socklen_t n);
int socket_get(struct socket *s, int level, int name, void *value, socklen_t *n);
ssize_t socket_read(struct file *f, const struct iovec *iov, int n);
ssize_t socket_write(struct file *f, const struct iovec *iov, int n);
int socket_copy_out(const void *from, size_t size, void *value, socklen_t *n);

#endif
