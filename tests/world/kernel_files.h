/* What the kernel's own files need of one another. */
#ifndef WORLD_KERNEL_FILES_H
#define WORLD_KERNEL_FILES_H

#include "kernel.h"

/* Of calls that make a descriptor: -EMFILE and the like, by the weather; 0. */
int files_may_open(void);

#endif
