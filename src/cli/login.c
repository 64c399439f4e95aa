/* `adit login TOKEN`: proves that the token opens a link to its relay, then stores it in the user's configuration. The
   file is replaced as a whole and is its owner's alone from the moment it exists. */
#include "cli/login.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adit.h"
#include "base/home.h"
#include "base/limits.h"
#include "base/secret.h"
#include "cli/command.h"
#include "cli/config_file.h"

struct login_arguments { const char *ca; };

#define AT(member) .offset = offsetof(struct login_arguments, member)
static const struct option_row login_rows[] = {
  {.name = "ca", .value = "FILE", .kind = OPTION_TEXT, AT(ca),
   .help = "PEM authorities to trust, instead of the system's, for relays with a public certificate."},
};

static bool is_setting(const char *line, size_t n, const char *key) {
  size_t i = 0, key_n = strlen(key);
  while (i < n && (line[i] == ' ' || line[i] == '\t')) i++;
  if (n - i < key_n || memcmp(line + i, key, key_n) != 0) return false;
  for (i += key_n; i < n && (line[i] == ' ' || line[i] == '\t'); i++) {}
  return i < n && line[i] == '=';
}

char *login_rewrite(const char *old, size_t n, const char *token, const char *ca) {
  size_t cap = n + strlen(token) + (ca != NULL ? strlen(ca) : 0) + sizeof "\ntoken = \nca = \n", used = 0;
  char *text = malloc(cap);
  if (text == NULL) return NULL;
  for (size_t at = 0; at < n;) {
    const char *line = old + at, *stop = memchr(line, '\n', n - at);
    size_t line_n = stop != NULL ? (size_t)(stop - line) + 1 : n - at;
    at += line_n;
    if (is_setting(line, line_n, "token") || is_setting(line, line_n, "relay")) continue;
    if (ca != NULL && is_setting(line, line_n, "ca")) continue;
    memcpy(text + used, line, line_n);
    used += line_n;
  }
  if (used > 0 && text[used - 1] != '\n') text[used++] = '\n';
  int added = snprintf(text + used, cap - used, "token = %s\n", token);
  if (ca != NULL) (void)snprintf(text + used + added, cap - used - (size_t)added, "ca = %s\n", ca);
  return text;
}

static int check_token(const char *token, const char *ca, struct err *e) {
  struct adit_config *config = adit_config_new();
  if (config == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  int code = adit_config_add_token(config, token);
  if (code == 0 && ca != NULL) code = adit_config_set_ca_file(config, ca);
  if (code == 0) code = adit_check(config, LOGIN_DEADLINE_MS);
  if (code != 0) (void)err_set(e, ERR_AUTH, "%s", adit_config_error(config));
  adit_config_free(config);
  return code == 0 ? 0 : e->code;
}

/* Makes the folder of a file, and what is missing above it. */
static int make_folder_of(const char *path, struct err *e) {
  char dir[4096];
  (void)snprintf(dir, sizeof dir, "%s", path);
  for (char *at = strchr(dir + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
    *at = 0;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return err_set_errno(e, "%s", dir);
    *at = '/';
  }
  return 0;
}

static int write_private(const char *path, const char *text, struct err *e) {
  char temporary[4096 + 16];
  (void)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
  int fd = mkostemp(temporary, O_CLOEXEC);         /* 0600 by itself */
  if (fd < 0) return err_set_errno(e, "%s", path);
  size_t n = strlen(text);
  int code = 0;
  if (write(fd, text, n) != (ssize_t)n || fsync(fd) != 0) code = err_set_errno(e, "%s", path);
  if (close(fd) != 0 && code == 0) code = err_set_errno(e, "%s", path);
  if (code == 0 && rename(temporary, path) != 0) code = err_set_errno(e, "%s", path);
  if (code != 0) (void)unlink(temporary);
  return code;
}

static int store_token(const char *token, const char *ca, struct err *e) {
  char path[4096], absolute[PATH_MAX], *old = NULL;
  size_t n = 0;
  int code = home_config_file(path, sizeof path, e);
  if (code == 0) code = make_folder_of(path, e);
  if (code == 0 && access(path, F_OK) == 0) code = config_read(path, CONFIG_FILE_MAX_BYTES, &old, &n, e);
  if (code == 0 && ca != NULL && realpath(ca, absolute) == NULL) code = err_set_errno(e, "--ca %s", ca);
  if (code != 0) goto out;
  char *text = login_rewrite(old != NULL ? old : "", n, token, ca != NULL ? absolute : NULL);
  code = text == NULL ? err_set(e, ERR_NOMEM, "out of memory") : write_private(path, text, e);
  if (text != NULL) wipe(text, strlen(text));
  free(text);
out:
  if (old != NULL) wipe(old, n);
  free(old);
  if (code == 0) (void)fprintf(stderr, "adit: the relay accepts the token; it is stored in %s\n", path);
  return code;
}

static int login_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  struct login_arguments a = {0};
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  if (parsed.words_n != 1 || parsed.rest != NULL) {
    (void)err_set(&e, ERR_USAGE, "TOKEN: %s", parsed.words_n == 0 ? "missing (write adit login TOKEN)"
                                                                   : "it is one word (leave out the rest)");
    return command_fail(&e);
  }
  char token[TOKEN_TEXT_MAX_CHARS + 1];
  size_t n = strlen(parsed.words[0]);
  int code = 0;
  if (n > TOKEN_TEXT_MAX_CHARS || strpbrk(parsed.words[0], " \t\r\n") != NULL)
    code = err_set(&e, ERR_NOT_NOW, "token: not a token (it is the one word that adit token create printed)");
  else
    memcpy(token, parsed.words[0], n + 1);
  wipe(parsed.words[0], n);
  if (code == 0) code = check_token(token, a.ca, &e);
  if (code == 0) code = store_token(token, a.ca, &e);
  wipe(token, sizeof token);
  return code == 0 ? EXIT_STATUS_OK : command_fail(&e);
}

const struct command command_login = {
  .name = "login",
  .words = "TOKEN",
  .brief = "check a token and store it for adit forward",
  .purpose = "check a token against its relay and store it in your configuration.\n"
             "adit forward then uses it; a token that was stored before is replaced.",
  .examples = "adit login adit1_...",
  .options = login_rows,
  .options_n = ARRAY_LEN(login_rows),
  .run = login_main,
};
