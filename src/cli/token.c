/* `adit token create | list | revoke`: works on a relay's state folder, whether or not the relay runs, and tells it
   nothing: the relay looks. The hard thing is what a token must say of a relay that has never run: then the folder is
   told its domain here. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/domain.h"
#include "cli/token.h"
#include "relay/issue.h"

struct token_arguments {
  const char *state, *domain;
  struct option_list relays;
  uint64_t expires_ms, max_tunnels;
};

#define AT(member) .offset = offsetof(struct token_arguments, member)
#define STATE_ROW \
  {.name = "state", .value = "DIR", .kind = OPTION_TEXT, AT(state), \
   .help = "The relay's state folder (default: /var/lib/adit)."}
static const struct option_row create_rows[] = {
  STATE_ROW,
  {.name = "relay", .value = "[NAME=]HOST:PORT", .kind = OPTION_LIST, AT(relays),
   .help = "The address that agents dial (default: the relay's public address). NAME is the relay's own name where it "
           "is not the state's, for a token good at several relays with public certificates."},
  {.name = "domain", .value = "NAME", .kind = OPTION_TEXT, AT(domain),
   .help = "The relay's own name, where the relay has never run with this state folder."},
  {.name = "expires", .value = "DURATION", .kind = OPTION_DURATION, AT(expires_ms), .min = 1000,
   .max = 100ULL * 365 * 24 * 3600 * 1000,
   .help = "How long the token is good: 12h, 30d (default: until it is revoked)."},
  {.name = "max-tunnels", .value = "N", .kind = OPTION_NUMBER, AT(max_tunnels), .min = 1, .max = LINK_TUNNELS_MAX,
   .help = "Tunnels that may be open with it at once (default: 100)."},
};
static const struct option_row state_rows[] = {STATE_ROW};

static int64_t now_s(void) { return (int64_t)time(NULL); }

/* The one word that the command takes, or none. */
static int check_words(const struct command *c, const struct options_parsed *parsed, size_t n, struct err *e) {
  if (parsed->words_n > n || parsed->rest != NULL)
    return err_set(e, ERR_USAGE, "%.60s: unexpected (see adit %s --help)",
                   parsed->words_n > n ? parsed->words[n] : "--", c->name);
  if (parsed->words_n < n) return err_set(e, ERR_USAGE, "NAME: missing (write adit %s %s)", c->name, c->words);
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

/* A folder whose relay has never run: its domain is what the user says, and its authority is made now, so that the
   relay that starts later is the one that the token pins. */
static int introduce_domain(struct state *s, const struct token_arguments *a, const struct token_relay *relays,
                            size_t n, char domain[HOST_NAME_MAX_CHARS + 1], struct err *e) {
  const char *name = a->domain;
  if (name == NULL && n > 0 && relays[0].name[0] != 0) name = relays[0].name;
  if (name == NULL && n > 0 && !host_is_ip(relays[0].dial.host) && strchr(relays[0].dial.host, '.') != NULL)
    name = relays[0].dial.host;
  if (name == NULL)
    return err_set(e, ERR_USAGE, "--domain: missing, and the relay has never run with this state folder (give the "
                                 "relay's own name: --domain r1.example.com)");
  if (domain_check(name, e) != 0) return err_prefix(e, "%s", a->domain != NULL ? "--domain" : "--relay");
  (void)snprintf(domain, HOST_NAME_MAX_CHARS + 1, "%s", name);
  return state_set(s, "domain", domain, e);
}

static int find_domain(struct state *s, const struct token_arguments *a, const struct token_relay *relays, size_t n,
                       char domain[HOST_NAME_MAX_CHARS + 1], struct err *e) {
  int code = state_get(s, "domain", domain, HOST_NAME_MAX_CHARS + 1, e);
  if (code == ERR_NOT_NOW) return introduce_domain(s, a, relays, n, domain, e);
  if (code != 0) return code;
  if (a->domain != NULL && strcmp(a->domain, domain) != 0)
    return err_set(e, ERR_USAGE, "--domain %.60s: this state folder is that of %s (give the other relay's --state)",
                   a->domain, domain);
  return 0;
}

/* The pin that the relay left in its state, or that of the authority that it will make its certificates with. */
static int find_pin(struct state *s, const char *domain, struct pin *pin, struct err *e) {
  char text[2 * SHA256_BYTES + 16];
  int code = state_get(s, "pin", text, sizeof text, e);
  if (code == 0) return token_parse_pin(text, pin, e);
  if (code != ERR_NOT_NOW) return code;
  struct authority *authority;
  code = state_authority(s, domain, &authority, e);
  if (code != 0) return code;
  pin->kind = PIN_SPKI_SHA256;
  if (authority_pin(authority, pin->spki_sha256) != 0)
    code = err_set(e, ERR_CRYPTO, "authority: its key could not be hashed");
  authority_free(authority);
  return code;
}

int token_parse_pin(const char *text, struct pin *pin, struct err *e) {
  memset(pin, 0, sizeof *pin);
  if (strcmp(text, "public") == 0) {
    pin->kind = PIN_PUBLIC_AUTHORITIES;
    return 0;
  }
  pin->kind = PIN_SPKI_SHA256;
  if (strncmp(text, "sha256:", 7) == 0) text += 7;
  if (strlen(text) == 2 * SHA256_BYTES && hex_decode(text, pin->spki_sha256, SHA256_BYTES) == 0) return 0;
  return err_set(e, ERR_NOT_NOW, "state: the relay's pin in it is malformed (start the relay once with this state "
                                 "folder)");
}

/* The address that the relay is reached by: what it announced at its start, else its domain at the usual port. */
static int find_public(struct state *s, const char *domain, struct token_relay *relay, struct err *e) {
  char text[HOST_NAME_MAX_CHARS + 16];
  int code = state_get(s, "public", text, sizeof text, e);
  if (code == ERR_NOT_NOW) return host_port_parse(domain, 443, &relay->dial, e);
  return code == 0 ? host_port_parse(text, 443, &relay->dial, e) : code;
}

static int find_relays(struct state *s, const struct token_arguments *a, struct token_relay *relays, size_t *n,
                       struct err *e) {
  char domain[HOST_NAME_MAX_CHARS + 1];
  struct pin pin = {0};
  if (a->relays.n > TOKEN_RELAYS_MAX)
    return err_set(e, ERR_USAGE, "--relay: given more than %d times", TOKEN_RELAYS_MAX);
  for (*n = 0; *n < a->relays.n; (*n)++)
    if (token_parse_relay(a->relays.at[*n], &relays[*n], e) != 0) return e->code;
  int code = find_domain(s, a, relays, *n, domain, e);
  if (code == 0) code = find_pin(s, domain, &pin, e);
  if (code == 0 && *n == 0) {
    memset(&relays[0], 0, sizeof relays[0]);
    code = find_public(s, domain, &relays[0], e);
    *n = 1;
  }
  for (size_t i = 0; code == 0 && i < *n; i++) {
    relays[i].pin = pin;
    if (relays[i].name[0] == 0) (void)snprintf(relays[i].name, sizeof relays[i].name, "%s", domain);
  }
  return code;
}

static int create(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  struct token_relay relays[TOKEN_RELAYS_MAX];
  char word[TOKEN_TEXT_MAX_CHARS + 1];
  int64_t now = now_s();
  struct issue_request request = {.name = name, .max_tunnels = (uint32_t)a->max_tunnels, .relays = relays,
    .expires_s = a->expires_ms == 0 ? 0 : now + (int64_t)(a->expires_ms / 1000)};
  int code = find_relays(s, a, relays, &request.relays_n, e);
  if (code == 0) code = issue_token(s, &request, now, word, e);
  if (code != 0) return code;
  if (puts(word) < 0 || fflush(stdout) != 0) code = err_set_errno(e, "standard output");
  wipe(word, sizeof word);
  return code;
}

static void format_date(int64_t at_s, char *out, size_t cap) {
  time_t t = (time_t)at_s;
  struct tm tm;
  if (at_s <= 0 || gmtime_r(&t, &tm) == NULL || strftime(out, cap, "%Y-%m-%d %H:%M", &tm) == 0)
    (void)snprintf(out, cap, "never");
}

void token_put_row(FILE *to, const struct state_token *t, int64_t at_s) {
  char id[2 * TOKEN_ID_BYTES + 1], issued[32], expires[32];
  const char *state = t->revoked_s != 0 ? "revoked" : t->expires_s != 0 && t->expires_s <= at_s ? "expired" : "live";
  hex_encode(t->id, TOKEN_ID_BYTES, id);
  format_date(t->issued_s, issued, sizeof issued);
  format_date(t->expires_s, expires, sizeof expires);
  (void)fprintf(to, "%-24s %s %7" PRIu32 "  %-16s  %-16s  %s\n", t->name, id, t->max_tunnels, issued, expires, state);
}

static int put_each(void *user, const struct state_token *t) {
  size_t *count = user;
  if ((*count)++ == 0)
    (void)printf("%-24s %-32s %7s  %-16s  %-16s  %s\n", "NAME", "ID", "TUNNELS", "ISSUED (UTC)", "EXPIRES (UTC)",
                 "STATE");
  token_put_row(stdout, t, now_s());
  return 0;
}

static int list(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  (void)a;
  (void)name;
  size_t count = 0;
  int code = state_token_list(s, put_each, &count, e);
  if (code != 0) return code;
  if (count == 0) (void)fputs("adit: no tokens yet (adit token create NAME makes one)\n", stderr);
  return fflush(stdout) == 0 ? 0 : err_set_errno(e, "standard output");
}

static int revoke(struct state *s, const struct token_arguments *a, const char *name, struct err *e) {
  (void)a;
  return state_token_revoke(s, name, now_s(), e);
}

/* What is wrong in the arguments themselves is found before a folder is made. */
static int check_create(const struct token_arguments *a, const char *name, struct err *e) {
  struct token_relay relay;
  int code = token_check_name(name, e);
  if (code == 0 && a->domain != NULL && (code = domain_check(a->domain, e)) != 0) (void)err_prefix(e, "--domain");
  for (size_t i = 0; code == 0 && i < a->relays.n; i++) code = token_parse_relay(a->relays.at[i], &relay, e);
  return code;
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
  if (code == 0 && act == create) code = check_create(&a, parsed.words[0], &e);
  if (code == 0 && act == revoke) code = token_check_name(parsed.words[0], &e);
  /* Only creating may make the folder: elsewhere a mistyped --state would look like one without tokens. */
  if (code == 0 && act != create && stat(a.state, &(struct stat){0}) != 0)
    code = err_set(&e, ERR_IO, "state folder %.200s: %s (give the relay's with --state)", a.state, strerror(errno));
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
  return with_state(self, argc, argv, 1, create);
}

static int list_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  return with_state(self, argc, argv, 0, list);
}

static int revoke_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  return with_state(self, argc, argv, 1, revoke);
}

const struct command command_token_create = {
  .name = "token create",
  .words = "NAME",
  .brief = "issue a token and print it",
  .purpose = "issue a token and print it, one word, on stdout.\n"
             "It holds a private key and is shown only once; the relay need not run or restart.",
  .examples = "adit token create laptop\n"
              "adit token create ci --expires 30d --max-tunnels 5\n"
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
  .examples = "adit token list\nadit token list --state ./state",
  .options = state_rows,
  .options_n = ARRAY_LEN(state_rows),
  .run = list_main,
};

const struct command command_token_revoke = {
  .name = "token revoke",
  .words = "NAME",
  .brief = "revoke a token",
  .purpose = "revoke a token, by its name or id.\n"
             "Its tunnels and streams are closed within a second; no restart is needed.",
  .examples = "adit token revoke laptop",
  .options = state_rows,
  .options_n = ARRAY_LEN(state_rows),
  .run = revoke_main,
};
