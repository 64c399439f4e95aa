/* CONNECT and a proxy's answer: read exactly, never a byte past its head, and refused when it is not HTTP. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "wire/http_connect.h"

/* Reads as a socket would be read: exactly as many bytes as asked for, of an answer with something behind it. */
static int read_exactly(const char *text, size_t *have, struct http_connect_answer *a) {
  size_t n = strlen(text);
  *have = 0;
  for (;;) {
    uint8_t *copy = test_malloc(*have + 1);      /* of the exact size, so that a step past its end is seen */
    memcpy(copy + 1, text, *have);
    int want = http_connect_read(copy + 1, *have, a);
    test_free(copy);
    if (want <= 0) return want;
    assert_true((size_t)want > *have);
    if ((size_t)want > n) return 1; /* cut */
    *have = (size_t)want;
  }
}

static void assert_answer(const char *head, unsigned status, const char *reason) {
  struct http_connect_answer a;
  char text[2048];
  size_t have;
  (void)snprintf(text, sizeof text, "%s%s", head, "\x16\x03\x01 of the relay");
  assert_int_equal(read_exactly(text, &have, &a), 0);
  assert_int_equal(have, strlen(head));
  assert_int_equal(a.status, status);
  assert_string_equal(a.reason, reason);
  for (size_t cut = 0; cut < strlen(head); cut++) {
    text[cut] = '\0';
    assert_int_equal(read_exactly(text, &have, &a), 1);
    text[cut] = head[cut];
  }
}

static void answers_are_read_to_the_last_byte_of_their_head(void **state) {
  (void)state;
  assert_answer("HTTP/1.1 200 Connection established\r\n\r\n", 200, "Connection established");
  assert_answer("HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n", 200,
                "Connection established");
  assert_answer("HTTP/1.1 200\r\n\r\n", 200, "");
  assert_answer("HTTP/1.1 200 \r\n\r\n", 200, "");
  assert_answer("HTTP/1.1 204 None\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 204, "None");
  assert_answer("HTTP/1.1 200 OK\n\n", 200, "OK");
  assert_answer("HTTP/1.1 200\n\n", 200, "");
  assert_answer("HTTP/1.1 200 OK\nA: b\r\n\n", 200, "OK");
  assert_answer("HTTP/1.1 200 OK\r\nA: \rb\n\r\n", 200, "OK");
  assert_answer("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n", 503, "Service Unavailable");
}

static void interim_answers_are_passed_over(void **state) {
  (void)state;
  assert_answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200,
                "OK");
}

static void what_a_proxy_wants_as_proof_is_known(void **state) {
  (void)state;
  static const struct { const char *headers, *scheme; bool basic; } cases[] = {
    {"", "", false},
    {"Proxy-Authenticate: Basic realm=\"x\"\r\n", "Basic", true},
    {"proxy-authenticate:BASIC\r\n", "BASIC", true},
    {"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", "Negotiate", false},
    {"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: \tBasic realm=x\r\n", "Negotiate", true},
    {"Proxy-Authenticate: Basically realm=x\r\n", "Basically", false},
    {"WWW-Authenticate: Basic realm=x\r\n", "", false},
    {"Proxy-Authenticate: AVeryLongNameOfASchemeThatDoesNotFit\r\n", "AVeryLongNameOfASchemeT", false},
  };
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct http_connect_answer a;
    char text[512];
    size_t have;
    (void)snprintf(text, sizeof text, "HTTP/1.1 407 Proxy Authentication Required\r\n%s\r\n", cases[i].headers);
    assert_int_equal(read_exactly(text, &have, &a), 0);
    assert_int_equal(a.status, 407);
    assert_string_equal(a.scheme, cases[i].scheme);
    assert_int_equal(a.takes_basic, cases[i].basic);
  }
}

static void what_is_not_http_is_refused_as_soon_as_it_shows(void **state) {
  (void)state;
  static const char *const bad[] = {
    "SSH-2.0-OpenSSH_9.2p1\r\n", "\x15\x03\x01\x02\x02\x16 and more of it", "HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.x 200 OK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 600 OK\r\n\r\n",
    "HTTP/1.1200 OK\r\n\r\n",
    "HTTP/1.1 -20 OK\r\n\r\n", "HTTP/1.1\r\n\r\n and more", "http/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nSSH-2.0-OpenSSH_9",
    "\r\nHTTP/1.1 200 OK\r\n\r\n"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct http_connect_answer a;
    size_t have;
    assert_int_equal(read_exactly(bad[i], &have, &a), ERR_SYNTAX);
  }
}

static void an_answer_without_end_is_refused(void **state) {
  (void)state;
  struct http_connect_answer a;
  char *text = test_malloc(2 * PROXY_HEAD_MAX_BYTES + 1);
  size_t have;
  static const char *const fill[] = {"X: y\r\n", "X", "HTTP/1.1 100 Continue\r\n\r\n"};
  for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
    size_t n = (size_t)snprintf(text, 64, i < 2 ? "HTTP/1.1 200 OK\r\n" : "");
    while (n + strlen(fill[i]) <= 2 * PROXY_HEAD_MAX_BYTES) n += (size_t)snprintf(text + n, 64, "%s", fill[i]);
    assert_int_equal(read_exactly(text, &have, &a), ERR_LIMIT);
    assert_true(have <= PROXY_HEAD_MAX_BYTES);
  }
  test_free(text);
}

static void what_comes_is_printable_when_it_is_told(void **state) {
  (void)state;
  struct http_connect_answer a;
  size_t have;
  assert_int_equal(
      read_exactly("HTTP/1.1 403 \x1b[31mno\x07 \xc3\xa9 and so on and on and on and on and on and on and on\r\n\r\n",
                   &have, &a),
      0);
  assert_string_equal(a.reason, "?[31mno? ?? and so on and on and on and on and ");
}

static void a_request_names_where_to_and_who(void **state) {
  (void)state;
  struct host_port name = {"r1.example.com", 443}, v6 = {"2001:db8::1", 8443};
  char out[HTTP_CONNECT_MAX_BYTES + 1];
  struct writer w = writer_of(out, HTTP_CONNECT_MAX_BYTES);
  http_connect_encode(&w, &name, NULL, "adit/1");
  assert_false(w.bad);
  out[w.len] = '\0';
  assert_string_equal(out,
                      "CONNECT r1.example.com:443 HTTP/1.1\r\nHost: r1.example.com:443\r\nUser-Agent: adit/1\r\n\r\n");
  w = writer_of(out, HTTP_CONNECT_MAX_BYTES);
  http_connect_encode(&w, &v6, "Basic YTpi", "adit/1");
  out[w.len] = '\0';
  assert_string_equal(out, "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nUser-Agent: adit/1\r\n"
                           "Proxy-Authorization: Basic YTpi\r\n\r\n");
}

static void the_longest_request_fits(void **state) {
  (void)state;
  struct host_port to = {"", 65535};
  char out[HTTP_CONNECT_MAX_BYTES], authorization[PROXY_AUTHORIZATION_CHARS + 1];
  memset(to.host, 'a', HOST_NAME_MAX_CHARS);
  memset(authorization, 'A', PROXY_AUTHORIZATION_CHARS);
  authorization[PROXY_AUTHORIZATION_CHARS] = '\0';
  struct writer w = writer_of(out, sizeof out);
  http_connect_encode(&w, &to, authorization, "adit/100.100.100");
  assert_false(w.bad);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(answers_are_read_to_the_last_byte_of_their_head),
    cmocka_unit_test(interim_answers_are_passed_over),
    cmocka_unit_test(what_a_proxy_wants_as_proof_is_known),
    cmocka_unit_test(what_is_not_http_is_refused_as_soon_as_it_shows),
    cmocka_unit_test(an_answer_without_end_is_refused),
    cmocka_unit_test(what_comes_is_printable_when_it_is_told),
    cmocka_unit_test(a_request_names_where_to_and_who),
    cmocka_unit_test(the_longest_request_fits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
