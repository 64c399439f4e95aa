/* adit_client_revoke: a token that was narrowed from the client's is to be good no more. */
#include <time.h>

#include "agent/fork_gate.h"
#include "agent/revoke.h"
#include "base/deadline.h"
#include "lib/error.h"
#include "lib/handle.h"

static int failed_in_time(struct adit_client *c, int timeout_ms) {
  pthread_mutex_lock(&c->lock);
  int r = c->trouble.code != 0
              ? error_set(ADIT_ETIMEDOUT, "not revoked within %d ms: %.400s", timeout_ms, c->trouble.text)
              : error_set(ADIT_ETIMEDOUT, "relay: it has not revoked the token within %d ms (try again)", timeout_ms);
  pthread_mutex_unlock(&c->lock);
  return r;
}

static int revoke(struct adit_client *c, const uint8_t id[TOKEN_ID_BYTES], int64_t expires_s, int timeout_ms) {
  struct timespec deadline = deadline_after_ms(timeout_ms < 0 ? 0 : (unsigned)timeout_ms);
  struct trouble outcome;
  int r = revoke_wait(c, id, expires_s, timeout_ms < 0 ? NULL : &deadline, &outcome);
  if (r == ERR_NOMEM) return error_set(ADIT_ENOMEM, "out of memory");
  if (r != 0) return failed_in_time(c, timeout_ms);
  return outcome.code == 0 ? 0 : error_set(outcome.code, "%s", outcome.text);
}

/* As a token says it; 0 where that would be beyond all times. */
static int64_t after(int64_t seconds) {
  int64_t now_s = (int64_t)time(NULL);
  return seconds <= INT64_MAX - now_s ? now_s + seconds : 0;
}

int adit_client_revoke(struct adit_client *client, const char *narrowed, int64_t expires_s, int timeout_ms) {
  uint8_t id[TOKEN_ID_BYTES];
  int64_t ends_s;
  struct err e = {0};
  int r = handle_check_client(client);
  if (r != 0) return r;
  if (narrowed == NULL) return error_set(ADIT_EINVAL, "an argument is NULL");
  if (expires_s < 0) return error_set(ADIT_EINVAL, "expires_s: it is less than 0 (0: it is not known)");
  r = handle_wait_for_token(client, timeout_ms);
  if (r != 0) return r;
  fork_gate_enter();
  r = setup_find_narrowed(&client->setup, narrowed, id, &ends_s, &e);
  fork_gate_leave_host();
  if (r != 0) return error_from(&e);
  if (ends_s == 0 && expires_s > 0) ends_s = after(expires_s);
  return revoke(client, id, ends_s, timeout_ms);
}
