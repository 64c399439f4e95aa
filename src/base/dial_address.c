/* See dial_address.h. */
#include "base/dial_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/text.h"

static const char unix_prefix[] = "unix:", local_host[] = "localhost";
enum { UNIX_PREFIX_CHARS = sizeof unix_prefix - 1, RELAY_PORT_DEFAULT = 443 };

bool dial_address_text_is_unix(const char *text) { return strncmp(text, unix_prefix, UNIX_PREFIX_CHARS) == 0; }

int dial_address_parse_unix(const char *what, const char *text, char path[UNIX_PATH_MAX_BYTES + 1], struct err *e) {
  const char *given = text + UNIX_PREFIX_CHARS;
  size_t n = strlen(given);
  if (n == 0 || given[n - 1] == '/' || strcmp(given, "@") == 0)
    return err_set(e, ERR_USAGE, "%s %.100s: the name of the socket is missing (such as unix:/run/%s.sock)", what, text,
                   what);
  if (text_has_control(given))
    return err_set(e, ERR_USAGE, "%s unix: its path has control characters (use another)", what);
  if (n > UNIX_PATH_MAX_BYTES)
    return err_set(e, ERR_USAGE, "%s %.100s...: the path of a Unix socket has %d bytes at most (use a shorter one, or "
                   "a symbolic link to its folder)", what, text, UNIX_PATH_MAX_BYTES);
  strcpy(path, given);
  return 0;
}

int dial_address_parse_app(const char *text, struct dial_address *out, struct err *e) {
  *out = (struct dial_address){.path = ""};
  if (dial_address_text_is_unix(text)) return dial_address_parse_unix("app", text, out->path, e);
  if (text_to_port(text, &out->tcp.port) == 0) {
    strcpy(out->tcp.host, local_host);
    return 0;
  }
  if (host_port_parse_local(text, &out->tcp, NULL) == 0) return 0;
  return err_set(e, ERR_USAGE, "app %.100s: not a PORT, HOST:PORT or unix:PATH (such as 8000, 10.0.0.5:8000, "
                 "[::1]:8000 or unix:/run/app.sock)", text);
}

int dial_address_parse_relay(const char *text, struct dial_address *out, struct err *e) {
  *out = (struct dial_address){.path = ""};
  if (dial_address_text_is_unix(text)) return dial_address_parse_unix("relay", text, out->path, e);
  if (strcmp(text, "unix") == 0)   /* of a host of that name nobody could write HOST:PORT */
    return err_set(e, ERR_USAGE, "relay unix: the path of the socket is missing (such as unix:/run/relay.sock)");
  return host_port_parse(text, RELAY_PORT_DEFAULT, &out->tcp, e);
}

int dial_address_make_absolute(const char *what, struct dial_address *a, struct err *e) {
  char relative[sizeof a->path];
  if (!dial_address_is_unix(a) || a->path[0] == '/' || a->path[0] == '@') return 0;
  memcpy(relative, a->path, sizeof relative);
  char *here = getcwd(NULL, 0);
  if (here == NULL) return err_set_errno_remedy(e, "give an absolute path", "%s unix:%s: this folder", what, relative);
  int n = snprintf(a->path, sizeof a->path, "%s/%s", here, relative);
  free(here);
  if (n >= 0 && (size_t)n < sizeof a->path) return 0;
  return err_set(e, ERR_USAGE, "%s unix:%s: from the root on its path has more than %d bytes (use a shorter one, or a "
                 "symbolic link to its folder)", what, relative, UNIX_PATH_MAX_BYTES);
}

bool dial_address_is_local_port(const struct dial_address *a) { return strcasecmp(a->tcp.host, local_host) == 0; }

void dial_address_format(const struct dial_address *a, char *out, size_t cap) {
  if (dial_address_is_unix(a)) snprintf(out, cap, "%s%s", unix_prefix, a->path);
  else host_port_format(&a->tcp, out, cap);
}

void dial_address_describe(const struct dial_address *a, char *out, size_t cap) {
  unsigned port = a->tcp.port;
  if (dial_address_is_local_port(a)) snprintf(out, cap, "127.0.0.1:%u or [::1]:%u", port, port);
  else dial_address_format(a, out, cap);
}

/* Numeric hosts may be written in several ways. */
static bool host_addr(const struct host_port *hp, struct addr *out) {
  char text[DIAL_ADDRESS_TEXT_CHARS];
  host_port_format(hp, text, sizeof text);
  return host_is_ip(hp->host) && addr_parse(text, out, NULL) == 0;
}

/* One that resolves localhost to itself: only these two are tried for it, so not all of 127.0.0.0/8. */
static bool is_loopback_of(const struct host_port *hp) {
  static const char *const texts[] = {"127.0.0.1:1", "[::1]:1"};
  struct addr given, loopback;
  if (!host_addr(hp, &given)) return false;
  addr_set_port(&given, 1);
  for (size_t i = 0; i < ARRAY_LEN(texts); i++)
    if (addr_parse(texts[i], &loopback, NULL) == 0 && addr_equal(&given, &loopback)) return true;
  return false;
}

bool dial_address_same(const struct dial_address *a, const struct dial_address *b) {
  struct addr x, y;
  if (a->tcp.port != b->tcp.port) return false;
  if (dial_address_is_unix(a)) return strcmp(a->path, b->path) == 0;
  if (strcasecmp(a->tcp.host, b->tcp.host) == 0) return true;
  if (dial_address_is_local_port(a)) return is_loopback_of(&b->tcp);
  if (dial_address_is_local_port(b)) return is_loopback_of(&a->tcp);
  return host_addr(&a->tcp, &x) && host_addr(&b->tcp, &y) && addr_equal(&x, &y);
}
