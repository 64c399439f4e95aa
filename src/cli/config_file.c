/* The parser of configuration files. It is boring on purpose: every byte is looked at once, and whatever is not plainly
   a setting is an error that names its line. */
#include "cli/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/secret.h"

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static char *trim(char *start, char *end) {
  while (start < end && is_blank(*start)) start++;
  while (end > start && is_blank(end[-1])) end--;
  *end = 0;
  return start;
}

static bool key_is_valid(const char *key) {
  if (*key < 'a' || *key > 'z') return false;
  return strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(key);
}

static int parse_line(char *line, char *end, unsigned number,
                      int (*each)(void *user, const char *key, const char *value, unsigned line, struct err *e),
                      void *user, struct err *e) {
  if (memchr(line, 0, (size_t)(end - line)) != NULL)
    return err_set(e, ERR_SYNTAX, "line %u: a NUL byte (this is not a text file)", number);
  char *text = trim(line, end);
  if (*text == 0 || *text == '#') return 0;
  char *equals = strchr(text, '=');
  if (equals == NULL) return err_set(e, ERR_SYNTAX, "line %u: no '=' (write: name = value)", number);
  char *value = trim(equals + 1, text + strlen(text));
  char *key = trim(text, equals);
  if (!key_is_valid(key))
    return err_set(e, ERR_SYNTAX, "line %u: no setting's name before '=' (names are those of the options, without "
                                  "dashes)", number);
  if (*value == 0) return err_set(e, ERR_SYNTAX, "line %u: %.40s has no value (write: name = value)", number, key);
  int code = each(user, key, value, number, e);
  return code == 0 ? 0 : err_prefix(e, "line %u", number);
}

int config_parse(char *text, size_t n,
                 int (*each)(void *user, const char *key, const char *value, unsigned line, struct err *e),
                 void *user, struct err *e) {
  if (n > CONFIG_FILE_MAX_BYTES)
    return err_set(e, ERR_LIMIT, "configuration: longer than %d bytes", CONFIG_FILE_MAX_BYTES);
  char *at = text, *end = text + n;
  for (unsigned number = 1; at < end; number++) {
    char *stop = memchr(at, '\n', (size_t)(end - at));
    if (stop == NULL) stop = end;
    int code = parse_line(at, stop, number, each, user, e);
    if (code != 0) return code;
    at = stop + 1;
  }
  return 0;
}

int config_read(const char *path, size_t max, char **text, size_t *n, struct err *e) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return err_set_errno_remedy(e, "check the path, and who may read it", "%s", path);
  int code = 0;
  size_t len = 0;
  char *base = malloc(max + 2);
  if (base == NULL) {
    code = err_set(e, ERR_NOMEM, "%s: out of memory", path);
    goto out;
  }
  for (;;) {
    ssize_t got = read(fd, base + len, max + 1 - len);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      code = err_set(e, ERR_IO, "%s: %s (is it a file?)", path, strerror(errno));
      goto out;
    }
    if (got == 0) break;
    len += (size_t)got;
    if (len > max) {
      code = err_set(e, ERR_LIMIT, "%s: longer than %zu bytes (is it the right file?)", path, max);
      goto out;
    }
  }
  base[len] = 0;
  *text = base;
  *n = len;
  base = NULL;
out:
  if (base != NULL) wipe(base, len);
  free(base);
  close(fd);
  return code;
}
