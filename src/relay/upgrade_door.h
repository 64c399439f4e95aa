/* The Unix socket in a relay's state folder at which an upgrade is asked for (`adit relay upgrade`): its user and root
   alone can reach it. One packet asks, one answers. */
#ifndef RELAY_UPGRADE_DOOR_H
#define RELAY_UPGRADE_DOOR_H

#include "base/err.h"
#include "base/limits.h"

#define UPGRADE_DOOR_NAME "upgrade.sock"

/* The relay's side. The folder's claim is ours: a file that is there is a leftover. */
int upgrade_door_open(const char *state_dir, struct err *e) MUST_USE;   /* a listening descriptor */
void upgrade_door_remove(const char *state_dir);
/* The request that has come, for the first who reads it: the program that was named, or empty. ERR_SYNTAX. */
int upgrade_door_read(int fd, char program[STARTER_PATH_MAX_BYTES + 1]) MUST_USE;
void upgrade_door_answer(int fd, const char *error);     /* NULL: it is done. -1 is fine */

/* The other side: asks, and waits until the new program serves. program: absolute, or NULL. */
int upgrade_door_ask(const char *state_dir, const char *program, struct err *e) MUST_USE;

#endif
