/* Why a relay has refused a tunnel's visitors: one row each, in words for whoever runs the agent. */
#include "wire/frame.h"

struct notice_row { const char *name, *text; };

static const struct notice_row rows[] = {
  [NOTICE_STREAMS] = {"max_streams",
      "the token allows no more streams at once (ask the operator for a higher --max-streams)"},
  [NOTICE_VISITORS] = {"max_visitors",
      "the token allows no more new visitors per second (ask the operator for a higher --max-visitors-per-s)"},
  [NOTICE_SHARE] = {"share",
      "the relay is short of descriptors, and the token's tunnels have their share of them (tell the operator)"},
  [NOTICE_LOAD] = {"load", "more visitors come than the relay can serve (tell the operator)"},
  [NOTICE_WAITING] = {"waiting",
      "too many wait for a data connection already (is the agent, or its way to the relay, too slow?)"},
  [NOTICE_LOST] = {"lost",
      "the data connection broke off before the agent had taken them (is something between here and the relay in the "
      "way?)"},
};
_Static_assert(ARRAY_LEN(rows) == NOTICES, "every notice has its row");

const char *notice_name(uint16_t reason) {
  return reason < NOTICES && rows[reason].name != NULL ? rows[reason].name : "unknown";
}

const char *notice_text(uint16_t reason) {
  return reason < NOTICES && rows[reason].text != NULL
             ? rows[reason].text
             : "for a reason that this version does not know (update the agent)";
}
