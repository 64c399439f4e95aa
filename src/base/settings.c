/* The parser of configuration files. It is boring on purpose: every byte is looked at once, and whatever is not plainly
   a setting is an error that names its line. */
#include "base/settings.h"

#include <string.h>

#include "base/limits.h"

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
  if (code != 0) (void)err_prefix(e, "line %u", number);
  return code;
}

int settings_parse(char *text, size_t n,
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
