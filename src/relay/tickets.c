/* The ticket keys are in the key process. Where there is none they are in the relay's memory, under a lock that is held
   no longer than it takes to copy one. */
#include "relay/tickets.h"

#include <string.h>

#include "base/secret.h"
#include "relay/key_process.h"

int tickets_refresh(struct relay *r, int64_t now_s, struct err *e) {
  struct ticket_key keys[2];
  size_t n;
  if (r->keys != NULL) return key_process_tickets(r->keys, e);
  int rc = state_ticket_keys(r->state, now_s, keys, &n, e);
  if (rc != 0) return rc;
  pthread_mutex_lock(&r->ticket_lock);
  memcpy(r->ticket_keys, keys, sizeof keys);
  r->ticket_keys_n = n;
  pthread_mutex_unlock(&r->ticket_lock);
  wipe(keys, sizeof keys);
  return 0;
}

int tickets_make(struct relay *r, const struct ticket *t, uint8_t out[TICKET_MAX_BYTES], size_t *n) {
  if (r->keys != NULL) return key_process_ticket_make(r->keys, t, out, n);
  pthread_mutex_lock(&r->ticket_lock);
  struct ticket_key key = r->ticket_keys[0];
  pthread_mutex_unlock(&r->ticket_lock);
  int rc = ticket_encode(t, &key, out, n);
  wipe(&key, sizeof key);
  return rc;
}

int tickets_read(struct relay *r, const uint8_t *p, size_t n, struct ticket *out) {
  if (r->keys != NULL) return key_process_ticket_read(r->keys, p, n, out);
  pthread_mutex_lock(&r->ticket_lock);
  int rc = ticket_decode(p, n, r->ticket_keys, r->ticket_keys_n, out);
  pthread_mutex_unlock(&r->ticket_lock);
  return rc;
}
