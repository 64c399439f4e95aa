/* Writing a kept ticket in a thread of its own, because a disk may be slow and streams must not wait for it. */
#ifndef AGENT_TICKET_WRITE_H
#define AGENT_TICKET_WRITE_H

#include "agent/ticket_file.h"
#include "loop/loop.h"

struct ticket_write;               /* a write under way */
/* e->code is 0 once the file is on disk. The write has ended when this is called. */
typedef void ticket_write_fn(void *user, const struct err *e);
/* Copies what it is given; whoever starts it waits for its end. NULL: no thread. */
struct ticket_write *ticket_write_start(struct loop *l, const char *path, const struct ticket_file *f, ticket_write_fn *fn, void *user) MUST_USE;

#endif
