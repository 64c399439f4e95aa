/* Text forms: base32 labels, hex, base64url, numbers, durations, escaping for logs. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/base.h"

/* Lower-case base32 without ambiguous letters (0123456789abcdefghjkmnpqrstvwxyz); n * 8 must be a multiple of 5. */
void base32_encode(const uint8_t *p, size_t n, char *out /* n*8/5 + 1 */);
bool label_is_valid(const char *label);                        /* LABEL_CHARS of that alphabet */
void hex_encode(const uint8_t *p, size_t n, char *out /* 2n + 1 */);
int hex_decode(const char *text, uint8_t *out, size_t n) MUST_USE; /* exactly n bytes */
size_t base64url_encode(const uint8_t *p, size_t n, char *out /* 4*(n+2)/3 + 1 */); /* no padding; returns the length */
void base64_encode(const uint8_t *p, size_t n, char *out /* 4*((n+2)/3) + 1 */);       /* RFC 4648 4: +, / and
                                                            padding */
int base64url_decode(const char *text, size_t chars, uint8_t *out, size_t cap, size_t *n) MUST_USE;

int text_to_u64(const char *text, uint64_t max, uint64_t *out) MUST_USE;     /* digits only */
int text_to_port(const char *text, uint16_t *out) MUST_USE;                  /* 1..65535 */
/* 10s 5m 2h 30d 250ms; only 0 needs no unit */
int text_to_duration_ms(const char *text, uint64_t *out) MUST_USE;
/* Bytes per second in decimal units: 500kB/s 10MB/s 1G 4096; "/s" and "B" may be left out. Not in bits. */
int text_to_rate(const char *text, uint64_t *bytes_per_s) MUST_USE;
void text_of_rate(uint64_t bytes_per_s, char *out, size_t cap);              /* the same, exactly */
void text_of_bytes(uint64_t bytes, char *out, size_t cap);                   /* 1.5 MB */
enum { TIME_TEXT_CHARS = 20 };
void text_of_time(int64_t at_s, char out[TIME_TEXT_CHARS + 1]);              /* since 1970: 2026-11-27T09:20:40Z */
/* Whether there are control characters in it, which a terminal would obey: C0, DEL and, as UTF-8, C1. */
bool text_has_control(const char *text);
/* Copies text with everything but printable ASCII escaped as \xHH; always terminated. */
void text_escape(const char *text, size_t n, char *out, size_t cap);

#endif
