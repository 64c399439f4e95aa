/* adit_config_narrow, adit_client_narrow: tokens for others, from the one that a program has. Nothing is asked of a
   relay. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/fork_gate.h"
#include "lib/config.h"
#include "lib/error.h"
#include "lib/handle.h"
#include "lib/sized.h"

_Static_assert(ADIT_TOKEN_CAP == TOKEN_TEXT_MAX_CHARS + 1, "adit.h says how long a token may be");

struct wish {
  struct narrowing narrowing;
  struct cidr allow[TOKEN_ALLOW_MAX];
};

static int take_allow(const struct adit_narrow_options *o, struct wish *w, struct err *e) {
  if (o->allow_n > TOKEN_ALLOW_MAX || (o->allow_n > 0 && o->allow == NULL))
    return err_set(e, ERR_USAGE, "allow: at most %d blocks for a token (give fewer)", TOKEN_ALLOW_MAX);
  for (size_t i = 0; i < o->allow_n; i++) {
    const char *block = o->allow[i] != NULL ? o->allow[i] : "";
    if (cidr_parse(block, &w->allow[i], e) == 0) continue;
    (void)err_prefix(e, "allow");
    return e->code = ERR_USAGE;
  }
  w->narrowing.allow = w->allow;
  w->narrowing.allow_n = o->allow_n;
  return 0;
}

static int take_options(const struct adit_narrow_options *given, struct wish *w, struct err *e) {
  struct adit_narrow_options o = ADIT_NARROW_OPTIONS_INIT;
  size_t least = offsetof(struct adit_narrow_options, name) + sizeof o.name;
  if (given != NULL && sized_take(given, least, &o, sizeof o, "ADIT_NARROW_OPTIONS_INIT", e) != 0) return e->code;
  w->narrowing = (struct narrowing){
      .name = o.name, .life_s = o.expires_s, .max_tunnels = o.max_tunnels, .no_raw = o.no_raw != 0,
      .limits = {.max_streams = o.max_streams,
                 .max_visitors_per_s = o.max_visitors_per_s,
                 .max_bytes_per_s = o.max_rate}};
  return take_allow(&o, w, e);
}

static int narrow(const struct setup *s, const struct adit_narrow_options *options, char *token, size_t cap,
                  struct err *e) {
  struct wish w = {.narrowing = {0}};
  if (cap > 0) token[0] = '\0';
  if (cap < ADIT_TOKEN_CAP) return err_set(e, ERR_USAGE, "token: it wants room for ADIT_TOKEN_CAP bytes");
  int r = take_options(options, &w, e);
  if (r != 0) return r;
  fork_gate_enter();
  r = setup_narrow(s, &w.narrowing, (int64_t)time(NULL), token, e);
  fork_gate_leave_host();
  return r;
}

static int failed(const struct err *e) {
  int code = error_from(e);
  return e->code == ERR_TIMEOUT ? error_set(ADIT_EAUTH, "%s", e->text) : code;
}

int adit_config_narrow(struct adit_config *config, const struct adit_narrow_options *options, char *token, size_t cap) {
  if (config == NULL || token == NULL) return error_set(ADIT_EINVAL, "an argument is NULL");
  return narrow(&config->setup, options, token, cap, &config->err) == 0 ? 0 : failed(&config->err);
}

int adit_client_narrow(struct adit_client *client, const struct adit_narrow_options *options, int timeout_ms,
                       char *token, size_t cap) {
  struct err e = {0};
  int r = handle_check_client(client);
  if (r != 0) return r;
  if (token == NULL) return error_set(ADIT_EINVAL, "an argument is NULL");
  r = handle_wait_for_token(client, timeout_ms);
  if (r != 0) return r;
  return narrow(&client->setup, options, token, cap, &e) == 0 ? 0 : failed(&e);
}
