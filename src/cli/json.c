/* See json.h. Whatever the bytes are, a cursor never leaves them. */
#include "cli/json.h"

#include <string.h>

#include "base/limits.h"

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* Behind the string that begins at `at`, or NULL. */
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if (*at == '\\' && ++at == end) return NULL;
  }
  return NULL;
}

static const char *skip_word(const char *at, const char *end) {
  const char *start = at;
  while (at < end && strchr(",]} \t\r\n:", *at) == NULL) at++;
  return at > start ? at : NULL;
}

/* Behind the value that begins at `at`, or NULL. Brackets are only counted: what stands between them is checked when it
   is read. */
static const char *skip_value(const char *at, const char *end) {
  unsigned depth = 0;
  if (at == end) return NULL;
  if (*at != '{' && *at != '[') return *at == '"' ? skip_string(at, end) : skip_word(at, end);
  while (at != NULL && at < end) {
    if (*at == '{' || *at == '[') {
      if (++depth > JSON_DEPTH_MAX) return NULL;
      at++;
    } else if (*at == '}' || *at == ']') {
      at++;
      if (--depth == 0) return at;
    } else if (*at == '"') {
      at = skip_string(at, end);
    } else {
      at++;
    }
  }
  return NULL;
}

struct json json_of(const char *text, size_t n) {
  const char *end = text + n, *at = skip_space(text, end), *stop = skip_value(at, end);
  if (stop == NULL || skip_space(stop, end) != end) return (struct json){NULL, NULL};
  return (struct json){at, stop};
}

bool json_next(struct json container, const char **at, struct json *key, struct json *value) {
  if (container.at == NULL || (*container.at != '{' && *container.at != '[')) return false;
  const char *end = container.end - 1, *here = skip_space(*at == NULL ? container.at + 1 : *at, end);
  if (*at != NULL && here < end && *here == ',') here = skip_space(here + 1, end);
  if (here >= end) return false;
  struct json name = {NULL, NULL};
  if (*container.at == '{') {
    const char *stop = *here == '"' ? skip_string(here, end) : NULL;
    if (stop == NULL) return false;
    name = (struct json){here, stop};
    here = skip_space(stop, end);
    if (here >= end || *here != ':') return false;
    here = skip_space(here + 1, end);
  }
  const char *stop = skip_value(here, end);
  if (stop == NULL) return false;
  if (key != NULL) *key = name;
  *value = (struct json){here, stop};
  *at = stop;
  return true;
}

struct json json_member(struct json object, const char *key) {
  const char *at = NULL;
  struct json name, value;
  size_t n = strlen(key);
  while (json_next(object, &at, &name, &value))
    if (name.at != NULL && (size_t)(name.end - name.at) == n + 2 && memcmp(name.at + 1, key, n) == 0) return value;
  return (struct json){NULL, NULL};
}

void json_text(struct json string, char *out, size_t cap) {
  size_t n = 0;
  if (string.at != NULL && *string.at == '"') {
    for (const char *at = string.at + 1; at < string.end - 1 && n + 1 < cap; at++) {
      char c = *at;
      if (c == '\\' && at + 1 < string.end - 1) {
        c = *++at;
        if (c == 'u') {            /* stands for something that is not printable ASCII */
          at += size_min(4, (size_t)(string.end - 2 - at));
          c = '?';
        } else if (c != '"' && c != '\\' && c != '/') {
          c = '?';
        }
      }
      out[n++] = c >= ' ' && c <= '~' ? c : '?';
    }
  }
  out[n] = 0;
}

uint64_t json_u64(struct json number) {
  uint64_t v = 0;
  if (number.at == NULL || number.at == number.end) return 0;
  for (const char *at = number.at; at < number.end; at++) {
    if (*at < '0' || *at > '9' || v > (UINT64_MAX - 9) / 10) return 0;
    v = v * 10 + (uint64_t)(*at - '0');
  }
  return v;
}

bool json_is_true(struct json value) {
  return value.at != NULL && value.end - value.at == 4 && memcmp(value.at, "true", 4) == 0;
}
