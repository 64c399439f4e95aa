/* Every reason for which a stream ends: its name in metrics and logs, and what it means. */
#include "pump/pump.h"

static const char *const names[CLOSE_REASONS] = {
  [CLOSE_CLEAN] = "clean",                           /* both directions ended */
  [CLOSE_PEER_RESET] = "peer_reset",                 /* the visitor or app reset its connection */
  [CLOSE_WIRE_RESET] = "wire_reset",                 /* the data connection was reset */
  [CLOSE_TRUNCATED] = "truncated",                   /* the TLS stream ended without close_notify */
  [CLOSE_PROTOCOL] = "protocol",                     /* malformed records, or a data connection that was not accepted as
                                                        it must be */
  [CLOSE_PEER_ALERT] = "peer_alert",                 /* the visitor sent a fatal TLS alert */
  [CLOSE_NOT_ACCEPTED] = "not_accepted",             /* the agent did not accept the visitor, or closed the data
                                                        connection instead */
  [CLOSE_ACCEPT_TIMEOUT] = "accept_timeout",         /* the agent did not accept the visitor in time */
  [CLOSE_HALF_OPEN_IDLE] = "half_open_idle",         /* one direction had ended and the other was idle for too long */
  [CLOSE_UNACKED] = "unacked",                       /* what was sent was not acknowledged: the other end is gone */
  [CLOSE_APP_REFUSED] = "app_refused",               /* the agent ended it by an alert */
  [CLOSE_NO_DATA_CONNECTION] = "no_data_connection", /* no data connection of the agent came free in time */
  [CLOSE_REVOKED] = "revoked",                       /* the token was revoked or has expired */
  [CLOSE_LOCAL] = "local",                           /* closed by this side */
  [CLOSE_NOMEM] = "nomem",                           /* out of memory */
};

const char *close_reason_name(enum close_reason r) {
  ASSERT(r < CLOSE_REASONS);
  return names[r];
}
