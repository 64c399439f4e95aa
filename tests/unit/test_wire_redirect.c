/* The port of plain HTTP: every request for a name of the relay is sent to the same place by https, and nobody anywhere
   else. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "wire/redirect.h"

enum { WHOLE = 1 << 20 };

/* The answer to a request that comes in pieces of so many bytes, as text; "" while more is wanted. */
static const char *answer_in(const char *request, size_t n, size_t piece, uint16_t port) {
  static char text[REDIRECT_LINE_MAX_BYTES + 1024 + 1];
  struct redirect r;
  struct buf out;
  int status = REDIRECT_MORE;
  redirect_init(&r);
  buf_init(&out, sizeof text - 1);
  for (size_t at = 0; at < n && status == REDIRECT_MORE; at += piece)
    status = redirect_feed(&r, (const uint8_t *)request + at, size_min(piece, n - at));
  if (status != REDIRECT_MORE) assert_true(redirect_answer(&r, status, "r1.test", port, &out) > 0);
  if (out.len > 0) memcpy(text, buf_data(&out), out.len);
  text[out.len] = '\0';
  buf_free(&out);
  redirect_free(&r);
  return text;
}

static const char *answer_to(const char *request) { return answer_in(request, strlen(request), WHOLE, 443); }

static void assert_redirect(const char *request, const char *url) {
  char expected[256];
  (void)snprintf(expected, sizeof expected, "HTTP/1.1 308 Permanent Redirect\r\nLocation: %s\r\n%s", url,
                 "Content-Length: 0\r\nConnection: close\r\n\r\n");
  assert_string_equal(answer_to(request), expected);
}

static void assert_status(const char *answer, int status) {
  char begin[16];
  (void)snprintf(begin, sizeof begin, "HTTP/1.1 %d ", status);
  assert_memory_equal(answer, begin, strlen(begin));
  assert_null(strstr(answer, "Location"));
  assert_non_null(strstr(answer, "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
}

static void the_same_path_by_https_is_named(void **state) {
  (void)state;
  assert_redirect("GET /a/b?c=d&e HTTP/1.1\r\nHost: abc.r1.test\r\n\r\n", "https://abc.r1.test/a/b?c=d&e");
  assert_redirect("POST / HTTP/1.1\r\nHost: abc.r1.test\r\nContent-Length: 4\r\n\r\nbody", "https://abc.r1.test/");
  assert_redirect("HEAD / HTTP/1.0\r\nAccept: *\r\nHOST:\t ABC.r1.Test. \r\nCookie:\r\n\r\n", "https://abc.r1.test/");
  assert_redirect("GET //evil.test/%0d HTTP/1.1\r\nHost: r1.test\r\n\r\n", "https://r1.test//evil.test/%0d");
  assert_redirect("GET /\\evil HTTP/1.1\r\nHost: r1.test:80\r\n\r\n", "https://r1.test/\\evil");
  assert_redirect("GET /\xc3\xbc HTTP/1.1\r\nHost: r1.test\r\n\r\n", "https://r1.test/%C3%BC");
  assert_redirect("\r\n\r\nGET / HTTP/1.1\nHost: a-1.r1.test:\n\n", "https://a-1.r1.test/");
}

static void a_target_with_a_host_wins_over_the_field(void **state) {
  (void)state;
  assert_redirect("GET http://abc.r1.test/x HTTP/1.1\r\nHost: other.r1.test\r\n\r\n", "https://abc.r1.test/x");
  assert_redirect("GET HTTP://abc.r1.test:80?q HTTP/1.0\r\n\r\n", "https://abc.r1.test/?q");
  assert_redirect("GET https://abc.r1.test HTTP/1.1\r\nHost: evil.test\r\n\r\n", "https://abc.r1.test/");
  assert_redirect("OPTIONS * HTTP/1.1\r\nHost: abc.r1.test\r\n\r\n", "https://abc.r1.test/");
}

static void another_port_than_443_is_named(void **state) {
  (void)state;
  static const char request[] = "GET / HTTP/1.1\r\nHost: abc.r1.test:80\r\n\r\n";
  assert_non_null(
      strstr(answer_in(request, sizeof request - 1, WHOLE, 8443), "\r\nLocation: https://abc.r1.test:8443/\r\n"));
}

static void pieces_make_no_difference(void **state) {
  (void)state;
  static const char request[] = "\r\nGET /path HTTP/1.1\r\nUser-Agent: x\r\nHost: abc.r1.test\r\n\r\n";
  for (size_t piece = 1; piece < sizeof request; piece++)
    assert_non_null(
        strstr(answer_in(request, sizeof request - 1, piece, 443), "\r\nLocation: https://abc.r1.test/path\r\n"));
  for (size_t n = 0; n < sizeof request - 1; n++) assert_string_equal(answer_in(request, n, WHOLE, 443), "");
}

static void other_names_are_misdirected(void **state) {
  (void)state;
  static const char *const hosts[] = {"evil.test", "xr1.test", "r1.test.evil.test", "a.b.r1.test", ".r1.test", "test",
    "127.0.0.1", "-r1.test", "a1234567890123456789012345678901234567890123456789012345678901234.r1.test"};
  for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
    char request[256];
    (void)snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
    assert_status(answer_to(request), 421);
    (void)snprintf(request, sizeof request, "GET http://%s/ HTTP/1.1\r\nHost: r1.test\r\n\r\n", hosts[i]);
    assert_status(answer_to(request), 421);
  }
}

static void hosts_that_are_none_are_refused(void **state) {
  (void)state;
  static const char *const hosts[] = {"", ".", ":80", "a@r1.test", "r1.test:8x", "r1.test:80:80", "[::1]", "[::1]:80",
    "r1.test/", "r1.test a", "a_b.r1.test", "r1.test,r1.test", "\xc3\xbc.r1.test",
    "%61.r1.test", "r1.test#", "r1.test?"};
  for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
    char request[256];
    (void)snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
    assert_status(answer_to(request), 400);
  }
  char request[HOST_NAME_MAX_CHARS + 64] = "GET / HTTP/1.1\r\nHost: ";
  memset(request + strlen(request), 'a', HOST_NAME_MAX_CHARS + 1);
  strcat(request, "\r\n\r\n");
  assert_status(answer_to(request), 400);
}

static void malformed_requests_are_refused(void **state) {
  (void)state;
  static const char *const requests[] = {
    "GET\r\n", "GET /\r\n", "GET / \r\n", " / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n",
    "GET / a HTTP/1.1\r\n", "GET / HTTP/1.10\r\n", "GET / HTTP/1.x\r\n", "GET / http/1.1\r\n", "GET / HTTPS/1.1\r\n",
    "G(T / HTTP/1.1\r\n", "GET @evil.test HTTP/1.1\r\n", "GET .evil.test/ HTTP/1.1\r\n", "GET a HTTP/1.1\r\n",
    "GET ftp://r1.test/ HTTP/1.1\r\n", "GET http:/r1.test/ HTTP/1.1\r\n", "GET http://a@r1.test/ HTTP/1.1\r\n",
    "GET http:///r1.test HTTP/1.1\r\n", "CONNECT r1.test:443 HTTP/1.1\r\n", "GET ** HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: r1.test\r\nHost: r1.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : r1.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: r1.test\r\n folded: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n", "GET / HTTP/1.1\r\nHost: r1.test\rX: y\r\n",
    "GET /\r HTTP/1.1\r\n", "GET /\r\r\n", "GET /\x01 HTTP/1.1\r\n", "GET /\x7f HTTP/1.1\r\n",
    "GET\t/ HTTP/1.1\r\n", "GET /\t HTTP/1.1\r\n", "\x16\x03\x01\x02", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
  };
  for (size_t i = 0; i < ARRAY_LEN(requests); i++) assert_status(answer_to(requests[i]), 400);
  static const char nul[] = "GET /\0 HTTP/1.1\r\n";
  assert_status(answer_in(nul, sizeof nul - 1, WHOLE, 443), 400);
  assert_status(answer_to("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
}

static void what_is_too_long_is_refused_as_soon_as_it_is(void **state) {
  (void)state;
  static char text[REDIRECT_HEAD_MAX_BYTES + 64];
  static const char start[] = "GET / HTTP/1.1\r\n";
  memset(text, 'a', sizeof text);
  memcpy(text, "GET /", 5);
  assert_string_equal(answer_in(text, REDIRECT_LINE_MAX_BYTES, WHOLE, 443), "");
  assert_status(answer_in(text, REDIRECT_LINE_MAX_BYTES + 1, WHOLE, 443), 414);
  memcpy(text, start, sizeof start - 1);
  assert_string_equal(answer_in(text, sizeof start - 1 + REDIRECT_LINE_MAX_BYTES, WHOLE, 443), "");
  assert_status(answer_in(text, sizeof start + REDIRECT_LINE_MAX_BYTES, WHOLE, 443), 431);
  for (size_t at = sizeof start - 1; at < sizeof text - 4; at += 4) memcpy(text + at, "a:\r\n", 4);
  assert_string_equal(answer_in(text, REDIRECT_HEAD_MAX_BYTES, WHOLE, 443), "");
  assert_status(answer_in(text, REDIRECT_HEAD_MAX_BYTES + 1, WHOLE, 443), 431);
}

static void a_path_that_grows_by_escapes_stays_bounded(void **state) {
  (void)state;
  static char text[REDIRECT_LINE_MAX_BYTES + 1] = "GET /";
  memset(text + 5, '\xc3', REDIRECT_LINE_MAX_BYTES / 2);
  strcat(text, " HTTP/1.1\r\n");
  assert_status(answer_to(text), 414);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_same_path_by_https_is_named),
    cmocka_unit_test(a_target_with_a_host_wins_over_the_field),
    cmocka_unit_test(another_port_than_443_is_named),
    cmocka_unit_test(pieces_make_no_difference),
    cmocka_unit_test(other_names_are_misdirected),
    cmocka_unit_test(hosts_that_are_none_are_refused),
    cmocka_unit_test(malformed_requests_are_refused),
    cmocka_unit_test(what_is_too_long_is_refused_as_soon_as_it_is),
    cmocka_unit_test(a_path_that_grows_by_escapes_stays_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
