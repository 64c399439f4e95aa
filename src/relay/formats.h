/* The formats of what is handed over in an upgrade (docs/upgrade.md): what this program reads, and can write. It is a
   file of its own so that a test can stand a program of another release beside this one. */
#ifndef RELAY_FORMATS_H
#define RELAY_FORMATS_H

#include "base/base.h"

struct formats {
  uint16_t from, to;
};
struct formats formats_known(void);

#endif
