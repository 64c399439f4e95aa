/* adit_check: a client that connects, proves its token and leaves, without any tunnel. */
#include <string.h>

#include "base/clock.h"
#include "lib/config.h"
#include "lib/error.h"
#include "lib/handle.h"

enum { LOOK_MS = 5 };              /* how often a name that is set without an event is looked at */

/* What a host that only asks once need not wait for to change. */
static bool is_final(const struct adit_event *event) {
  if (event->kind == ADIT_EVENT_CLOSED) return true;
  return event->kind == ADIT_EVENT_WARNING && event->reason != NULL &&
         (strcmp(event->reason, "relay_unreachable") == 0 || strcmp(event->reason, "relay_certificate") == 0);
}

/* 0 once a relay has welcomed us, else an ADIT_E* with a text in *e. */
static int wait_welcome(struct adit_client *c, int timeout_ms, struct err *e) {
  int64_t deadline_ms = (int64_t)clock_ms() + timeout_ms;
  int code = ADIT_ETIMEDOUT;
  (void)err_set(e, ERR_TIMEOUT, "relay: no answer within %d ms (is it overloaded, or something between in the way?)",
                timeout_ms);
  while (atomic_load(&c->relay_name) == NULL) {
    struct adit_event event;
    int n = events_next(&c->events, &event, LOOK_MS);
    if (n == 1 && event.text[0] != '\0') {
      code = event.error != 0 ? event.error : ADIT_EUNREACHABLE;
      (void)err_set(e, ERR_CLOSED, "%s", event.text);
      if (is_final(&event)) return code;
    }
    if (n < 0 || (int64_t)clock_ms() >= deadline_ms) return code;
  }
  return 0;
}

int adit_check(struct adit_config *config, int timeout_ms) {
  if (config == NULL || timeout_ms < 0) return error_set(ADIT_EINVAL, "check: no configuration, or a negative time");
  struct setup setup;
  struct adit_client *c = NULL;
  int r = setup_copy(&setup, &config->setup);
  if (r != 0) return error_set(ADIT_ENOMEM, "out of memory");
  setup.eager = true;
  r = client_start(&setup, &c, &config->err);
  if (r != 0) {
    setup_free(&setup);
    return error_set(error_from(&config->err) == ADIT_EINVAL ? ADIT_ECONFIG : error_code(), "%s", config->err.text);
  }
  r = wait_welcome(c, timeout_ms, &config->err);
  client_close(c, 0);
  return r == 0 ? 0 : error_set(r, "%s", config->err.text);
}
