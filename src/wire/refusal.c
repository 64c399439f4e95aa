/* Why a link or a tunnel was refused or ended: one row each. A number that a later version has added is shown as
   "unknown" and taken as passing, because giving up on what one does not understand cannot be undone. */
#include "wire/frame.h"

#include <stdio.h>

struct refusal_row {
  const char *name;
  const char *text;
  bool final;
};

static const struct refusal_row rows[] = {
  [REFUSE_NONE] = {"none", "no reason was given (try again)", false},
  [REFUSE_VERSION] = {"version",
      "relay and agent speak different versions of the protocol (update the older one)", true},
  [REFUSE_MALFORMED] = {"malformed",
      "a message could not be understood (update relay and agent to the same version)", true},
  [REFUSE_TOKEN_UNKNOWN] = {"token_unknown",
      "the relay does not trust the operator who signed the token (use a token made for this relay)", true},
  [REFUSE_TOKEN_EXPIRED] = {"token_expired", "the token has expired (ask the operator for a new one)", true},
  [REFUSE_TOKEN_REVOKED] = {"token_revoked", "the token was revoked (ask the operator for a new one)", true},
  [REFUSE_TOKEN_PROOF] = {"token_proof",
      "the token's signature does not hold (copy the whole token again, or ask the operator for a new one)", true},
  [REFUSE_TUNNEL_LIMIT] = {"tunnel_limit",
      "the token's limit of tunnels is reached (close a tunnel, or ask the operator for a higher limit)", true},
  [REFUSE_NO_RAW_PORTS] = {"no_raw_ports",
      "the relay gives out no raw TCP ports (do without unencrypted, or use another relay)", true},
  [REFUSE_PORTS_EXHAUSTED] = {"ports_exhausted",
      "every raw TCP port of the relay is in use (try again later, or ask the operator for a wider range)", false},
  [REFUSE_SUPERSEDED] = {"superseded",
      "another agent has taken over the address (stop one of the two, or give each its own keep file)", true},
  [REFUSE_TICKET] = {"ticket",
      "the kept address is not valid at this relay (was the token or the relay changed?)", true},
  [REFUSE_PLAIN] = {"plain",
      "the relay does not permit plain links (use --link sealed, or ask the operator to permit plain)", true},
  [REFUSE_H2] = {"h2",
      "the relay does not offer h2 under its wildcard name (do without h2, or ask the operator for --h2-shared-name)",
      true},
  [REFUSE_ALPN] = {"alpn",
      "the list of ALPN protocols is malformed or names one that cannot be selected (correct the list)", true},
  [REFUSE_DRAINING] = {"draining", "the relay is shutting down (try again in a moment, or use another relay)", false},
  [REFUSE_STATE] = {"state",
      "the relay cannot write its state (tell the operator to look at the disk of its state folder)", false},
  [REFUSE_INTERNAL] = {"internal", "the relay failed (try again; if it lasts, the relay's log says why)", false},
  [REFUSE_CLOSED] = {"closed", "the agent has closed it (open it again if it is still needed)", true},
  [REFUSE_SHORTAGE] = {"shortage",
      "the relay is short of descriptors or memory (try again in a moment; if it lasts, tell its operator)", false},
  [REFUSE_TOKEN_RAW] = {"token_raw",
      "the token allows no raw TCP ports (do without unencrypted, or ask whoever gave the token for another)", true},
  [REFUSE_TOKEN_ALLOW] = {"token_allow",
      "the token lets in no visitor from these address blocks (allow blocks within the token's, or ask whoever gave it "
      "for another)", true},
  [REFUSE_NOT_NARROWED] = {"not_narrowed",
      "it was not narrowed from this token (revoke it with the token that it is from, or ask the operator to)", true},
  [REFUSE_REVOCATIONS] = {"revocations",
      "the relay keeps no more revocations of tokens narrowed from this one until some of those have expired (ask the "
      "operator to revoke it by its id; and narrow for shorter times)", false},
};
_Static_assert(ARRAY_LEN(rows) == REFUSE_LAST + 1, "every refusal has its row");

static const struct refusal_row unknown = {
    "unknown", "the relay gave a reason that this version does not know (update the agent)", false};

static const struct refusal_row *row_of(enum refusal r) {
  size_t at = (size_t)r;
  return at < ARRAY_LEN(rows) ? &rows[at] : &unknown;
}

const char *refusal_name(enum refusal r) { return row_of(r)->name; }
const char *refusal_text(enum refusal r) { return row_of(r)->text; }
bool refusal_is_final(enum refusal r) { return row_of(r)->final; }

void refusal_explain(enum refusal r, const char *came, char *out, size_t cap) {
  bool known = row_of(r) != &unknown;
  if (!known && came[0] != '\0')
    (void)snprintf(out, cap, "%s (reason %u, which this version does not know)", came, (unsigned)r);
  else if (!known) (void)snprintf(out, cap, "reason %u: %s", (unsigned)r, unknown.text);
  else (void)snprintf(out, cap, "%s", came[0] != '\0' ? came : refusal_text(r));
}
