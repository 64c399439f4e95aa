/* Issuing tokens. The hard thing is the order: a token exists for its user only once its id is committed to the state,
   so that every token that was ever printed can be revoked. */
#include "relay/issue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/secret.h"
#include "base/text.h"

enum { SETTING_CAP = 320 };

static int pin_parse(const char *text, struct pin *pin) {
  memset(pin, 0, sizeof *pin);
  if (strcmp(text, "public") == 0) {
    pin->kind = PIN_PUBLIC_AUTHORITIES;
    return 0;
  }
  pin->kind = PIN_SPKI_SHA256;
  return hex_decode(text, pin->spki_sha256, SHA256_BYTES);
}

int issue_pin_remember(struct state *s, const struct pin *pin, struct err *e) {
  char text[2 * SHA256_BYTES + 1] = "public";
  if (pin->kind == PIN_SPKI_SHA256) hex_encode(pin->spki_sha256, SHA256_BYTES, text);
  return state_set(s, "pin", text, e);
}

int issue_relay_remember(struct state *s, const struct token_relay *relay, struct err *e) {
  char dial[SETTING_CAP];
  host_port_format(&relay->dial, dial, sizeof dial);
  int rc = state_set(s, "domain", relay->name[0] != '\0' ? relay->name : relay->dial.host, e);
  if (rc == 0) rc = state_set(s, "public", dial, e);
  return rc != 0 ? rc : issue_pin_remember(s, &relay->pin, e);
}

int issue_relay_recall(struct state *s, struct token_relay *relay, struct err *e) {
  char dial[SETTING_CAP], pin[SETTING_CAP];
  memset(relay, 0, sizeof *relay);
  int rc = state_get(s, "domain", relay->name, sizeof relay->name, e);
  if (rc == 0) rc = state_get(s, "public", dial, sizeof dial, e);
  if (rc == 0) rc = state_get(s, "pin", pin, sizeof pin, e);
  if (rc == ERR_NOT_NOW)
    return err_set(e, rc, "token: this state folder does not know its relay yet (start the relay with it once)");
  if (rc != 0) return rc;
  if (!host_name_is_valid(relay->name) || host_port_parse(dial, 0, &relay->dial, NULL) != 0 ||
      pin_parse(pin, &relay->pin) != 0)
    return err_set(e, ERR_SYNTAX,
                   "token: what the state folder remembers of its relay is malformed (start the relay with it again)");
  return 0;
}

int issue_relay_foresee(struct state *s, const char *domain, struct token_relay *relay, struct err *e) {
  struct authority *a = NULL;
  memset(relay, 0, sizeof *relay);
  int rc = host_port_parse(domain, 443, &relay->dial, e);
  if (rc == 0) rc = state_authority(s, domain, (int64_t)time(NULL), &a, e);
  if (rc != 0) return rc;
  memcpy(relay->name, relay->dial.host, sizeof relay->dial.host);
  relay->pin.kind = PIN_SPKI_SHA256;
  rc = authority_pin(a, relay->pin.spki_sha256);
  authority_unref(a);
  return rc != 0 ? err_set(e, rc, "token: the relay's authority has no usable key (restore it from a backup)")
                 : issue_relay_remember(s, relay, e);
}

/* Key and certificate. */
static int certificate_make(struct state *s, const struct issue_request *r, int64_t now_s, struct token *t,
                            struct err *e) {
  struct certificate *c = &t->info;
  uint8_t operator_seed[ED25519_KEY_BYTES];
  memcpy(c->name, r->name, strlen(r->name) + 1);
  c->max_tunnels = r->max_tunnels != 0 ? r->max_tunnels : TUNNELS_PER_TOKEN_DEFAULT;
  c->issued_s = now_s;
  c->expires_s = r->expires_s;
  c->limits = r->limits;
  int rc = state_operator_public(s, c->operator_key, e);
  if (rc == 0) rc = state_operator_seed(s, operator_seed, e);
  if (r->id != NULL) memcpy(c->id, r->id, sizeof c->id);
  if (rc == 0 &&
      ((r->id == NULL && random_bytes(c->id, sizeof c->id) != 0) || ed25519_keypair(t->seed, c->public_key) != 0 ||
       certificate_sign(c, operator_seed, t->chain, sizeof t->chain, &t->chain_n) != 0))
    rc = err_set(e, ERR_CRYPTO, "token: its key and certificate could not be made (check the system's crypto library)");
  wipe(operator_seed, sizeof operator_seed);
  return rc;
}

int issue_token(struct state *s, const struct issue_request *r, int64_t now_s, char out[TOKEN_TEXT_MAX_CHARS + 1],
                struct err *e) {
  int rc = token_name_check(r->name, e);
  if (rc != 0) return rc;
  if (r->expires_s != 0 && r->expires_s <= now_s)
    return err_set(e, ERR_USAGE, "token: it would have expired already (give a longer --expires)");
  if (r->relays_n == 0 || r->relays_n > TOKEN_RELAYS_MAX)
    return err_set(e, ERR_LIMIT, "token: it names %zu relays (1 to %d are possible)", r->relays_n, TOKEN_RELAYS_MAX);
  struct token *t = calloc(1, sizeof *t);
  if (t == NULL) return err_set(e, ERR_NOMEM, "token: out of memory");
  t->relays_n = r->relays_n;
  memcpy(t->relays, r->relays, r->relays_n * sizeof r->relays[0]);
  rc = certificate_make(s, r, now_s, t, e);
  if (rc == 0 && token_encode(t, out, TOKEN_TEXT_MAX_CHARS + 1) != 0)
    rc = err_set(e, ERR_LIMIT, "token: it would be longer than %d characters (give fewer relays)",
                 TOKEN_TEXT_MAX_CHARS);
  if (rc == 0 && !r->unlisted) rc = state_token_add(s, &t->info, e);
  if (rc != 0) wipe(out, TOKEN_TEXT_MAX_CHARS + 1);
  wipe(t, sizeof *t);
  free(t);
  return rc;
}
