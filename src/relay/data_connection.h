/* An agent's data connection that has proven itself, on its way from the door to a stream: whoever has it closes it or
   passes all of it on. */
#ifndef RELAY_DATA_CONNECTION_H
#define RELAY_DATA_CONNECTION_H

#include "pump/wrap.h"
#include "wire/link_keys.h"

struct data_connection {
  struct wire wire;
  struct number_keys *keys;        /* from secret_alloc; NULL until its preface has been verified */
};
#define DATA_CONNECTION_NONE ((struct data_connection){.wire = WIRE_NONE})
void data_connection_close(struct data_connection *d);   /* fine when there is none */

#endif
