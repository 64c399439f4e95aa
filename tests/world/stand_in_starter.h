/* The world's starter of relays. */
#ifndef WORLD_STAND_IN_STARTER_H
#define WORLD_STAND_IN_STARTER_H

#include "world.h"

/* Who goes on in place of a relay that has ended, once its starter has decided; NULL: nobody. */
struct process *starter_heir(const struct process *relay);
/* Whom the starter of a relay that lives has started; NULL: nobody. */
struct process *starter_child(const struct process *relay);

#endif
