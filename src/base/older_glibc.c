/* What static libraries of a newer system call and the glibc that is linked with lacks: for a program that is to run on
   older systems, such as the portable wheel (tools/wheel). Elsewhere glibc has these. */
#include <features.h>

#ifdef __GLIBC__
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#if !__GLIBC_PREREQ(2, 36)
uint32_t arc4random(void);
void arc4random_buf(void *p, size_t n);

void arc4random_buf(void *p, size_t n) {
  for (unsigned char *at = p; n > 0;) {
    ssize_t got = getrandom(at, n, 0);
    if (got <= 0) continue;          /* a signal */
    at += got;
    n -= (size_t)got;
  }
}

uint32_t arc4random(void) {
  uint32_t x;
  arc4random_buf(&x, sizeof x);
  return x;
}
#endif

#if !__GLIBC_PREREQ(2, 38)
/* The names that C23's headers give to these; they read 0b101, too, which none of those libraries hands them. */
long __isoc23_strtol(const char *text, char **end, int base);
long long __isoc23_strtoll(const char *text, char **end, int base);
unsigned long __isoc23_strtoul(const char *text, char **end, int base);
__attribute__((format(scanf, 2, 3))) int __isoc23_sscanf(const char *text, const char *format, ...);
size_t strlcpy(char *to, const char *from, size_t size);

long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
long long __isoc23_strtoll(const char *text, char **end, int base) { return strtoll(text, end, base); }
unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return strtoul(text, end, base); }

int __isoc23_sscanf(const char *text, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int n = vsscanf(text, format, list);
  va_end(list);
  return n;
}

size_t strlcpy(char *to, const char *from, size_t size) {
  size_t n = strlen(from);
  if (size > 0) {
    size_t kept = n < size ? n : size - 1;
    memcpy(to, from, kept);
    to[kept] = '\0';
  }
  return n;
}
#endif
#endif
