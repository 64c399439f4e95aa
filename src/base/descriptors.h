/* The limit on open descriptors. Each visitor costs one or two of them. */
#ifndef BASE_DESCRIPTORS_H
#define BASE_DESCRIPTORS_H

#include "base/err.h"

/* Raises the soft limit to the hard one, for this process and what it starts afterwards. For programs only: the library
   leaves its host's limits alone. ERR_IO with errno, which may be ignored: fewer visitors fit. */
int descriptors_raise_limit(void);
uint64_t descriptors_now(void);                  /* how many this process has open; 0 when it cannot be told */
uint64_t descriptors_max(void);                  /* and may have */

/* This process is a program of adit's own: what its agent's thread holds stays in the process's one table, where lsof,
   ss -p and /proc/PID/fd show it. To be called before that thread is started. */
void descriptors_keep_in_view(void);
bool descriptors_in_view(void);
bool descriptors_of_our_process(void);           /* that has been called: nothing forks but what is of ours */

#endif
