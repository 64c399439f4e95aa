/* epoll. */
#ifndef WORLD_KERNEL_EPOLL_H
#define WORLD_KERNEL_EPOLL_H

#include <sys/epoll.h>

#include "kernel.h"

struct file *epoll_new(void);
/* -EBADF, -EEXIST, -ENOENT, -EINVAL; of the descriptor fd, which is of that file. */
int epoll_change(struct file *set, int op, int fd, struct file *f, const struct epoll_event *event);
/* As many as are ready, at most max; -EINVAL: it is no set. */
int epoll_take(struct file *set, struct epoll_event *out, int max);
bool epoll_is(const struct file *f);

/* From kernel_files.c: */
void epoll_told(struct file *f, uint32_t events);    /* to those that watch it */
void epoll_forget(struct file *f);                   /* they do no more */

#endif
