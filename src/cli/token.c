/* `adit token create | list | revoke`: works on a relay's state folder, whether or not the relay runs, and tells it
   nothing: the relay looks. A relay that has never run is named in its tokens all the same: the folder is told its
   domain here, and the authority is made with which the relay will make its certificates. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/json_text.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/domain.h"
#include "cli/json.h"
#include "cli/token.h"
#include "relay/issue.h"

struct token_arguments {
  const char *state, *domain;
  struct option_list relays;
  uint64_t expires_ms, max_tunnels, max_streams, max_visitors_per_s, max_rate;
  bool json;
};

#define AT(member) .offset = offsetof(struct token_arguments, member)
#define STATE_ROW \
  {.name = "state", .value = "DIR", .kind = OPTION_TEXT, AT(state), \
   .help = "The relay's state folder (default: /var/lib/adit)."}
static const struct option_row create_rows[] = {
  STATE_ROW,
  {.name = "relay", .value = "[NAME=]HOST:PORT", .kind = OPTION_LIST, AT(relays),
   .help = "The address that agents dial (default: the relay's public address). NAME is the relay's own name where it "
           "is not the state's, for a token good at several relays that run with --cert."},
  {.name = "domain", .value = "NAME", .kind = OPTION_TEXT, AT(domain),
   .help = "The relay's own name, where it has never run with this state folder, which is then made."},
  {.name = "expires", .value = "DURATION", .kind = OPTION_DURATION, AT(expires_ms), .min = 1000,
   .max = 100ULL * 365 * 24 * 3600 * 1000,
   .help = "How long the token is good: 12h, 30d (default: until it is revoked)."},
  {.name = "max-tunnels", .value = "N", .kind = OPTION_NUMBER, AT(max_tunnels), .min = 1, .max = LINK_TUNNELS_MAX,
   .help = "Tunnels that may be open with it at once (default: 100)."},
  {.name = "max-streams", .value = "N", .kind = OPTION_NUMBER, AT(max_streams), .min = 1, .max = TOKEN_STREAMS_MAX,
   .help = "Visitors of all its tunnels that may be connected at once (default: what the relay gives everybody)."},
  {.name = "max-visitors-per-s", .value = "N", .kind = OPTION_NUMBER, AT(max_visitors_per_s), .min = 1,
   .max = TOKEN_VISITORS_PER_S_MAX,
   .help = "New visitors of all its tunnels in a second (default: what the relay gives everybody)."},
  {.name = "max-rate", .value = "RATE", .kind = OPTION_RATE, AT(max_rate), .min = TOKEN_BYTES_PER_S_MIN,
   .max = RATE_MAX_GB_PER_S * 1000000000ULL,
   .help = "Bytes per second of all its streams together, both directions added: 500kB/s, 10MB/s (default: no limit). "
           "What is beyond it waits."},
};
static const struct option_row list_rows[] = {
  STATE_ROW,
  {.name = "json", .kind = OPTION_FLAG, AT(json), .help = "Print each token as a JSON object, one a line."},
};
static const struct option_row revoke_rows[] = {STATE_ROW};

static int64_t now_s(void) { return (int64_t)time(NULL); }

/* The one word that the command takes, or none. */
static int check_words(const struct command *c, const struct options_parsed *parsed, size_t n, struct err *e) {
  if (parsed->words_n > n || parsed->rest != NULL)
    return err_set(e, ERR_USAGE, "%.60s: unexpected (see adit %s --help)",
                   parsed->words_n > n ? parsed->words[n] : "--", c->name);
  if (parsed->words_n < n) return err_set(e, ERR_USAGE, "%s: missing (write adit %s %s)", c->words, c->name, c->words);
  return 0;
}

int token_check_name(const char *name, struct err *e) {
  size_t n = strlen(name);
  if (n == 0 || n > TOKEN_NAME_MAX_CHARS)
    return err_set(e, ERR_USAGE, "NAME: it has %zu characters (1 to %d are possible)", n, TOKEN_NAME_MAX_CHARS);
  for (size_t i = 0; i < n; i++)
    if (name[i] <= ' ' || name[i] > '~')
      return err_set(e, ERR_USAGE, "NAME: it has a space or a character that is not ASCII (use letters, digits and "
                                   "hyphens)");
  return 0;
}

int token_parse_relay(const char *text, struct token_relay *out, struct err *e) {
  const char *equals = strchr(text, '='), *dial = text;
  memset(out, 0, sizeof *out);
  if (equals != NULL) {
    size_t n = (size_t)(equals - text);
    if (n >= sizeof out->name) return err_set(e, ERR_USAGE, "--relay %.60s: the name is too long", text);
    memcpy(out->name, text, n);
    if (n == 0) return err_set(e, ERR_USAGE, "--relay %.60s: no domain name before '=' (leave out '=')", text);
    if (domain_check(out->name, e) != 0) return err_prefix(e, "--relay");
    dial = equals + 1;
  }
  struct err why = {0};
  if (host_port_parse(dial, 443, &out->dial, &why) != 0) return err_set(e, ERR_USAGE, "--relay %s", why.text);
  return 0;
}

static int no_relay(const char *state, struct err *e) {
  return err_set(e, ERR_NOT_NOW,
                 "state folder %.200s: no relay has run with it (give the relay's folder with --state, or, before the "
                 "relay's first run, its name with --domain r1.example.com)", state);
}

/* The relay whose state this is; before its first run the user says its name. */
static int find_own(struct state *s, const struct token_arguments *a, struct token_relay *own, struct err *e) {
  int code = issue_relay_recall(s, own, e);
  if (code == ERR_NOT_NOW) return a->domain == NULL ? no_relay(a->state, e) : issue_relay_foresee(s, a->domain, own, e);
  if (code == 0 && a->domain != NULL && strcmp(a->domain, own->name) != 0)
    return err_set(e, ERR_USAGE, "--domain %.60s: this state folder is that of %s (give the other relay's --state)",
                   a->domain, own->name);
  return code;
}

/* Whether a token that is made now pins the authority that the relay makes its certificates with, and not one that came
   by --cert. */
static bool pins_own_authority(const char *state, const struct pin *pin) {
  char path[PATH_MAX], *pem;
  uint8_t own[SHA256_BYTES];
  bool self_signed;
  size_t n;
  if (pin->kind != PIN_SPKI_SHA256) return false;
  if ((size_t)snprintf(path, sizeof path, "%s/authority.pem", state) >= sizeof path) return false;
  if (config_read(path, STATE_FILE_MAX_BYTES, &pem, &n, NULL) != 0) return false;
  int code = authority_pin_of_chain(pem, n, own, &self_signed, NULL);
  free(pem);
  return code == 0 && memcmp(own, pin->spki_sha256, sizeof own) == 0;
}

/* That authority vouches for its own domain only, and another relay's has another key. */
static int check_relay_names(const struct token_relay *relays, size_t n, const char *domain, struct err *e) {
  for (size_t i = 0; i < n; i++)
    if (relays[i].name[0] != 0 && strcmp(relays[i].name, domain) != 0)
      return err_set(e, ERR_USAGE,
                     "--relay %.60s=...: the token pins the authority that %.60s made for itself, which vouches for no "
                     "other name (run all relays with --cert: a public certificate each, or one for all names)",
                     relays[i].name, domain);
  return 0;
}

static int parse_relays(const struct token_arguments *a, struct token_relay *relays, struct err *e) {
  if (a->relays.n > TOKEN_RELAYS_MAX)
    return err_set(e, ERR_USAGE, "--relay: given more than %d times (leave some out)", TOKEN_RELAYS_MAX);
  for (size_t i = 0; i < a->relays.n; i++)
    if (token_parse_relay(a->relays.at[i], &relays[i], e) != 0) return e->code;
  return 0;
}

static int find_relays(struct state *s, const struct token_arguments *a, struct token_relay *relays, size_t *n,
                       struct err *e) {
  struct token_relay own;
  *n = a->relays.n;
  int code = parse_relays(a, relays, e);
  if (code == 0) code = find_own(s, a, &own, e);
  if (code == 0 && pins_own_authority(a->state, &own.pin)) code = check_relay_names(relays, *n, own.name, e);
  if (code != 0) return code;
  if (*n == 0) relays[(*n)++] = own;
  for (size_t i = 0; i < *n; i++) {
    relays[i].pin = own.pin;
    if (relays[i].name[0] == 0) memcpy(relays[i].name, own.name, sizeof own.name);
  }
  return 0;
}

/* Prints it. What nobody can have read must not stay good, with nobody to revoke it. */
static int deliver_token(struct state *s, const uint8_t id[TOKEN_ID_BYTES], const char *word, struct err *e) {
  char id_text[2 * TOKEN_ID_BYTES + 1];
  (void)fprintf(words_out(), "%s\n", word);
  if (words_deliver(e) == 0) return 0;
  hex_encode(id, TOKEN_ID_BYTES, id_text);
  bool revoked = state_token_revoke(s, id_text, now_s(), NULL) == 0;
  size_t n = strlen(e->text);
  (void)snprintf(e->text + n, sizeof e->text - n, revoked ? " (the token is revoked again, as nobody has it; try again)"
                                                          : " (nobody has the token: adit token revoke %s)", id_text);
  return e->code;
}

static int create_token(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  struct token_relay relays[TOKEN_RELAYS_MAX];
  char word[TOKEN_TEXT_MAX_CHARS + 1];
  uint8_t id[TOKEN_ID_BYTES];
  int64_t now = now_s();
  struct issue_request request = {.name = name, .id = id, .max_tunnels = (uint32_t)a->max_tunnels, .relays = relays,
    .expires_s = a->expires_ms == 0 ? 0 : now + (int64_t)(a->expires_ms / 1000),
    .limits = {.max_streams = (uint32_t)a->max_streams, .max_visitors_per_s = (uint32_t)a->max_visitors_per_s,
               .max_bytes_per_s = a->max_rate}};
  int code = find_relays(s, a, relays, &request.relays_n, e);
  if (code == 0 && random_bytes(id, sizeof id) != 0)
    code = err_set(e, ERR_CRYPTO, "token: no random numbers can be had (check the system's crypto library)");
  if (code == 0) code = issue_token(s, &request, now, word, e);
  if (code != 0) return code;
  code = deliver_token(s, id, word, e);
  wipe(word, sizeof word);
  return code;
}

static void format_date(int64_t at_s, char *out, size_t cap) {
  time_t t = (time_t)at_s;
  struct tm tm;
  if (at_s <= 0 || gmtime_r(&t, &tm) == NULL || strftime(out, cap, "%Y-%m-%d %H:%M", &tm) == 0)
    (void)snprintf(out, cap, "never");
}

static const char *state_word(const struct state_token *t, int64_t at_s) {
  return t->revoked_s != 0 ? "revoked" : t->expires_s != 0 && t->expires_s <= at_s ? "expired" : "live";
}

/* A limit's column; 0, which is none, is a dash. */
static void format_limit(uint32_t limit, char *out, size_t cap) {
  if (limit == 0) (void)snprintf(out, cap, "-");
  else (void)snprintf(out, cap, "%" PRIu32, limit);
}

static void put_columns(FILE *to, const char *const text[9]) {
  (void)fprintf(to, "%-24s %-32s %7s %7s %10s %10s  %-16s  %-16s  %s\n", text[0], text[1], text[2], text[3], text[4],
                text[5], text[6], text[7], text[8]);
}

static void put_head(void) {
  put_columns(words_out(), (const char *const[9]){"NAME", "ID", "TUNNELS", "STREAMS", "VISITORS/s", "RATE",
                                                  "ISSUED (UTC)", "EXPIRES (UTC)", "STATE"});
}

void token_put_row(FILE *to, const struct state_token *t, int64_t at_s) {
  char id[2 * TOKEN_ID_BYTES + 1], issued[32] = "-", expires[32] = "-", tunnels[16], streams[16], visitors[16],
                                   rate[32] = "-";
  bool ours = t->name[0] != 0;
  hex_encode(t->id, TOKEN_ID_BYTES, id);
  format_limit(t->max_tunnels, tunnels, sizeof tunnels);
  format_limit(t->limits.max_streams, streams, sizeof streams);
  format_limit(t->limits.max_visitors_per_s, visitors, sizeof visitors);
  if (t->limits.max_bytes_per_s != 0) text_of_rate(t->limits.max_bytes_per_s, rate, sizeof rate);
  if (ours) format_date(t->issued_s, issued, sizeof issued);
  if (ours) format_date(t->expires_s, expires, sizeof expires);
  put_columns(to, (const char *const[9]){ours ? t->name : "(not issued here)", id, tunnels, streams, visitors, rate,
                                         issued, expires, state_word(t, at_s)});
}

/* 0 is none. */
static void put_json_number(FILE *to, const char *key, int64_t v) {
  if (v == 0) (void)fprintf(to, ",\"%s\":null", key);
  else (void)fprintf(to, ",\"%s\":%" PRId64, key, v);
}

void token_put_members(FILE *to, const struct state_token *t, int64_t at_s) {
  char id[2 * TOKEN_ID_BYTES + 1];
  hex_encode(t->id, TOKEN_ID_BYTES, id);
  (void)fputs("\"name\":", to);
  json_put_text(to, t->name[0] != 0 ? t->name : NULL);
  (void)fprintf(to, ",\"id\":\"%s\",\"state\":\"%s\"", id, state_word(t, at_s));
  put_json_number(to, "max_tunnels", t->max_tunnels);
  put_json_number(to, "max_streams", t->limits.max_streams);
  put_json_number(to, "max_visitors_per_s", t->limits.max_visitors_per_s);
  put_json_number(to, "max_bytes_per_s", (int64_t)t->limits.max_bytes_per_s);
  put_json_number(to, "issued_at_s", t->issued_s);
  put_json_number(to, "expires_at_s", t->expires_s);
  put_json_number(to, "revoked_at_s", t->revoked_s);
}

void token_put_json(FILE *to, const struct state_token *t, int64_t at_s) {
  (void)fputc('{', to);
  token_put_members(to, t, at_s);
  (void)fputs("}\n", to);
}

struct listing { bool json; size_t count; };

static int put_each(void *user, const struct state_token *t) {
  struct listing *l = user;
  if (l->json) {
    token_put_json(words_out(), t, now_s());
    return 0;
  }
  if (l->count++ == 0) put_head();
  token_put_row(words_out(), t, now_s());
  return 0;
}

static int list_tokens(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  (void)name;
  struct listing l = {.json = a->json};
  int code = state_token_list(s, put_each, &l, e);
  if (code != 0) return code;
  if (l.count == 0 && !l.json) (void)fputs("adit: no tokens yet (adit token create NAME makes one)\n", words_err());
  return 0;
}

/* Of the tokens that were just revoked by this name or id: which they are. Whoever mistypes an id would otherwise take
   the silence for success. */
static int tell_revoked(void *user, const struct state_token *t) {
  const char *name_or_id = user;
  char id[2 * TOKEN_ID_BYTES + 1];
  hex_encode(t->id, TOKEN_ID_BYTES, id);
  if (strcasecmp(name_or_id, id) != 0 && strcmp(name_or_id, t->name) != 0) return 0;
  if (t->name[0] != 0)
    (void)fprintf(words_err(), "adit: token %s, id %s: revoked\n", t->name, id);
  else
    (void)fprintf(words_err(), "adit: token id %s: not issued here; refused from now on\n", id);
  return 0;
}

static int revoke_token(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  (void)a;
  char wanted[TOKEN_NAME_MAX_CHARS + 1];
  (void)snprintf(wanted, sizeof wanted, "%s", name);
  int code = state_token_revoke(s, name, now_s(), e);
  return code == 0 ? state_token_list(s, tell_revoked, wanted, e) : code;
}

/* What is wrong in the arguments is found before anything is made. */
static int check_create(const struct token_arguments *a, const char *name, struct err *e) {
  struct token_relay relays[TOKEN_RELAYS_MAX];
  uint8_t id[TOKEN_ID_BYTES];
  int code = token_check_name(name, e);
  if (code == 0 && hex_decode(name, id, sizeof id) == 0)
    code = err_set(e, ERR_USAGE,
                   "NAME: it looks like the id of a token, by which it could be revoked (choose another)");
  if (code == 0 && a->domain != NULL && (code = domain_check(a->domain, e)) != 0) (void)err_prefix(e, "--domain");
  if (code == 0) code = parse_relays(a, relays, e);
  if (code != 0 || state_was_used(a->state)) return code;
  return a->domain == NULL ? no_relay(a->state, e) : check_relay_names(relays, a->relays.n, a->domain, e);
}

/* Opens the state folder and does one thing with it. */
static int with_state(const struct command *self, int argc, char **argv, size_t words_n,
                      int (*act)(struct state *s, const struct token_arguments *a, const char *name, struct err *e)) {
  struct token_arguments a = {.state = STATE_DIR_DEFAULT};
  struct options_parsed parsed;
  struct err e = {0};
  struct state *s;
  int status;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  int code = check_words(self, &parsed, words_n, &e);
  if (code == 0 && act == create_token) code = check_create(&a, parsed.words[0], &e);
  if (code == 0 && act == revoke_token) code = token_check_name(parsed.words[0], &e);
  /* A mistyped --state would look like a folder without tokens. */
  if (code == 0 && act != create_token && !state_was_used(a.state))
    code = err_set(&e, ERR_NOT_NOW, "state folder %.200s: no relay has run with it (give the relay's with --state)",
                   a.state);
  if (code == 0) {
    code = state_open(a.state, &s, &e);
    if (code == 0) {
      code = act(s, &a, words_n > 0 ? parsed.words[0] : NULL, &e);
      state_close(s);
    }
  }
  if (code == 0) return EXIT_STATUS_OK;
  status = command_fail(&e);
  return code == ERR_SYNTAX ? EXIT_STATUS_FAILED : status;  /* the arguments were right, the state's files are not */
}

static int create_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  return with_state(self, argc, argv, 1, create_token);
}

static int list_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  return with_state(self, argc, argv, 0, list_tokens);
}

static int revoke_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  return with_state(self, argc, argv, 1, revoke_token);
}

const struct command command_token_create = {
  .name = "token create",
  .words = "NAME",
  .brief = "issue a token and print it",
  .purpose = "issue a token and print it, one word, on stdout.\n"
             "It holds a private key and is shown only once; the relay need not run or restart.",
  .examples = "adit token create laptop\n"
              "adit token create ci --expires 30d --max-tunnels 5\n"
              "adit token create guest --max-streams 100 --max-visitors-per-s 20 --max-rate 10MB/s\n"
              "adit token create laptop --state ./state --relay r1.example.com:8443",
  .options = create_rows,
  .options_n = ARRAY_LEN(create_rows),
  .run = create_main,
};

const struct command command_token_list = {
  .name = "token list",
  .words = "",
  .brief = "list issued tokens",
  .purpose = "list the tokens that were issued from a state folder,\n"
             "with their limits and whether they are live, expired or revoked.",
  .examples = "adit token list\nadit token list --state ./state --json",
  .options = list_rows,
  .options_n = ARRAY_LEN(list_rows),
  .run = list_main,
};

const struct command command_token_revoke = {
  .name = "token revoke",
  .words = "NAME|ID",
  .brief = "revoke a token",
  .purpose = "revoke a token, by its name or id, and tell which.\n"
             "Its tunnels and streams end within a second. Each relay that takes it must be told.",
  .examples = "adit token revoke laptop\n"
              "adit token revoke 2f1c09e5d8b64a7fb3a0c41d9e7765f0   where another relay issued it",
  .options = revoke_rows,
  .options_n = ARRAY_LEN(revoke_rows),
  .run = revoke_main,
};
