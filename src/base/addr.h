/* Socket addresses, those of Unix sockets among them, HOST:PORT, CIDR blocks, and what counts as one source. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cursor.h"
#include "base/err.h"

struct addr {                      /* a value; family AF_UNSPEC when unset */
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;         /* of a peer without a path: see uid */
  } u;
  uid_t uid;                       /* AF_UNIX: of who is at the other end of an accepted connection */
};

struct cidr {
  uint8_t family;                  /* 4 or 6 */
  uint8_t bits;
  uint8_t bytes[16];
};

struct host_port {
  char host[254];                  /* name or address without brackets */
  uint16_t port;
};

enum { ADDR_TEXT_CAP = 128 };

socklen_t addr_len(const struct addr *a);
/* path: at most UNIX_PATH_MAX_BYTES; "@NAME" is an abstract one. */
struct addr addr_unix(const char *path);
static inline bool addr_is_unix(const struct addr *a) { return a->u.any.sa_family == AF_UNIX; }
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
/* ::ffff:1.2.3.4 becomes 1.2.3.4. */
struct addr addr_normalised(const struct addr *a);
/* "1.2.3.4:80", "[::1]:80"; numeric only */
int addr_parse(const char *text, struct addr *out, struct err *e) MUST_USE;
/* "1.2.3.4:80", "[::1]:80", "unix:/run/app.sock", or, of a peer at a Unix socket, "unix uid 1000". */
void addr_format(const struct addr *a, char *out, size_t cap);
void addr_format_ip(const struct addr *a, char *out, size_t cap);
bool addr_is_loopback(const struct addr *a);
bool addr_equal(const struct addr *a, const struct addr *b);   /* mapped addresses normalised */
/* family(1) ip(4|16) port(2); returns bytes written (7 or 19), for the wire. */
size_t addr_encode(const struct addr *a, uint8_t out[19]);
int addr_decode(const uint8_t *p, size_t n, struct addr *out) MUST_USE;
/* The same, as a vec8. */
void addr_write(struct writer *w, const struct addr *a);
int addr_read(struct reader *r, struct addr *out) MUST_USE;    /* ERR_SYNTAX */

/* The key under which a source is counted: IPv4 /32 or IPv6 /64, mapped addresses normalised; at a Unix socket, the
   user. */
struct source_key { uint8_t bytes[9]; };
struct source_key addr_source(const struct addr *a);

int cidr_parse(const char *text, struct cidr *out, struct err *e) MUST_USE;  /* "10.0.0.0/8", "::1", "1.2.3.4" */
enum { CIDR_TEXT_CAP = 56 };
void cidr_format(const struct cidr *c, char out[CIDR_TEXT_CAP]);             /* "10.0.0.0/8" */
bool cidr_contains(const struct cidr *c, const struct addr *a);
bool cidrs_contain(const struct cidr *list, size_t n, const struct addr *a);
bool cidr_covers(const struct cidr *c, const struct cidr *part);             /* all of it */
bool cidrs_cover(const struct cidr *list, size_t n, const struct cidr *part); /* one of them does */
/* some address is in both; an empty list means all */
bool cidrs_meet(const struct cidr *a, size_t a_n, const struct cidr *b, size_t b_n);

/* "HOST:PORT", "[v6]:PORT", or, when default_port != 0, "HOST". */
int host_port_parse(const char *text, uint16_t default_port, struct host_port *out, struct err *e) MUST_USE;
/* "HOST:PORT", "[v6]:PORT", where HOST need only be a name that a resolver may know, such as db_1 or db.internal. */
int host_port_parse_local(const char *text, struct host_port *out, struct err *e) MUST_USE;
void host_port_format(const struct host_port *hp, char *out, size_t cap);
bool host_is_ip(const char *host);
/* A DNS name of at most 253 characters: labels of letters, digits and inner hyphens. */
bool host_name_is_valid(const char *host);

#endif
