/* HTTP/1 requests as far as a redirect needs them (RFC 9112). Whatever a stranger sends must not lead a visitor
   elsewhere: the answer names only hosts of this relay, its path begins with a slash, and no byte of it ends a line. */
#include "wire/redirect.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

enum {
  BAD_REQUEST = 400, URI_TOO_LONG = 414, MISDIRECTED = 421, FIELDS_TOO_LARGE = 431,
  OUT_OF_MEMORY = 503, BAD_VERSION = 505,
  HTTPS_PORT = 443,
  LABEL_MAX_CHARS = 63             /* RFC 1035 2.3.4; a wildcard certificate is good for one label */
};

void redirect_init(struct redirect *r) {
  *r = (struct redirect){0};
  buf_init(&r->line, REDIRECT_LINE_MAX_BYTES);
  buf_init(&r->target, REDIRECT_LINE_MAX_BYTES);
}

void redirect_free(struct redirect *r) {
  buf_free(&r->line);
  buf_free(&r->target);
}

size_t redirect_bytes(const struct redirect *r) { return sizeof *r + r->line.cap + r->target.cap; }

static bool is_letter_or_digit(uint8_t c) {
  return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!is_letter_or_digit((uint8_t)p[i]) && (p[i] == '\0' || strchr("!#$%&'*+-.^_`|~", p[i]) == NULL)) return false;
  return n > 0;
}

/* Takes the host of HOST[:PORT]; the port was that of plain HTTP. False when it is no name: whether it is ours is asked
   later. */
static bool take_host(struct redirect *r, const char *p, size_t n) {
  const char *colon = memchr(p, ':', n);
  size_t host_n = colon != NULL ? (size_t)(colon - p) : n;
  for (size_t i = host_n + 1; i < n; i++)
    if (p[i] < '0' || p[i] > '9') return false;
  if (host_n > 0 && p[host_n - 1] == '.') host_n--;            /* the root's, which certificates leave out */
  if (host_n == 0 || host_n >= sizeof r->host) return false;
  for (size_t i = 0; i < host_n; i++) {
    uint8_t c = (uint8_t)p[i];
    if (!is_letter_or_digit(c) && c != '-' && c != '.') return false;
    r->host[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  }
  r->host[host_n] = '\0';
  r->has_host = true;
  return true;
}

/* Escapes what is beyond ASCII, as a browser would have. */
static int take_target(struct redirect *r, const char *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    char escaped[4];
    bool ascii = (uint8_t)p[i] < 0x80;
    if (!ascii) (void)snprintf(escaped, sizeof escaped, "%%%02X", (uint8_t)p[i]);
    int rc = buf_append(&r->target, ascii ? &p[i] : escaped, ascii ? 1 : 3);
    if (rc != 0) return rc == ERR_LIMIT ? URI_TOO_LONG : OUT_OF_MEMORY;
  }
  return REDIRECT_MORE;
}

/* RFC 9112 3.2: "/path", or "http://host/path" as proxies are sent it, or "*" for the server as a whole. */
static int read_target(struct redirect *r, const char *p, size_t n) {
  static const char *const schemes[] = {"http://", "https://"};
  int rc = REDIRECT_MORE;
  if (n == 1 && *p == '*') return take_target(r, "/", 1);
  for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
    size_t scheme_n = strlen(schemes[i]);
    if (n < scheme_n || strncasecmp(p, schemes[i], scheme_n) != 0) continue;
    p += scheme_n;
    n -= scheme_n;
    size_t authority_n = 0;
    while (authority_n < n && strchr("/?#", p[authority_n]) == NULL) authority_n++;
    if (!take_host(r, p, authority_n)) return BAD_REQUEST;
    p += authority_n;
    n -= authority_n;
    if (n == 0 || *p != '/') rc = take_target(r, "/", 1);
    return rc != REDIRECT_MORE ? rc : take_target(r, p, n);
  }
  return n > 0 && *p == '/' ? take_target(r, p, n) : BAD_REQUEST;
}

/* METHOD SP target SP HTTP/1.x */
static int read_first(struct redirect *r, const char *p, size_t n) {
  static const char version[] = "HTTP/1.";
  const char *first = memchr(p, ' ', n), *last = memrchr(p, ' ', n);
  if (first == NULL || first == last || !is_token(p, (size_t)(first - p))) return BAD_REQUEST;
  size_t version_n = n - (size_t)(last + 1 - p), target_n = (size_t)(last - first - 1);
  if (memchr(first + 1, ' ', target_n) != NULL) return BAD_REQUEST;
  if (version_n != sizeof version || memcmp(last + 1, version, 5) != 0) return BAD_REQUEST;
  if (memcmp(last + 1, version, sizeof version - 1) != 0) return BAD_VERSION;
  if (last[sizeof version] < '0' || last[sizeof version] > '9') return BAD_REQUEST;
  return read_target(r, first + 1, target_n);
}

/* Of all fields only Host counts. A target that names a host has been asked for instead of it (RFC 9112 3.2.2). */
static int read_field(struct redirect *r, const char *p, size_t n) {
  const char *colon = memchr(p, ':', n);
  if (colon == NULL || !is_token(p, (size_t)(colon - p))) return BAD_REQUEST;
  if (colon - p != 4 || strncasecmp(p, "host", 4) != 0) return REDIRECT_MORE;
  const char *value = colon + 1, *end = p + n;
  while (value < end && (*value == ' ' || *value == '\t')) value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
  if (r->has_field) return BAD_REQUEST;
  r->has_field = true;
  return r->has_host || take_host(r, value, (size_t)(end - value)) ? REDIRECT_MORE : BAD_REQUEST;
}

static int read_line(struct redirect *r) {
  const char *p = (const char *)buf_data(&r->line);
  size_t n = r->line.len;
  if (n > 0 && p[n - 1] == '\r') n--;
  int rc;                          /* empty lines before a request are skipped (RFC 9112 2.2) */
  if (r->target.len == 0) rc = n == 0 ? REDIRECT_MORE : read_first(r, p, n);
  else if (n > 0) rc = read_field(r, p, n);
  else rc = r->has_host ? REDIRECT_FOUND : BAD_REQUEST;
  buf_consume(&r->line, r->line.len);
  return rc;
}

/* Such as a ClientHello has: answered at once, and not after a line that never ends. A CR stands before a line's end
   only. */
static bool is_binary(uint8_t before, uint8_t c) {
  return before == '\r' || (c < ' ' && c != '\t' && c != '\r') || c == 0x7f;
}

/* One byte that does not end a line. */
static int take_byte(struct redirect *r, uint8_t c) {
  uint8_t before = r->line.len > 0 ? buf_data(&r->line)[r->line.len - 1] : 0;
  bool in_first = r->target.len == 0;            /* where nothing separates but a space */
  if (is_binary(before, c) || (in_first && c == '\t')) return BAD_REQUEST;
  int rc = buf_append(&r->line, &c, 1);
  if (rc == ERR_LIMIT) return in_first ? URI_TOO_LONG : FIELDS_TOO_LARGE;
  return rc != 0 ? OUT_OF_MEMORY : REDIRECT_MORE;
}

int redirect_feed(struct redirect *r, const uint8_t *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (r->got++ == REDIRECT_HEAD_MAX_BYTES) return FIELDS_TOO_LARGE;
    int rc = p[i] == '\n' ? read_line(r) : take_byte(r, p[i]);
    if (rc != REDIRECT_MORE) return rc;
  }
  return REDIRECT_MORE;
}

/* The domain itself, or a label before it. */
static bool is_ours(const char *host, const char *domain) {
  size_t host_n = strlen(host), domain_n = strlen(domain);
  if (host_n < domain_n || strcmp(host + host_n - domain_n, domain) != 0) return false;
  if (host_n == domain_n) return true;
  size_t label_n = host_n - domain_n - 1;
  return host[label_n] == '.' && label_n > 0 && label_n <= LABEL_MAX_CHARS && memchr(host, '.', label_n) == NULL;
}

static const char *phrase(int status) {
  switch (status) {
    case REDIRECT_FOUND: return "Permanent Redirect";
    case URI_TOO_LONG: return "URI Too Long";
    case MISDIRECTED: return "Misdirected Request";
    case FIELDS_TOO_LARGE: return "Request Header Fields Too Large";
    case OUT_OF_MEMORY: return "Service Unavailable";
    case BAD_VERSION: return "HTTP Version Not Supported";
    default: return "Bad Request";
  }
}

static int append_text(struct buf *out, const char *text) { return buf_append(out, text, strlen(text)); }

static int append_location(const struct redirect *r, uint16_t port, struct buf *out) {
  char suffix[8] = "";
  if (port != HTTPS_PORT) (void)snprintf(suffix, sizeof suffix, ":%u", port);
  int rc = append_text(out, "Location: https://");
  if (rc == 0) rc = append_text(out, r->host);
  if (rc == 0) rc = append_text(out, suffix);
  if (rc == 0) rc = buf_append(out, buf_data(&r->target), r->target.len);
  return rc != 0 ? rc : append_text(out, "\r\n");
}

int redirect_answer(const struct redirect *r, int status, const char *domain, uint16_t port, struct buf *out) {
  char line[64];
  if (status == REDIRECT_FOUND && !is_ours(r->host, domain)) status = MISDIRECTED;
  (void)snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", status, phrase(status));
  int rc = append_text(out, line);
  if (rc == 0 && status == REDIRECT_FOUND) rc = append_location(r, port, out);
  if (rc == 0) rc = append_text(out, "Content-Length: 0\r\nConnection: close\r\n\r\n");
  return rc != 0 ? rc : status;
}
