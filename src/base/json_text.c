/* See json_text.h. */
#include "base/json_text.h"

#include <stddef.h>

/* Length of the UTF-8 sequence at text, or 0 where there is none (RFC 3629 section 4). */
static size_t utf8_length(const unsigned char *s) {
  size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
  if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
  for (size_t i = 1; i < n; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  return n;
}

void json_put_text(FILE *to, const char *text) {
  if (text == NULL) {
    (void)fputs("null", to);
    return;
  }
  (void)fputc('"', to);
  for (const unsigned char *s = (const unsigned char *)text; *s != 0;) {
    size_t n = *s < 0x80 ? 1 : utf8_length(s);
    if (n == 0) {
      (void)fputs("\\ufffd", to);
      n = 1;
    } else if (*s == '"' || *s == '\\') {
      (void)fprintf(to, "\\%c", *s);
    } else if (*s < 0x20 || *s == 0x7f) {
      (void)fprintf(to, "\\u%04x", *s);
    } else {
      (void)fwrite(s, 1, n, to);
    }
    s += n;
  }
  (void)fputc('"', to);
}
