/* `adit token narrow`: a token for somebody who is to do less, made from one's own where that is, without the relay. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "adit.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/token.h"
#include "cli/token_file.h"

struct narrow_arguments {
  const char *token_file, *name;
  struct option_list allow;
  uint64_t expires_ms, max_tunnels, max_streams, max_visitors_per_s, max_rate;
  bool no_raw, json;
};

#define AT(member) .offset = offsetof(struct narrow_arguments, member)
static const struct option_row narrow_rows[] = {
  {.name = "name", .value = "NAME", .kind = OPTION_TEXT, AT(name),
   .help = "What it is called in the relay's log and in adit status, behind the name of the token that it is from."},
  {.name = "expires", .value = "DURATION", .kind = OPTION_DURATION, AT(expires_ms), .min = 1000,
   .max = 100ULL * 365 * 24 * 3600 * 1000,
   .help = "How long it is good: 10m, 12h (default: as long as the other)."},
  {.name = "no-raw", .kind = OPTION_FLAG, AT(no_raw), .help = "It opens no raw TCP ports."},
  {.name = "allow", .value = "CIDR", .kind = OPTION_LIST, AT(allow),
   .help = "Its tunnels let in only visitors from this address block, which lies within those of the other if that has "
           "any."},
  {.name = "max-tunnels", .value = "N", .kind = OPTION_NUMBER, AT(max_tunnels), .min = 1, .max = LINK_TUNNELS_MAX,
   .help = "Tunnels that may be open with it at once. This limit and the next three: at most the other's, and that if "
           "not given."},
  {.name = "max-streams", .value = "N", .kind = OPTION_NUMBER, AT(max_streams), .min = 1, .max = TOKEN_STREAMS_MAX,
   .help = "Visitors of all its tunnels that may be connected at once."},
  {.name = "max-visitors-per-s", .value = "N", .kind = OPTION_NUMBER, AT(max_visitors_per_s), .min = 1,
   .max = TOKEN_VISITORS_PER_S_MAX, .help = "New visitors of all its tunnels in a second."},
  {.name = "max-rate", .value = "RATE", .kind = OPTION_RATE, AT(max_rate), .min = TOKEN_BYTES_PER_S_MIN,
   .max = RATE_MAX_GB_PER_S * 1000000000ULL,
   .help = "Bytes per second of all its streams together, both directions added: 500kB/s, 10MB/s."},
  {.name = "token-file", .value = "FILE", .kind = OPTION_TEXT, AT(token_file),
   .help = "Read the token to be narrowed from FILE (default: ADIT_TOKEN, then what adit login stored)."},
  {.name = "json", .kind = OPTION_FLAG, AT(json),
   .help = "Print a JSON object that also tells its id and what it may do."},
};

static int read_token(struct adit_config *config, const struct narrow_arguments *a, struct err *e) {
  int found = 0;
  if (a->token_file != NULL) return token_file_add(config, a->token_file, e);
  if (adit_config_load(config, &found) != 0) return err_set(e, ERR_NOT_NOW, "%s", adit_config_error(config));
  if (found) return 0;
  return err_set(e, ERR_NOT_NOW, "token: there is none to be narrowed (set ADIT_TOKEN, give --token-file, or store one "
                                 "with adit login)");
}

static void put_allow(FILE *to, const struct certificate *c) {
  (void)fputs(",\"allow\":[", to);
  for (size_t i = 0; i < c->allow_n; i++) {
    char block[CIDR_TEXT_CAP];
    cidr_format(&c->allow[i], block);
    (void)fprintf(to, "%s\"%s\"", i > 0 ? "," : "", block);
  }
  (void)fputc(']', to);
}

/* As `adit token list --json` tells of those that were issued, with the token itself and what only narrower ones
   have. */
static int put_json(FILE *to, const char *word, struct err *e) {
  struct token t;
  int code = token_decode(word, strlen(word), &t, e);
  if (code != 0) return code;
  const struct certificate *c = &t.info;
  struct state_token listed = {
      .max_tunnels = c->max_tunnels, .issued_s = c->issued_s, .expires_s = c->expires_s, .limits = c->limits};
  memcpy(listed.id, c->id, sizeof listed.id);
  memcpy(listed.name, c->name, sizeof listed.name);
  (void)fprintf(to, "{\"token\":\"%s\",", word);
  token_put_members(to, &listed, c->issued_s);
  (void)fprintf(to, ",\"raw\":%s", c->no_raw ? "false" : "true");
  put_allow(to, c);
  (void)fputs("}\n", to);
  wipe(&t, sizeof t);
  return 0;
}

static int narrow(struct adit_config *config, const struct narrow_arguments *a, struct err *e) {
  char word[ADIT_TOKEN_CAP];
  struct adit_narrow_options o = ADIT_NARROW_OPTIONS_INIT;
  o.name = a->name;
  o.expires_s = (int64_t)(a->expires_ms / 1000);
  o.max_tunnels = (uint32_t)a->max_tunnels;
  o.max_streams = (uint32_t)a->max_streams;
  o.max_visitors_per_s = (uint32_t)a->max_visitors_per_s;
  o.max_rate = a->max_rate;
  o.no_raw = a->no_raw;
  o.allow = a->allow.at;
  o.allow_n = a->allow.n;
  int code = read_token(config, a, e);
  if (code != 0) return code;
  code = adit_config_narrow(config, &o, word, sizeof word);
  if (code != 0) return err_set(e, code == ADIT_EINVAL ? ERR_USAGE : ERR_NOT_NOW, "%s", adit_config_error(config));
  if (a->json) code = put_json(words_out(), word, e);
  else (void)fprintf(words_out(), "%s\n", word);
  wipe(word, sizeof word);
  return code;
}

static int narrow_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  struct narrow_arguments a = {0};
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  (void)start_us;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  if (parsed.words_n > 0 || parsed.rest != NULL) {
    (void)err_set(&e, ERR_USAGE, "token narrow: takes only options (give the token by ADIT_TOKEN or --token-file)");
    return command_fail(&e);
  }
  struct adit_config *config = adit_config_new();
  int code = config != NULL ? narrow(config, &a, &e) : err_set(&e, ERR_NOMEM, "out of memory");
  adit_config_free(config);
  return code == 0 ? EXIT_STATUS_OK : command_fail(&e);
}

const struct command command_token_narrow = {
  .name = "token narrow",
  .words = "",
  .brief = "make a token for less from one's own",
  .purpose = "make a token that may do less than one's own, and print it, one word, on\n"
             "stdout. No relay is asked. What is opened with it counts for one's own, too,\n"
             "and ends with it.",
  .examples = "adit token narrow --expires 10m --max-tunnels 1 --name job-7\n"
              "adit token narrow --no-raw --allow 192.0.2.0/24 --token-file ci.token",
  .options = narrow_rows,
  .options_n = ARRAY_LEN(narrow_rows),
  .run = narrow_main,
};
