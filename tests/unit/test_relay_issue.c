/* Issuing tokens: what is inside them, where relay, name and pin come from, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "cm.h"
#include "relay/issue.h"

enum { NOW = 1700000000 };

struct fixture { char dir[64]; struct state *s; };

static int make_state(void **out) {
  struct fixture *f = calloc(1, sizeof *f);
  struct err e;
  if (f == NULL)
    return -1;
  snprintf(f->dir, sizeof f->dir, "/tmp/adit-test-XXXXXX");
  *out = f;
  return mkdtemp(f->dir) == NULL || state_open(f->dir, &f->s, &e) != 0 ? -1 : 0;
}

static int remove_state(void **in) {
  struct fixture *f = *in;
  char command[128];
  state_close(f->s);
  snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
  int rc = system(command);
  free(f);
  return rc;
}

static struct token_relay relay_named(const char *name, const char *host, uint16_t port) {
  struct token_relay r = {.dial = {.port = port}};
  snprintf(r.name, sizeof r.name, "%s", name);
  snprintf(r.dial.host, sizeof r.dial.host, "%s", host);
  return r;
}

/* As a relay does at its start. */
static struct token_relay remembered(struct state *s) {
  struct token_relay own = relay_named("r1.example.com", "203.0.113.5", 4433);
  struct err e;
  own.pin.kind = PIN_SPKI_SHA256;
  memset(own.pin.spki_sha256, 0x5a, sizeof own.pin.spki_sha256);
  assert_int_equal(issue_relay_remember(s, &own, &e), 0);
  return own;
}

/* For the relay that the state remembers, where the request names none. */
static int issue(struct state *s, struct issue_request r, char text[TOKEN_TEXT_MAX_CHARS + 1], struct err *e) {
  struct token_relay own;
  if (r.relays_n > 0) return issue_token(s, &r, NOW, text, e);
  int rc = issue_relay_recall(s, &own, e);
  r.relays = &own;
  r.relays_n = 1;
  return rc != 0 ? rc : issue_token(s, &r, NOW, text, e);
}

static struct token issued(struct state *s, const struct issue_request *r) {
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  struct token t = {.relays_n = 0};
  struct err e = {0};
  if (issue(s, *r, text, &e) != 0 || token_decode(text, strlen(text), &t, &e) != 0)
    fail_msg("%s", e.text);
  return t;
}

static int count(void *user, const struct state_token *t) {
  (void)t;
  ++*(int *)user;
  return 0;
}

static int tokens_in(struct state *s) {
  int n = 0;
  struct err e;
  assert_int_equal(state_token_list(s, count, &n, &e), 0);
  return n;
}

static void a_token_carries_the_relay_that_the_state_remembers(void **in) {
  struct fixture *f = *in;
  struct token_relay own = remembered(f->s);
  struct token t = issued(f->s, &(struct issue_request){.name = "laptop"});
  assert_int_equal(t.relays_n, 1);
  assert_string_equal(t.relays[0].name, "r1.example.com");
  assert_string_equal(t.relays[0].dial.host, "203.0.113.5");
  assert_int_equal(t.relays[0].dial.port, 4433);
  assert_int_equal(t.relays[0].pin.kind, PIN_SPKI_SHA256);
  assert_memory_equal(t.relays[0].pin.spki_sha256, own.pin.spki_sha256, SHA256_BYTES);
}

static void the_settings_have_the_forms_that_are_documented(void **in) {
  struct fixture *f = *in;
  struct token_relay own = remembered(f->s), recalled;
  char value[128];
  struct err e;
  assert_int_equal(state_get(f->s, "public", value, sizeof value, &e), 0);
  assert_string_equal(value, "203.0.113.5:4433");
  assert_int_equal(state_get(f->s, "pin", value, sizeof value, &e), 0);
  assert_string_equal(value, "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a");
  own.pin.kind = PIN_PUBLIC_AUTHORITIES;
  assert_int_equal(issue_relay_remember(f->s, &own, &e), 0);
  assert_int_equal(state_get(f->s, "pin", value, sizeof value, &e), 0);
  assert_string_equal(value, "public");
  assert_int_equal(issue_relay_recall(f->s, &recalled, &e), 0);
  assert_int_equal(recalled.pin.kind, PIN_PUBLIC_AUTHORITIES);
}

static void the_certificate_is_signed_by_this_operator_and_its_id_is_stored(void **in) {
  struct fixture *f = *in;
  uint8_t operator_key[ED25519_KEY_BYTES];
  struct err e;
  remembered(f->s);
  struct token t = issued(f->s, &(struct issue_request){.name = "laptop", .expires_s = NOW + 60});
  assert_int_equal(state_operator_public(f->s, operator_key, &e), 0);
  assert_memory_equal(t.info.operator_key, operator_key, sizeof operator_key);
  assert_string_equal(t.info.name, "laptop");
  assert_int_equal(t.info.max_tunnels, TUNNELS_PER_TOKEN_DEFAULT);
  assert_int_equal(t.info.issued_s, NOW);
  assert_int_equal(t.info.expires_s, NOW + 60);
  assert_int_equal(tokens_in(f->s), 1);
  char id[2 * TOKEN_ID_BYTES + 1];
  hex_encode(t.info.id, sizeof t.info.id, id);
  assert_int_equal(state_token_revoke(f->s, id, NOW, &e), 0);
}

static void two_tokens_share_neither_key_nor_id(void **in) {
  struct fixture *f = *in;
  remembered(f->s);
  struct token a = issued(f->s, &(struct issue_request){.name = "a"}),
               b = issued(f->s, &(struct issue_request){.name = "b", .max_tunnels = 3});
  assert_memory_not_equal(a.seed, b.seed, sizeof a.seed);
  assert_memory_not_equal(a.info.id, b.info.id, sizeof a.info.id);
  assert_int_equal(b.info.max_tunnels, 3);
}

static int see_limits(void *user, const struct state_token *t) {
  *(struct token_limits *)user = t->limits;
  return 0;
}

static void a_tokens_limits_are_in_its_certificate_and_in_the_list(void **in) {
  struct fixture *f = *in;
  const struct token_limits limits = {.max_streams = 3, .max_visitors_per_s = 4, .max_bytes_per_s = 5000000000};
  struct token_limits listed;
  struct err e;
  remembered(f->s);
  struct token t = issued(f->s, &(struct issue_request){.name = "laptop", .limits = limits});
  assert_memory_equal(&t.info.limits, &limits, sizeof limits);
  assert_int_equal(state_token_list(f->s, see_limits, &listed, &e), 0);
  assert_memory_equal(&listed, &limits, sizeof limits);
}

static void a_token_carries_the_relays_that_are_given(void **in) {
  struct fixture *f = *in;
  struct token_relay given[] = {remembered(f->s), relay_named("other.example.com", "192.0.2.1", 444)};
  struct token t = issued(f->s, &(struct issue_request){.name = "laptop", .relays = given, .relays_n = 2});
  assert_int_equal(t.relays_n, 2);
  assert_string_equal(t.relays[1].name, "other.example.com");
  assert_int_equal(t.relays[1].dial.port, 444);
  assert_int_equal(t.relays[1].pin.kind, PIN_PUBLIC_AUTHORITIES);
}

static void before_the_first_start_a_name_is_enough_and_its_authority_is_made(void **in) {
  struct fixture *f = *in;
  struct token_relay foreseen, recalled;
  struct authority *a = NULL;
  struct err e;
  uint8_t pin[SHA256_BYTES];
  assert_int_equal(issue_relay_recall(f->s, &recalled, &e), ERR_NOT_NOW);
  assert_int_equal(issue_relay_foresee(f->s, "r9.example.com", &foreseen, &e), 0);
  assert_string_equal(foreseen.name, "r9.example.com");
  assert_string_equal(foreseen.dial.host, "r9.example.com");
  assert_int_equal(foreseen.dial.port, 443);
  assert_int_equal(foreseen.pin.kind, PIN_SPKI_SHA256);
  assert_int_equal(state_authority(f->s, "r9.example.com", time(NULL), &a, &e), 0);
  assert_int_equal(authority_pin(a, pin), 0);
  authority_unref(a);
  assert_memory_equal(foreseen.pin.spki_sha256, pin, sizeof pin);
  assert_int_equal(issue_relay_recall(f->s, &recalled, &e), 0);
  assert_string_equal(recalled.name, "r9.example.com");
  assert_memory_equal(recalled.pin.spki_sha256, pin, sizeof pin);
}

static void assert_refused(struct state *s, struct issue_request r, int code, const char *part) {
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  struct err e = {0};
  int before = tokens_in(s);
  assert_int_equal(issue(s, r, text, &e), code);
  if (strstr(e.text, part) == NULL || strchr(e.text, '(') == NULL)
    fail_msg("text without \"%s\" or what to do: %s", part, e.text);
  assert_int_equal(tokens_in(s), before);
}

static void before_the_first_start_it_says_what_is_missing(void **in) {
  struct fixture *f = *in;
  assert_refused(f->s, (struct issue_request){.name = "x"}, ERR_NOT_NOW, "does not know its relay");
}

static void bad_names_are_refused(void **in) {
  struct fixture *f = *in;
  remembered(f->s);
  static const char *const bad[] = {"", "two words", "line\n", "caf\xc3\xa9", "tab\t",
      "000102030405060708090a0b0c0d0e0f",
                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++)
    assert_refused(f->s, (struct issue_request){.name = bad[i]}, ERR_USAGE, "name");
}

static void a_live_name_and_a_past_expiry_are_refused(void **in) {
  struct fixture *f = *in;
  remembered(f->s);
  (void)issued(f->s, &(struct issue_request){.name = "laptop"});
  assert_refused(f->s, (struct issue_request){.name = "laptop"}, ERR_CONFLICT, "laptop");
  assert_refused(f->s, (struct issue_request){.name = "old", .expires_s = NOW}, ERR_USAGE, "expired");
}

static void too_many_relays_are_refused(void **in) {
  struct fixture *f = *in;
  struct token_relay many[TOKEN_RELAYS_MAX + 1];
  for (size_t i = 0; i < ARRAY_LEN(many); i++)
    many[i] = relay_named("r1.example.com", "192.0.2.1", 443);
  assert_refused(f->s, (struct issue_request){.name = "x", .relays = many, .relays_n = ARRAY_LEN(many)}, ERR_LIMIT,
                 "relays");
}

static void malformed_settings_are_told(void **in) {
  struct fixture *f = *in;
  static const char *const bad[][2] = {{"domain", "not a name"}, {"public", "nowhere"}, {"pin", "12"}, {"pin", ""}};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e;
    remembered(f->s);
    assert_int_equal(state_set(f->s, bad[i][0], bad[i][1], &e), 0);
    assert_refused(f->s, (struct issue_request){.name = "x"}, ERR_SYNTAX, "malformed");
  }
}

#define WITH_STATE(test) cmocka_unit_test_setup_teardown(test, make_state, remove_state)

int main(void) {
  const struct CMUnitTest tests[] = {
    WITH_STATE(a_token_carries_the_relay_that_the_state_remembers),
    WITH_STATE(the_settings_have_the_forms_that_are_documented),
    WITH_STATE(the_certificate_is_signed_by_this_operator_and_its_id_is_stored),
    WITH_STATE(two_tokens_share_neither_key_nor_id),
    WITH_STATE(a_tokens_limits_are_in_its_certificate_and_in_the_list),
    WITH_STATE(a_token_carries_the_relays_that_are_given),
    WITH_STATE(before_the_first_start_a_name_is_enough_and_its_authority_is_made),
    WITH_STATE(before_the_first_start_it_says_what_is_missing),
    WITH_STATE(bad_names_are_refused),
    WITH_STATE(a_live_name_and_a_past_expiry_are_refused),
    WITH_STATE(too_many_relays_are_refused),
    WITH_STATE(malformed_settings_are_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
