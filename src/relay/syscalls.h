/* The system calls of a serving relay. */
#ifndef RELAY_SYSCALLS_H
#define RELAY_SYSCALLS_H

#include "base/base.h"

/* Bounds this process, its threads included, for good. The text says what holds, or why it does not. no_new_privs must
   be set. */
void syscalls_restrict(char *text, size_t cap);

#endif
