/* Writing a kept ticket in a thread of its own, because a disk may be slow and streams must not wait for it. */
#ifndef AGENT_TICKET_WRITE_H
#define AGENT_TICKET_WRITE_H

#include "agent/ticket_file.h"
#include "loop/loop.h"

struct ticket_write;               /* a write under way */
/* e->code is 0 once the file is on disk. old: the name that what was there before has now; NULL when it was not set
   aside. The write has ended when this is called. */
typedef void ticket_write_fn(void *user, const struct err *e, const char *old);
/* Copies what it is given; whoever starts it waits for its end, or gives it up. set_aside: what is there must not be
   lost. NULL: no thread. */
struct ticket_write *ticket_write_start(struct loop *l, const char *path, const struct ticket_file *f, bool set_aside,
                                        ticket_write_fn *fn, void *user) MUST_USE;
/* Its fn will not be called, and it replaces no file any more. The thread goes on as long as the disk keeps it. */
void ticket_write_give_up(struct ticket_write *w);
/* The same without a thread and without a loop: fn is called before it returns. */
void ticket_write_now(const char *path, const struct ticket_file *f, bool set_aside, ticket_write_fn *fn, void *user);

#endif
