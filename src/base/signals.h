/* Signals as a program was given them. Whoever started it may have had it ignore some (nohup, a shell's
   background job), and they stay ignored: Linux keeps even an ignored signal for a signalfd while it is blocked,
   so such a one must not be blocked. */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

#include <signal.h>

#include "base/err.h"

bool signals_ignored(int number);
/* Blocks those of the signals that are not ignored, for this thread and those that it starts from here on, and
   returns a descriptor that they can be read from; *before is the mask as it was. Negative with a text. */
int signals_take(const int *numbers, size_t n, sigset_t *before, struct err *e) MUST_USE;

/* Changes what one does in this process. Before a program is started in its place, or as its child between vfork
   and exec, all that were changed are given back as they were. */
void signals_change(int number, void (*handler)(int));
void signals_give_back(void);
/* For a program that goes on in this process, and finds them changed: those that were changed here and had been
   ignored, a bit for each number; there, after it has changed the same. */
uint64_t signals_were_ignored(void);
void signals_go_on(uint64_t ignored);

#endif
