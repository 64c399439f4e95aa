/* What the relay's process may do. It takes its user first, so that whatever it reads at its start it can read again
   later; then it binds; then, before its first thread, it gives up everything that serving does not need. Nothing is
   missing in silence: each part says what it is, or why it is not there. */
#ifndef RELAY_RIGHTS_H
#define RELAY_RIGHTS_H

#include "base/err.h"

enum { RIGHTS_TEXT_CAP = 160, RIGHTS_PATHS_MAX = 24 };

struct rights {                    /* words for people, as the start line and /status have them */
  char user[RIGHTS_TEXT_CAP];
  char no_new_privileges[RIGHTS_TEXT_CAP];
  char capabilities[RIGHTS_TEXT_CAP];
  char dumpable[RIGHTS_TEXT_CAP];
  char seccomp[RIGHTS_TEXT_CAP];
  char landlock[RIGHTS_TEXT_CAP];
  char key_process[2 * RIGHTS_TEXT_CAP];
};

/* From root to `user`, with its groups, and no capability but that of binding ports below 1024. NULL: to the owner of
   the state folder where it is not root, else to RIGHTS_USER_DEFAULT where that user exists, else nobody. A state
   folder that is not there is made and given to that user. Who is not root already has no more than that capability
   afterwards, and may be named only by his own name. Before the first thread. */
#define RIGHTS_USER_DEFAULT "adit"
int rights_take_user(const char *user, const char *state_dir, struct rights *r, struct err *e) MUST_USE;

struct rights_paths {              /* what is still opened by name, once bound */
  const char *change[RIGHTS_PATHS_MAX]; size_t change_n;   /* folders, with all files in them */
  const char *use[RIGHTS_PATHS_MAX]; size_t use_n;         /* files that are read and written */
  const char *unlink[RIGHTS_PATHS_MAX]; size_t unlink_n;   /* folders in which names are made and removed */
  const char *read[RIGHTS_PATHS_MAX]; size_t read_n;       /* files and folders, besides those of the system */
  const char *hide[RIGHTS_PATHS_MAX]; size_t hide_n;       /* not read, not even where the system's are */
};
/* The rest: capabilities, new privileges, being looked into by programs of the same user, system calls, files. For an
   embedded relay (paths NULL), which is one of its user's programs and tells them from others by looking into /proc,
   new privileges and system calls only.
   Before the first thread. */
void rights_drop(const struct rights_paths *paths, struct rights *r);
/* The same for the key process, all of whose words are one. */
void rights_drop_keys(const struct rights_paths *paths, char *text, size_t cap);
void rights_log(const struct rights *r);         /* the start line */

#endif
