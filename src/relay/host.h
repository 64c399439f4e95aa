/* What the relay asks of the host that it runs on. */
#ifndef RELAY_HOST_H
#define RELAY_HOST_H

#include "relay/relay.h"

/* Warns when raw ports overlap the range from which the kernel takes ports for outgoing connections: any of them may
   then be busy just when its owner wants it back. */
void host_check_port_range(const struct relay_options *o);

#endif
