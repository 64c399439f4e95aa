/* The relay and its operator. */
#include <stdlib.h>
#include <time.h>

#include "base/words.h"
#include "cast.h"
#include "relay/issue.h"
#include "relay/relay.h"

enum { RAW_FROM = 20000, RAW_TO = 20071, DRAIN_MS = 2000 };

int cast_issue(void *arg) {
  struct state *s = NULL;
  struct token_relay own;
  struct err e = {0};
  static const char *const names[OWNERS] = {[OWNER_AGENT] = "agent", [OWNER_RIVAL] = "rival",
                                            [OWNER_OTHER_RIVAL] = "other-rival"};
  (void)arg;
  int rc = state_open(CAST_STATE, &s, &e);
  if (rc == 0) rc = issue_relay_foresee(s, CAST_DOMAIN, &own, &e);
  for (int i = 0; rc == 0 && i < OWNERS; i++) {
    const struct issue_request request = {.name = names[i], .relays = &own, .relays_n = 1};
    rc = issue_token(s, &request, (int64_t)time(NULL), cast.token[i], &e);
  }
  if (rc != 0) world_fail("token: %s", e.text);
  state_close(s);
  return EXIT_SUCCESS;
}

int cast_relay(void *arg) {
  struct relay_options o = {.domain = CAST_DOMAIN, .state_dir = CAST_STATE, .tcp_port_from = RAW_FROM,
                            .tcp_port_to = RAW_TO, .workers = cast.workers, .plain_allowed = true,
                            .pump = cast.copies ? PUMP_COPY : PUMP_SPLICE, .drain_ms = DRAIN_MS, .holder_fd = -1,
                            .keys_here = true, .listens_n = 1};
  struct err e = {0};
  (void)arg;
  words_begin();                   /* as the program does first of all */
  if (addr_parse("0.0.0.0:443", &o.listens[0], &e) != 0) world_fail("relay: %s", e.text);
  int rc = relay_run(&o, &e);
  if (rc != 0) world_trace("relay failed", (uint64_t)(int64_t)rc, 0);
  return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
