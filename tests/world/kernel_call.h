/* What the wrappers of wrap_fd.c and wrap_net.c have in common: a call on a descriptor that waits where Linux does. */
#ifndef WORLD_KERNEL_CALL_H
#define WORLD_KERNEL_CALL_H

#include "kernel.h"

struct call {
  int fd;
  struct file *file;               /* NULL: there is none */
  uint64_t inode;
  bool waits;                      /* unless it is, or was asked to be, non-blocking */
  uint64_t until_ns;
};
struct call call_begin(int fd);
void call_limit(struct call *c, uint64_t limit_ns);  /* 0: none */
/* After -EAGAIN: 0 when it is worth trying again, else the call's result. The file may be gone meanwhile. */
int call_wait(struct call *c);
/* The same, at something else of that file. */
int call_wait_at(struct call *c, struct waiters *w);
/* Traces, and makes errno of a negative one. */
ssize_t call_result(const char *what, const struct call *c, ssize_t r);
ssize_t call_made(const char *what, ssize_t r);      /* the same of a call that makes a descriptor */
void call_broken_pipe(void);       /* SIGPIPE */

#endif
