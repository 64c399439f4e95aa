/* How people write where an app or a relay is dialled, and when two ways of writing mean one listener. */
#include "cm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/dial_address.h"

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
    struct dial_address a, again;
    char text[DIAL_ADDRESS_TEXT_CHARS];
    assert_int_equal(dial_address_parse_app(rows[i].text, &a, NULL), 0);
    assert_true(dial_address_is_unix(&a) == (strncmp(rows[i].text, "unix:", 5) == 0));
    dial_address_format(&a, text, sizeof text);
    assert_string_equal(text, rows[i].format);
    assert_int_equal(dial_address_parse_app(text, &again, NULL), 0);
    assert_true(dial_address_same(&a, &again));
    dial_address_describe(&a, text, sizeof text);
    assert_string_equal(text, rows[i].described);
  }
}

static void everything_else_is_refused_with_what_would_be_right(void **state) {
  (void)state;
  static const char *const bad[] = {"", "0", "65536", "-1", "8000 ", "host", ":80", "a b:80", "-a:80", "a..b:80",
      "host:0", "::1:80",
    "[::1]", "[host]:80", "http://localhost:8000", "/run/app.sock", "./app.sock", "Unix:/run/app.sock"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct dial_address a;
    struct err e = {0};
    assert_int_equal(dial_address_parse_app(bad[i], &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.text, "(such as 8000, 10.0.0.5:8000, [::1]:8000 or unix:/run/app.sock)"));
  }
  static const char *const nameless[] = {"unix:", "unix:@", "unix:/run/"};
  for (size_t i = 0; i < ARRAY_LEN(nameless); i++) {
    struct dial_address a;
    struct err e = {0};
    assert_int_equal(dial_address_parse_app(nameless[i], &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.text, "the name of the socket is missing"));
  }
}

static void a_path_is_as_long_as_the_kernel_takes_it_and_shows_as_it_is(void **state) {
  (void)state;
  char text[5 + UNIX_PATH_MAX_BYTES + 2] = "unix:/";
  struct dial_address a;
  struct err e = {0};
  memset(text + 6, 'x', UNIX_PATH_MAX_BYTES - 1);
  assert_int_equal(dial_address_parse_app(text, &a, NULL), 0);
  assert_int_equal(strlen(a.path), UNIX_PATH_MAX_BYTES);
  text[5 + UNIX_PATH_MAX_BYTES] = 'x';
  assert_int_equal(dial_address_parse_app(text, &a, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "107 bytes at most"));
  assert_int_equal(dial_address_parse_app("unix:/run/\033[2J", &a, &e), ERR_USAGE);
  assert_int_equal(dial_address_parse_app("unix:/run/a\nb", &a, &e), ERR_USAGE);
}

static void a_relay_has_a_port_of_its_own_or_a_unix_socket(void **state) {
  (void)state;
  struct dial_address a;
  struct err e = {0};
  char text[DIAL_ADDRESS_TEXT_CHARS];
  assert_int_equal(dial_address_parse_relay("r1.example.com", &a, NULL), 0);
  dial_address_format(&a, text, sizeof text);
  assert_string_equal(text, "r1.example.com:443");
  assert_int_equal(dial_address_parse_relay("unix:@relay", &a, NULL), 0);
  assert_true(dial_address_is_unix(&a));
  assert_int_equal(dial_address_make_absolute("relay", &a, NULL), 0);
  assert_string_equal(a.path, "@relay");
  assert_true(dial_address_parse_relay("/run/relay.sock", &a, NULL) < 0);
  assert_true(dial_address_parse_relay("8443 ", &a, NULL) < 0);
  assert_int_equal(dial_address_parse_relay("unix:", &a, &e), ERR_USAGE);
  assert_string_equal(e.text, "relay unix:: the name of the socket is missing (such as unix:/run/relay.sock)");
  assert_int_equal(dial_address_parse_relay("unix", &a, &e), ERR_USAGE);     /* else unix:443, a socket named 443 */
  assert_string_equal(e.text, "relay unix: the path of the socket is missing (such as unix:/run/relay.sock)");
}

static void a_relative_path_is_taken_from_this_folder(void **state) {
  (void)state;
  char here[4096], wanted[8192], text[5 + UNIX_PATH_MAX_BYTES + 1] = "unix:";
  struct dial_address a;
  struct err e = {0};
  assert_non_null(getcwd(here, sizeof here));
  (void)snprintf(wanted, sizeof wanted, "%s/r.sock", here);
  assert_int_equal(dial_address_parse_relay("unix:r.sock", &a, NULL), 0);
  if (strlen(wanted) <= UNIX_PATH_MAX_BYTES) {
    assert_int_equal(dial_address_make_absolute("relay", &a, NULL), 0);
    assert_string_equal(a.path, wanted);
  }
  memset(text + 5, 'x', UNIX_PATH_MAX_BYTES);
  assert_int_equal(dial_address_parse_relay(text, &a, NULL), 0);
  assert_int_equal(dial_address_make_absolute("relay", &a, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "from the root on its path has more than 107 bytes"));
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
    struct dial_address a, b;
    assert_int_equal(dial_address_parse_app(rows[i].a, &a, NULL), 0);
    assert_int_equal(dial_address_parse_app(rows[i].b, &b, NULL), 0);
    assert_int_equal(dial_address_same(&a, &b), rows[i].same);
    assert_int_equal(dial_address_same(&b, &a), rows[i].same);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_people_write_is_understood),
    cmocka_unit_test(everything_else_is_refused_with_what_would_be_right),
    cmocka_unit_test(a_path_is_as_long_as_the_kernel_takes_it_and_shows_as_it_is),
    cmocka_unit_test(a_relay_has_a_port_of_its_own_or_a_unix_socket),
    cmocka_unit_test(a_relative_path_is_taken_from_this_folder),
    cmocka_unit_test(two_ways_to_one_listener_are_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
