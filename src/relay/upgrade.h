/* The running relay's side of an upgrade: the program is started anew, gets ready beside us, and then takes over
   (relay/heir.h is its side). Until the commit a failure costs nothing: whoever asked is told, and we go on. */
#ifndef RELAY_UPGRADE_H
#define RELAY_UPGRADE_H

#include "relay/admin.h"
#include "relay/context.h"
#include "relay/starter.h"

struct upgrade;
struct upgrade_handlers {          /* called in the thread of l */
  void (*committed)(void *user);   /* the new program serves, and we serve nobody new any more */
  void (*handed_over)(void *user, bool all);     /* then: it has all that was here; or it has died before */
  void *user;
};
/* The starter and door_fd are the upgrade's from then on; door_fd < 0: there is none. */
int upgrade_new(struct relay *r, struct loop *l, struct starter starter, int door_fd,
                const struct upgrade_handlers *handlers, struct upgrade **out, struct err *e) MUST_USE;
/* The admin port, whose socket is handed over, too; NULL: none. */
void upgrade_set_admin(struct upgrade *u, struct admin *a);
void upgrade_request(struct upgrade *u);         /* by signal; the outcome is logged */
void upgrade_pass_signal(struct upgrade *u, int number);         /* to who has taken over */
/* We drain: an upgrade that is under way is given up if it can be. False: it cannot, and is as good as done. */
bool upgrade_cancel(struct upgrade *u);
/* After a commit: what is handed over is handed over. NULL is fine. */
void upgrade_free(struct upgrade *u);

#endif
