/* See the header. */
#include "relay/data_connection.h"

#include "base/secret.h"
#include "loop/net.h"

void data_connection_close(struct data_connection *d) {
  wrap_free(d->wire.outer);
  secret_free(d->keys, sizeof *d->keys);
  net_close(d->wire.fd);
  *d = DATA_CONNECTION_NONE;
}
