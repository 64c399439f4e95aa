/* CONNECT and its answer. Not one byte past the head is read, since what follows is another's: so every answer "more"
   names a length that every head beginning with these bytes has. Lines may end with a bare LF (RFC 9112 2.2), so two
   bytes are what is certain at most places. */
#include "wire/http_connect.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"

static const char version[] = "HTTP/1.";
enum {
  VERSION_CHARS = sizeof version - 1,
  STATUS_AT = VERSION_CHARS + 2,
  SHORTEST_BYTES = STATUS_AT + 3 + 2,
  INTERIM_BELOW = 200
};

static void put(struct writer *w, const char *text) { write_bytes(w, text, strlen(text)); }

void http_connect_encode(struct writer *w, const struct host_port *to, const char *authorization,
                         const char *software) {
  char target[HOST_NAME_MAX_CHARS + 16];
  host_port_format(to, target, sizeof target);
  put(w, "CONNECT ");
  put(w, target);
  put(w, " HTTP/1.1\r\nHost: ");
  put(w, target);
  put(w, "\r\nUser-Agent: ");
  put(w, software);
  if (authorization != NULL) {
    put(w, "\r\nProxy-Authorization: ");
    put(w, authorization);
  }
  put(w, "\r\n\r\n");
}

/* A line without its end; *at is behind it. False: there is none. */
struct line { const char *p; size_t n; };

static bool next_line(const uint8_t *p, size_t n, size_t *at, struct line *line) {
  const uint8_t *from = p + *at, *end = memchr(from, '\n', n - *at);
  if (end == NULL) return false;
  *at = (size_t)(end - p) + 1;
  line->p = (const char *)from;
  line->n = (size_t)(end - from);
  if (line->n > 0 && line->p[line->n - 1] == '\r') line->n--;
  return true;
}

static bool status_line(struct line line, struct http_connect_answer *a) {
  if (line.n < STATUS_AT + 3 || memcmp(line.p, version, VERSION_CHARS) != 0 || line.p[STATUS_AT - 1] != ' ')
    return false;
  if (line.p[VERSION_CHARS] < '0' || line.p[VERSION_CHARS] > '9' ||
      (line.n > STATUS_AT + 3 && line.p[STATUS_AT + 3] != ' '))
    return false;
  *a = (struct http_connect_answer){0};
  for (size_t i = STATUS_AT; i < STATUS_AT + 3; i++) {
    if (line.p[i] < '0' || line.p[i] > '9') return false;
    a->status = a->status * 10 + (unsigned)(line.p[i] - '0');
  }
  size_t from = STATUS_AT + 4, n = line.n > from ? size_min(line.n - from, sizeof a->reason - 1) : 0;
  for (size_t i = 0; i < n; i++) {
    char c = line.p[from + i];
    a->reason[i] = c < ' ' || c > '~' ? '?' : c;
  }
  return a->status >= 100 && a->status < 600;
}

/* Of several challenges in one header only the first is looked at: their grammar (RFC 9110 11.6.1) is not worth it, and
   servers send one a header. */
static void header_line(struct line line, struct http_connect_answer *a) {
  static const char name[] = "Proxy-Authenticate:";
  if (line.n < sizeof name - 1 || strncasecmp(line.p, name, sizeof name - 1) != 0) return;
  size_t at = sizeof name - 1, n = 0;
  while (at < line.n && (line.p[at] == ' ' || line.p[at] == '\t')) at++;
  while (at + n < line.n && n < sizeof a->scheme - 1 && line.p[at + n] > ' ' && line.p[at + n] <= '~' &&
         line.p[at + n] != ',')
    n++;
  if (n == 5 && strncasecmp(line.p + at, "Basic", n) == 0) a->takes_basic = true;
  if (a->scheme[0] == '\0') memcpy(a->scheme, line.p + at, n);
}

/* Every byte up to here is there: what a head lacks at least. */
static int more(const uint8_t *p, size_t head_at, size_t n) {
  size_t have = n - head_at, lacks = 2;
  if (have < SHORTEST_BYTES - 2) lacks = SHORTEST_BYTES - have;
  else if (p[n - 1] == '\n' || (p[n - 1] == '\r' && p[n - 2] == '\n')) lacks = 1;
  return n + lacks > PROXY_HEAD_MAX_BYTES ? ERR_LIMIT : (int)(n + lacks);
}

int http_connect_read(const uint8_t *p, size_t n, struct http_connect_answer *a) {
  for (size_t at = 0;;) {          /* interim answers (1xx) come before the one that counts */
    size_t head_at = at;
    struct line line;
    if (n > at && memcmp(p + at, version, size_min(n - at, VERSION_CHARS)) != 0) return ERR_SYNTAX;
    if (!next_line(p, n, &at, &line)) return more(p, head_at, n);
    if (!status_line(line, a)) return ERR_SYNTAX;
    do {
      if (!next_line(p, n, &at, &line)) return more(p, head_at, n);
      header_line(line, a);
    } while (line.n > 0);
    if (a->status >= INTERIM_BELOW) return 0;
  }
}
