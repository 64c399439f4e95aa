/* What happens in a run: who is started when, and who is killed. */
#ifndef WORLD_DIRECTOR_H
#define WORLD_DIRECTOR_H

#include <stdbool.h>

struct director_options {
  unsigned visitors;               /* how many come, one after the other and at once */
  bool calm;                       /* nobody is killed: then every visitor must have been served */
};
void director_begin(const struct director_options *o);     /* hosts, and a process that does the rest */

#endif
