/* The PROXY protocol (haproxy's proxy-protocol.txt, 2.1 for v1 and 2.2 for v2). Not one byte past the header is read,
   because what follows is the visitor's ClientHello, which stays in the kernel: so every answer "more" names a length
   that every header beginning with these bytes has. */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/cursor.h"
#include "base/text.h"

enum {
  V1_SHORTEST = 15,                /* "PROXY UNKNOWN\r\n" */
  V1_TCP4_SHORTEST = 32,           /* "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n" */
  V1_TCP6_SHORTEST = 22,           /* "PROXY TCP6 :: :: 1 1\r\n" */
  V1_LONGEST = 107,                /* 2.1: with the CRLF */
  V2_FIXED = 16, V2_INET_BYTES = 12, V2_INET6_BYTES = 36,
  V2_LOCAL = 0x20, V2_PROXY = 0x21, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_TYPE_ALPN = 0x01
};
static const uint8_t v2_signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static void addr_set(struct addr *a, bool v6, const uint8_t *ip, uint16_t port) {
  *a = (struct addr){0};
  if (v6) {
    a->u.v6.sin6_family = AF_INET6;
    memcpy(&a->u.v6.sin6_addr, ip, 16);
  } else {
    a->u.v4.sin_family = AF_INET;
    memcpy(&a->u.v4.sin_addr, ip, 4);
  }
  addr_set_port(a, port);
}

static bool begins_like(const uint8_t *p, size_t n, const void *with, size_t with_n) {
  return memcmp(p, with, size_min(n, with_n)) == 0;
}

/* Takes the next word off *at, up to `end` (' ' or NUL). The line has no NUL but the one at its end. */
static bool next_word(char **at, char end, char **word) {
  *word = *at;
  char *stop = strchr(*at, end);
  if (stop == NULL || stop == *at) return false;
  *stop = 0;
  *at = stop + 1;
  return true;
}

static bool v1_port(const char *text, uint16_t *port) {
  uint64_t v;
  if (strlen(text) > 5 || (text[0] == '0' && text[1] != 0) || text_to_u64(text, 65535, &v) != 0) return false;
  *port = (uint16_t)v;
  return true;
}

static int v1_parse(char *rest, bool v6, struct proxy_header *h) {
  char *source, *destination, *from, *to;
  uint8_t a[16], b[16];
  uint16_t source_port, destination_port;
  if (!next_word(&rest, ' ', &source) || !next_word(&rest, ' ', &destination)) return ERR_SYNTAX;
  if (!next_word(&rest, ' ', &from) || !next_word(&rest, 0, &to)) return ERR_SYNTAX;
  int family = v6 ? AF_INET6 : AF_INET;
  if (inet_pton(family, source, a) != 1 || inet_pton(family, destination, b) != 1) return ERR_SYNTAX;
  if (!v1_port(from, &source_port) || !v1_port(to, &destination_port)) return ERR_SYNTAX;
  addr_set(&h->source, v6, a, source_port);
  addr_set(&h->destination, v6, b, destination_port);
  return 0;
}

static int v1_read(const uint8_t *p, size_t n, struct proxy_header *h) {
  static const char tcp4[] = "PROXY TCP4 ", tcp6[] = "PROXY TCP6 ", unknown[] = "PROXY UNKNOWN";
  char line[V1_LONGEST + 1];
  bool v4 = begins_like(p, n, tcp4, sizeof tcp4 - 1), v6 = begins_like(p, n, tcp6, sizeof tcp6 - 1);
  bool none = begins_like(p, n, unknown, sizeof unknown - 1);
  if (!v4 && !v6 && !none) return ERR_SYNTAX;
  if (n < V1_SHORTEST) return V1_SHORTEST;
  const uint8_t *cr = memchr(p, '\r', size_min(n, V1_LONGEST - 1));
  if (cr == NULL) {
    size_t shortest = v4 ? V1_TCP4_SHORTEST : v6 ? V1_TCP6_SHORTEST : V1_SHORTEST;
    if (n > V1_LONGEST - 2 || memchr(p, 0, n) != NULL || memchr(p, '\n', n) != NULL) return ERR_SYNTAX;
    return (int)size_max(n + 2, shortest);
  }
  size_t chars = (size_t)(cr - p);
  if (memchr(p, 0, chars) != NULL || memchr(p, '\n', chars) != NULL) return ERR_SYNTAX;
  if (chars + 1 == n) return (int)(n + 1);
  if (cr[1] != '\n') return ERR_SYNTAX;
  h->total = chars + 2;
  memcpy(line, p, chars);
  line[chars] = 0;
  if (!none) return v1_parse(line + sizeof tcp4 - 1, v6, h);
  h->local = true; /* 2.1: whatever follows UNKNOWN is ignored */
  return line[sizeof unknown - 1] == 0 || line[sizeof unknown - 1] == ' ' ? 0 : ERR_SYNTAX;
}

static int v2_read(const uint8_t *p, size_t n, struct proxy_header *h) {
  if (n < V2_FIXED) return V2_FIXED;
  struct reader r = reader_of(p, n);
  read_bytes(&r, sizeof v2_signature);
  uint8_t command = read_u8(&r), family = read_u8(&r);
  size_t length = read_u16(&r);
  if (command != V2_LOCAL && command != V2_PROXY) return ERR_SYNTAX;
  if (family >> 4 > 3 || (family & 15) > 2) return ERR_SYNTAX;
  if (length > PROXY_HEADER_MAX_BYTES - V2_FIXED) return ERR_SYNTAX;
  bool v6 = family == V2_TCP6, known = command == V2_PROXY && (v6 || family == V2_TCP4);
  size_t ip = v6 ? 16 : 4;
  if (known && length < (v6 ? V2_INET6_BYTES : V2_INET_BYTES)) return ERR_SYNTAX;
  if (length > r.left) return (int)(V2_FIXED + length);
  h->total = V2_FIXED + length;
  h->local = !known; /* LOCAL, UNSPEC, and families that no TCP visitor has */
  if (!known) return 0;
  const uint8_t *source = read_bytes(&r, ip), *destination = read_bytes(&r, ip);
  uint16_t source_port = read_u16(&r), destination_port = read_u16(&r);
  ASSERT(!r.bad);
  addr_set(&h->source, v6, source, source_port);
  addr_set(&h->destination, v6, destination, destination_port);
  return 0; /* TLVs after the addresses are skipped */
}

int proxy_read(const uint8_t *p, size_t n, struct proxy_header *h) {
  *h = (struct proxy_header){0};
  if (n == 0) return V1_SHORTEST;
  if (p[0] == 'P') return v1_read(p, n, h);
  if (!begins_like(p, n, v2_signature, sizeof v2_signature)) return ERR_SYNTAX;
  return v2_read(p, n, h);
}

static void write_ip(struct writer *w, const struct addr *a, bool v6) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (a->u.any.sa_family == AF_INET) {
    if (v6) write_bytes(w, mapped, sizeof mapped);
    write_bytes(w, &a->u.v4.sin_addr, 4);
  } else {
    write_bytes(w, &a->u.v6.sin6_addr, 16);
  }
}

size_t proxy_write_v2(const struct addr *source, const struct addr *destination, const uint8_t *alpn, size_t alpn_n,
                      uint8_t out[PROXY_HEADER_MAX_BYTES]) {
  struct addr from = addr_normalised(source), to = addr_normalised(destination);
  bool known = addr_len(&from) != 0 && addr_len(&to) != 0;
  bool v6 = from.u.any.sa_family == AF_INET6 || to.u.any.sa_family == AF_INET6;
  struct writer w = writer_of(out, PROXY_HEADER_MAX_BYTES);
  write_bytes(&w, v2_signature, sizeof v2_signature);
  write_u8(&w, known ? V2_PROXY : V2_LOCAL);
  write_u8(&w, !known ? 0 : v6 ? V2_TCP6 : V2_TCP4);
  size_t mark = write_open_vec(&w, 2);
  if (known) {
    write_ip(&w, &from, v6);
    write_ip(&w, &to, v6);
    write_u16(&w, addr_port(&from));
    write_u16(&w, addr_port(&to));
    if (alpn_n > 0 && alpn_n <= 255) { /* 2.2.1: one protocol's name */
      write_u8(&w, V2_TYPE_ALPN);
      write_vec16(&w, alpn, alpn_n);
    }
  }
  write_close_vec(&w, mark, 2);
  ASSERT(!w.bad);
  return w.len;
}
