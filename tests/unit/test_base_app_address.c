/* How people write where an app listens, and when two ways of writing mean one listener. */
#include "cm.h"

#include <string.h>

#include "base/app_address.h"

static void what_people_write_is_understood(void **state) {
  (void)state;
  static const struct { const char *text, *format, *described; } rows[] = {
    {"8000", "localhost:8000", "127.0.0.1:8000 or [::1]:8000"},
    {"LocalHost:8000", "LocalHost:8000", "127.0.0.1:8000 or [::1]:8000"},
    {"127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"},
    {"db:5432", "db:5432", "db:5432"},
    {"my_project_web_1:80", "my_project_web_1:80", "my_project_web_1:80"},
    {"web.default.svc.cluster.local.:80", "web.default.svc.cluster.local.:80", "web.default.svc.cluster.local.:80"},
    {"[2001:db8::5]:443", "[2001:db8::5]:443", "[2001:db8::5]:443"},
    {"unix:/run/app.sock", "unix:/run/app.sock", "unix:/run/app.sock"},
    {"unix:///run/app.sock", "unix:///run/app.sock", "unix:///run/app.sock"},
    {"unix:app.sock", "unix:app.sock", "unix:app.sock"},
    {"unix:@hidden/app", "unix:@hidden/app", "unix:@hidden/app"},
    {"unix:/srv/k\xc3\xa4se:1", "unix:/srv/k\xc3\xa4se:1", "unix:/srv/k\xc3\xa4se:1"},
  };
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    struct app_address a, again;
    char text[APP_ADDRESS_TEXT_CHARS];
    assert_int_equal(app_address_parse(rows[i].text, &a, NULL), 0);
    assert_true(app_address_is_unix(&a) == (strncmp(rows[i].text, "unix:", 5) == 0));
    app_address_format(&a, text, sizeof text);
    assert_string_equal(text, rows[i].format);
    assert_int_equal(app_address_parse(text, &again, NULL), 0);
    assert_true(app_address_same(&a, &again));
    app_address_describe(&a, text, sizeof text);
    assert_string_equal(text, rows[i].described);
  }
}

static void everything_else_is_refused_with_what_would_be_right(void **state) {
  (void)state;
  static const char *const bad[] = {"", "0", "65536", "-1", "8000 ", "host", ":80", "a b:80", "-a:80", "a..b:80", "host:0", "::1:80",
    "[::1]", "[host]:80", "http://localhost:8000", "/run/app.sock", "./app.sock", "Unix:/run/app.sock"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct app_address a;
    struct err e = {0};
    assert_int_equal(app_address_parse(bad[i], &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.text, "(such as 8000, 10.0.0.5:8000, [::1]:8000 or unix:/run/app.sock)"));
  }
  static const char *const nameless[] = {"unix:", "unix:@", "unix:/run/"};
  for (size_t i = 0; i < ARRAY_LEN(nameless); i++) {
    struct app_address a;
    struct err e = {0};
    assert_int_equal(app_address_parse(nameless[i], &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.text, "the name of the socket is missing"));
  }
}

static void a_path_is_as_long_as_the_kernel_takes_it_and_shows_as_it_is(void **state) {
  (void)state;
  char text[5 + UNIX_PATH_MAX_BYTES + 2] = "unix:/";
  struct app_address a;
  struct err e = {0};
  memset(text + 6, 'x', UNIX_PATH_MAX_BYTES - 1);
  assert_int_equal(app_address_parse(text, &a, NULL), 0);
  assert_int_equal(strlen(a.path), UNIX_PATH_MAX_BYTES);
  text[5 + UNIX_PATH_MAX_BYTES] = 'x';
  assert_int_equal(app_address_parse(text, &a, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "107 bytes at most"));
  assert_int_equal(app_address_parse("unix:/run/\033[2J", &a, &e), ERR_USAGE);
  assert_int_equal(app_address_parse("unix:/run/a\nb", &a, &e), ERR_USAGE);
}

static void two_ways_to_one_listener_are_the_same(void **state) {
  (void)state;
  static const struct { const char *a, *b; bool same; } rows[] = {
    {"8000", "localhost:8000", true},
    {"8000", "127.0.0.1:8000", true},
    {"8000", "[::1]:8000", true},
    {"8000", "[0:0:0:0:0:0:0:1]:8000", true},
    {"8000", "[::ffff:127.0.0.1]:8000", true},
    {"8000", "127.0.0.2:8000", false},
    {"8000", "8001", false},
    {"127.0.0.1:8000", "[::1]:8000", false},
    {"127.0.0.1:8000", "127.0.0.1:8000", true},
    {"[2001:db8::1]:1", "[2001:DB8:0::1]:1", true},
    {"db:1", "DB:1", true},
    {"db:1", "db:2", false},
    {"db:1", "1", false},
    {"unix:/run/a", "unix:/run/a", true},
    {"unix:/run/a", "unix:/run/b", false},
    {"unix:/run/a", "8000", false},
    {"unix:@a", "unix:a", false},
  };
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    struct app_address a, b;
    assert_int_equal(app_address_parse(rows[i].a, &a, NULL), 0);
    assert_int_equal(app_address_parse(rows[i].b, &b, NULL), 0);
    assert_int_equal(app_address_same(&a, &b), rows[i].same);
    assert_int_equal(app_address_same(&b, &a), rows[i].same);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_people_write_is_understood),
    cmocka_unit_test(everything_else_is_refused_with_what_would_be_right),
    cmocka_unit_test(a_path_is_as_long_as_the_kernel_takes_it_and_shows_as_it_is),
    cmocka_unit_test(two_ways_to_one_listener_are_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
