/* `adit login` and `adit logout`: the first proves that a token opens a link to its relay, then stores it in the user's
   configuration, from which the second removes it. The file is replaced as a whole and is its owner's alone from the
   moment it exists. */
#include "cli/login.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adit.h"
#include "base/environment.h"
#include "base/folders.h"
#include "base/home.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/prompt.h"

struct login_arguments {
  const char *ca, *token_file;
  struct option_list relays;
  char *proxy /* a copy: it may hold a password */;
};

static int take_proxy(void *target, const char *value, struct err *e) {
  struct login_arguments *a = target;
  a->proxy = strdup(value);
  return a->proxy != NULL ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

#define AT(member) .offset = offsetof(struct login_arguments, member)
static const struct option_row login_rows[] = {
  {.name = "token-file", .value = "FILE", .kind = OPTION_TEXT, AT(token_file), .help = "Read the token from FILE."},
  {.name = "relay", .value = "HOST:PORT", .kind = OPTION_LIST, AT(relays),
   .help = "Dial this relay instead of those in the token; stored with it (default: ADIT_RELAY, which is not stored)."},
  {.name = "ca", .value = "FILE", .kind = OPTION_TEXT, AT(ca),
   .help = "PEM authorities to trust, instead of the system's, for relays with a public certificate; stored, too."},
  {.name = "proxy", .value = "URL|none", .kind = OPTION_CALL, .set = take_proxy, .secret = true,
   .help = "Reach relays through this HTTP proxy, as for adit forward; stored, too."},
};

static bool is_setting(const char *line, size_t n, const char *key) {
  size_t i = 0, key_n = strlen(key);
  while (i < n && (line[i] == ' ' || line[i] == '\t')) i++;
  if (n - i < key_n || memcmp(line + i, key, key_n) != 0) return false;
  for (i += key_n; i < n && (line[i] == ' ' || line[i] == '\t'); i++) {}
  return i < n && line[i] == '=';
}

/* Room for the whole is taken at once: growing would leave copies of the token behind. */
char *login_rewrite(const char *old, size_t n, const struct login_settings *new) {
  size_t cap = n + sizeof "\n", used = 0;
  cap += new->token != NULL ? strlen(new->token) + sizeof "token = \n" : 0;
  cap += new->ca != NULL ? strlen(new->ca) + sizeof "ca = \n" : 0;
  cap += new->proxy != NULL ? strlen(new->proxy) + sizeof "proxy = \n" : 0;
  for (size_t i = 0; i < new->relays_n; i++) cap += strlen(new->relays[i]) + sizeof "relay = \n";
  char *text = malloc(cap);
  if (text == NULL) return NULL;
  for (size_t at = 0; at < n;) {
    const char *line = old + at, *stop = memchr(line, '\n', n - at);
    size_t line_n = stop != NULL ? (size_t)(stop - line) + 1 : n - at;
    at += line_n;
    if (is_setting(line, line_n, "token") || is_setting(line, line_n, "relay")) continue;
    if (new->ca != NULL && is_setting(line, line_n, "ca")) continue;
    if (new->proxy != NULL && is_setting(line, line_n, "proxy")) continue;
    memcpy(text + used, line, line_n);
    used += line_n;
  }
  if (used > 0 && text[used - 1] != '\n') text[used++] = '\n';
  char *end = text + used;
  if (new->token != NULL) end += snprintf(end, cap - (size_t)(end - text), "token = %s\n", new->token);
  for (size_t i = 0; i < new->relays_n; i++)
    end += snprintf(end, cap - (size_t)(end - text), "relay = %s\n", new->relays[i]);
  if (new->ca != NULL) end += snprintf(end, cap - (size_t)(end - text), "ca = %s\n", new->ca);
  if (new->proxy != NULL) end += snprintf(end, cap - (size_t)(end - text), "proxy = %s\n", new->proxy);
  *end = 0;
  return text;
}

static int add_relays(struct adit_config *config, const struct login_arguments *a) {
  const char *relay = getenv("ADIT_RELAY");
  if (a->relays.n == 0 && relay != NULL) return adit_config_add_relay(config, relay);
  int code = 0;
  for (size_t i = 0; code == 0 && i < a->relays.n; i++) code = adit_config_add_relay(config, a->relays.at[i]);
  return code;
}

static int check_token(const char *token, const struct login_arguments *a, struct err *e) {
  struct adit_config *config = adit_config_new();
  if (config == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  int code = adit_config_add_token(config, token);
  if (code == 0 && a->ca != NULL) code = adit_config_set_ca_file(config, a->ca);
  if (code == 0) code = adit_config_set_proxy(config, a->proxy);
  bool relays_are_good = code != 0 || (code = add_relays(config, a)) == 0;
  if (code == 0) code = adit_check(config, LOGIN_DEADLINE_MS);
  if (code != 0) (void)err_set(e, relays_are_good ? ERR_AUTH : ERR_USAGE, "%s", adit_config_error(config));
  if (!relays_are_good) (void)err_prefix(e, "%s", a->relays.n > 0 ? "--relay" : "ADIT_RELAY");
  adit_config_free(config);
  return code == 0 ? 0 : e->code;
}

static int make_folder_of(const char *path, struct err *e) {
  char dir[4096];
  (void)snprintf(dir, sizeof dir, "%s", path);
  char *name = strrchr(dir, '/');
  if (name == NULL || name == dir) return 0;
  *name = '\0';
  return (errno = folders_make(dir)) == 0 ? 0 : err_set_errno(e, "%s", dir);
}

static int write_private(const char *path, const char *text, struct err *e) {
  char temporary[4096 + 16];
  (void)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
  int fd = mkostemp(temporary, O_CLOEXEC);         /* 0600 by itself */
  if (fd < 0) return err_set_errno(e, "%s", path);
  size_t n = strlen(text);
  int code = 0;
  errno = ENOSPC;                  /* what a write says that takes a part only */
  if (write(fd, text, n) != (ssize_t)n || fsync(fd) != 0) code = err_set_errno(e, "%s", path);
  if (close(fd) != 0 && code == 0) code = err_set_errno(e, "%s", path);
  if (code == 0 && rename(temporary, path) != 0) code = err_set_errno(e, "%s", path);
  if (code != 0) (void)unlink(temporary);
  return code;
}

/* The configuration, or nothing where there is none: *old is malloced, or NULL. The path is the file's own, not that of
   a link to it, since what is replaced or removed must be what holds the token. */
static int read_configuration(char path[PATH_MAX], char **old, size_t *n, struct err *e) {
  char given[PATH_MAX];
  *old = NULL;
  *n = 0;
  int code = home_config_file(given, sizeof given, e);
  if (code != 0) return code;
  if (realpath(given, path) == NULL) {
    if (errno != ENOENT) return err_set_errno(e, "%s", given);
    memcpy(path, given, sizeof given);
    return 0;
  }
  code = config_read(path, CONFIG_FILE_MAX_BYTES, old, n, e);
  if (code == 0 && memchr(*old, 0, *n) != NULL)
    code = err_set(e, ERR_NOT_NOW, "%s: it has a NUL byte (correct the file, or remove it)", path);
  return code;
}

static int store(const struct login_settings *new, struct err *e) {
  char path[PATH_MAX], *old, *text = NULL;
  size_t n;
  int code = read_configuration(path, &old, &n, e);
  if (code == 0) code = make_folder_of(path, e);
  if (code == 0 && (text = login_rewrite(old != NULL ? old : "", n, new)) == NULL)
    code = err_set(e, ERR_NOMEM, "out of memory");
  if (code == 0) code = write_private(path, text, e);
  if (text != NULL) wipe(text, strlen(text));
  free(text);
  if (old != NULL) wipe(old, n);
  free(old);
  if (code == 0)
    (void)fprintf(words_err(), "adit: the relay accepts the token; it is stored in %s (adit logout removes it)\n",
                  path);
  return code;
}

static int read_token(const struct login_arguments *a, char *word, char *text, size_t cap, struct err *e) {
  if (a->token_file != NULL) {
    char *file;
    size_t n;
    if (config_read(a->token_file, cap - 1, &file, &n, e) != 0) return err_prefix(e, "--token-file");
    memcpy(text, file, n + 1);
    wipe(file, n);
    free(file);
    return 0;
  }
  if (word == NULL || strcmp(word, "-") == 0) return prompt_secret("Token: ", text, cap, e);
  (void)snprintf(text, cap, "%s", word);           /* one that does not fit is no token, and too long for one still */
  wipe(word, strlen(word));
  return 0;
}

/* The token from where the user has it: one word, without the space around it. */
static int take_token(const struct login_arguments *a, char *word, char token[TOKEN_TEXT_MAX_CHARS + 1],
                      struct err *e) {
  static const char space[] = " \t\r\n";
  char text[TOKEN_TEXT_MAX_CHARS + 64];
  int code = read_token(a, word, text, sizeof text, e);
  if (code == 0) {
    const char *from = text + strspn(text, space);
    size_t n = strcspn(from, space);
    if (n == 0 || n > TOKEN_TEXT_MAX_CHARS || from[n + strspn(from + n, space)] != 0)
      code = err_set(e, ERR_NOT_NOW, "token: not a token (it is the one word that adit token create printed)");
    else
      (void)snprintf(token, TOKEN_TEXT_MAX_CHARS + 1, "%.*s", (int)n, from);
  }
  wipe(text, sizeof text);
  return code;
}

static int check_words(const struct login_arguments *a, const struct options_parsed *parsed, struct err *e) {
  if (parsed->words_n > 1 || parsed->rest != NULL)
    return err_set(e, ERR_USAGE, "TOKEN: it is one word (leave out the rest)");
  if (parsed->words_n == 1 && a->token_file != NULL)
    return err_set(e, ERR_USAGE, "TOKEN: given, and --token-file as well (leave one out)");
  if (a->relays.n == 0 && environment_check("ADIT_RELAY", getenv("ADIT_RELAY"), e) != 0) return e->code;
  if (parsed->words_n == 0 && a->token_file == NULL && isatty(STDIN_FILENO) != 1)
    return err_set(e, ERR_USAGE, "TOKEN: missing (give --token-file FILE, or - to read it from standard input)");
  return 0;
}

static int login_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  struct login_arguments a = {0};
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  char token[TOKEN_TEXT_MAX_CHARS + 1], ca[PATH_MAX];
  int code = check_words(&a, &parsed, &e);
  if (code == 0) code = take_token(&a, parsed.words_n > 0 ? parsed.words[0] : NULL, token, &e);
  if (code == 0) code = check_token(token, &a, &e);
  if (code == 0 && a.ca != NULL && realpath(a.ca, ca) == NULL) code = err_set_errno(&e, "--ca %s", a.ca);
  struct login_settings new = {.token = token, .ca = a.ca != NULL ? ca : NULL, .proxy = a.proxy, .relays = a.relays.at,
                               .relays_n = a.relays.n};
  if (code == 0) code = store(&new, &e);
  wipe(token, sizeof token);
  if (a.proxy != NULL) wipe(a.proxy, strlen(a.proxy));
  free(a.proxy);
  return code == 0 ? EXIT_STATUS_OK : command_fail(&e);
}

/* What login stored beside the token goes with it, but for authorities and proxy, which may have been there before. */
static int forget(struct err *e) {
  static const struct login_settings none = {0};
  char path[PATH_MAX], *old, *text = NULL;
  size_t n;
  int code = read_configuration(path, &old, &n, e);
  if (code == 0 && (text = login_rewrite(old != NULL ? old : "", n, &none)) == NULL)
    code = err_set(e, ERR_NOMEM, "out of memory");
  bool stored = code == 0 && old != NULL && strlen(text) < n;
  if (stored && *text != 0) code = write_private(path, text, e);
  else if (stored && unlink(path) != 0) code = err_set_errno(e, "%s", path);
  if (text != NULL) wipe(text, strlen(text));    /* a proxy's password may be left in it */
  free(text);
  if (old != NULL) wipe(old, n);
  free(old);
  if (code != 0) return code;
  if (stored)
    (void)fprintf(words_err(), "adit: the token is no longer in %s; it stays good until its operator revokes it\n",
                  path);
  else
    (void)fprintf(words_err(), "adit: no token is stored in %s\n", path);
  return 0;
}

static int logout_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  if (!command_begin(self, NULL, argc, argv, &parsed, &status)) return status;
  if (parsed.words_n > 0 || parsed.rest != NULL)
    (void)err_set(&e, ERR_USAGE, "%.60s: unexpected (adit logout takes nothing)",
                  parsed.words_n > 0 ? parsed.words[0] : "--");
  else if (forget(&e) == 0)
    return EXIT_STATUS_OK;
  return command_fail(&e);
}

const struct command command_login = {
  .name = "login",
  .words = "[TOKEN|-]",
  .brief = "check a token and store it for adit forward",
  .purpose = "check a token against its relay and store it in your configuration.\n"
             "adit forward then uses it; a token that was stored before is replaced.\n"
             "Without TOKEN it is asked for, and so is in no shell's history; - reads it from stdin.",
  .examples = "adit login\n"
              "adit login --token-file token\n"
              "adit login - < token",
  .options = login_rows,
  .options_n = ARRAY_LEN(login_rows),
  .run = login_main,
};

const struct command command_logout = {
  .name = "logout",
  .words = "",
  .brief = "remove the stored token",
  .purpose = "remove the token that adit login stored from your configuration.\n"
             "It stays good until its operator revokes it (adit token revoke).",
  .examples = "adit logout",
  .run = logout_main,
};
