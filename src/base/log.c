/* Log lines. Each is built in a buffer on the stack and given on as a whole (base/words.h), so that lines of several
   threads never mix, and none of them waits for whoever reads the log. A line that is too long loses whole pairs at its
   end and says so; half a pair is never written. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/words.h"

enum { LINE_MAX_BYTES = 4096, LINE_TAIL_BYTES = 32 };

static _Atomic int threshold = LOG_INFO;
static _Atomic bool as_json;

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

struct line {
  char text[LINE_MAX_BYTES];
  size_t len;
  bool full;
};


bool log_enabled(enum log_level level) { return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed); }

int log_level_parse(const char *text, enum log_level *out) {
  for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
    if (strcmp(text, level_names[i]) == 0) {
      *out = (enum log_level)i;
      return 0;
    }
  }
  return ERR_SYNTAX;
}

static void put(struct line *l, const char *p, size_t n) {
  if (l->full || n > sizeof l->text - LINE_TAIL_BYTES - l->len) {
    l->full = true;
    return;
  }
  memcpy(l->text + l->len, p, n);
  l->len += n;
}

static void put_text(struct line *l, const char *text) { put(l, text, strlen(text)); }

/* Inside quotes: backslash, quote and everything outside printable ASCII escaped. JSON has no \x; a byte becomes the
   code point of the same number, which loses nothing and is always valid. */
static void put_quoted(struct line *l, const char *text, bool json) {
  put(l, "\"", 1);
  for (const char *at = text; *at != 0 && !l->full; at++) {
    uint8_t c = (uint8_t)*at;
    char escape[8];
    if (c == '"' || c == '\\') snprintf(escape, sizeof escape, "\\%c", c);
    else if (c >= 0x20 && c < 0x7f) snprintf(escape, sizeof escape, "%c", c);
    else snprintf(escape, sizeof escape, json ? "\\u%04x" : "\\x%02x", c);
    put_text(l, escape);
  }
  put(l, "\"", 1);
}

static bool needs_quotes(const char *text) {
  if (*text == 0) return true;
  for (; *text != 0; text++) {
    uint8_t c = (uint8_t)*text;
    if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '=') return true;
  }
  return false;
}

const char log_unquoted[] = "";

/* unquoted: as it is, in JSON. */
static void put_pair(struct line *l, const char *key, const char *value, bool unquoted, bool json) {
  size_t before = l->len;
  if (value == NULL) value = "";
  if (json) {
    put(l, ",", 1);
    put_quoted(l, key, true);
    put(l, ":", 1);
    if (unquoted) put_text(l, value);
    else put_quoted(l, value, true);
  } else {
    put(l, " ", 1);
    put_text(l, key);
    put(l, "=", 1);
    if (needs_quotes(value)) put_quoted(l, value, false);
    else put_text(l, value);
  }
  if (l->full) l->len = before;
}

static void put_time(struct line *l) {
  struct timespec now;
  struct tm utc;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  char text[64];
  size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text + n, sizeof text - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
  put_text(l, text);
}

static void put_start(struct line *l, enum log_level level, const char *event, bool json) {
  put_text(l, json ? "{\"time\":\"" : "");
  put_time(l);
  put_text(l, json ? "\",\"level\":\"" : " ");
  put_text(l, level_names[level]);
  put_text(l, json ? "\",\"event\":\"" : " ");
  put_text(l, event);
  put_text(l, json ? "\"" : "");
}

/* The tail has room of its own behind the limit of put. */
static void put_tail(struct line *l, bool json) {
  const char *cut = !l->full ? "" : json ? ",\"truncated\":true" : " truncated=true";
  l->len += (size_t)snprintf(l->text + l->len, sizeof l->text - l->len, "%s%s\n", cut, json ? "}" : "");
}

/* What stands where lines are missing. */
static size_t put_loss(uint64_t lines, char out[WORDS_NOTE_CAP]) {
  bool json = atomic_load_explicit(&as_json, memory_order_relaxed);
  struct line l = {.len = 0};
  put_start(&l, LOG_WARN, "log_lines_lost", json);
  put_pair(&l, "lines", log_u64(lines).text, true, json);
  put_tail(&l, json);
  size_t n = size_min(l.len, WORDS_NOTE_CAP);
  memcpy(out, l.text, n);
  return n;
}

void log_setup(enum log_level level, bool json) {
  atomic_store(&threshold, (int)level);
  atomic_store(&as_json, json);
  words_tell_loss(WORDS_ERR, put_loss);
}

void log_event(enum log_level level, const char *event, ...) {
  ASSERT(level < LOG_OFF);
  if (!log_enabled(level)) return;
  int saved = errno;
  bool json = atomic_load_explicit(&as_json, memory_order_relaxed);
  struct line l;
  l.len = 0;
  l.full = false;
  put_start(&l, level, event, json);
  va_list ap;
  va_start(ap, event);
  for (const char *key = va_arg(ap, const char *); key != NULL; key = va_arg(ap, const char *)) {
    const char *value = va_arg(ap, const char *);
    bool unquoted = value == log_unquoted;
    put_pair(&l, key, unquoted ? va_arg(ap, const char *) : value, unquoted, json);
  }
  va_end(ap);
  put_tail(&l, json);
  words_put(WORDS_ERR, l.text, l.len);
  errno = saved;
}

struct log_number log_u64(uint64_t v) {
  struct log_number n;
  snprintf(n.text, sizeof n.text, "%" PRIu64, v);
  return n;
}
