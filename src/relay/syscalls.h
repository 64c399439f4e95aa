/* The system calls of a serving relay. */
#ifndef RELAY_SYSCALLS_H
#define RELAY_SYSCALLS_H

#include "base/base.h"

enum syscalls_kind { SYSCALLS_OF_RELAY, SYSCALLS_OF_KEYS };   /* the latter: no sockets are made, and nobody is met */
/* Bounds this process, its threads included, for good. The text says what holds, or why it does not. no_new_privs must
   be set. */
void syscalls_restrict(enum syscalls_kind kind, char *text, size_t cap);

#endif
