/* A proxy's URL, who is spared it, and that no error tells a password. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "agent/http_proxy.h"

static void urls_are_read_as_curl_reads_them(void **state) {
  (void)state;
  static const struct { const char *url, *name, *authorization; bool tls; } good[] = {
    {"http://proxy.corp:3128", "http://proxy.corp:3128", NULL, false},
    {"HTTP://proxy.corp:3128/", "http://proxy.corp:3128", NULL, false},
    {"proxy.corp:3128", "http://proxy.corp:3128", NULL, false},
    {"proxy.corp", "http://proxy.corp:1080", NULL, false},
    {"https://proxy.corp", "https://proxy.corp:443", NULL, true},
    {"http://[::1]:3128", "http://[::1]:3128", NULL, false},
    {"http://user:secret@10.0.0.1:8080", "http://10.0.0.1:8080", "Basic dXNlcjpzZWNyZXQ=", false},
    {"user:secret@proxy", "http://proxy:1080", "Basic dXNlcjpzZWNyZXQ=", false},
    {"http://user@proxy:1", "http://proxy:1", "Basic dXNlcjo=", false},
    {"http://:@proxy:1", "http://proxy:1", "Basic Og==", false},
    {"http://us%40er:p%3a%25%C3%A9@proxy:1", "http://proxy:1", "Basic dXNAZXI6cDolw6k=", false},
    {"http://user:a@b:c@proxy:1", "http://proxy:1", "Basic dXNlcjphQGI6Yw==", false},
  };
  for (size_t i = 0; i < ARRAY_LEN(good); i++) {
    struct err e = {0};
    struct http_proxy *p = http_proxy_new(good[i].url, &e);
    assert_non_null(p);
    assert_string_equal(p->name, good[i].name);
    assert_int_equal(p->tls, good[i].tls);
    if (good[i].authorization == NULL) assert_null(p->authorization);
    else assert_string_equal(p->authorization, good[i].authorization);
    http_proxy_free(p);
  }
}

static void a_wrong_url_is_refused_without_telling_the_password(void **state) {
  (void)state;
  static const char *const bad[] = {
    "", "http://", "http://u:hunter2@", "ftp://u:hunter2@proxy:1", "socks5h://u:hunter2@proxy:1",
    "http://u:hunter2@proxy:port",
    "http://u:hunter2@proxy:0", "http://u:hunter2@proxy:1/path", "http://u:hunter2@proxy:1?q",
    "http://u:hunter2%@proxy:1",
    "http://u:hunter2%4@proxy:1", "http://u:hunter2%00@proxy:1", "http://u:hunter2%0d%0aX:@proxy:1",
    "http://u%3A:hunter2@proxy:1",
    "http://u:hunter2@pro xy:1", "http://u:hunter2@::1:1", "://u:hunter2@proxy:1", "http://u:hunter2\n@proxy:1"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e = {0};
    assert_null(http_proxy_new(bad[i], &e));
    assert_true(e.code < 0 && strchr(e.text, '(') != NULL);
    assert_null(strstr(e.text, "hunter2"));
  }
}

static void what_is_too_long_is_refused(void **state) {
  (void)state;
  char url[PROXY_URL_MAX_CHARS + 64];
  for (int length = PROXY_CREDENTIALS_MAX_BYTES - 2; length <= PROXY_CREDENTIALS_MAX_BYTES + 1; length++) {
    struct err e = {0};
    (void)snprintf(url, sizeof url, "http://u:%0*d@proxy:1", length, 0);
    struct http_proxy *p = http_proxy_new(url, &e);
    assert_int_equal(p != NULL, length + 2 <= PROXY_CREDENTIALS_MAX_BYTES);
    http_proxy_free(p);
    (void)snprintf(url, sizeof url, "http://%0*d@proxy:1", length, 0);
    p = http_proxy_new(url, &e);
    assert_int_equal(p != NULL, length + 1 <= PROXY_CREDENTIALS_MAX_BYTES);
    http_proxy_free(p);
  }
  struct err e = {0};
  (void)snprintf(url, sizeof url, "http://%0*d:1", PROXY_URL_MAX_CHARS + 8, 0);
  assert_null(http_proxy_new(url, &e));
  (void)snprintf(url, sizeof url, "http://%0300d:1", 0);
  assert_null(http_proxy_new(url, &e));
}

static void no_proxy_is_read_as_curl_reads_it(void **state) {
  (void)state;
  static const struct { const char *no_proxy, *host; bool spared; } cases[] = {
    {NULL, "r1.example.com", false},
    {"", "r1.example.com", false},
    {"*", "r1.example.com", true},
    {"*", "10.0.0.1", true},
    {"example.com", "example.com", true},
    {"example.com", "r1.example.com", true},
    {"Example.COM", "r1.exAmple.com", true},
    {".example.com", "r1.example.com", true},
    {".example.com", "example.com", true},
    {"example.com.", "r1.example.com", true},
    {"example.com", "notexample.com", false},
    {"r1.example.com", "example.com", false},
    {"*.example.com", "r1.example.com", false},
    {"other.org, example.com", "r1.example.com", true},
    {"other.org example.com", "r1.example.com", true},
    {",,other.org,,example.com,", "r1.example.com", true},
    {"example.com:443", "r1.example.com", false},
    {".", "r1.example.com", false},
    {"10.0.0.0/8", "10.1.2.3", true},
    {"10.0.0.0/8", "11.1.2.3", false},
    {"10.1.2.3", "10.1.2.3", true},
    {"10.1.2.3", "10.1.2.4", false},
    {"1.2.3", "0.1.2.3", false},
    {"10.1.2.0/33", "10.1.2.3", false},
    {"2001:db8::/32", "2001:db8::7", true},
    {"[2001:db8::7]", "2001:db8::7", true},
    {"2001:db8::/32", "2001:db9::7", false},
    {"10.0.0.0/8", "ten.example.com", false},
    {"0.0.0.0/0", "10.1.2.3", true},
  };
  for (size_t i = 0; i < ARRAY_LEN(cases); i++)
    assert_int_equal(http_proxy_spares(cases[i].no_proxy, cases[i].host), cases[i].spared);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(urls_are_read_as_curl_reads_them),
    cmocka_unit_test(a_wrong_url_is_refused_without_telling_the_password),
    cmocka_unit_test(what_is_too_long_is_refused),
    cmocka_unit_test(no_proxy_is_read_as_curl_reads_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
