/* `adit token revoke-narrowed`: a token that was made by `adit token narrow` is to be good no more. Its maker says so
   to the relay, by the right of the token that it is from. */
#include <string.h>

#include "adit.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/prompt.h"
#include "cli/token_file.h"

struct revoke_arguments {
  const char *token_file, *ca;
  struct option_list relays;
};

#define AT(member) .offset = offsetof(struct revoke_arguments, member)
static const struct option_row revoke_rows[] = {
  {.name = "token-file", .value = "FILE", .kind = OPTION_TEXT, AT(token_file),
   .help = "Read the token that it is from from FILE (default: ADIT_TOKEN, then what adit login stored)."},
  {.name = "relay", .value = "HOST:PORT", .kind = OPTION_LIST, AT(relays),
   .help = "Tell this relay, and each that is given so (default: the nearest of those in the token, or ADIT_RELAY)."},
  {.name = "ca", .value = "FILE", .kind = OPTION_TEXT, AT(ca),
   .help = "PEM authorities to trust, instead of the system's, for relays with a public certificate."},
};

static int configure(struct adit_config *config, const struct revoke_arguments *a, const char *relay, struct err *e) {
  int found = 0;
  int code = a->token_file != NULL ? token_file_add(config, a->token_file, e) : 0;
  if (code != 0) return code;
  code = relay != NULL ? adit_config_add_relay(config, relay) : 0;
  if (code != 0) return err_set(e, ERR_USAGE, "--relay: %s", adit_config_error(config));
  if (a->ca != NULL) code = adit_config_set_ca_file(config, a->ca);
  if (code == 0) code = adit_config_load(config, &found);
  if (code != 0) return err_set(e, ERR_NOT_NOW, "%s", adit_config_error(config));
  if (found) return 0;
  return err_set(e, ERR_NOT_NOW, "token: that which it is from is missing (set ADIT_TOKEN, give --token-file, or store "
                                 "it with adit login)");
}

static int revoke(struct adit_config *config, const char *narrowed, struct err *e) {
  struct adit_client *client = adit_client_new(config);
  if (client == NULL) return err_set(e, ERR_NOT_NOW, "%s", adit_config_error(config));
  int code = adit_client_revoke(client, narrowed, 0, LOGIN_DEADLINE_MS);
  if (code == 0) {
    const char *relay = adit_client_relay(client);
    (void)fprintf(words_err(), "adit: revoked at %s\n", relay != NULL ? relay : "the relay");
  } else {
    code = err_set(e, code == ADIT_EINVAL ? ERR_USAGE : ERR_NOT_NOW, "%s", adit_error(NULL));
  }
  adit_client_close(client, 0);
  return code;
}

static int revoke_at(const struct revoke_arguments *a, const char *relay, const char *narrowed, struct err *e) {
  struct adit_config *config = adit_config_new();
  if (config == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  int code = configure(config, a, relay, e);
  if (code == 0) code = revoke(config, narrowed, e);
  adit_config_free(config);
  return code;
}

/* Each relay is told, also if one before it has not heard; what is told is the first failure. */
static int revoke_everywhere(const struct revoke_arguments *a, const char *narrowed, struct err *e) {
  if (a->relays.n == 0) return revoke_at(a, NULL, narrowed, e);
  int code = 0;
  for (size_t i = 0; i < a->relays.n; i++) {
    struct err here = {0};
    int rc = revoke_at(a, a->relays.at[i], narrowed, &here);
    if (rc == 0 || code != 0) continue;
    code = rc;
    *e = here;
  }
  return code;
}

static int take_narrowed(const struct options_parsed *parsed, char *text, size_t cap, struct err *e) {
  if (parsed->words_n != 1 || parsed->rest != NULL)
    return err_set(e, ERR_USAGE, "token revoke-narrowed: takes one word (give an ID, or - to read the token from "
                                 "standard input)");
  char *word = parsed->words[0];
  if (strcmp(word, "-") == 0) {
    int code = prompt_secret("Narrowed token: ", text, cap, e);
    if (code == 0) text[strcspn(text, " \t\r\n")] = '\0';
    return code;
  }
  (void)snprintf(text, cap, "%s", word);           /* one that does not fit is no token, and too long for one still */
  wipe(word, strlen(word));
  return 0;
}

static int revoke_narrowed_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  struct revoke_arguments a = {0};
  struct options_parsed parsed;
  struct err e = {0};
  char narrowed[TOKEN_TEXT_MAX_CHARS + 64];
  int status;
  (void)start_us;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  int code = take_narrowed(&parsed, narrowed, sizeof narrowed, &e);
  if (code == 0) code = revoke_everywhere(&a, narrowed, &e);
  wipe(narrowed, sizeof narrowed);
  return code == 0 ? EXIT_STATUS_OK : command_fail(&e);
}

const struct command command_token_revoke_narrowed = {
  .name = "token revoke-narrowed",
  .words = "ID|-",
  .brief = "revoke a token that was narrowed from one's own",
  .purpose = "revoke a token that was narrowed from one's own, by its id.\n"
             "With -, its id or the token itself is read from standard input.\n"
             "Its tunnels and streams end at once. Each relay that takes it must be told;\n"
             "one that was not told takes it until it expires.",
  .examples = "adit token revoke-narrowed 2f1c09e5d8b64a7fb3a0c41d9e7765f0\n"
              "adit token revoke-narrowed --token-file ci.token - <job.token",
  .options = revoke_rows,
  .options_n = ARRAY_LEN(revoke_rows),
  .run = revoke_narrowed_main,
};
