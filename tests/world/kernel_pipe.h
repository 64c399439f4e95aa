/* Pipes. */
#ifndef WORLD_KERNEL_PIPE_H
#define WORLD_KERNEL_PIPE_H

#include "kernel.h"

void pipe_new(struct file *ends[2], int flags);      /* to read from, to write to */
bool pipe_is(const struct file *f);
int pipe_size(struct file *f);
int pipe_set_size(struct file *f, unsigned bytes);   /* what it is then; -EBUSY: too much is held */
/* For splice: see kernel_splice.c. */
int pipe_fill(struct file *to, struct file *from, size_t n);
int pipe_drain(struct file *from, struct file *to, size_t n);

#endif
