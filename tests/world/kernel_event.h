/* eventfd and signalfd. */
#ifndef WORLD_KERNEL_EVENT_H
#define WORLD_KERNEL_EVENT_H

#include "kernel.h"

struct file *event_new(uint64_t count, int flags);
struct file *signals_new(struct process *p, uint64_t mask, int flags);     /* mask by bit number - 1 */
bool event_is_signals(const struct file *f);
void signals_set_mask(struct file *f, uint64_t mask);

#endif
