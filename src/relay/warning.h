/* What a relay warns its operator of, whoever causes it and however often: each kind is logged at most once in WARNING_EVERY_MS, with
   the number of times that it was left out meanwhile. */
#ifndef RELAY_WARNING_H
#define RELAY_WARNING_H

#include "base/seldom.h"

struct warnings {                  /* all zero at first; every thread may use it */
  struct seldom shortage;
};

/* Descriptors, or memory for them, have run out: a listener for shortage_listen. */
void warning_shortage(void *warnings, int error);

#endif
