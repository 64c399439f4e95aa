/* Every reason for which a stream ends, a row each: its name in metrics and logs, whether it is an error, and what it means. */
#include "pump/pump.h"

static const struct {
  const char *name;
  bool error;
  const char *text;
} rows[CLOSE_REASONS] = {
  [CLOSE_CLEAN] = {"clean", false, "both directions ended"},
  [CLOSE_PEER_RESET] = {"peer_reset", true, "the visitor or app reset its connection"},
  [CLOSE_WIRE_RESET] = {"wire_reset", true, "the data connection was reset"},
  [CLOSE_TRUNCATED] = {"truncated", true, "the TLS stream ended without close_notify"},
  [CLOSE_PROTOCOL] = {"protocol", true, "malformed records, or a data connection that was not accepted as it must be"},
  [CLOSE_PEER_ALERT] = {"peer_alert", true, "the visitor sent a fatal TLS alert"},
  [CLOSE_NOT_ACCEPTED] = {"not_accepted", true, "the agent did not accept the visitor, or closed the data connection instead"},
  [CLOSE_ACCEPT_TIMEOUT] = {"accept_timeout", true, "the agent did not accept the visitor in time"},
  [CLOSE_HALF_OPEN_IDLE] = {"half_open_idle", true, "one direction had ended and the other was idle for too long"},
  [CLOSE_UNACKED] = {"unacked", true, "what was sent was not acknowledged: the other end is gone"},
  [CLOSE_APP_REFUSED] = {"app_refused", true, "the agent ended it by an alert"},
  [CLOSE_NO_DATA_CONNECTION] = {"no_data_connection", true, "no data connection of the agent came free in time"},
  [CLOSE_REVOKED] = {"revoked", true, "the token was revoked or has expired"},
  [CLOSE_LOCAL] = {"local", false, "closed by this side"},
  [CLOSE_NOMEM] = {"nomem", true, "out of memory"},
};

const char *close_reason_name(enum close_reason r) {
  ASSERT(r < CLOSE_REASONS);
  return rows[r].name;
}

const char *close_reason_text(enum close_reason r) {
  ASSERT(r < CLOSE_REASONS);
  return rows[r].text;
}

bool close_reason_is_error(enum close_reason r) {
  ASSERT(r < CLOSE_REASONS);
  return rows[r].error;
}
