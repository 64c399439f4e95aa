/* Requests to the port of plain HTTP: the first byte says in which pieces they come, which makes no difference.
   Whatever is asked, the answer is whole, one head without a line too many, and leads to nobody else. */
#include <stdint.h>
#include <string.h>

#include "wire/redirect.h"

static const char domain[] = "r1.test", location[] = "\r\nLocation: https://";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int feed(struct redirect *r, const uint8_t *p, size_t n, size_t piece) {
  int status = REDIRECT_MORE;
  for (size_t at = 0; at < n && status == REDIRECT_MORE; at += piece)
    status = redirect_feed(r, p + at, size_min(piece, n - at));
  return status;
}

static void check_location(const char *p, const char *end) {
  end = memmem(p, (size_t)(end - p), "\r\n", 2);
  const char *slash = memchr(p, '/', (size_t)(end - p));
  ASSERT(slash != NULL);
  const char *host_end = memchr(p, ':', (size_t)(slash - p));
  if (host_end == NULL) host_end = slash;
  size_t host_n = (size_t)(host_end - p), domain_n = sizeof domain - 1;
  ASSERT(host_n >= domain_n && memcmp(host_end - domain_n, domain, domain_n) == 0);
  ASSERT(host_n == domain_n || host_end[-(ptrdiff_t)domain_n - 1] == '.');
  for (; p < end; p++) ASSERT(*p > ' ' && *p < 0x7f);
}

static void check_answer(const struct buf *b, int status) {
  const char *p = (const char *)b->base + b->start, *end = p + b->len;
  ASSERT(b->len > 13 && memcmp(p, "HTTP/1.1 ", 9) == 0 && memcmp(end - 4, "\r\n\r\n", 4) == 0);
  const char *found = memmem(p, b->len, location, sizeof location - 1);
  ASSERT((found != NULL) == (status == REDIRECT_FOUND));
  if (found != NULL) check_location(found + sizeof location - 1, end);
  size_t lines = 0;
  for (const char *at = p; at < end; at++) lines += *at == '\n';
  ASSERT(lines == (found != NULL ? 5 : 4));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  struct redirect whole, parts;
  struct buf answer, again;
  redirect_init(&whole);
  redirect_init(&parts);
  buf_init(&answer, REDIRECT_LINE_MAX_BYTES + 1024);
  buf_init(&again, REDIRECT_LINE_MAX_BYTES + 1024);
  int status = feed(&whole, data + 1, size - 1, size);
  ASSERT(status == feed(&parts, data + 1, size - 1, (size_t)data[0] + 1));
  ASSERT(redirect_bytes(&whole) <= sizeof whole + 2 * REDIRECT_LINE_MAX_BYTES);
  if (status != REDIRECT_MORE) {
    uint16_t port = data[0] % 2 == 0 ? 443 : 8443;
    int code = redirect_answer(&whole, status, domain, port, &answer);
    ASSERT(code >= REDIRECT_FOUND);
    check_answer(&answer, code);
    ASSERT(redirect_answer(&parts, status, domain, port, &again) == code && again.len == answer.len);
  }
  redirect_free(&whole);
  redirect_free(&parts);
  buf_free(&answer);
  buf_free(&again);
  return 0;
}
