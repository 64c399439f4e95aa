/* What the commands are made of: environments, configurations, token rows, the answers of an admin port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/login.h"
#include "cli/runner.h"
#include "cli/status.h"
#include "cli/token.h"

/* --- the command behind "--" --- */

static const char *value_of(char **environment, const char *name) {
  size_t n = strlen(name);
  for (size_t i = 0; environment[i] != NULL; i++)
    if (strncmp(environment[i], name, n) == 0 && environment[i][n] == '=') return environment[i] + n + 1;
  return NULL;
}

static void a_command_learns_the_addresses_and_no_token(void **state) {
  (void)state;
  char path[] = "PATH=/bin", token[] = "ADIT_TOKEN=adit1_x", outer[] = "ADIT_URL_9=https://outer",
      relay[] = "ADIT_RELAY=r:1", tcp[] = "ADIT_TCP_PORT=9";
  char *base[] = {path, token, outer, relay, tcp, NULL};
  const struct runner_address addresses[] = {
    {.url = "https://a.r.test", .host = "a.r.test", .port = 443, .app_port = 8000},
    {.url = "https://b.r.test", .host = "b.r.test", .port = 443, .app_port = 8001, .tcp_host = "r.test",
     .tcp_port = 20000},
  };
  char **environment = runner_environment(base, addresses, 2);
  assert_non_null(environment);
  assert_string_equal(value_of(environment, "PATH"), "/bin");
  assert_string_equal(value_of(environment, "ADIT_RELAY"), "r:1");
  assert_string_equal(value_of(environment, "ADIT_URL"), "https://a.r.test");
  assert_string_equal(value_of(environment, "ADIT_HOST"), "a.r.test");
  assert_string_equal(value_of(environment, "ADIT_PORT"), "443");
  assert_string_equal(value_of(environment, "ADIT_URL_8000"), "https://a.r.test");
  assert_string_equal(value_of(environment, "ADIT_URL_8001"), "https://b.r.test");
  assert_null(value_of(environment, "ADIT_TOKEN"));
  assert_null(value_of(environment, "ADIT_URL_9"));
  assert_null(value_of(environment, "ADIT_TCP_HOST"));
  assert_null(value_of(environment, "ADIT_TCP_PORT"));
  runner_environment_free(environment);
}

static void a_command_that_does_not_exist_is_127(void **state) {
  (void)state;
  char name[] = "/nonexistent/command", directory[] = "/";
  char *argv[] = {name, NULL}, *argv_directory[] = {directory, NULL}, *environment[] = {NULL};
  sigset_t mask;
  pid_t pid;
  int status = 0;
  struct err e;
  sigemptyset(&mask);
  assert_int_equal(runner_start(argv, environment, &mask, &pid, &status, &e), ERR_IO);
  assert_int_equal(status, 127);
  assert_string_equal(e.text, "/nonexistent/command: No such file or directory (is the command behind -- right?)");
  assert_int_equal(runner_start(argv_directory, environment, &mask, &pid, &status, &e), ERR_IO);
  assert_int_equal(status, 126);
  assert_int_equal(runner_reap(&status), 0);   /* what was to become them has left nothing */
}

/* --- login --- */

static void assert_rewritten(const char *old, const char *ca, const char *want) {
  const struct login_settings new = {.token = "NEW", .ca = ca};
  char *text = login_rewrite(old, strlen(old), &new);
  assert_non_null(text);
  assert_string_equal(text, want);
  free(text);
}

static void login_replaces_token_and_relays_and_nothing_else(void **state) {
  (void)state;
  assert_rewritten("", NULL, "token = NEW\n");
  assert_rewritten("# mine\nca = /x\ntoken = OLD\nrelay = r:1\n token=OLDER", NULL, "# mine\nca = /x\ntoken = NEW\n");
  assert_rewritten("ca = /x", NULL, "ca = /x\ntoken = NEW\n");
  assert_rewritten("ca = /x\n", "/y", "token = NEW\nca = /y\n");
  assert_rewritten("tokens = 1\n#token = 2\n", NULL, "tokens = 1\n#token = 2\ntoken = NEW\n");
}

static void login_stores_the_relays_that_were_given(void **state) {
  (void)state;
  const char *relays[] = {"r:1", "r:2"};
  const struct login_settings new = {.token = "NEW", .relays = relays, .relays_n = 2};
  static const char old[] = "relay = r:0\nca = /x";
  char *text = login_rewrite(old, strlen(old), &new);
  assert_string_equal(text, "ca = /x\ntoken = NEW\nrelay = r:1\nrelay = r:2\n");
  free(text);
}

static void logout_removes_token_and_relays_and_nothing_else(void **state) {
  (void)state;
  static const struct login_settings none;
  static const char old[] = "# mine\nca = /x\ntoken = OLD\nrelay = r:1";
  char *text = login_rewrite(old, strlen(old), &none);
  assert_string_equal(text, "# mine\nca = /x\n");
  free(text);
  text = login_rewrite("token = OLD", 11, &none);
  assert_string_equal(text, "");
  free(text);
}

/* --- token --- */

static void token_relays_may_carry_a_name(void **state) {
  (void)state;
  struct token_relay r;
  struct err e;
  assert_int_equal(token_parse_relay("10.0.0.1:8443", &r, &e), 0);
  assert_string_equal(r.name, "");
  assert_string_equal(r.dial.host, "10.0.0.1");
  assert_int_equal(r.dial.port, 8443);
  assert_int_equal(token_parse_relay("r2.example.com=gate.example.com", &r, &e), 0);
  assert_string_equal(r.name, "r2.example.com");
  assert_int_equal(r.dial.port, 443);
  assert_int_equal(token_parse_relay("=host:1", &r, &e), ERR_USAGE);
  assert_string_equal(e.text, "--relay =host:1: no domain name before '=' (leave out '=')");
  assert_int_equal(token_parse_relay("R2.example.com=gate.example.com", &r, &e), ERR_USAGE);
  assert_string_equal(e.text, "--relay: R2.example.com: has capital letters (write it in lower case)");
  assert_int_equal(token_parse_relay("a b=host:1", &r, &e), ERR_USAGE);
  assert_int_equal(token_parse_relay("r.test=", &r, &e), ERR_USAGE);
  assert_int_equal(token_parse_relay("host:0", &r, &e), ERR_USAGE);
}

static void token_names_are_one_printable_word(void **state) {
  (void)state;
  struct err e;
  char longest[TOKEN_NAME_MAX_CHARS + 2];
  memset(longest, 'a', sizeof longest);
  longest[TOKEN_NAME_MAX_CHARS + 1] = 0;
  assert_int_equal(token_check_name("laptop-1", &e), 0);
  assert_int_equal(token_check_name(longest + 1, &e), 0);
  assert_int_equal(token_check_name(longest, &e), ERR_USAGE);
  assert_int_equal(token_check_name("", &e), ERR_USAGE);
  assert_int_equal(token_check_name("a b", &e), ERR_USAGE);
  assert_int_equal(token_check_name("a\x1b[0m", &e), ERR_USAGE);
}

static void token_rows_say_what_state_a_token_is_in(void **state) {
  (void)state;
  static const struct { int64_t expires_s, revoked_s; const char *want; } cases[] = {
    {0, 0, "live\n"}, {2000, 0, "live\n"}, {1000, 0, "expired\n"}, {2000, 500, "revoked\n"}, {1000, 500, "revoked\n"}};
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct state_token t = {.name = "laptop", .max_tunnels = 100, .issued_s = 100, .expires_s = cases[i].expires_s,
                            .revoked_s = cases[i].revoked_s};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    token_put_row(f, &t, 1000);
    (void)fclose(f);
    assert_string_equal(strrchr(text, ' ') + 1, cases[i].want);
    assert_non_null(strstr(text, "1970-01-01 00:01"));
    free(text);
  }
}

static char *row_of(struct state_token t) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  token_put_row(f, &t, 1000);
  (void)fclose(f);
  return text;
}

static void token_rows_show_limits_or_a_dash(void **state) {
  (void)state;
  struct state_token t = {.name = "guest",
                          .max_tunnels = 2,
                          .limits = {.max_streams = 30, .max_visitors_per_s = 4, .max_bytes_per_s = 10000000}};
  char *limited = row_of(t);
  t.limits = (struct token_limits){0};
  char *plain = row_of(t);
  assert_non_null(strstr(limited, "  2      30          4     10MB/s  "));
  assert_non_null(strstr(plain, "  2       -          -          -  "));
  assert_int_equal(strlen(limited), strlen(plain));
  free(limited);
  free(plain);
}

static void assert_json(struct state_token t, const char *want) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  token_put_json(f, &t, 1000);
  (void)fclose(f);
  assert_string_equal(text, want);
  free(text);
}

static void programs_get_a_token_as_an_object(void **state) {
  (void)state;
  struct state_token t = {.name = "la\"ptop", .id = {0xab}, .max_tunnels = 100, .issued_s = 100, .expires_s = 2000};
  assert_json(
      t, "{\"name\":\"la\\\"ptop\",\"id\":\"ab000000000000000000000000000000\",\"state\":\"live\",\"max_tunnels\":100,"
         "\"max_streams\":null,\"max_visitors_per_s\":null,\"max_bytes_per_s\":null,\"issued_at_s\":100,\"expires_at_"
         "s\":2000,\"revoked_at_s\":null}\n");
  t.limits = (struct token_limits){.max_streams = 5, .max_visitors_per_s = 6, .max_bytes_per_s = 10000000};
  t.expires_s = 0;
  assert_json(
      t, "{\"name\":\"la\\\"ptop\",\"id\":\"ab000000000000000000000000000000\",\"state\":\"live\",\"max_tunnels\":100,"
         "\"max_streams\":5,\"max_visitors_per_s\":6,\"max_bytes_per_s\":10000000,\"issued_at_s\":100,"
         "\"expires_at_s\":null,\"revoked_at_s\":null}\n");
  struct state_token foreign = {.id = {0xab}, .revoked_s = 500};
  assert_json(foreign,
              "{\"name\":null,\"id\":\"ab000000000000000000000000000000\",\"state\":\"revoked\",\"max_tunnels\":null,"
              "\"max_streams\":null,\"max_visitors_per_s\":null,\"max_bytes_per_s\":null,\"issued_at_s\":null,"
              "\"expires_at_s\":null,\"revoked_at_s\":500}\n");
}

/* --- status --- */

static void the_body_of_an_answer_is_found(void **state) {
  (void)state;
  static const char good[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}";
  static const struct { const char *answer, *want; } bad[] = {
    {"", "status: the answer is not HTTP (is that the admin port?)"},
    {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "status: the answer is not HTTP (is that the admin port?)"},
    {"HTTP/1.0 200 OK\r\n", "status: the answer is not HTTP (is that the admin port?)"},
    {"HTTP/1.0 404 Not Found\r\n\r\nx", "status: the relay answers 404 (is that the admin port of a relay?)"},
  };
  const char *body;
  size_t n;
  struct err e;
  assert_int_equal(status_body(good, sizeof good - 1, &body, &n, &e), 0);
  assert_int_equal(n, 2);
  assert_memory_equal(body, "{}", 2);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    assert_true(status_body(bad[i].answer, strlen(bad[i].answer), &body, &n, &e) < 0);
    assert_string_equal(e.text, bad[i].want);
  }
}

static char *shown(const char *json, int *code) {
  char *text = NULL;
  size_t n = 0;
  struct err e;
  FILE *f = open_memstream(&text, &n);
  *code = status_show(f, json, strlen(json), &e);
  (void)fclose(f);
  return text;
}

static void a_relays_status_is_shown_as_tables(void **state) {
  (void)state;
  int code;
  char *text = shown("{\"version\":\"0.1.0\",\"domain\":\"r.test\",\"uptime_s\":3700,\"draining\":true,\"descriptors_"
                     "now\":9,\"descriptors_max\":99,"
                     "\"metrics\":{\"links_now\":2,\"streams_total\":5,\"bytes_to_visitors_total\":1500},"
                     "\"tunnels\":[{\"host\":\"a.r.test\",\"owner\":\"laptop\",\"token\":\"lap\\u001btop/"
                     "job\",\"tcp_port\":20001,\"streams_now\":1,\"streams_total\":5,\"age_s\":61,"
                     "\"agent\":\"adit/0.1.0\",\"agent_address\":\"192.0.2.7:4711\"}],"
                     "\"tokens\":[{\"name\":\"unused\",\"streams_total\":0},{\"name\":\"guest\",\"id\":\"00\","
                     "\"streams_now\":1,\"streams_total\":7,"
                     "\"bytes_from_visitors\":2500,\"bytes_to_visitors\":1000000}],"
                     "\"narrowed\":[{\"name\":\"guest/job\",\"streams_total\":3,\"bytes_to_visitors\":2000}]}",
                     &code);
  assert_int_equal(code, 0);
  assert_non_null(strstr(text, "r.test, adit 0.1.0, draining, up 1h1m"));
  assert_non_null(strstr(text, "2 now"));
  assert_non_null(strstr(text, "1.5 kB to visitors"));
  assert_non_null(strstr(text, "9 of 99"));
  assert_non_null(strstr(text, "lap?top/job "));
  assert_non_null(strstr(text, "20001"));
  assert_non_null(strstr(text, "1m1s     adit/0.1.0 192.0.2.7:4711\n"));
  assert_non_null(strstr(text, "guest                           1        7          2.5 kB         1.0 MB\n"));
  assert_non_null(strstr(text, "guest/job                       0        3             0 B         2.0 kB\n"));
  assert_null(strstr(text, "unused"));
  free(text);
}

static void what_is_no_relays_status_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "{}", "[]", "null", "{\"metrics\":", "<html>"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    int code;
    char *text = shown(bad[i], &code);
    assert_int_equal(code, ERR_SYNTAX);
    assert_string_equal(text, "");
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_command_learns_the_addresses_and_no_token),
    cmocka_unit_test(a_command_that_does_not_exist_is_127),
    cmocka_unit_test(login_replaces_token_and_relays_and_nothing_else),
    cmocka_unit_test(login_stores_the_relays_that_were_given),
    cmocka_unit_test(logout_removes_token_and_relays_and_nothing_else),
    cmocka_unit_test(token_relays_may_carry_a_name),
    cmocka_unit_test(token_names_are_one_printable_word),
    cmocka_unit_test(token_rows_say_what_state_a_token_is_in),
    cmocka_unit_test(token_rows_show_limits_or_a_dash),
    cmocka_unit_test(programs_get_a_token_as_an_object),
    cmocka_unit_test(the_body_of_an_answer_is_found),
    cmocka_unit_test(a_relays_status_is_shown_as_tables),
    cmocka_unit_test(what_is_no_relays_status_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
