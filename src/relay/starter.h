/* The starter: a tiny process that starts the program that an upgrade hands over to. It is forked first of all, when
   the relay has no thread, no key and no connection, and still has its rights; so the relay itself needs neither
   fork nor exec, and what it starts begins as the relay itself began: arguments, environment, folder, limits and
   open descriptors. It ends with the relay. */
#ifndef RELAY_STARTER_H
#define RELAY_STARTER_H

#include <sys/types.h>

#include "base/err.h"

/* In the new program's environment: the number of its end of the carrier. */
#define STARTER_VARIABLE "ADIT_UPGRADE_FD"

struct starter {
  int fd;                          /* -1: there is none */
  pid_t pid;                       /* a child of the process that began it */
};

/* not_its: a descriptor of ours that it is not to have; -1: there is none. */
int starter_begin(struct starter *s, int not_its, struct err *e) MUST_USE;
/* Starts the program with this end of a carrier, which stays the caller's. `asked` is a connection of the upgrade
   door with a request to be read, or -1: it may name another program, if whoever is at its other end might start
   that anyway. ERR_AUTH, ERR_SYNTAX, ERR_LIMIT with a text. A program that cannot be executed says so through the
   carrier. */
int starter_start(struct starter *s, int carrier, int asked, struct err *e) MUST_USE;
/* Ends what was started; `how` tells how it had ended if it had. */
enum { STARTER_HOW_CAP = 64 };
void starter_kill(struct starter *s, char how[STARTER_HOW_CAP]);
/* Ends; what was started goes on, and by the return has whoever takes orphans for its parent. */
void starter_let_go(struct starter *s);
void starter_end(struct starter *s);             /* the same, but ends what was started */

#endif
