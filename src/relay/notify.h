/* Telling whoever started the relay that it serves: sd_notify's datagram, and the embedded relay's line. */
#ifndef RELAY_NOTIFY_H
#define RELAY_NOTIFY_H

#include "base/base.h"

/* Sends text (sd_notify(3)'s variables) to $NOTIFY_SOCKET when there is one; whoever does not hear it within
   NOTIFY_MS is not waited for. */
void notify_systemd(const char *text);

#endif
