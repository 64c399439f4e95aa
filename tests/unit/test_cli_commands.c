/* Whole command lines: help, and every refusal with its words and exit status. None of these reaches a relay or the
   network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/words.h"
#include "cli/command.h"

struct said { char out[32768], err[4096]; };

static int capture(int fd, int *saved) {
  int to = memfd_create("said", MFD_CLOEXEC);
  assert_true(to >= 0);
  *saved = dup(fd);
  assert_true(dup2(to, fd) == fd);
  return to;
}

static void release(int fd, int to, int saved, char *text, size_t cap) {
  ssize_t n = pread(to, text, cap - 1, 0);
  assert_true(n >= 0 && (size_t)n < cap - 1);
  text[n] = 0;
  (void)dup2(saved, fd);
  close(saved);
  close(to);
}

enum { ARGUMENTS_MAX = 32 };

/* Runs "adit LINE", words separated by single blanks, as the process would. */
static int run(const char *line, struct said *said) {
  static char storage[4096];
  char name[] = "adit", *argv[ARGUMENTS_MAX + 1] = {name};
  int argc = 1, saved_out, saved_err;
  assert_true(strlen(line) < sizeof storage);
  strcpy(storage, line);
  for (char *word = strtok(storage, " "); word != NULL; word = strtok(NULL, " ")) {
    assert_true(argc < ARGUMENTS_MAX);
    argv[argc++] = word;
  }
  (void)fflush(stdout);
  int out = capture(STDOUT_FILENO, &saved_out), err = capture(STDERR_FILENO, &saved_err);
  static bool begun;
  if (!begun) words_begin();
  begun = true;
  int status = command_main(argc, argv, 0);
  words_settle();
  release(STDOUT_FILENO, out, saved_out, said->out, sizeof said->out);
  release(STDERR_FILENO, err, saved_err, said->err, sizeof said->err);
  return status;
}

static void assert_refused(const char *line, int status, const char *text) {
  struct said said;
  int got = run(line, &said);
  if (got != status) fail_msg("adit %s: exit status %d, not %d (%s)", line, got, status, said.err);
  if (strncmp(said.err, "adit: ", 6) != 0 || strcmp(said.err + 6, text) != 0) fail_msg("adit %s\n  gave: %s  want: "
      "adit: %s", line, said.err, text);
  assert_string_equal(said.out, "");
}

static void the_help_of_every_command_contains_all_its_options(void **state) {
  (void)state;
  for (size_t i = 0; i < commands_n; i++) {
    const struct command *c = commands[i];
    struct said said;
    char line[64];
    (void)snprintf(line, sizeof line, "%s --help", c->name);
    assert_int_equal(run(line, &said), 0);
    assert_string_equal(said.err, "");
    assert_non_null(strstr(said.out, c->examples[0] != 0 ? "Examples:\n  adit " : "?"));
    assert_true(c->options_n <= OPTIONS_PER_COMMAND_MAX);
    for (size_t k = 0; k < c->options_n; k++) {
      char option[64];
      (void)snprintf(option, sizeof option, "\n  --%s", c->options[k].name);
      if ((strstr(said.out, option) != NULL) == c->options[k].hidden) fail_msg("adit %s: --%s", c->name,
          c->options[k].name);
    }
    for (char *row = strtok(said.out, "\n"); row != NULL; row = strtok(NULL, "\n"))
      if (strlen(row) > 96) fail_msg("adit %s --help: a line is too wide: %s", c->name, row);
  }
}

static void the_list_of_commands_contains_all(void **state) {
  (void)state;
  struct said said;
  assert_int_equal(run("--help", &said), 0);
  for (size_t i = 0; i < commands_n; i++) {
    char name[64];
    (void)snprintf(name, sizeof name, "  adit %s", commands[i]->name);
    assert_non_null(strstr(said.out, name));
  }
  assert_non_null(strstr(said.out, "\n  adit doctor "));
  assert_int_equal(run("", &said), 2);
  assert_string_equal(said.out, "");
  assert_non_null(strstr(said.err, "adit forward 8000"));
}

static void commands_of_the_package_say_what_to_install(void **state) {
  (void)state;
  static const char *const names[] = {"run",  "serve",   "deploy", "app",   "shell",
                                      "usage", "foreman", "image", "secret", "doctor"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    char line[64], text[256];
    (void)snprintf(text, sizeof text,
                   "%s: functions are of the Python package, which this program was installed without "
                   "(pip install 'adit[functions]')\n",
                   names[i]);
    (void)snprintf(line, sizeof line, "%s --help", names[i]);
    assert_refused(line, 2, text);
    (void)snprintf(line, sizeof line, "help %s", names[i]);
    assert_refused(line, 2, text);
  }
}

static void the_version_is_one_line(void **state) {
  (void)state;
  struct said said;
  static const char *const lines[] = {"--version", "version"};
  for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
    assert_int_equal(run(lines[i], &said), 0);
    assert_string_equal(said.out, "adit " ADIT_VERSION "\n");
  }
}

static void help_is_found_by_both_words(void **state) {
  (void)state;
  struct said one, other;
  assert_int_equal(run("help forward", &one), 0);
  assert_int_equal(run("forward -h", &other), 0);
  assert_string_equal(one.out, other.out);
  assert_int_equal(run("help --help", &one), 0);
  assert_int_equal(run("help", &other), 0);
  assert_string_equal(one.out, other.out);
  assert_int_equal(run("help token", &one), 0);
  assert_non_null(strstr(one.out, "adit token create NAME"));
}

static void unknown_commands_suggest_the_nearest(void **state) {
  (void)state;
  assert_refused("foward 8000", 2, "foward: no such command (did you mean adit forward?)\n");
  assert_refused("zzz", 2, "zzz: no such command (see adit --help)\n");
  assert_refused("token", 2, "token: what to do is missing (see adit token --help)\n");
  assert_refused("token creat x", 2, "token creat: no such command (see adit token --help)\n");
}

static void forward_refuses_wrong_usage(void **state) {
  (void)state;
  assert_refused("forward", 2, "PORT: missing (say which port to forward: adit forward 8000)\n");
  assert_refused("forward 1 --", 2, "COMMAND: missing behind -- (leave out --, or say what to run)\n");
  assert_refused("forward 8000 9000 8000", 2, "8000: it is forwarded already by another argument (leave one out)\n");
  assert_refused("forward 8000 127.0.0.1:8000", 2, "127.0.0.1:8000: it is forwarded already by another argument (leave "
                                                   "one out)\n");
  assert_refused("forward 1 --alpn x,h2", 2, "--alpn x,h2: h2 is offered by an option of its own (add --h2)\n");
  assert_refused("forward 1 --link plain", 2, "--link plain: only raw ports can be plain (add --unencrypted)\n");
  assert_refused("forward 1 --link open", 2, "--link open: no such choice (it is one of sealed|plain)\n");
  assert_refused("forward 1 --relai x", 2, "--relai: no such option (did you mean --relay?)\n");
  assert_refused("forward 1 --relay r:99999", 2, "--relay: r:99999: not a port after the colon (write a number from 1 "
                                                 "to 65535)\n");
}

static void forward_refuses_tokens_that_are_none(void **state) {
  (void)state;
  assert_refused("forward 1 --token-file /nonexistent/token", 1,
                 "--token-file: /nonexistent/token: No such file or directory (check the path, and who may read it)\n");
  assert_refused("forward 1 --token-file /dev/null", 1,
                 "--token-file /dev/null: it holds no valid token (it should hold the one word that adit token create "
                 "printed)\n");
  assert_refused("forward 1 --relay r1.test:443", 1,
                 "token: a relay is given but no token (set ADIT_TOKEN, give --token-file, or store one with adit "
                 "login)\n");
  struct said said;
  assert_int_equal(run("forward 1 --token nonsense", &said), 1);
  assert_non_null(strstr(said.err, "adit: token: "));
}

static void relay_refuses_what_is_out_of_range(void **state) {
  (void)state;
  assert_refused("relay", 2, "--domain: missing (give the relay's own name: --domain r1.example.com)\n");
  assert_refused("relay --domain localhost", 2, "--domain: localhost: not a domain name (such as r1.example.com)\n");
  assert_refused("relay --domain 1.2.3.4", 2, "--domain: 1.2.3.4: not a domain name (such as r1.example.com)\n");
  assert_refused("relay extra", 2, "extra: adit relay takes only options (see adit relay --help)\n");
  assert_refused("relay --listen 443", 2, "--listen: 443: not an address and a port in numbers (such as 0.0.0.0:443 "
                                          "or [::]:443)\n");
  assert_refused("relay --listen host:443", 2, "--listen: host:443: not an address and a port in numbers (such as "
                                               "0.0.0.0:443 or [::]:443)\n");
  assert_refused("relay --public a..b", 2, "--public: a..b: not HOST:PORT (such as tunnels.example.com:443)\n");
  assert_refused("relay --tcp-ports 20000", 2, "--tcp-ports: 20000: not FROM-TO (such as 20000-29999)\n");
  assert_refused("relay --tcp-ports 20000-70000", 2, "--tcp-ports: 20000-70000: not two ports (such as 20000-29999)\n");
  assert_refused("relay --tcp-ports 80-90", 2, "--tcp-ports: 80-90: ports below 1024 are never given out (begin at "
                                               "1024 or above)\n");
  assert_refused("relay --tcp-ports 3000-2000", 2, "--tcp-ports: 3000-2000: the first port is above the last (write "
                                                   "2000-3000)\n");
  assert_refused("relay --tcp-listen 1.2.3.4:80", 2, "--tcp-listen: 1.2.3.4:80: not an address in numbers, without a "
                                                     "port (such as 203.0.113.7)\n");
  assert_refused("relay --admin host", 2, "--admin: host: not an address and a port in numbers (such as "
                                          "127.0.0.1:9090)\n");
  assert_refused("relay --accept-proxy 10.0.0.0/33", 2, "--accept-proxy: 10.0.0.0/33: not an address block (such as "
                                                        "10.0.0.0/8 or 2001:db8::/32)\n");
  assert_refused("relay --workers 0", 2, "--workers 0: not a number from 1 to 256 (try --workers 1)\n");
  assert_refused("relay --workers 257", 2, "--workers 257: not a number from 1 to 256 (try --workers 1)\n");
  assert_refused("relay --drain never", 2, "--drain never: not a duration (write a number and a unit: 250ms, 10s, 5m, "
                                           "2h, 30d)\n");
  assert_refused("relay --drain 2d", 2, "--drain 2d: out of range (it may be from 0s to 1d)\n");
  assert_refused("relay --pump zero-copy", 2, "--pump zero-copy: no such choice (it is one of splice|copy)\n");
  assert_refused("relay --domain r.test --cert x.pem", 2, "--cert: given without --key (give both, or none for an "
                                                          "authority of the relay's own)\n");
  assert_refused("relay --domain r.test --key x.pem", 2, "--key: given without --cert (give both, or none for an "
                                                         "authority of the relay's own)\n");
}

static void relay_takes_its_settings_from_a_file(void **state) {
  (void)state;
  char path[] = "/tmp/adit-test-relay-XXXXXX", line[64], want[160];
  static const char text[] = "domain = r.test\nworkers = 300\n";
  int fd = mkstemp(path);
  assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
  close(fd);
  (void)snprintf(line, sizeof line, "relay --config %s", path);
  (void)snprintf(want, sizeof want, "%s: line 2: workers 300: not a number from 1 to 256 (try workers 1)\n", path);
  assert_refused(line, 2, want);
  (void)unlink(path);
  (void)snprintf(want, sizeof want, "%s: No such file or directory (check the path, and who may read it)\n", path);
  assert_refused(line, 1, want);
}

static void token_refuses_wrong_usage(void **state) {
  (void)state;
  assert_refused("token create", 2, "NAME: missing (write adit token create NAME)\n");
  assert_refused("token create a b", 2, "b: unexpected (see adit token create --help)\n");
  assert_refused("token list x", 2, "x: unexpected (see adit token list --help)\n");
  assert_refused("token revoke", 2, "NAME|ID: missing (write adit token revoke NAME|ID)\n");
  assert_refused("token create a --max-tunnels 0", 2, "--max-tunnels 0: not a number from 1 to 1000 (try "
                                                      "--max-tunnels 1)\n");
  assert_refused("token create a --max-streams 0", 2, "--max-streams 0: not a number from 1 to 1000000 (try "
                                                      "--max-streams 1)\n");
  assert_refused("token create a --max-visitors-per-s many", 2, "--max-visitors-per-s many: not a number from 1 to "
                                                                "1000000 (try --max-visitors-per-s 1)\n");
  assert_refused("token create a --max-rate 10Mbit", 2, "--max-rate 10Mbit: not a rate (write bytes per second: "
                                                        "500kB/s, 10MB/s, 1GB/s)\n");
  assert_refused("token create a --max-rate 10", 2, "--max-rate 10: out of range (it may be from 1kB/s to "
                                                    "100GB/s)\n");
  assert_refused("token create a --expires soon", 2, "--expires soon: not a duration (write a number and a unit: "
                                                     "250ms, 10s, 5m, 2h, 30d)\n");
  assert_refused("token create a --expires 5", 2, "--expires 5: not a duration (write a number and a unit: 250ms, 10s, "
                                                  "5m, 2h, 30d)\n");
  assert_refused("token create a --expires 40000d", 2,
                 "--expires 40000d: out of range (it may be from 1s to 36500d)\n");
  assert_refused("token create a --domain A.test", 2,
                 "--domain: A.test: has capital letters (write it in lower case)\n");
  assert_refused("token list --state /dev/null", 1, "state folder /dev/null: it is not a folder (choose another with "
                                                    "--state)\n");
  assert_refused("token list --state /nonexistent", 1, "state folder /nonexistent: no relay has run with it (give the "
                                                       "relay's with --state)\n");
  assert_refused("token create a --state /nonexistent --relay r1.test:443", 1,
                 "state folder /nonexistent: no relay has run with it (give the relay's folder with --state, or, "
                 "before the relay's first run, its name with --domain r1.example.com)\n");
  assert_refused("token create 000102030405060708090a0b0c0d0e0f", 2,
                 "NAME: it looks like the id of a token, by which it could be revoked (choose another)\n");
  assert_refused("token list --expires 1d", 2, "--expires: no such option (see adit token list --help)\n");
}

static void status_and_login_refuse_wrong_usage(void **state) {
  (void)state;
  assert_refused("status now", 2, "now: adit status takes only options (see adit status --help)\n");
  assert_refused("status --admin localhost:1", 2, "--admin localhost:1: not an address and a port in numbers (such as "
                                                  "127.0.0.1:9090)\n");
  assert_refused("status -- now", 2, "--: adit status takes only options (see adit status --help)\n");
  assert_refused("login a -- b", 2, "TOKEN: it is one word (leave out the rest)\n");
  assert_refused("login a --token-file b", 2, "TOKEN: given, and --token-file as well (leave one out)\n");
  assert_refused("login --token-file /nonexistent", 1,
                 "--token-file: /nonexistent: No such file or directory (check the "
                 "path, and who may read it)\n");
  assert_refused("logout now", 2, "now: unexpected (adit logout takes nothing)\n");
  assert_refused("login a b", 2, "TOKEN: it is one word (leave out the rest)\n");
  struct said said;
  assert_int_equal(run("login nonsense", &said), 1);
  assert_non_null(strstr(said.err, "adit: token: "));
}

static void a_relay_on_this_machine_can_be_forbidden(void **state) {
  (void)state;
  (void)setenv("ADIT_EMBEDDED", "0", 1);
  assert_refused("forward 1", 1, "token: there is none, and ADIT_EMBEDDED=0 forbids a relay on this machine (set "
                                 "ADIT_TOKEN, give --token-file, or store one with adit login)\n");
  (void)unsetenv("ADIT_EMBEDDED");
}

static int without_a_home(void **state) {
  (void)state;
  (void)unsetenv("ADIT_TOKEN");
  (void)unsetenv("ADIT_RELAY");
  return setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_help_of_every_command_contains_all_its_options),
    cmocka_unit_test(the_list_of_commands_contains_all),
    cmocka_unit_test(commands_of_the_package_say_what_to_install),
    cmocka_unit_test(the_version_is_one_line),
    cmocka_unit_test(help_is_found_by_both_words),
    cmocka_unit_test(unknown_commands_suggest_the_nearest),
    cmocka_unit_test(forward_refuses_wrong_usage),
    cmocka_unit_test(forward_refuses_tokens_that_are_none),
    cmocka_unit_test(relay_refuses_what_is_out_of_range),
    cmocka_unit_test(relay_takes_its_settings_from_a_file),
    cmocka_unit_test(token_refuses_wrong_usage),
    cmocka_unit_test(status_and_login_refuse_wrong_usage),
    cmocka_unit_test(a_relay_on_this_machine_can_be_forbidden),
  };
  return cmocka_run_group_tests(tests, without_a_home, NULL);
}
