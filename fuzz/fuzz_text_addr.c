/* The parsers of short texts: addresses, blocks, HOST:PORT, apps, base64url, durations, ALPN. The first byte chooses
   one; whatever it accepts must come back the same when it is written and parsed again. */
#include <string.h>

#include "base/addr.h"
#include "base/dial_address.h"
#include "base/text.h"
#include "wire/frame.h"

enum { TEXT_MAX = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_addr(const char *text) {
  struct addr a, b;
  struct err e;
  char out[64], again[64];
  uint8_t wire[19];
  if (addr_parse(text, &a, &e) != 0) return;
  addr_format(&a, out, sizeof out);
  ASSERT(addr_parse(out, &b, &e) == 0);
  addr_format(&b, again, sizeof again);
  ASSERT(strcmp(out, again) == 0);
  ASSERT(addr_decode(wire, addr_encode(&a, wire), &b) == 0);
  addr_format(&b, again, sizeof again);
  ASSERT(strcmp(out, again) == 0);
  struct addr n = addr_normalised(&a);
  struct source_key ka = addr_source(&a), kn = addr_source(&n);
  ASSERT(memcmp(&ka, &kn, sizeof ka) == 0);
}

static void try_cidr(const char *text) {
  struct cidr c;
  struct err e;
  if (cidr_parse(text, &c, &e) != 0) return;
  uint8_t wire[19] = {c.family};
  memcpy(wire + 1, c.bytes, c.family == 4 ? 4 : 16);
  struct addr a;
  ASSERT(addr_decode(wire, c.family == 4 ? 7 : 19, &a) == 0);
  struct addr n = addr_normalised(&a);
  ASSERT(cidr_contains(&c, &a) || n.u.any.sa_family != a.u.any.sa_family);
}

static void try_host_port(const char *text, uint16_t default_port) {
  struct host_port a, b;
  struct err e;
  char out[300];
  if (host_port_parse(text, default_port, &a, &e) != 0) return;
  ASSERT(a.port != 0);
  host_port_format(&a, out, sizeof out);
  ASSERT(host_port_parse(out, 0, &b, &e) == 0 && a.port == b.port && strcmp(a.host, b.host) == 0);
}

static void try_app(const char *text) {
  struct dial_address a, b;
  struct err e;
  char out[DIAL_ADDRESS_TEXT_CHARS], described[DIAL_ADDRESS_TEXT_CHARS];
  if (dial_address_parse_app(text, &a, &e) != 0) return;
  dial_address_format(&a, out, sizeof out);
  dial_address_describe(&a, described, sizeof described);
  ASSERT(dial_address_parse_app(out, &b, &e) == 0 && dial_address_same(&a, &b) &&
         dial_address_is_unix(&a) == dial_address_is_unix(&b));
}

static void try_relay(const char *text) {
  struct dial_address a, b;
  struct err e;
  char out[DIAL_ADDRESS_TEXT_CHARS], shown[DIAL_ADDRESS_TEXT_CHARS];
  if (dial_address_parse_relay(text, &a, &e) != 0) return;
  dial_address_format(&a, out, sizeof out);
  ASSERT(dial_address_parse_relay(out, &b, &e) == 0 && dial_address_same(&a, &b));
  if (!dial_address_is_unix(&a)) return;
  struct addr at = addr_unix(a.path);
  addr_format(&at, shown, sizeof shown);
  ASSERT(strcmp(shown, out) == 0 && addr_len(&at) <= sizeof at.u.un);
}

static void try_base64url(const char *text) {
  uint8_t bytes[TEXT_MAX];
  char out[2 * TEXT_MAX];
  size_t n;
  if (base64url_decode(text, strlen(text), bytes, sizeof bytes, &n) != 0) return;
  ASSERT(base64url_encode(bytes, n, out) == strlen(text) && strcmp(text, out) == 0);
}

static void try_alpn(const char *text) {
  uint8_t list[ALPN_LIST_MAX_BYTES];
  size_t n;
  struct err e;
  if (alpn_parse(text, list, sizeof list, &n, &e) == 0) ASSERT(n == strlen(text) + 1 && alpn_check(list, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  char text[TEXT_MAX], out[64];
  uint64_t ms;
  if (n == 0 || n > sizeof text) return 0;
  memcpy(text, data + 1, n - 1);
  text[n - 1] = 0;
  switch ((uint8_t)(data[0] - '0') % 9) {
    case 0: try_addr(text); break;
    case 1: try_cidr(text); break;
    case 2: try_host_port(text, 0); break;
    case 3: try_host_port(text, 443); break;
    case 4: try_base64url(text); break;
    case 6: try_app(text); break;
    case 7: try_relay(text); break;
    case 8: try_alpn(text); break;
    default:
      if (text_to_duration_ms(text, &ms) == 0) ASSERT(ms <= INT64_MAX);
      text_escape(text, n - 1, out, sizeof out);
      ASSERT(strlen(out) < sizeof out);
  }
  return 0;
}
