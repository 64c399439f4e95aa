/* What an agent starts from. A token's private key leaves the stack and the text it came in only for secret memory; and
   a proxy's URL may hold a password. */
#include "agent/setup.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/secret.h"
#include "base/text.h"

void setup_init(struct setup *s) {
  memset(s, 0, sizeof *s);
}

static void setup_token_free(struct setup_token *t) {
  if (t == NULL) return;
  secret_free(t->seed, ED25519_KEY_BYTES);
  free(t);
}

static void setup_drop_proxy(struct setup *s) {
  if (s->proxy != NULL) wipe(s->proxy, strlen(s->proxy));
  free(s->proxy);
  free(s->no_proxy);
  http_proxy_free(s->http_proxy);
  s->proxy = s->no_proxy = NULL;
  s->http_proxy = NULL;
}

void setup_free(struct setup *s) {
  for (size_t i = 0; i < s->tokens_n; i++) setup_token_free(s->tokens[i]);
  free(s->ca_file);
  free(s->embedded);
  setup_drop_proxy(s);
  memset(s, 0, sizeof *s);
}

/* `from` is NULL-seeded or a whole token; the copy has a seed of its own. */
static struct setup_token *setup_token_new(const struct setup_token *from, const uint8_t seed[ED25519_KEY_BYTES]) {
  struct setup_token *t = malloc(sizeof *t);
  if (t == NULL) return NULL;
  *t = *from;
  t->seed = secret_alloc(ED25519_KEY_BYTES);
  if (t->seed == NULL) {
    free(t);
    return NULL;
  }
  memcpy(t->seed, seed, ED25519_KEY_BYTES);
  return t;
}

int setup_copy(struct setup *to, const struct setup *from) {
  setup_init(to);
  for (size_t i = 0; i < from->tokens_n; i++) {
    to->tokens[i] = setup_token_new(from->tokens[i], from->tokens[i]->seed);
    if (to->tokens[i] == NULL) goto nomem;
    to->tokens_n++;
  }
  memcpy(to->dials, from->dials, sizeof to->dials);
  to->dials_n = from->dials_n;
  if (from->ca_file != NULL && (to->ca_file = strdup(from->ca_file)) == NULL) goto nomem;
  if (from->embedded != NULL && (to->embedded = strdup(from->embedded)) == NULL) goto nomem;
  if (from->proxy != NULL && (to->proxy = strdup(from->proxy)) == NULL) goto nomem;
  if (from->no_proxy != NULL && (to->no_proxy = strdup(from->no_proxy)) == NULL) goto nomem;
  to->proxy_from = from->proxy_from;
  to->data = from->data;
  to->moves_in = from->moves_in;
  return 0;
nomem:
  setup_free(to);
  return ERR_NOMEM;
}

int setup_add_token(struct setup *s, const char *text, struct err *e) {
  if (s->tokens_n == AGENT_TOKENS_MAX) return err_set(e, ERR_LIMIT, "token: too many (at most %d)", AGENT_TOKENS_MAX);
  struct token *decoded = malloc(sizeof *decoded);
  struct setup_token *blank = calloc(1, sizeof *blank);
  int r = ERR_NOMEM;
  if (decoded == NULL || blank == NULL) {
    err_set(e, r, "token: out of memory");
    goto out;
  }
  r = token_decode(text, strnlen(text, TOKEN_TEXT_MAX_CHARS + 64), decoded, e);
  if (r != 0) goto out;
  if (decoded->relays_n == 0) {
    r = err_set(e, ERR_SYNTAX, "token: it names no relay (ask the operator for a new one)");
    goto out;
  }
  memcpy(blank->chain, decoded->chain, decoded->chain_n);
  blank->chain_n = decoded->chain_n;
  blank->info = decoded->info;
  blank->narrowed = decoded->narrowed;
  memcpy(blank->relays, decoded->relays, sizeof blank->relays);
  blank->relays_n = decoded->relays_n;
  struct setup_token *t = setup_token_new(blank, decoded->seed);
  if (t == NULL) {
    r = err_set(e, ERR_NOMEM, "token: out of memory");
    goto out;
  }
  s->tokens[s->tokens_n++] = t;
out:
  if (decoded != NULL) wipe(decoded, sizeof *decoded);
  free(decoded);
  free(blank);
  return r;
}

/* As it was decoded; whoever has it wipes it. NULL: out of memory. */
static struct token *token_of(const struct setup_token *own) {
  struct token *t = calloc(1, sizeof *t);
  if (t == NULL) return NULL;
  memcpy(t->seed, own->seed, sizeof t->seed);
  memcpy(t->chain, own->chain, t->chain_n = own->chain_n);
  memcpy(t->relays, own->relays, sizeof t->relays);
  t->relays_n = own->relays_n;
  t->info = own->info;
  t->narrowed = own->narrowed;
  return t;
}

static int check_single(const struct setup *s, struct err *e) {
  if (s->tokens_n == 0)
    return err_set(e, ERR_AUTH, "token: there is none to be narrowed (set ADIT_TOKEN, or store one with adit login)");
  if (s->tokens_n > 1)
    return err_set(e, ERR_USAGE, "token: several were given, and one at a time is narrowed (give one)");
  return 0;
}

int setup_narrow(const struct setup *s, const struct narrowing *wish, int64_t now_s, char out[TOKEN_TEXT_MAX_CHARS + 1],
                 struct err *e) {
  int single = check_single(s, e);
  if (single != 0) return single;
  struct token *t = token_of(s->tokens[0]);
  if (t == NULL) return err_set(e, ERR_NOMEM, "token: out of memory");
  int r = token_narrow(t, wish, now_s, e);
  if (r == 0 && token_encode(t, out, TOKEN_TEXT_MAX_CHARS + 1) != 0)
    r = err_set(e, ERR_LIMIT, "token: it would be longer than %d characters (give fewer blocks)", TOKEN_TEXT_MAX_CHARS);
  wipe(t, sizeof *t);
  free(t);
  return r;
}

static int find_in_token(const struct setup_token *own, const char *narrowed, uint8_t id[TOKEN_ID_BYTES],
                         int64_t *expires_s, struct err *e) {
  struct token *t = malloc(sizeof *t);
  if (t == NULL) return err_set(e, ERR_NOMEM, "token: out of memory");
  int r = token_decode(narrowed, strnlen(narrowed, TOKEN_TEXT_MAX_CHARS + 64), t, e);
  if (r != 0) (void)err_prefix(e, "narrowed token");
  else if (t->chain_n <= own->chain_n || memcmp(t->chain, own->chain, own->chain_n) != 0)
    (void)err_set(e, r = ERR_USAGE, "narrowed token: it is not from this client's (revoke it with the one that it is "
                                    "from)");
  if (r == 0) memcpy(id, t->info.id, TOKEN_ID_BYTES);
  if (r == 0) *expires_s = t->info.expires_s;
  wipe(t, sizeof *t);
  free(t);
  if (r != 0 && r != ERR_NOMEM) e->code = r = ERR_USAGE;
  return r;
}

int setup_find_narrowed(const struct setup *s, const char *narrowed, uint8_t id[TOKEN_ID_BYTES], int64_t *expires_s,
                        struct err *e) {
  int r = check_single(s, e);
  *expires_s = 0;
  if (r != 0 || hex_decode(narrowed, id, TOKEN_ID_BYTES) == 0) return r;
  if (strncmp(narrowed, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0)
    return find_in_token(s->tokens[0], narrowed, id, expires_s, e);
  return err_set(e, ERR_USAGE, "narrowed token: this is neither a token nor the id of one (give what adit token narrow "
                               "printed)");
}

int setup_add_relay(struct setup *s, const char *address, struct err *e) {
  if (s->dials_n == AGENT_RELAYS_MAX) return err_set(e, ERR_LIMIT, "relay: too many (at most %d)", AGENT_RELAYS_MAX);
  struct dial_address *dial = &s->dials[s->dials_n];
  int r = dial_address_parse_relay(address, dial, e);
  if (r == 0) r = dial_address_make_absolute("relay", dial, e);
  if (r == 0) s->dials_n++;
  return r;
}

int setup_set_proxy(struct setup *s, const char *url, const char *from, const char *no_proxy, struct err *e) {
  setup_drop_proxy(s);
  if (strcmp(url, "none") == 0) return 0;
  if (from == NULL) {              /* a wrong one in the environment matters only when it is to be used */
    struct http_proxy *proxy = http_proxy_new(url, e);
    if (proxy == NULL) return err_prefix(e, "proxy");
    http_proxy_free(proxy);
  }
  s->proxy = strdup(url);
  s->proxy_from = from;
  s->no_proxy = no_proxy != NULL ? strdup(no_proxy) : NULL;
  if (s->proxy != NULL && (no_proxy == NULL || s->no_proxy != NULL)) return 0;
  setup_drop_proxy(s);
  return err_set(e, ERR_NOMEM, "proxy: out of memory");
}

static bool host_is_loopback(const struct host_port *to) {
  static const char name[] = "localhost";
  size_t n = strlen(to->host), name_n = sizeof name - 1;
  struct addr address;
  char text[HOST_NAME_MAX_CHARS + 16];
  host_port_format(to, text, sizeof text);
  if (addr_parse(text, &address, NULL) == 0) return addr_is_loopback(&address);
  return n >= name_n && strcasecmp(to->host + n - name_n, name) == 0 &&
         (n == name_n || to->host[n - name_n - 1] == '.');
}

/* A Unix socket passes an end on, and no reset: inside TLS neither is taken for the other. */
static int choice_check_unix(const struct relay_choice *c, const struct setup *s, struct err *e) {
  if (s->proxy != NULL && s->proxy_from == NULL)
    return err_set(e, ERR_USAGE, "proxy: the relay at unix:%s is dialled straight (leave the proxy out, or give a "
                   "relay's HOST:PORT)", c->dial.path);
  if (s->data == SETUP_DATA_PLAIN)
    return err_set(e, ERR_USAGE,
                   "data: plain connections to the relay at unix:%s would lose resets, which Unix sockets do "
                   "not know (leave it out: they go inside TLS)",
                   c->dial.path);
  return 0;
}

static int choice_set_proxy(struct relay_choice *c, struct setup *s, struct err *e) {
  if (dial_address_is_unix(&c->dial)) return choice_check_unix(c, s, e);
  if (s->proxy == NULL || http_proxy_spares(s->no_proxy, c->dial.tcp.host)) return 0;
  if (s->proxy_from != NULL && host_is_loopback(&c->dial.tcp)) return 0;
  if (s->http_proxy == NULL) s->http_proxy = http_proxy_new(s->proxy, e);
  if (s->http_proxy == NULL) return err_prefix(e, "%s", s->proxy_from != NULL ? s->proxy_from : "proxy");
  c->proxy = s->http_proxy;
  return 0;
}

static void choice_fill(struct relay_choice *c, const struct setup_token *t, const struct token_relay *relay) {
  memset(c, 0, sizeof *c);
  c->dial.tcp = relay->dial;
  c->pin = relay->pin;
  c->token = t;
  memcpy(c->name, relay->name[0] != '\0' ? relay->name : relay->dial.host, sizeof c->name);
}

/* The token's relay that `dial` means: dialled by that host, or of that name; else the first. */
static void choice_for_dial(struct relay_choice *c, const struct setup *s, const struct dial_address *dial) {
  choice_fill(c, s->tokens[0], &s->tokens[0]->relays[0]);
  bool found = dial_address_is_unix(dial);       /* which has no name */
  for (size_t i = 0; i < s->tokens_n && !found; i++)
    for (size_t k = 0; k < s->tokens[i]->relays_n && !found; k++) {
      const struct token_relay *relay = &s->tokens[i]->relays[k];
      if (strcasecmp(relay->dial.host, dial->tcp.host) != 0 && strcasecmp(relay->name, dial->tcp.host) != 0) continue;
      choice_fill(c, s->tokens[i], relay);
      found = true;
    }
  c->dial = *dial;
  /* A public authority vouches for any name, so the one that the user dialled is the one to insist on. */
  if (!found && c->pin.kind == PIN_PUBLIC_AUTHORITIES && !host_is_ip(dial->tcp.host))
    memcpy(c->name, dial->tcp.host, sizeof c->name);
}

int setup_choices(struct setup *s, struct relay_choice **out, size_t *n, struct err *e) {
  if (s->tokens_n == 0)
    return err_set(e, ERR_USAGE, "no token: a relay is only reached with one (set ADIT_TOKEN or give a token)");
  size_t count = s->dials_n;
  if (count == 0)
    for (size_t i = 0; i < s->tokens_n; i++) count += s->tokens[i]->relays_n;
  struct relay_choice *list = calloc(count, sizeof *list);
  if (list == NULL) return err_set(e, ERR_NOMEM, "relays: out of memory");
  size_t at = 0;
  if (s->dials_n > 0) {
    for (; at < count; at++) choice_for_dial(&list[at], s, &s->dials[at]);
  } else {
    for (size_t i = 0; i < s->tokens_n; i++)
      for (size_t k = 0; k < s->tokens[i]->relays_n; k++)
        choice_fill(&list[at++], s->tokens[i], &s->tokens[i]->relays[k]);
  }
  for (size_t i = 0; i < count; i++) {
    int r = choice_set_proxy(&list[i], s, e);
    if (r == 0) continue;
    free(list);
    return r;
  }
  *out = list;
  *n = count;
  return 0;
}

/* ---- to another program and back ---- */

enum {
  EXPORT_VERSION = 1,
  EXPORT_TEXT_MAX_BYTES = 8192,    /* a path, a URL, a list of hosts */
  EXPORT_MAX_BYTES = 64 + AGENT_TOKENS_MAX * (2 + TOKEN_TEXT_MAX_CHARS) +
                     AGENT_RELAYS_MAX * (1 + DIAL_ADDRESS_TEXT_CHARS) + 4 * (3 + EXPORT_TEXT_MAX_BYTES)
};

/* Of the environment, by the names that lib/config.c looks for. */
static const char *const proxy_variables[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};

static int export_tokens(const struct setup *s, struct writer *w) {
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  int rc = 0;
  write_u8(w, (uint8_t)s->tokens_n);
  for (size_t i = 0; rc == 0 && i < s->tokens_n; i++) {
    struct token *t = token_of(s->tokens[i]);
    if (t == NULL) return ERR_NOMEM;
    rc = token_encode(t, text, sizeof text);
    if (rc == 0) write_vec16(w, text, strlen(text));
    wipe(text, sizeof text);
    wipe(t, sizeof *t);
    free(t);
  }
  return rc;
}

static void export_dials(const struct setup *s, struct writer *w) {
  char text[DIAL_ADDRESS_TEXT_CHARS];
  write_u8(w, (uint8_t)s->dials_n);
  for (size_t i = 0; i < s->dials_n; i++) {
    dial_address_format(&s->dials[i], text, sizeof text);
    write_vec16(w, text, strlen(text));
  }
}

static void export_text(const char *text, struct writer *w) {
  write_u8(w, text != NULL);
  if (text != NULL && strlen(text) > EXPORT_TEXT_MAX_BYTES) w->bad = true;
  else if (text != NULL) write_vec16(w, text, strlen(text));
}

int setup_export(const struct setup *s, struct buf *state) {
  uint8_t *at = EXPORT_MAX_BYTES <= state->max - state->len ? buf_reserve(state, EXPORT_MAX_BYTES) : NULL;
  if (at == NULL) return EXPORT_MAX_BYTES <= state->max - state->len ? ERR_NOMEM : ERR_LIMIT;
  struct writer w = writer_of(at, EXPORT_MAX_BYTES);
  write_u8(&w, EXPORT_VERSION);
  int rc = export_tokens(s, &w);
  export_dials(s, &w);
  export_text(s->ca_file, &w);
  export_text(s->proxy, &w);
  export_text(s->proxy_from, &w);
  export_text(s->no_proxy, &w);
  write_u8(&w, (uint8_t)s->data);
  write_u8(&w, s->eager);
  if (rc == 0 && w.bad) rc = ERR_LIMIT;
  if (rc == 0) buf_added(state, w.len);
  else wipe(at, EXPORT_MAX_BYTES);
  return rc;
}

/* With a NUL behind it; NULL: out of memory, or bad. */
static char *read_text(struct reader *r) {
  struct reader v = read_vec16(r);
  if (v.left > EXPORT_TEXT_MAX_BYTES || memchr(v.left > 0 ? (const char *)v.at : "", 0, v.left) != NULL) r->bad = true;
  return r->bad ? NULL : strndup(v.left > 0 ? (const char *)v.at : "", v.left);
}

static int import_text(char **to, struct reader *r) {
  if (!read_flag(r)) return r->bad ? ERR_SYNTAX : 0;
  *to = read_text(r);
  return *to != NULL ? 0 : r->bad ? ERR_SYNTAX : ERR_NOMEM;
}

static int import_words(struct setup *s, struct reader *r, int add(struct setup *, const char *, struct err *)) {
  size_t n = read_u8(r);
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < n; i++) {
    char *text = read_text(r);
    if (text == NULL) return r->bad ? ERR_SYNTAX : ERR_NOMEM;
    rc = add(s, text, NULL);
    wipe(text, strlen(text));
    free(text);
  }
  return rc == 0 || rc == ERR_NOMEM ? rc : ERR_SYNTAX;
}

/* The same name, from here. */
static int import_variable(const char **to, struct reader *r) {
  char *name = NULL;
  int rc = import_text(&name, r);
  for (size_t i = 0; name != NULL && i < ARRAY_LEN(proxy_variables); i++)
    if (strcmp(name, proxy_variables[i]) == 0) *to = proxy_variables[i];
  if (rc == 0 && name != NULL && *to == NULL) rc = ERR_SYNTAX;
  free(name);
  return rc;
}

int setup_import(struct setup *s, struct reader *r) {
  int rc = read_u8(r) == EXPORT_VERSION ? import_words(s, r, setup_add_token) : ERR_SYNTAX;
  if (rc == 0) rc = import_words(s, r, setup_add_relay);
  if (rc == 0) rc = import_text(&s->ca_file, r);
  if (rc == 0) rc = import_text(&s->proxy, r);
  if (rc == 0) rc = import_variable(&s->proxy_from, r);
  if (rc == 0) rc = import_text(&s->no_proxy, r);
  unsigned data = read_u8(r);
  s->eager = read_flag(r);
  if (rc == 0 && (!reader_done(r) || data > SETUP_DATA_TLS)) rc = ERR_SYNTAX;
  s->data = rc == 0 ? (enum setup_data)data : SETUP_DATA_AUTO;
  return rc;
}
