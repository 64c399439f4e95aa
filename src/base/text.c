/* Text forms of bytes and numbers. Every decoder accepts one spelling of a value only: what a token or a ticket means
   must not have two texts. What is decoded is mostly a key, so that a decoder that fails takes back what it has
   written. */
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/secret.h"

static const char base32_alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
static const char base64url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base32_encode(const uint8_t *p, size_t n, char *out) {
  ASSERT(n * 8 % 5 == 0);
  uint32_t acc = 0;
  unsigned bits = 0;
  for (size_t i = 0; i < n; i++) {
    acc = (acc << 8 | p[i]) & 0xffff;
    for (bits += 8; bits >= 5; bits -= 5) *out++ = base32_alphabet[acc >> (bits - 5) & 31];
  }
  *out = 0;
}

bool label_is_valid(const char *label) {
  size_t n = strnlen(label, LABEL_CHARS + 1);
  return n == LABEL_CHARS && strspn(label, base32_alphabet) == n;
}

void hex_encode(const uint8_t *p, size_t n, char *out) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < n; i++) {
    *out++ = digits[p[i] >> 4];
    *out++ = digits[p[i] & 15];
  }
  *out = 0;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

int hex_decode(const char *text, uint8_t *out, size_t n) {
  if (strnlen(text, 2 * n + 1) != 2 * n) return ERR_SYNTAX;
  for (size_t i = 0; i < n; i++) {
    int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) {
      wipe(out, i);
      return ERR_SYNTAX;
    }
    out[i] = (uint8_t)(high << 4 | low);
  }
  return 0;
}

/* Bits six at a time; returns the end. */
static char *base64_put(const char *alphabet, const uint8_t *p, size_t n, char *out) {
  uint32_t acc = 0;
  unsigned bits = 0;
  for (size_t i = 0; i < n; i++) {
    acc = (acc << 8 | p[i]) & 0xffff;
    for (bits += 8; bits >= 6; bits -= 6) *out++ = alphabet[acc >> (bits - 6) & 63];
  }
  if (bits > 0) *out++ = alphabet[acc << (6 - bits) & 63];
  *out = 0;
  return out;
}

size_t base64url_encode(const uint8_t *p, size_t n, char *out) {
  return (size_t)(base64_put(base64url_alphabet, p, n, out) - out);
}

void base64_encode(const uint8_t *p, size_t n, char *out) {
  char *end = base64_put(base64_alphabet, p, n, out);
  for (; (end - out) % 4 != 0; *end = 0) *end++ = '=';
}

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  if (c == '_') return 63;
  return -1;
}

int base64url_decode(const char *text, size_t chars, uint8_t *out, size_t cap, size_t *n) {
  if (chars % 4 == 1) return ERR_SYNTAX;
  size_t bytes = chars / 4 * 3 + (chars % 4 == 0 ? 0 : chars % 4 - 1);
  if (bytes > cap) return ERR_LIMIT;
  uint32_t acc = 0;
  unsigned bits = 0;
  size_t done = 0;
  for (size_t i = 0; i < chars; i++) {
    int digit = base64_digit(text[i]);
    if (digit < 0) goto malformed;
    acc = (acc << 6 | (uint32_t)digit) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[done++] = (uint8_t)(acc >> bits);
    }
  }
  if ((acc & ((1U << bits) - 1)) != 0) goto malformed; /* RFC 4648 3.5: unused bits must be zero */
  *n = bytes;
  return 0;
malformed:
  wipe(out, done);
  return ERR_SYNTAX;
}

/* Reads leading digits; *end is where they stop. */
static int digits_to_u64(const char *text, uint64_t max, uint64_t *out, const char **end) {
  uint64_t v = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++) {
    uint64_t digit = (uint64_t)(*at - '0');
    if (digit > max || v > (max - digit) / 10) return ERR_LIMIT;
    v = v * 10 + digit;
  }
  if (at == text) return ERR_SYNTAX;
  *end = at;
  *out = v;
  return 0;
}

int text_to_u64(const char *text, uint64_t max, uint64_t *out) {
  const char *end;
  uint64_t v;
  int r = digits_to_u64(text, max, &v, &end);
  if (r != 0) return r;
  if (*end != 0) return ERR_SYNTAX;
  *out = v;
  return 0;
}

int text_to_port(const char *text, uint16_t *out) {
  uint64_t v;
  int r = text_to_u64(text, UINT16_MAX, &v);
  if (r != 0) return r;
  if (v == 0) return ERR_SYNTAX;
  *out = (uint16_t)v;
  return 0;
}

int text_to_duration_ms(const char *text, uint64_t *out) {
  static const struct { const char *name; uint64_t ms; } units[] = {
      {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}};
  const char *end;
  uint64_t v;
  int r = digits_to_u64(text, UINT64_MAX, &v, &end);
  if (r != 0) return r;
  if (*end == 0 && v == 0) {
    *out = 0;
    return 0;
  }
  for (size_t i = 0; i < ARRAY_LEN(units); i++) {
    if (strcmp(end, units[i].name) != 0) continue;
    if (v > INT64_MAX / units[i].ms) return ERR_LIMIT;
    *out = v * units[i].ms;
    return 0;
  }
  return ERR_SYNTAX;
}

static const struct {
  const char *name;
  uint64_t factor;
} rate_units[] = {{"G", 1000000000}, {"M", 1000000}, {"k", 1000}, {"", 1}};

int text_to_rate(const char *text, uint64_t *bytes_per_s) {
  const char *end;
  uint64_t v;
  int r = digits_to_u64(text, UINT64_MAX, &v, &end);
  if (r != 0) return r;
  size_t i = 0;
  while (rate_units[i].factor > 1 && *end != rate_units[i].name[0] && !(*end == 'K' && rate_units[i].factor == 1000))
    i++;
  if (rate_units[i].factor > 1) end++;
  if (*end == 'B') end++;
  if (*end != 0 && strcmp(end, "/s") != 0) return ERR_SYNTAX;
  if (v > UINT64_MAX / rate_units[i].factor) return ERR_LIMIT;
  *bytes_per_s = v * rate_units[i].factor;
  return 0;
}

void text_of_rate(uint64_t bytes_per_s, char *out, size_t cap) {
  size_t i = 0;
  while (bytes_per_s == 0 ? rate_units[i].factor > 1 : bytes_per_s % rate_units[i].factor != 0) i++;
  snprintf(out, cap, "%" PRIu64 "%sB/s", bytes_per_s / rate_units[i].factor, rate_units[i].name);
}

void text_of_bytes(uint64_t bytes, char *out, size_t cap) {
  static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) {
    snprintf(out, cap, "%" PRIu64 " B", bytes);
    return;
  }
  double v = (double)bytes / 1000;
  size_t unit = 0;
  for (; v >= 999.95 && unit + 1 < ARRAY_LEN(units); unit++) v /= 1000;
  snprintf(out, cap, "%.1f %s", v, units[unit]);
}

void text_of_time(int64_t at_s, char out[TIME_TEXT_CHARS + 1]) {
  time_t t = (time_t)at_s;
  struct tm utc;
  if (gmtime_r(&t, &utc) == NULL || strftime(out, TIME_TEXT_CHARS + 1, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
    snprintf(out, TIME_TEXT_CHARS + 1, "an impossible time");
}

bool text_has_control(const char *text) {
  for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++)
    if (*at < ' ' || *at == 0x7f || (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)) return true;
  return false;
}

void text_escape(const char *text, size_t n, char *out, size_t cap) {
  static const char digits[] = "0123456789abcdef";
  ASSERT(cap > 0);
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    uint8_t c = (uint8_t)text[i];
    bool plain = c >= 0x20 && c < 0x7f && c != '\\';
    if (cap - at <= (plain ? 1U : 4U)) break;
    if (plain) {
      out[at++] = (char)c;
      continue;
    }
    out[at++] = '\\';
    out[at++] = 'x';
    out[at++] = digits[c >> 4];
    out[at++] = digits[c & 15];
  }
  out[at] = 0;
}
