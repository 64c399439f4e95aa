/* Lists of application protocols: text to wire format, and what a relay may select. acme-tls/1 is never selectable,
   because whoever answers it gets a certificate for the name (RFC 8737); adit* is the relay's own. */
#include <string.h>

#include "wire/frame.h"

static bool is_selectable(const uint8_t *p, size_t n) {
  static const char acme[] = "acme-tls/1", own[] = "adit";
  if (n == sizeof acme - 1 && memcmp(p, acme, n) == 0) return false;
  return n < sizeof own - 1 || memcmp(p, own, sizeof own - 1) != 0;
}

int alpn_parse(const char *text, uint8_t *out, size_t cap, size_t *n, struct err *e) {
  struct writer w = writer_of(out, size_min(cap, ALPN_LIST_MAX_BYTES));
  *n = 0;
  for (const char *at = text;; at++) {
    size_t len = strcspn(at, ",");
    if (len == 0) return err_set(e, ERR_SYNTAX, "ALPN list: an empty name in it (write it as http/1.1,h2)");
    if (len > ALPN_LIST_MAX_BYTES) break;
    for (size_t i = 0; i < len; i++) {
      if (at[i] > ' ' && at[i] < 0x7f) continue;
      return err_set(e, ERR_SYNTAX, "ALPN list: a space or control character in it (write it as http/1.1,h2)");
    }
    if (!is_selectable((const uint8_t *)at, len)) {
      return err_set(e, ERR_USAGE, "ALPN list: %.*s is reserved (leave it out)", (int)len, at);
    }
    write_vec8(&w, at, len);
    at += len;
    if (w.bad || *at == 0) {
      if (w.bad) break;
      *n = w.len;
      return 0;
    }
  }
  return err_set(e, ERR_LIMIT, "ALPN list: too long (at most %d bytes; name fewer protocols)", ALPN_LIST_MAX_BYTES);
}

int alpn_check(const uint8_t *list, size_t n) {
  if (n > ALPN_LIST_MAX_BYTES) return ERR_SYNTAX;
  struct reader r = reader_of(list, n);
  while (r.left > 0 && !r.bad) {
    struct reader name = read_vec8(&r);
    if (name.bad || name.left == 0 || !is_selectable(name.at, name.left)) return ERR_SYNTAX;
  }
  return r.bad ? ERR_SYNTAX : 0;
}

bool alpn_contains(const uint8_t *list, size_t n, const char *protocol) {
  size_t want = strlen(protocol);
  struct reader r = reader_of(list, n);
  while (r.left > 0 && !r.bad) {
    struct reader name = read_vec8(&r);
    if (!name.bad && name.left == want && memcmp(name.at, protocol, want) == 0) return true;
  }
  return false;
}
