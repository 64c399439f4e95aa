/* The public functions as a host program meets them: misuse, two clients, fork, a relay that is not there. */
#include "cm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adit.h"
#include "agent/fork_gate.h"
#include "loop/net.h"
#include "wire/token.h"

static uint16_t nobodys_port;      /* the last token's relay */

/* A token for a relay on a port of the loopback address where nobody listens. */
static void make_token(char text[TOKEN_TEXT_MAX_CHARS + 1]) {
  static struct token t;
  uint8_t operator_seed[ED25519_KEY_BYTES];
  struct certificate c = {.name = "test", .max_tunnels = 1, .issued_s = 1};
  memset(&t, 0, sizeof t);
  assert_int_equal(ed25519_keypair(operator_seed, c.operator_key), 0);
  assert_int_equal(ed25519_keypair(t.seed, c.public_key), 0);
  assert_int_equal(certificate_sign(&c, operator_seed, t.chain, sizeof t.chain, &t.chain_n), 0);
  t.info = c;
  struct addr a;
  assert_int_equal(addr_parse("127.0.0.1:1", &a, NULL), 0);
  addr_set_port(&a, 0);
  int fd = net_listen_tcp(&a, 1, false, NULL);
  assert_true(fd >= 0 && net_listen_port(fd, &nobodys_port) == 0);
  net_close(fd);
  strcpy(t.relays[0].dial.host, "127.0.0.1");
  t.relays[0].dial.port = nobodys_port;
  strcpy(t.relays[0].name, "adit.localhost");
  t.relays[0].pin.kind = PIN_SPKI_SHA256;
  t.relays_n = 1;
  assert_int_equal(token_encode(&t, text, TOKEN_TEXT_MAX_CHARS + 1), 0);
}

static struct adit_client *new_client(void) {
  char token[TOKEN_TEXT_MAX_CHARS + 1];
  make_token(token);
  struct adit_config *config = adit_config_new();
  assert_non_null(config);
  assert_int_equal(adit_config_add_token(config, token), 0);
  struct adit_client *client = adit_client_new(config);
  assert_non_null(client);
  adit_config_free(config);
  return client;
}

static void null_is_an_error_and_never_a_crash(void **state) {
  (void)state;
  struct adit_event event;
  struct adit_tunnel_stats stats;
  assert_int_equal(adit_config_add_token(NULL, "x"), ADIT_EINVAL);
  assert_int_equal(adit_config_load(NULL, NULL), ADIT_EINVAL);
  assert_null(adit_client_new(NULL));
  assert_null(adit_forward(NULL, "80", NULL));
  assert_int_equal(adit_errno_last(), ADIT_EINVAL);
  assert_true(adit_error(NULL)[0] != '\0');
  assert_int_equal(adit_wait_open(NULL, 0), ADIT_EINVAL);
  assert_int_equal(adit_next_event(NULL, &event, 0), ADIT_EINVAL);
  assert_true(adit_event_fd(NULL) < 0);
  assert_null(adit_tunnel_url(NULL));
  assert_int_equal(adit_tunnel_wait(NULL, -1), ADIT_EINVAL);
  assert_null(adit_tunnel_reason(NULL));
  assert_int_equal(adit_tunnel_port(NULL), 0);
  adit_tunnel_stats(NULL, &stats);
  adit_tunnel_close(NULL, 0);
  adit_client_close(NULL, 0);
  adit_config_free(NULL);
}

static void a_config_without_a_token_makes_no_client(void **state) {
  (void)state;
  struct adit_config *config = adit_config_new();
  assert_null(adit_client_new(config));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "token"));
  assert_int_equal(adit_config_add_token(config, "not a token"), ADIT_ECONFIG);
  adit_config_free(config);
}

static void wrong_apps_and_options_are_refused(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  static const char *const bad[] = {"", "0", "65536", "http", ":80", "host", "a b:80", "80x"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    assert_null(adit_forward(client, bad[i], NULL));
    assert_int_equal(adit_errno_last(), ADIT_EINVAL);
  }
  struct adit_options options = ADIT_OPTIONS_INIT;
  options.plain = 1;
  assert_null(adit_forward(client, "8000", &options));
  options = (struct adit_options)ADIT_OPTIONS_INIT;
  options.alpn = "acme-tls/1";
  assert_null(adit_forward(client, "8000", &options));
  options = (struct adit_options)ADIT_OPTIONS_INIT;
  const char *allow[] = {"10.0.0.0/8", "everybody"};
  options.allow = allow;
  options.allow_n = 2;
  assert_null(adit_forward(client, "8000", &options));
  assert_non_null(strstr(adit_error(client), "everybody"));
  options = (struct adit_options)ADIT_OPTIONS_INIT;
  options.size = 0;
  assert_null(adit_forward(client, "8000", &options));
  adit_client_close(client, 0);
}

static void an_option_of_a_later_library_is_refused_unless_it_is_zero(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct { struct adit_options known; int later; } options = {.known = ADIT_OPTIONS_INIT};
  options.known.size = sizeof options;
  struct adit_tunnel *tunnel = adit_forward(client, "8000", &options.known);
  assert_non_null(tunnel);
  options.later = 1;
  assert_null(adit_forward(client, "8001", &options.known));
  adit_client_close(client, 0);
}

static void a_token_is_narrowed_by_a_configuration_and_by_a_client(void **state) {
  (void)state;
  char token[TOKEN_TEXT_MAX_CHARS + 1], out[ADIT_TOKEN_CAP];
  struct token t;
  struct err e;
  const char *allow[] = {"192.0.2.7/32", "2001:db8::/32"};
  struct adit_narrow_options o = ADIT_NARROW_OPTIONS_INIT;
  struct adit_config *config = adit_config_new();
  o.name = "job";
  o.allow = allow;
  o.allow_n = 2;
  make_token(token);
  assert_int_equal(adit_config_narrow(config, &o, out, sizeof out), ADIT_ECONFIG);   /* there is none yet */
  assert_int_equal(adit_config_add_token(config, token), 0);
  assert_int_equal(adit_config_narrow(config, &o, out, sizeof out), 0);
  assert_int_equal(token_decode(out, strlen(out), &t, &e), 0);
  assert_true(t.narrowed == 1 && t.info.allow_n == 2 && strcmp(t.info.name, "job") == 0);
  struct adit_client *client = adit_client_new(config);
  assert_int_equal(adit_client_narrow(client, NULL, 0, out, sizeof out), 0);
  assert_int_equal(token_decode(out, strlen(out), &t, &e), 0);
  assert_true(t.narrowed == 1 && t.info.allow_n == 0);
  adit_client_close(client, 0);
  assert_int_equal(adit_config_add_token(config, out), 0);
  assert_int_equal(adit_config_narrow(config, NULL, out, sizeof out), ADIT_EINVAL);  /* which of the two? */
  assert_non_null(strstr(adit_config_error(config), "several"));
  assert_string_equal(out, "");
  adit_config_free(config);
}

static void wrong_ways_to_narrow_a_token_are_refused(void **state) {
  (void)state;
  char token[TOKEN_TEXT_MAX_CHARS + 1], out[ADIT_TOKEN_CAP];
  const char *allow[] = {"everybody", NULL};
  struct { struct adit_narrow_options known; int later; } o = {.known = ADIT_NARROW_OPTIONS_INIT};
  struct adit_config *config = adit_config_new();
  make_token(token);
  assert_int_equal(adit_config_add_token(config, token), 0);
  assert_int_equal(adit_config_narrow(NULL, NULL, out, sizeof out), ADIT_EINVAL);
  assert_int_equal(adit_client_narrow(NULL, NULL, 0, out, sizeof out), ADIT_EINVAL);
  assert_int_equal(adit_config_narrow(config, NULL, NULL, 0), ADIT_EINVAL);
  assert_int_equal(adit_config_narrow(config, NULL, out, sizeof out - 1), ADIT_EINVAL);
  o.known.allow = allow;
  for (o.known.allow_n = 1; o.known.allow_n <= 2; o.known.allow_n++, allow[0] = "::1")
    assert_int_equal(adit_config_narrow(config, &o.known, out, sizeof out), ADIT_EINVAL);
  o.known = (struct adit_narrow_options)ADIT_NARROW_OPTIONS_INIT;
  o.known.max_tunnels = 2;
  assert_int_equal(adit_config_narrow(config, &o.known, out, sizeof out), ADIT_EINVAL);
  o.known.max_tunnels = 1;
  o.known.size = sizeof o;
  assert_int_equal(adit_config_narrow(config, &o.known, out, sizeof out), 0);
  o.later = 1;
  assert_int_equal(adit_config_narrow(config, &o.known, out, sizeof out), ADIT_EINVAL);
  o.known.size = 0;
  assert_int_equal(adit_config_narrow(config, &o.known, out, sizeof out), ADIT_EINVAL);
  adit_config_free(config);
}

static void one_port_is_forwarded_once(void **state) {
  (void)state;
  struct adit_client *client = new_client(), *other = new_client();
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  assert_non_null(tunnel);
  assert_null(adit_forward(client, "127.0.0.1:8000", NULL));
  assert_int_equal(adit_errno_last(), ADIT_ECONFLICT);
  assert_non_null(adit_forward(client, "8001", NULL));
  assert_non_null(adit_forward(other, "8000", NULL));      /* another client may */
  adit_tunnel_close(tunnel, 0);
  assert_non_null(adit_forward(client, "8000", NULL));     /* and so may we, once it is free */
  adit_client_close(client, 0);
  adit_client_close(other, 0);
}

/* Nobody listens where the token's relay is. */
static void opening_goes_on_for_as_long_as_it_is_told_and_one_event_says_so(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct adit_options options = ADIT_OPTIONS_INIT;
  struct adit_event event;
  options.retry_ms = 1;            /* the first failure may come before it is forwarded, or after its end */
  struct adit_tunnel *tunnel = adit_forward(client, "8000", &options);
  assert_non_null(tunnel);
  assert_int_equal(adit_tunnel_wait(tunnel, 20000), 0);
  assert_true(adit_wait_open(tunnel, -1) == ADIT_EUNREACHABLE || adit_wait_open(tunnel, -1) == ADIT_ETIMEDOUT);
  while (adit_next_event(client, &event, 0) == 1) {}
  options.retry_ms = 700;
  tunnel = adit_forward(client, "8001", &options);
  assert_non_null(tunnel);
  assert_int_equal(adit_wait_open(tunnel, -1), ADIT_EUNREACHABLE);
  assert_string_equal(adit_tunnel_reason(tunnel), "relay_unreachable");
  unsigned waiting = 0;            /* of several attempts */
  do {
    assert_int_equal(adit_next_event(client, &event, 20000), 1);
    waiting += event.kind == ADIT_EVENT_WARNING && strcmp(event.reason, "waiting") == 0;
  } while (event.kind != ADIT_EVENT_CLOSED || event.tunnel != tunnel);
  assert_int_equal(waiting, 1);
  options.retry_ms = -1;
  tunnel = adit_forward(client, "8002", &options);
  assert_non_null(tunnel);
  assert_int_equal(adit_tunnel_wait(tunnel, 200), ADIT_ETIMEDOUT);
  adit_client_close(client, 0);
}

static void expect_taken(struct adit_client *client, const char *app, const char *text) {
  assert_null(adit_forward(client, app, NULL));
  assert_int_equal(adit_errno_last(), ADIT_ECONFLICT);
  assert_string_equal(adit_error(client), text);
}

static void one_app_is_forwarded_once_however_it_is_written(void **state) {
  (void)state;
  char folder[] = "/tmp/adit-apps-XXXXXX", path[80], other[80], here[4096], text[160];
  assert_non_null(mkdtemp(folder));
  assert_non_null(getcwd(here, sizeof here));
  struct adit_client *client = new_client();
  assert_non_null(adit_forward(client, "db_1:5432", NULL));
  expect_taken(client, "DB_1:5432", "app DB_1:5432: this client forwards it already (close that tunnel first)");
  assert_non_null(adit_forward(client, "[::1]:8000", NULL));
  expect_taken(client, "8000", "port 8000: this client forwards it already (close that tunnel first)");
  assert_non_null(adit_forward(client, "127.0.0.1:8000", NULL));
  (void)snprintf(path, sizeof path, "unix:%s/./app.sock", folder);
  (void)snprintf(other, sizeof other, "unix:%s/app.sock", folder);
  assert_int_equal(chdir(folder), 0);
  struct adit_tunnel *tunnel = adit_forward(client, "unix:app.sock", NULL);
  assert_int_equal(chdir(here), 0);
  assert_string_equal(adit_tunnel_app(tunnel), other);
  assert_int_equal(adit_tunnel_app_port(tunnel), 0);
  assert_null(adit_tunnel_name(tunnel));
  (void)snprintf(text, sizeof text, "app %s: this client forwards it already (close that tunnel first)", path);
  expect_taken(client, path, text);
  assert_non_null(adit_forward(client, "unix:@app.sock", NULL));
  adit_client_close(client, 0);
  rmdir(folder);
}

static void expect_refused(struct adit_client *client, const struct adit_options *options, const char *text) {
  assert_null(adit_forward(client, "8000", options));
  assert_int_equal(adit_errno_last(), ADIT_EINVAL);
  assert_string_equal(adit_error(client), text);
}

static void names_denials_and_waits_have_their_limits(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct adit_options options = ADIT_OPTIONS_INIT;
  char name[66] = "";
  const char *blocks[65] = {"10.0.0.0/8", "nobody"};
  options.deny = blocks;
  options.deny_n = 2;
  expect_refused(client, &options, "deny nobody: not an address or block (such as 192.0.2.0/24)");
  options.deny_n = 65;
  expect_refused(client, &options, "deny: at most 64 blocks");
  options = (struct adit_options)ADIT_OPTIONS_INIT;
  options.name = "a\033[2Jb";
  expect_refused(client, &options, "name: it has control characters (leave them out)");
  memset(name, 'n', 65);
  options.name = name;
  assert_null(adit_forward(client, "8000", &options));
  options = (struct adit_options)ADIT_OPTIONS_INIT;
  options.app_wait_ms = 600001;
  expect_refused(client, &options, "app_wait: too long (at most 10 minutes)");
  options.app_wait_ms = 600000;
  name[64] = 0;
  options.name = name;
  struct adit_tunnel *tunnel = adit_forward(client, "8000", &options);
  assert_non_null(tunnel);
  assert_string_equal(adit_tunnel_name(tunnel), name);
  assert_string_equal(adit_tunnel_app(tunnel), "localhost:8000");
  adit_client_close(client, 0);
}

/* The header of 0.1.0's first tunnels. What lies behind it is not looked at. */
static void a_program_of_an_older_header_goes_on_working(void **state) {
  (void)state;
  struct {
    struct {
      size_t size;
      int unencrypted, plain, h2, proxy_protocol;
      const char *alpn;
      const char *const *allow;
      size_t allow_n;
      const char *keep_file;
    } old;
    unsigned char behind[256];
  } options;
  struct adit_client *client = new_client();
  memset(&options, 0xff, sizeof options);
  memset(&options.old, 0, sizeof options.old);
  options.old.size = sizeof options.old;
  options.old.unencrypted = 1;
  struct adit_tunnel *tunnel = adit_forward(client, "8000", (const struct adit_options *)(const void *)&options);
  assert_non_null(tunnel);
  assert_null(adit_tunnel_name(tunnel));
  adit_client_close(client, 0);
}

static void a_relay_that_is_not_there_is_told_and_tried_again(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  struct adit_event event;
  assert_int_equal(adit_next_event(client, &event, 10000), 1);
  assert_int_equal(event.kind, ADIT_EVENT_WARNING);
  assert_int_equal(event.error, ADIT_EUNREACHABLE);
  assert_string_equal(event.reason, "relay_unreachable");
  int r;
  while ((r = adit_wait_open(tunnel, 1)) == ADIT_ETIMEDOUT) {}   /* the event may be of before the tunnel */
  assert_int_equal(r, ADIT_EUNREACHABLE);
  assert_non_null(strstr(adit_error(client), "127.0.0.1"));
  assert_null(adit_tunnel_url(tunnel));
  assert_int_equal(adit_tunnel_app_port(tunnel), 8000);
  assert_null(adit_tunnel_reason(tunnel));                 /* none of it is an end */
  assert_int_equal(adit_tunnel_wait(tunnel, 1), ADIT_ETIMEDOUT);
  adit_client_close(client, 0);
}

static void a_new_tunnel_hears_nothing_of_what_failed_before_it(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct adit_event event;
  struct addr relay;
  assert_int_equal(adit_next_event(client, &event, 10000), 1);
  assert_int_equal(event.error, ADIT_EUNREACHABLE);
  assert_int_equal(addr_parse("127.0.0.1:1", &relay, NULL), 0);
  addr_set_port(&relay, nobodys_port);
  int fd = net_listen_tcp(&relay, 1, false, NULL);   /* it is there now, and says nothing */
  assert_true(fd >= 0);
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  assert_int_equal(adit_wait_open(tunnel, 0), ADIT_ETIMEDOUT);
  struct pollfd dialled = {.fd = fd, .events = POLLIN};
  assert_int_equal(poll(&dialled, 1, 10000), 1);
  adit_client_close(client, 0);
  net_close(fd);
}

static void a_corrupt_keep_file_is_an_error_and_stays(void **state) {
  (void)state;
  char path[] = "/tmp/adit-keep-XXXXXX", text[16] = "";
  int fd = mkstemp(path);
  assert_true(fd >= 0 && write(fd, "precious", 8) == 8);
  close(fd);
  struct adit_client *client = new_client();
  struct adit_options options = ADIT_OPTIONS_INIT;
  options.keep_file = path;
  assert_null(adit_forward(client, "8000", &options));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  assert_non_null(strstr(adit_error(client), path));
  adit_client_close(client, 0);
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  assert_non_null(fgets(text, sizeof text, file));
  assert_string_equal(text, "precious");
  fclose(file);
  unlink(path);
}

static int use_in_child(struct adit_client *client, struct adit_tunnel *tunnel) {
  struct adit_event event;
  if (adit_forward(client, "8001", NULL) != NULL || adit_errno_last() != ADIT_EFORKED) return 1;
  if (adit_wait_open(tunnel, -1) != ADIT_EFORKED) return 2;
  if (adit_next_event(client, &event, -1) != ADIT_EFORKED) return 3;
  adit_tunnel_close(tunnel, 1000);
  adit_client_close(client, 1000);
  return 0;
}

static void a_forked_child_is_told_and_the_parent_goes_on(void **state) {
  (void)state;
  struct adit_client *client = new_client();
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  int status;
  pid_t pid = fork();
  if (pid == 0) _exit(use_in_child(client, tunnel));
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  struct adit_event event;
  assert_int_equal(adit_next_event(client, &event, 10000), 1);
  assert_non_null(adit_forward(client, "8001", NULL));
  adit_tunnel_close(tunnel, 0);
  adit_client_close(client, 0);
}

static void a_keep_file_is_one_by_whatever_path(void **state) {
  (void)state;
  char folder[] = "/tmp/adit-keep-XXXXXX", before[4096], whole[64];
  assert_non_null(mkdtemp(folder));
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir(folder), 0);
  snprintf(whole, sizeof whole, "%s/ticket", folder);
  const char *const paths[] = {"./ticket", whole, "/proc/self/cwd/ticket"};
  struct adit_client *client = new_client();
  struct adit_options options = ADIT_OPTIONS_INIT;
  options.keep_file = "ticket";
  assert_non_null(adit_forward(client, "8000", &options));
  for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
    options.keep_file = paths[i];
    assert_null(adit_forward(client, "8001", &options));
    assert_int_equal(adit_errno_last(), ADIT_ECONFLICT);
  }
  options.keep_file = "";
  assert_null(adit_forward(client, "8001", &options));
  assert_int_equal(adit_errno_last(), ADIT_EINVAL);
  options.keep_file = "nowhere/ticket";
  assert_null(adit_forward(client, "8001", &options));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  assert_non_null(strstr(adit_error(client), "keep file nowhere/ticket: No such file or directory ("));
  adit_client_close(client, 0);
  assert_int_equal(chdir(before), 0);
  assert_int_equal(rmdir(folder), 0);
}

static void authorities_that_are_no_regular_file_are_refused_before_they_are_read(void **state) {
  (void)state;
  char token[TOKEN_TEXT_MAX_CHARS + 1], path[64];
  snprintf(path, sizeof path, "/tmp/adit-pipe-%d", (int)getpid());
  assert_int_equal(mkfifo(path, 0600), 0);
  make_token(token);
  struct adit_config *config = adit_config_new();
  assert_int_equal(adit_config_add_token(config, token), 0);
  assert_int_equal(adit_config_set_ca_file(config, path), 0);
  assert_null(adit_client_new(config));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "not a regular file"));
  assert_int_equal(adit_config_set_ca_file(config, "/nonexistent"), 0);
  assert_null(adit_client_new(config));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  adit_config_free(config);
  unlink(path);
}

static void a_relay_without_a_token_starts_none_of_ones_own(void **state) {
  (void)state;
  unsetenv("ADIT_TOKEN");
  setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
  setenv("ADIT_RELAY", "127.0.0.1:1", 1);
  struct adit_config *config = adit_config_new();
  int found = 1;
  assert_int_equal(adit_config_load(config, &found), 0);
  assert_int_equal(found, 0);
  assert_int_equal(adit_config_set_embedded(config, "/bin/true"), 0);
  assert_null(adit_client_new(config));
  assert_int_equal(adit_errno_last(), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "a relay is given but no token"));
  adit_config_free(config);
  unsetenv("ADIT_RELAY");
  unsetenv("XDG_CONFIG_HOME");
}

static void *fork_once(void *arg) {
  const int *told = arg;
  int status = -1;
  pid_t pid = fork();
  if (pid == 0) {
    fork_gate_enter();             /* a child may go in */
    fork_gate_leave();
    _exit(write(*told, "c", 1) == 1 ? 0 : 1);
  }
  if (waitpid(pid, &status, 0) != pid) status = -1;
  return (void *)(intptr_t)status;
}

static void a_fork_waits_until_no_thread_is_inside_openssl(void **state) {
  (void)state;
  adit_client_close(new_client(), 0);   /* the first client registers what fork() calls */
  int told[2];
  pthread_t thread;
  void *status;
  assert_int_equal(pipe(told), 0);
  struct pollfd child = {.fd = told[0], .events = POLLIN};
  fork_gate_enter();
  assert_int_equal(pthread_create(&thread, NULL, fork_once, &told[1]), 0);
  assert_int_equal(poll(&child, 1, 100), 0);
  fork_gate_leave();
  assert_int_equal(poll(&child, 1, 10000), 1);
  assert_int_equal(pthread_join(thread, &status), 0);
  assert_null(status);
  fork_gate_enter();
  fork_gate_leave();
  close(told[0]);
  close(told[1]);
}

static void an_embedded_relay_that_does_not_start_is_told(void **state) {
  (void)state;
  struct adit_config *config = adit_config_new();
  assert_int_equal(adit_config_set_embedded(config, "/bin/true"), 0);
  struct adit_client *client = adit_client_new(config);
  assert_non_null(client);
  adit_config_free(config);
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  assert_int_equal(adit_wait_open(tunnel, 10000), ADIT_EUNREACHABLE);
  assert_non_null(strstr(adit_error(client), "embedded relay"));
  while (waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOWAIT | WNOHANG) == 0) {}   /* it does not stay a zombie */
  assert_int_equal(errno, ECHILD);
  adit_client_close(client, 0);
}

static void an_embedded_relay_has_the_environment_of_when_its_client_was_made(void **state) {
  (void)state;
  char folder[] = "/tmp/adit-environment-XXXXXX", program[64], seen[64];
  assert_non_null(mkdtemp(folder));
  (void)snprintf(program, sizeof program, "%s/program", folder);
  (void)snprintf(seen, sizeof seen, "%s/seen", folder);
  FILE *f = fopen(program, "w");
  assert_non_null(f);
  assert_true(fprintf(f, "#!/bin/sh\necho \"$WHOSE\" >%s\n", seen) > 0);
  assert_int_equal(fclose(f), 0);
  assert_int_equal(chmod(program, 0700), 0);
  struct adit_config *config = adit_config_new();
  assert_int_equal(adit_config_set_embedded(config, program), 0);
  setenv("WHOSE", "ours", 1);
  struct adit_client *client = adit_client_new(config);
  setenv("WHOSE", "of later", 1);
  adit_config_free(config);
  struct adit_tunnel *tunnel = adit_forward(client, "8000", NULL);
  assert_int_equal(adit_wait_open(tunnel, 10000), ADIT_EUNREACHABLE);
  adit_client_close(client, 0);
  char text[16] = "";
  f = fopen(seen, "r");
  assert_non_null(f);
  assert_non_null(fgets(text, sizeof text, f));
  assert_string_equal(text, "ours\n");
  (void)fclose(f);
  unlink(seen);
  unlink(program);
  rmdir(folder);
}

static void the_environment_and_the_users_file_fill_what_is_missing(void **state) {
  (void)state;
  char folder[] = "/tmp/adit-config-XXXXXX", sub[64], path[64], token[TOKEN_TEXT_MAX_CHARS + 1];
  int found = 1;
  assert_non_null(mkdtemp(folder));
  unsetenv("ADIT_TOKEN");
  unsetenv("ADIT_RELAY");
  setenv("XDG_CONFIG_HOME", folder, 1);
  struct adit_config *config = adit_config_new();
  assert_int_equal(adit_config_load(config, &found), 0);   /* neither: no error */
  assert_int_equal(found, 0);
  make_token(token);
  setenv("ADIT_TOKEN", "nonsense", 1);
  assert_int_equal(adit_config_load(config, &found), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "ADIT_TOKEN"));
  setenv("ADIT_TOKEN", "", 1);     /* a secret that is missing */
  assert_int_equal(adit_config_load(config, &found), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "ADIT_TOKEN: it is set but empty"));
  unsetenv("ADIT_TOKEN");
  setenv("ADIT_RELAY", "", 1);
  assert_int_equal(adit_config_load(config, &found), ADIT_ECONFIG);
  assert_non_null(strstr(adit_config_error(config), "ADIT_RELAY: it is set but empty"));
  unsetenv("ADIT_RELAY");
  snprintf(sub, sizeof sub, "%s/adit", folder);
  snprintf(path, sizeof path, "%s/adit/config", folder);
  assert_int_equal(mkdir(sub, 0700), 0);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fprintf(file, "token = %s\n", token);
  fclose(file);
  assert_int_equal(adit_config_load(config, &found), 0);
  assert_int_equal(found, 1);
  adit_config_free(config);
  unsetenv("XDG_CONFIG_HOME");
  unlink(path);
  rmdir(sub);
  rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(null_is_an_error_and_never_a_crash),
    cmocka_unit_test(a_config_without_a_token_makes_no_client),
    cmocka_unit_test(wrong_apps_and_options_are_refused),
    cmocka_unit_test(an_option_of_a_later_library_is_refused_unless_it_is_zero),
    cmocka_unit_test(a_token_is_narrowed_by_a_configuration_and_by_a_client),
    cmocka_unit_test(wrong_ways_to_narrow_a_token_are_refused),
    cmocka_unit_test(one_port_is_forwarded_once),
    cmocka_unit_test(opening_goes_on_for_as_long_as_it_is_told_and_one_event_says_so),
    cmocka_unit_test(one_app_is_forwarded_once_however_it_is_written),
    cmocka_unit_test(names_denials_and_waits_have_their_limits),
    cmocka_unit_test(a_program_of_an_older_header_goes_on_working),
    cmocka_unit_test(a_relay_that_is_not_there_is_told_and_tried_again),
    cmocka_unit_test(a_new_tunnel_hears_nothing_of_what_failed_before_it),
    cmocka_unit_test(a_corrupt_keep_file_is_an_error_and_stays),
    cmocka_unit_test(a_keep_file_is_one_by_whatever_path),
    cmocka_unit_test(authorities_that_are_no_regular_file_are_refused_before_they_are_read),
    cmocka_unit_test(a_relay_without_a_token_starts_none_of_ones_own),
    cmocka_unit_test(a_forked_child_is_told_and_the_parent_goes_on),
    cmocka_unit_test(a_fork_waits_until_no_thread_is_inside_openssl),
    cmocka_unit_test(an_embedded_relay_that_does_not_start_is_told),
    cmocka_unit_test(an_embedded_relay_has_the_environment_of_when_its_client_was_made),
    cmocka_unit_test(the_environment_and_the_users_file_fill_what_is_missing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
