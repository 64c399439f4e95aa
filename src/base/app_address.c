/* See app_address.h. */
#include "base/app_address.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

static const char unix_prefix[] = "unix:", local_host[] = "localhost";
enum { UNIX_PREFIX_CHARS = sizeof unix_prefix - 1 };

static int parse_unix(const char *text, const char *path, struct app_address *out, struct err *e) {
  size_t n = strlen(path);
  if (n == 0 || path[n - 1] == '/' || strcmp(path, "@") == 0)
    return err_set(e, ERR_USAGE, "app %.100s: the name of the socket is missing (such as unix:/run/app.sock)", text);
  if (text_has_control(path)) return err_set(e, ERR_USAGE, "app unix: its path has control characters (use another)");
  if (n > UNIX_PATH_MAX_BYTES)
    return err_set(e, ERR_USAGE, "app %.100s...: the path of a Unix socket has %d bytes at most (use a shorter one, or "
                   "a symbolic link to its folder)", text, UNIX_PATH_MAX_BYTES);
  strcpy(out->path, path);
  return 0;
}

int app_address_parse(const char *text, struct app_address *out, struct err *e) {
  *out = (struct app_address){.path = ""};
  if (strncmp(text, unix_prefix, UNIX_PREFIX_CHARS) == 0) return parse_unix(text, text + UNIX_PREFIX_CHARS, out, e);
  if (text_to_port(text, &out->tcp.port) == 0) {
    strcpy(out->tcp.host, local_host);
    return 0;
  }
  if (host_port_parse_local(text, &out->tcp, NULL) == 0) return 0;
  return err_set(e, ERR_USAGE, "app %.100s: not a PORT, HOST:PORT or unix:PATH (such as 8000, 10.0.0.5:8000, "
                 "[::1]:8000 or unix:/run/app.sock)", text);
}

bool app_address_is_local_port(const struct app_address *a) { return strcasecmp(a->tcp.host, local_host) == 0; }

void app_address_format(const struct app_address *a, char *out, size_t cap) {
  if (app_address_is_unix(a)) snprintf(out, cap, "%s%s", unix_prefix, a->path);
  else host_port_format(&a->tcp, out, cap);
}

void app_address_describe(const struct app_address *a, char *out, size_t cap) {
  unsigned port = a->tcp.port;
  if (app_address_is_local_port(a)) snprintf(out, cap, "127.0.0.1:%u or [::1]:%u", port, port);
  else app_address_format(a, out, cap);
}

/* Numeric hosts may be written in several ways. */
static bool host_addr(const struct host_port *hp, struct addr *out) {
  char text[APP_ADDRESS_TEXT_CHARS];
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

bool app_address_same(const struct app_address *a, const struct app_address *b) {
  struct addr x, y;
  if (a->tcp.port != b->tcp.port) return false;
  if (app_address_is_unix(a)) return strcmp(a->path, b->path) == 0;
  if (strcasecmp(a->tcp.host, b->tcp.host) == 0) return true;
  if (app_address_is_local_port(a)) return is_loopback_of(&b->tcp);
  if (app_address_is_local_port(b)) return is_loopback_of(&a->tcp);
  return host_addr(&a->tcp, &x) && host_addr(&b->tcp, &y) && addr_equal(&x, &y);
}
