/* Reading ~/.config/adit/config. It holds a token, so it is wiped on the way out, and others must not read it. */
#include "lib/user_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/home.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/settings.h"

void user_file_free(struct user_file *f) {
  if (f->token != NULL) wipe(f->token, strlen(f->token));
  if (f->proxy != NULL) wipe(f->proxy, strlen(f->proxy));
  free(f->token);
  free(f->proxy);
  free(f->ca);
  for (size_t i = 0; i < f->relays_n; i++) free(f->relays[i]);
  memset(f, 0, sizeof *f);
}

static int set_value(char **at, const char *value, struct err *e) {
  char *copy = strdup(value);
  if (copy == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  if (*at != NULL) wipe(*at, strlen(*at));
  free(*at);
  *at = copy;
  return 0;
}

/* A setting that does nothing, such as allow, must not look as if it did. */
static int use_setting(void *user, const char *key, const char *value, unsigned line, struct err *e) {
  struct user_file *out = user;
  (void)line;
  if (strcmp(key, "token") == 0) return set_value(&out->token, value, e);
  if (strcmp(key, "ca") == 0) return set_value(&out->ca, value, e);
  if (strcmp(key, "proxy") == 0) return set_value(&out->proxy, value, e);
  if (strcmp(key, "relay") != 0)
    return err_set(e, ERR_USAGE, "no such setting here (there are token, relay, ca and proxy; give others as options)");
  if (out->relays_n == ARRAY_LEN(out->relays)) return err_set(e, ERR_LIMIT, "too many relays");
  return set_value(&out->relays[out->relays_n++], value, e);
}

int user_file_parse(char *text, size_t n, struct user_file *out, struct err *e) {
  memset(out, 0, sizeof *out);
  int r = settings_parse(text, n, use_setting, out, e);
  if (r != 0) user_file_free(out);
  return r;
}

static int file_fail(struct err *e, const char *path) {
  return err_set_errno_remedy(e, "it must be a file that you may read", "%.200s", path);
}

int user_file_load(struct user_file *out, struct err *e) {
  char path[4096];
  struct err why = {0};
  memset(out, 0, sizeof *out);
  int r = home_config_file(path, sizeof path, &why);
  if (r == ERR_NOT_NOW) return 0;  /* who has no home has no file in it */
  if (r != 0) return err_set(e, r, "%s", why.text);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : file_fail(e, path);
  char *text = malloc(CONFIG_FILE_MAX_BYTES + 1);
  size_t n = 0;
  ssize_t got = 0;
  while (text != NULL && n <= CONFIG_FILE_MAX_BYTES && (got = read(fd, text + n, CONFIG_FILE_MAX_BYTES + 1 - n)) > 0)
    n += (size_t)got;
  if (text == NULL) r = err_set(e, ERR_NOMEM, "%s: out of memory", path);
  else if (got < 0) r = file_fail(e, path);
  else if (n > CONFIG_FILE_MAX_BYTES)
    r = err_set(e, ERR_LIMIT, "%s: larger than %d bytes (is it a configuration file?)", path, CONFIG_FILE_MAX_BYTES);
  else if ((r = user_file_parse(text, n, out, e)) != 0) err_prefix(e, "%s", path);
  if (text != NULL) wipe(text, n);
  free(text);
  close(fd);
  return r;
}
