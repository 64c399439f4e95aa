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

void user_file_free(struct user_file *f) {
  if (f->token != NULL) wipe(f->token, strlen(f->token));
  if (f->proxy != NULL) wipe(f->proxy, strlen(f->proxy));
  free(f->token);
  free(f->proxy);
  free(f->ca);
  for (size_t i = 0; i < f->relays_n; i++) free(f->relays[i]);
  memset(f, 0, sizeof *f);
}

static void trim(const char **from, const char **to) {
  while (*from < *to && (**from == ' ' || **from == '\t' || **from == '\r')) (*from)++;
  while (*to > *from && ((*to)[-1] == ' ' || (*to)[-1] == '\t' || (*to)[-1] == '\r')) (*to)--;
}

static bool key_is(const char *from, const char *to, const char *key) {
  return (size_t)(to - from) == strlen(key) && memcmp(from, key, strlen(key)) == 0;
}

static int set_value(char **at, const char *from, const char *to) {
  char *copy = strndup(from, (size_t)(to - from));
  if (copy == NULL) return ERR_NOMEM;
  if (*at != NULL) wipe(*at, strlen(*at));
  free(*at);
  *at = copy;
  return 0;
}

static int parse_line(const char *from, const char *to, struct user_file *out) {
  trim(&from, &to);
  if (from == to || *from == '#') return 0;
  const char *equals = memchr(from, '=', (size_t)(to - from));
  if (equals == NULL || memchr(from, '\0', (size_t)(to - from)) != NULL) return ERR_SYNTAX;
  const char *key_end = equals, *value = equals + 1;
  trim(&from, &key_end);
  trim(&value, &to);
  if (from == key_end) return ERR_SYNTAX;
  if (value == to) return ERR_NOT_NOW;
  if (key_is(from, key_end, "token")) return set_value(&out->token, value, to);
  if (key_is(from, key_end, "ca")) return set_value(&out->ca, value, to);
  if (key_is(from, key_end, "proxy")) return set_value(&out->proxy, value, to);
  if (!key_is(from, key_end, "relay"))
    return ERR_USAGE; /* a setting that does nothing, such as allow, must not look as if it did */
  if (out->relays_n == ARRAY_LEN(out->relays)) return ERR_LIMIT;
  return set_value(&out->relays[out->relays_n++], value, to);
}

int user_file_parse(const char *text, size_t n, struct user_file *out, struct err *e) {
  memset(out, 0, sizeof *out);
  const char *at = text, *end = text + n;
  for (unsigned line = 1; at < end; line++) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *stop = newline == NULL ? end : newline;
    int r = parse_line(at, stop, out);
    if (r != 0) {
      user_file_free(out);
      return err_set(e, r,
                     r == ERR_LIMIT   ? "line %u: too many relays"
                     : r == ERR_NOMEM ? "line %u: out of memory"
                     : r == ERR_NOT_NOW ? "line %u: its value is empty (write key = value, or remove the line)"
                     : r == ERR_USAGE ? "line %u: no such setting here (there are token, relay, ca and proxy; give "
                                        "others as options)"
                         : "line %u: not of the form key = value (correct it, or run `adit login` again)",
                     line);
    }
    at = newline == NULL ? end : newline + 1;
  }
  return 0;
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
  char *text = malloc(USER_FILE_MAX_BYTES + 1);
  size_t n = 0;
  ssize_t got = 0;
  while (text != NULL && n <= USER_FILE_MAX_BYTES && (got = read(fd, text + n, USER_FILE_MAX_BYTES + 1 - n)) > 0)
    n += (size_t)got;
  if (text == NULL) r = err_set(e, ERR_NOMEM, "%s: out of memory", path);
  else if (got < 0) r = file_fail(e, path);
  else if (n > USER_FILE_MAX_BYTES)
    r = err_set(e, ERR_LIMIT, "%s: larger than %d bytes (is it a configuration file?)", path, USER_FILE_MAX_BYTES);
  else if ((r = user_file_parse(text, n, out, e)) != 0) err_prefix(e, "%s", path);
  if (text != NULL) wipe(text, n);
  free(text);
  close(fd);
  return r;
}
