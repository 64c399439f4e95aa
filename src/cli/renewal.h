/* A running `adit forward` goes on as its program as it is on the disk now, in the same process: its number, its
   terminal, its children and its streams stay. First that program is started beside it, once to say that it can, and to
   look at all that it would be given; then it is executed in our place. Until then a failure costs nothing.

   How they speak: over a pair of sequenced-packet sockets, whose number and that of the state's file the option
   --take-over gives to the one that is asked. It says magic(4) = 61646670, formats from(2) to(2), version(vec8); hears
   the format(2) once the state is there; and answers ok(1) and a text. The one that is executed finds the file's
   number in ADIT_FORWARD_STATE_FD. */
#ifndef CLI_RENEWAL_H
#define CLI_RENEWAL_H

#include <signal.h>

#include "adit.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/limits.h"

struct moving;

struct renewal {                   /* how this program was started */
  char program[STARTER_PATH_MAX_BYTES + 1];
  char **argv;                     /* argv_n of them, behind "forward" */
  size_t argv_n;
};
void renewal_begin(struct renewal *r, int argc, char **argv);

struct renewal_host {              /* what the caller has to do with it */
  /* The agent stands still, and has said all that it had to say. False: it is not to go on. */
  bool (*drains)(void *user);
  void (*writes)(void *user, struct writer *w);          /* what its next program is to know, at most so much */
  void *user;
  const sigset_t *mask;            /* of before signals were blocked */
};
enum { RENEWAL_HOST_MAX_BYTES = 4096 };
/* Does not return when it succeeds; else all is as it was, and *e says why, with the program's name. 0: the host did
   not want it any more. */
int renewal_go(const struct renewal *r, struct adit_client *client, const struct renewal_host *host,
               struct err *e) MUST_USE;

/* What this process is from its start, in the next program. */
struct heritage {
  struct moving *agent;            /* NULL: nothing was handed over, or it was taken */
  struct reader host;              /* of the old program's; valid as long as agent is */
  int asker;                       /* -1: it is ours; else we are only asked whether it could be */
};
/* take_over: of the option; NULL: not given. */
int heritage_open(struct heritage *h, const char *take_over, struct err *e) MUST_USE;
int heritage_config(const struct heritage *h, struct adit_config *config, struct err *e) MUST_USE;
/* Into a client of it, with all its tunnels. Or, where we are only asked, whether that can be done. */
int heritage_agent(struct heritage *h, struct adit_client *client, struct err *e) MUST_USE;
/* To whoever asks: rc 0, it could be. Ends this process; returns at once if nobody asks. */
void heritage_answer(const struct heritage *h, int rc, const struct err *e);

#endif
