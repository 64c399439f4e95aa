/* Tokens, operator keys and tickets: round trips, narrowing, and a clear word for every kind of damage. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "wire/ticket.h"
#include "wire/token.h"

static const uint8_t operator_seed[ED25519_KEY_BYTES] = {7, 7, 7}, agent_seed[ED25519_KEY_BYTES] = {5, 5};

static struct certificate certificate_sample(void) {
  struct certificate c;
  memset(&c, 0, sizeof c);
  memcpy(c.id, "0123456789abcdef", 16);
  memcpy(c.name, "build farm", 11);
  assert_int_equal(ed25519_public(agent_seed, c.public_key), 0);
  assert_int_equal(ed25519_public(operator_seed, c.operator_key), 0);
  c.max_tunnels = 100;
  c.issued_s = 1700000000;
  c.expires_s = 1800000000;
  return c;
}

static struct token token_sample(void) {
  struct token t;
  memset(&t, 0, sizeof t);
  t.relays_n = 3;
  t.relays[0] = (struct token_relay){.dial = {"r1.example.com", 443}, .pin = {.kind = PIN_PUBLIC_AUTHORITIES}};
  t.relays[1] = (struct token_relay){
      .dial = {"192.0.2.1", 8443}, .name = "r2.example.com", .pin = {.kind = PIN_SPKI_SHA256, .spki_sha256 = {1, 2}}};
  t.relays[2] = (struct token_relay){.dial = {"2001:db8::1", 1}, .name = "r3.example.com"};
  memcpy(t.seed, agent_seed, sizeof t.seed);
  t.info = certificate_sample();
  assert_int_equal(certificate_sign(&t.info, operator_seed, t.chain, sizeof t.chain, &t.chain_n), 0);
  return t;
}

static void token_round_trips_also_with_space_around(void **state) {
  (void)state;
  struct token a = token_sample(), b;
  char text[TOKEN_TEXT_MAX_CHARS + 1], spaced[TOKEN_TEXT_MAX_CHARS + 8];
  assert_int_equal(token_encode(&a, text, sizeof text), 0);
  assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), strlen(text));
  snprintf(spaced, sizeof spaced, " \t%s\r\n", text);
  struct err e;
  assert_int_equal(token_decode(spaced, strlen(spaced), &b, &e), 0);
  assert_memory_equal(&a, &b, sizeof a);
}

static void token_with_any_character_changed_or_cut_is_refused(void **state) {
  (void)state;
  struct token a = token_sample(), b, nothing;
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  struct err e;
  memset(&nothing, 0, sizeof nothing);
  assert_int_equal(token_encode(&a, text, sizeof text), 0);
  size_t n = strlen(text);
  for (size_t i = 0; i < n; i++) {
    char was = text[i];
    text[i] = was == 'A' ? 'B' : 'A';
    e.text[0] = 0;
    assert_true(token_decode(text, n, &b, &e) < 0);
    assert_non_null(strchr(e.text, '('));
    assert_memory_equal(&b, &nothing, sizeof b);
    text[i] = was;
  }
  for (size_t cut = 0; cut < n; cut++) assert_true(token_decode(text, cut, &b, &e) < 0);
  assert_int_equal(token_decode(text, n, &b, &e), 0);
}

static void token_errors_say_which_damage_it_is(void **state) {
  (void)state;
  struct token a = token_sample(), b;
  char text[2 * TOKEN_TEXT_MAX_CHARS];
  struct err e;
  assert_int_equal(token_decode("", 0, &b, &e), ERR_SYNTAX);
  assert_non_null(strstr(e.text, "empty"));
  assert_int_equal(token_decode("ghp_abcdef", 10, &b, &e), ERR_SYNTAX);
  assert_non_null(strstr(e.text, "does not begin with adit1_"));
  memset(text, 'A', sizeof text);
  assert_int_equal(token_decode(text, sizeof text, &b, &e), ERR_LIMIT);
  assert_int_equal(token_decode("adit1_%%%%", 10, &b, &e), ERR_SYNTAX);
  assert_non_null(strstr(e.text, "characters"));
  assert_int_equal(token_decode("adit1_", 6, &b, &e), ERR_SYNTAX);
  assert_int_equal(token_decode("adit1_AgAAAAAAAAAAAAAA", 22, &b, &e), ERR_UNSUPPORTED);
  assert_non_null(strstr(e.text, "another version"));
  a.seed[0] ^= 1; /* encodes a key that is not the certificate's */
  assert_int_equal(token_encode(&a, text, sizeof text), 0);
  assert_int_equal(token_decode(text, strlen(text), &b, &e), ERR_AUTH);
  assert_non_null(strstr(e.text, "does not belong"));
  a = token_sample();
  a.chain[20] ^= 1;
  assert_int_equal(token_encode(&a, text, sizeof text), 0);
  assert_int_equal(token_decode(text, strlen(text), &b, &e), ERR_AUTH);
  assert_non_null(strstr(e.text, "certificate"));
  a = token_sample();
  a.relays[1].dial.port = 0;
  assert_int_equal(token_encode(&a, text, sizeof text), 0);
  assert_int_equal(token_decode(text, strlen(text), &b, &e), ERR_SYNTAX);
  assert_non_null(strstr(e.text, "malformed"));
}

static void token_that_does_not_fit_is_not_written(void **state) {
  (void)state;
  struct token a = token_sample();
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  assert_int_equal(token_encode(&a, text, 100), ERR_LIMIT);
  a.relays_n = 0;
  assert_int_equal(token_encode(&a, text, sizeof text), ERR_USAGE);
  a.relays_n = TOKEN_RELAYS_MAX + 1;
  assert_int_equal(token_encode(&a, text, sizeof text), ERR_USAGE);
  a.relays_n = TOKEN_RELAYS_MAX;
  for (size_t i = 0; i < TOKEN_RELAYS_MAX; i++) {
    memset(a.relays[i].dial.host, 'a', 253);
    memset(a.relays[i].name, 'a', 253);
    a.relays[i].dial.port = 1;
  }
  assert_int_equal(token_encode(&a, text, sizeof text), ERR_LIMIT);
}

/* Narrowing */

enum { NOW = 1700000000 };

static void a_narrowed_token_has_a_key_of_its_own_and_what_was_wished_for(void **state) {
  (void)state;
  struct token own = token_sample(), t = own, read;
  const struct cidr allow[] = {{.family = 4, .bits = 8, .bytes = {10}}};
  const struct narrowing wish = {.name = "job",
                                 .life_s = 60,
                                 .max_tunnels = 5,
                                 .no_raw = true,
                                 .allow = allow,
                                 .allow_n = 1,
                                 .limits = {.max_streams = 2, .max_visitors_per_s = 3, .max_bytes_per_s = 4000}};
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  struct err e = {0};
  assert_int_equal(token_narrow(&t, &wish, NOW, &e), 0);
  assert_int_equal(token_encode(&t, text, sizeof text), 0);
  assert_int_equal(token_decode(text, strlen(text), &read, &e), 0);
  assert_memory_equal(&read.info, &t.info, sizeof read.info);
  assert_int_equal(read.narrowed, 1);
  assert_memory_not_equal(read.seed, own.seed, sizeof read.seed);
  assert_memory_equal(read.relays, own.relays, sizeof read.relays);
  const struct certificate *c = &read.info;
  assert_string_equal(c->name, "job");
  assert_true(c->issued_s == NOW && c->expires_s == NOW + 60 && c->max_tunnels == 5 && c->no_raw && c->allow_n == 1);
  assert_memory_equal(&c->limits, &wish.limits, sizeof c->limits);
  assert_memory_not_equal(c->id, own.info.id, sizeof c->id);
}

static void what_is_not_wished_for_is_as_the_tokens_own(void **state) {
  (void)state;
  struct token t = token_sample();
  const struct cidr allow[] = {{.family = 4, .bits = 8, .bytes = {10}}};
  struct err e = {0};
  assert_int_equal(
      token_narrow(&t, &(struct narrowing){.max_tunnels = 7, .no_raw = true, .allow = allow, .allow_n = 1}, NOW, &e),
      0);
  assert_int_equal(token_narrow(&t, &(struct narrowing){.name = NULL}, NOW + 1, &e), 0);
  assert_true(t.info.max_tunnels == 7 && t.info.no_raw && t.info.allow_n == 1 && t.info.expires_s == 1800000000);
  assert_string_equal(t.info.name, "");
  assert_int_equal(t.narrowed, 2);
}

static void refuses(const struct token *own, const struct narrowing *wish, int64_t now_s, int code, const char *what) {
  struct token t = *own;
  struct err e = {0};
  assert_int_equal(token_narrow(&t, wish, now_s, &e), code);
  assert_non_null(strstr(e.text, what));
  assert_memory_equal(&t, own, sizeof t);
}

static void a_token_gives_no_more_than_it_has(void **state) {
  (void)state;
  struct token own = token_sample(), twice = own;
  struct err e = {0};
  const struct cidr all[TOKEN_ALLOW_MAX + 1] = {{.family = 4, .bits = 0}};
  refuses(&own, &(struct narrowing){.max_tunnels = 101}, NOW, ERR_USAGE, "max_tunnels: it is wider");
  refuses(&own, &(struct narrowing){.life_s = 1800000001 - NOW}, NOW, ERR_USAGE,
          "expires: the token itself is good until 2027-01-15");
  refuses(&own, &(struct narrowing){.life_s = -1}, NOW, ERR_USAGE, "expires");
  refuses(&own, &(struct narrowing){.life_s = INT64_MAX}, NOW, ERR_USAGE, "expires");
  refuses(&own, &(struct narrowing){.allow = all, .allow_n = TOKEN_ALLOW_MAX + 1}, NOW, ERR_USAGE, "allow: at most");
  refuses(&own, &(struct narrowing){.name = "a b"}, NOW, ERR_USAGE, "name");
  refuses(&own, &(struct narrowing){.name = ""}, NOW, ERR_USAGE, "name");
  refuses(&own, &(struct narrowing){.name = NULL}, 1800000000, ERR_TIMEOUT, "expired");
  const struct cidr ten = {.family = 4, .bits = 8, .bytes = {10}};
  assert_int_equal(
      token_narrow(&twice, &(struct narrowing){.allow = &ten, .allow_n = 1, .limits = {.max_streams = 5}}, NOW, &e), 0);
  refuses(&twice, &(struct narrowing){.allow = all, .allow_n = 1}, NOW, ERR_USAGE, "allow: it is wider");
  refuses(&twice, &(struct narrowing){.limits = {.max_streams = 6}}, NOW, ERR_USAGE, "max_streams: it is wider");
  assert_int_equal(token_narrow(&twice, &(struct narrowing){.life_s = 1}, NOW, &e), 0);
  refuses(&twice, &(struct narrowing){.life_s = 1}, NOW, ERR_USAGE, "narrowed 2 times already");
}

static void operator_key_round_trips(void **state) {
  (void)state;
  char text[OPERATOR_TEXT_MAX];
  uint8_t key[ED25519_KEY_BYTES], back[ED25519_KEY_BYTES];
  assert_int_equal(ed25519_public(operator_seed, key), 0);
  operator_key_encode(key, text);
  assert_int_equal(operator_key_decode(text, strlen(text), back), 0);
  assert_memory_equal(key, back, sizeof key);
  size_t n = strlen(text) - 1;
  for (size_t cut = 0; cut < n; cut++) assert_int_equal(operator_key_decode(text, cut, back), ERR_SYNTAX);
  text[n] = 'A';
  assert_int_equal(operator_key_decode(text, n + 1, back), ERR_SYNTAX);
  text[0] = 'b';
  assert_int_equal(operator_key_decode(text, n, back), ERR_SYNTAX);
}

static struct ticket ticket_sample(void) {
  struct ticket t;
  memset(&t, 0, sizeof t);
  memcpy(t.relay, "r5.example.com", 15);
  memcpy(t.owner, "fedcba9876543210", 16);
  base32_encode((const uint8_t *)"fifteen bytes!!", LABEL_RANDOM_BYTES, t.label);
  t.tcp_port = 20001;
  t.incarnation = 3;
  t.expires_s = 1800000000;
  return t;
}

static void ticket_round_trips_under_the_current_and_the_previous_key(void **state) {
  (void)state;
  struct ticket_key keys[2] = {{.id = 2, .key = {2}}, {.id = 1, .key = {1}}};
  struct ticket a = ticket_sample(), b;
  uint8_t out[TICKET_MAX_BYTES];
  size_t n;
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(ticket_encode(&a, &keys[i], out, &n), 0);
    assert_int_equal(ticket_decode(out, n, keys, 2, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
  }
  assert_int_equal(ticket_decode(out, n, keys, 1, &b), ERR_AUTH);
  assert_int_equal(ticket_decode(out, n, keys, 0, &b), ERR_AUTH);
  keys[1].key[31] ^= 1;
  assert_int_equal(ticket_decode(out, n, keys, 2, &b), ERR_AUTH);
}

static void ticket_changed_cut_or_longer_is_refused(void **state) {
  (void)state;
  struct ticket_key key = {.id = 9, .key = {1}};
  struct ticket a = ticket_sample(), b, nothing;
  uint8_t out[TICKET_MAX_BYTES + 1] = {0};
  size_t n;
  memset(&nothing, 0, sizeof nothing);
  assert_int_equal(ticket_encode(&a, &key, out, &n), 0);
  for (size_t bit = 0; bit < n * 8; bit++) {
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_true(ticket_decode(out, n, &key, 1, &b) < 0);
    assert_memory_equal(&b, &nothing, sizeof b);
    out[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t cut = 0; cut < n; cut++) assert_true(ticket_decode(out, cut, &key, 1, &b) < 0);
  assert_true(ticket_decode(out, n + 1, &key, 1, &b) < 0);
  assert_int_equal(ticket_decode(out, TICKET_MAX_BYTES + 1, &key, 1, &b), ERR_SYNTAX);
}

static void ticket_of_a_malformed_address_is_not_written(void **state) {
  (void)state;
  struct ticket_key key = {.id = 9, .key = {1}};
  struct ticket a = ticket_sample();
  uint8_t out[TICKET_MAX_BYTES];
  size_t n;
  a.label[0] = 'U';
  assert_int_equal(ticket_encode(&a, &key, out, &n), ERR_USAGE);
  a = ticket_sample();
  a.relay[0] = 0;
  assert_int_equal(ticket_encode(&a, &key, out, &n), ERR_USAGE);
  a = ticket_sample();
  memset(a.relay, 0, sizeof a.relay);
  for (size_t i = 0; i < HOST_NAME_MAX_CHARS; i++) a.relay[i] = i % 2 == 0 ? 'a' : '.';
  assert_int_equal(ticket_encode(&a, &key, out, &n), 0); /* the longest name fits */
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(token_round_trips_also_with_space_around),
    cmocka_unit_test(token_with_any_character_changed_or_cut_is_refused),
    cmocka_unit_test(token_errors_say_which_damage_it_is),
    cmocka_unit_test(token_that_does_not_fit_is_not_written),
    cmocka_unit_test(a_narrowed_token_has_a_key_of_its_own_and_what_was_wished_for),
    cmocka_unit_test(what_is_not_wished_for_is_as_the_tokens_own),
    cmocka_unit_test(a_token_gives_no_more_than_it_has),
    cmocka_unit_test(operator_key_round_trips),
    cmocka_unit_test(ticket_round_trips_under_the_current_and_the_previous_key),
    cmocka_unit_test(ticket_changed_cut_or_longer_is_refused),
    cmocka_unit_test(ticket_of_a_malformed_address_is_not_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
