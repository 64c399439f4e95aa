/* Addresses as values and as text. Only numeric forms are parsed here: nothing in this file asks a resolver. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"

static bool is_abstract(const struct addr *a) { return a->u.un.sun_path[0] == 0; }

socklen_t addr_len(const struct addr *a) {
  if (a->u.any.sa_family == AF_INET) return sizeof a->u.v4;
  if (a->u.any.sa_family == AF_INET6) return sizeof a->u.v6;
  if (!addr_is_unix(a)) return 0;
  /* The name of an abstract one is as long as it is; that of a file ends with its NUL. */
  size_t n = is_abstract(a) ? 1 + strlen(a->u.un.sun_path + 1) : strlen(a->u.un.sun_path) + 1;
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

struct addr addr_unix(const char *path) {
  struct addr a = {.u.un.sun_family = AF_UNIX};
  memcpy(a.u.un.sun_path, path, strnlen(path, UNIX_PATH_MAX_BYTES));
  if (path[0] == '@') a.u.un.sun_path[0] = 0;
  return a;
}

uint16_t addr_port(const struct addr *a) {
  if (a->u.any.sa_family == AF_INET) return ntohs(a->u.v4.sin_port);
  if (a->u.any.sa_family == AF_INET6) return ntohs(a->u.v6.sin6_port);
  return 0;
}

void addr_set_port(struct addr *a, uint16_t port) {
  if (a->u.any.sa_family == AF_INET) a->u.v4.sin_port = htons(port);
  if (a->u.any.sa_family == AF_INET6) a->u.v6.sin6_port = htons(port);
}

static void set_v4(struct addr *a, const uint8_t ip[4], uint16_t port) {
  *a = (struct addr){0};
  a->u.v4.sin_family = AF_INET;
  a->u.v4.sin_port = htons(port);
  memcpy(&a->u.v4.sin_addr, ip, 4);
}

static void set_v6(struct addr *a, const uint8_t ip[16], uint16_t port) {
  *a = (struct addr){0};
  a->u.v6.sin6_family = AF_INET6;
  a->u.v6.sin6_port = htons(port);
  memcpy(&a->u.v6.sin6_addr, ip, 16);
}

struct addr addr_normalised(const struct addr *a) {
  if (a->u.any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->u.v6.sin6_addr)) return *a;
  struct addr v4;
  set_v4(&v4, a->u.v6.sin6_addr.s6_addr + 12, addr_port(a));
  return v4;
}

/* host is numeric; an IPv6 one may carry a zone ("fe80::1%eth0"). */
static bool parse_ip(const char *host, uint16_t port, struct addr *out) {
  uint8_t ip[16];
  if (inet_pton(AF_INET, host, ip) == 1) {
    set_v4(out, ip, port);
    return true;
  }
  char bare[ADDR_TEXT_CAP];
  const char *zone = strchr(host, '%');
  size_t n = zone == NULL ? strlen(host) : (size_t)(zone - host);
  if (n >= sizeof bare) return false;
  memcpy(bare, host, n);
  bare[n] = 0;
  if (inet_pton(AF_INET6, bare, ip) != 1) return false;
  set_v6(out, ip, port);
  if (zone != NULL) {
    out->u.v6.sin6_scope_id = if_nametoindex(zone + 1);
    if (out->u.v6.sin6_scope_id == 0) return false;
  }
  return true;
}

int addr_parse(const char *text, struct addr *out, struct err *e) {
  struct host_port hp;
  int r = host_port_parse(text, 0, &hp, e);
  if (r != 0) return r;
  if (!parse_ip(hp.host, hp.port, out)) {
    return err_set(e, ERR_SYNTAX, "%s: not a numeric address (write it as 1.2.3.4:443 or [::1]:443)", text);
  }
  return 0;
}

void addr_format_ip(const struct addr *a, char *out, size_t cap) {
  char ip[INET6_ADDRSTRLEN] = "-";
  if (a->u.any.sa_family == AF_INET) inet_ntop(AF_INET, &a->u.v4.sin_addr, ip, sizeof ip);
  if (a->u.any.sa_family == AF_INET6) inet_ntop(AF_INET6, &a->u.v6.sin6_addr, ip, sizeof ip);
  snprintf(out, cap, "%s", ip);
}

static void format_unix(const struct addr *a, char *out, size_t cap) {
  const char *path = a->u.un.sun_path;
  if (!is_abstract(a)) snprintf(out, cap, "unix:%s", path);
  else if (path[1] != 0) snprintf(out, cap, "unix:@%s", path + 1);
  else snprintf(out, cap, "unix uid %u", (unsigned)a->uid);
}

void addr_format(const struct addr *a, char *out, size_t cap) {
  if (addr_is_unix(a)) {
    format_unix(a, out, cap);
    return;
  }
  char ip[INET6_ADDRSTRLEN];
  addr_format_ip(a, ip, sizeof ip);
  bool v6 = a->u.any.sa_family == AF_INET6;
  if (addr_len(a) == 0) snprintf(out, cap, "%s", ip);
  else snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)addr_port(a));
}

bool addr_is_loopback(const struct addr *a) {
  struct addr n = addr_normalised(a);
  if (n.u.any.sa_family == AF_INET) return ntohl(n.u.v4.sin_addr.s_addr) >> 24 == 127;
  return n.u.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&n.u.v6.sin6_addr);
}

size_t addr_encode(const struct addr *a, uint8_t out[19]) {
  uint16_t port = addr_port(a);
  bool v6 = a->u.any.sa_family == AF_INET6;
  size_t ip = v6 ? 16 : 4;
  out[0] = v6 ? 6 : 4;
  if (v6) memcpy(out + 1, &a->u.v6.sin6_addr, ip);
  else if (a->u.any.sa_family == AF_INET) memcpy(out + 1, &a->u.v4.sin_addr, ip);
  else memset(out + 1, 0, ip);
  out[1 + ip] = (uint8_t)(port >> 8);
  out[2 + ip] = (uint8_t)port;
  return 3 + ip;
}

bool addr_equal(const struct addr *a, const struct addr *b) {
  uint8_t x[19], y[19];
  if (addr_is_unix(a) || addr_is_unix(b))
    return a->uid == b->uid && memcmp(&a->u.un, &b->u.un, sizeof a->u.un) == 0;
  struct addr p = addr_normalised(a), q = addr_normalised(b);
  size_t n = addr_encode(&p, x);
  return n == addr_encode(&q, y) && memcmp(x, y, n) == 0;
}

int addr_decode(const uint8_t *p, size_t n, struct addr *out) {
  if (n == 7 && p[0] == 4) set_v4(out, p + 1, (uint16_t)(p[5] << 8 | p[6]));
  else if (n == 19 && p[0] == 6) set_v6(out, p + 1, (uint16_t)(p[17] << 8 | p[18]));
  else return ERR_SYNTAX;
  return 0;
}

void addr_write(struct writer *w, const struct addr *a) {
  uint8_t bytes[19];
  write_vec8(w, bytes, addr_encode(a, bytes));
}

int addr_read(struct reader *r, struct addr *out) {
  struct reader v = read_vec8(r);
  return v.bad ? ERR_SYNTAX : addr_decode(v.at, v.left, out);
}

struct source_key addr_source(const struct addr *a) {
  struct source_key key = {{0}};
  struct addr n = addr_normalised(a);
  if (n.u.any.sa_family == AF_INET) {
    key.bytes[0] = 4;
    memcpy(key.bytes + 1, &n.u.v4.sin_addr, 4);
  } else if (n.u.any.sa_family == AF_INET6) {
    key.bytes[0] = 6;
    memcpy(key.bytes + 1, &n.u.v6.sin6_addr, 8);
  } else if (addr_is_unix(&n)) {
    key.bytes[0] = 1;
    memcpy(key.bytes + 1, &n.uid, sizeof n.uid);
  }
  return key;
}

int cidr_parse(const char *text, struct cidr *out, struct err *e) {
  char ip[ADDR_TEXT_CAP];
  const char *slash = strchr(text, '/');
  size_t n = slash == NULL ? strlen(text) : (size_t)(slash - text);
  if (n >= sizeof ip) goto bad;
  memcpy(ip, text, n);
  ip[n] = 0;

  *out = (struct cidr){0};
  if (inet_pton(AF_INET, ip, out->bytes) == 1) out->family = 4;
  else if (inet_pton(AF_INET6, ip, out->bytes) == 1) out->family = 6;
  else goto bad;
  uint64_t bits = out->family == 4 ? 32 : 128;
  if (slash != NULL && text_to_u64(slash + 1, bits, &bits) != 0) goto bad;
  out->bits = (uint8_t)bits;
  return 0;
bad:
  return err_set(e, ERR_SYNTAX, "%.100s: not an address block (write it as 10.0.0.0/8 or 2001:db8::/32)", text);
}

void cidr_format(const struct cidr *c, char out[CIDR_TEXT_CAP]) {
  char ip[INET6_ADDRSTRLEN] = "";
  (void)inet_ntop(c->family == 4 ? AF_INET : AF_INET6, c->bytes, ip, sizeof ip);
  (void)snprintf(out, CIDR_TEXT_CAP, "%s/%u", ip, c->bits);
}

static bool begins_with(const uint8_t *ip, const struct cidr *c) {
  size_t whole = c->bits / 8, rest = c->bits % 8;
  if (memcmp(ip, c->bytes, whole) != 0) return false;
  return rest == 0 || (ip[whole] ^ c->bytes[whole]) >> (8 - rest) == 0;
}

bool cidr_contains(const struct cidr *c, const struct addr *a) {
  struct addr n = addr_normalised(a);
  if (c->family == 4 && n.u.any.sa_family == AF_INET) return begins_with((const uint8_t *)&n.u.v4.sin_addr, c);
  if (c->family == 6 && a->u.any.sa_family == AF_INET6)
    return begins_with(a->u.v6.sin6_addr.s6_addr, c); /* as it came: ::ffff:0:0/96 means the mapped ones */
  return false;
}

bool cidr_covers(const struct cidr *c, const struct cidr *part) {
  return c->family == part->family && c->bits <= part->bits && begins_with(part->bytes, c);
}

bool cidrs_cover(const struct cidr *list, size_t n, const struct cidr *part) {
  for (size_t i = 0; i < n; i++) {
    if (cidr_covers(&list[i], part)) return true;
  }
  return false;
}

bool cidrs_meet(const struct cidr *a, size_t a_n, const struct cidr *b, size_t b_n) {
  for (size_t i = 0; i < a_n; i++) {
    for (size_t k = 0; k < b_n; k++) {
      if (cidr_covers(&a[i], &b[k]) || cidr_covers(&b[k], &a[i])) return true;
    }
  }
  return a_n == 0 || b_n == 0;
}

bool cidrs_contain(const struct cidr *list, size_t n, const struct addr *a) {
  for (size_t i = 0; i < n; i++) {
    if (cidr_contains(&list[i], a)) return true;
  }
  return false;
}

bool host_is_ip(const char *host) {
  struct addr ignored;
  return parse_ip(host, 0, &ignored);
}

static bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool host_name_is_valid(const char *host) {
  size_t n = strnlen(host, HOST_NAME_MAX_CHARS + 1);
  if (n == 0 || n > HOST_NAME_MAX_CHARS) return false;
  size_t label = 0;
  for (size_t i = 0; i <= n; i++) {
    if (host[i] == '.' || host[i] == 0) {
      if (label == 0 || label > 63 || host[i - 1] == '-') return false;
      label = 0;
      continue;
    }
    if (!is_alnum(host[i]) && !(host[i] == '-' && label > 0)) return false;
    label++;
  }
  return true;
}

/* What resolvers find beyond the names of DNS: containers and /etc/hosts have underscores, and a last dot keeps a name
   from being sought in other domains. */
static bool local_name_is_valid(const char *host) {
  size_t n = strnlen(host, HOST_NAME_MAX_CHARS + 1);
  if (n == 0 || n > HOST_NAME_MAX_CHARS || host[0] == '.' || host[0] == '-') return false;
  for (size_t i = 0; i < n; i++)
    if (!is_alnum(host[i]) && strchr("._-", host[i]) == NULL) return false;
  return strstr(host, "..") == NULL;
}

static int parse(const char *text, uint16_t default_port, bool (*is_name)(const char *host), struct host_port *out,
                 struct err *e) {
  const char *host = text, *port = NULL;
  size_t n;
  *out = (struct host_port){.port = default_port};
  if (text[0] == '[') {
    const char *end = strchr(text, ']');
    if (end == NULL || (end[1] != 0 && end[1] != ':')) goto bad;
    host = text + 1;
    n = (size_t)(end - host);
    if (end[1] == ':') port = end + 2;
  } else {
    const char *colon = strchr(text, ':');
    if (colon != NULL && strchr(colon + 1, ':') != NULL) goto bad; /* an IPv6 address wants brackets */
    n = colon == NULL ? strlen(text) : (size_t)(colon - text);
    if (colon != NULL) port = colon + 1;
  }
  if (n == 0 || n >= sizeof out->host) goto bad;
  memcpy(out->host, host, n);
  out->host[n] = 0;
  bool ip = host_is_ip(out->host);
  if (text[0] == '[' ? !ip || strchr(out->host, ':') == NULL : !ip && !is_name(out->host)) goto bad;
  if (port == NULL && default_port == 0) {
    return err_set(e, ERR_SYNTAX, "%.300s: the port is missing (write it as HOST:PORT)", text);
  }
  if (port != NULL && text_to_port(port, &out->port) != 0) {
    return err_set(e, ERR_SYNTAX, "%.300s: not a port after the colon (write a number from 1 to 65535)", text);
  }
  return 0;
bad:
  return err_set(e, ERR_SYNTAX, "%.300s: not HOST:PORT (write it as example.com:443, 1.2.3.4:443 or [::1]:443)", text);
}

int host_port_parse(const char *text, uint16_t default_port, struct host_port *out, struct err *e) {
  return parse(text, default_port, host_name_is_valid, out, e);
}

int host_port_parse_local(const char *text, struct host_port *out, struct err *e) {
  return parse(text, 0, local_name_is_valid, out, e);
}

void host_port_format(const struct host_port *hp, char *out, size_t cap) {
  bool v6 = strchr(hp->host, ':') != NULL;
  snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", hp->host, (unsigned)hp->port);
}
