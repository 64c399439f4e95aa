/* Where the embedded relay stands that all programs of a user share while any of them lives: a socket in his state
   folder, whose name says for whom it is. Those share who run the same version as the same user in the same namespaces
   (of mounts, network, processes and users) of the same boot; who differs in one of these looks for another name, and
   is refused at this one. */
#ifndef RELAY_SHARED_H
#define RELAY_SHARED_H

#include "base/addr.h"

enum { SHARED_KEY_CHARS = 16 };

struct shared {
  char key[SHARED_KEY_CHARS + 1];
  int folder_fd, listen_fd;        /* -1: none */
  dev_t dev;                       /* the socket's file: by the end there may be another's */
  ino_t ino;
};

enum shared_role {
  SHARED_APART,                    /* sharing is not possible here: a relay of its own, as a child of who started it */
  SHARED_FIRST,                    /* there was none: this process, which is a daemon now, is the relay */
  SHARED_HANDED                    /* a relay holds it, or a daemon that will be one: nothing is left to do */
};

/* Hands fd to the relay that is there, or becomes it. dir is the state folder; no threads may run yet. */
enum shared_role shared_join(const char *dir, int fd, struct shared *s) MUST_USE;
/* Nobody finds us any more; whoever has come and was not heard starts another, which has our port unless it is for
   good. */
void shared_leave(struct shared *s, bool for_good);

/* The port of a relay that died, which its programs hope to find again; 0: it is not known. */
uint16_t shared_port(const struct shared *s);
void shared_remember_port(const struct shared *s, uint16_t port);

/* Whether who connected to us is one of those who share. */
bool shared_admits(int connection);
/* What he hands over: a descriptor, or -1 (and errno EAGAIN: not yet). */
int shared_receive(int connection) MUST_USE;
/* Says that it is held; false: he has given up waiting, and it is to be closed. */
bool shared_accept(int connection) MUST_USE;

#endif
