/* Certificates and chains of them: round trips, what makes one wider than the one before it, and every way to forge a
   place in a chain. */
#include "cm.h"

#include <string.h>

#include "base/text.h"
#include "wire/certificate.h"

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

/* An operator's alone. */
static int verify(const uint8_t *p, size_t n, struct certificate *out) {
  struct chain c;
  int r = chain_verify(p, n, &c);
  if (r == 0) assert_int_equal(c.n, 1);
  if (r == 0) *out = c.at[0];
  return r;
}

static void certificate_round_trips(void **state) {
  (void)state;
  struct certificate a = certificate_sample(), b;
  uint8_t out[CERTIFICATE_MAX_BYTES];
  size_t n;
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), 0);
  assert_int_equal(verify(out, n, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
  memset(a.name, 'n', TOKEN_NAME_MAX_CHARS);
  a.expires_s = 0;
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), 0);
  assert_int_equal(verify(out, n, &b), 0);
  assert_int_equal(strlen(b.name), TOKEN_NAME_MAX_CHARS);
}

/* Relays and agents that know no limits go on with the tokens that have none. */
static void certificate_without_limits_is_of_the_first_version_byte_for_byte(void **state) {
  (void)state;
  struct certificate a = certificate_sample();
  uint8_t out[CERTIFICATE_MAX_BYTES], digest[SHA256_BYTES];
  char hex[2 * SHA256_BYTES + 1];
  size_t n;
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), 0);
  assert_int_equal(out[0], 1);
  assert_int_equal(sha256(out, n, digest), 0);
  hex_encode(digest, sizeof digest, hex);
  assert_string_equal(hex, "1968cb31d4cd2b13de618a555264437f0afa65f925a015f12de00b72d49242b7");
}

static struct certificate certificate_with_limits(void) {
  struct certificate c = certificate_sample();
  c.limits = (struct token_limits){
      .max_streams = 5, .max_visitors_per_s = 0x01020304, .max_bytes_per_s = 0x0102030405060708};
  return c;
}

static void certificate_carries_limits(void **state) {
  (void)state;
  struct certificate a = certificate_with_limits(), b;
  uint8_t out[CERTIFICATE_MAX_BYTES];
  size_t n;
  for (size_t i = 0; i < 4; i++) { /* all, then each alone */
    if (i > 0) memset(&a.limits, 0, sizeof a.limits);
    if (i == 1) a.limits.max_streams = UINT32_MAX;
    if (i == 2) a.limits.max_visitors_per_s = UINT32_MAX;
    if (i == 3) a.limits.max_bytes_per_s = UINT64_MAX;
    assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), 0);
    assert_int_equal(out[0], 2);
    assert_int_equal(verify(out, n, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
  }
}

static void certificate_names_the_key_that_signed(void **state) {
  (void)state;
  struct certificate a = certificate_sample(), b;
  uint8_t out[CERTIFICATE_MAX_BYTES], key[ED25519_KEY_BYTES];
  size_t n;
  assert_int_equal(certificate_sign(&a, agent_seed, out, sizeof out, &n), 0);
  assert_int_equal(verify(out, n, &b), 0);
  assert_int_equal(ed25519_public(agent_seed, key), 0);
  assert_memory_equal(b.operator_key, key, sizeof key);
}

/* An unknown signer's is refused as such although its signature is wrong, too: nobody looked at that. */
static void a_strangers_signature_is_looked_at_only_when_an_operator_of_ours_made_it(void **state) {
  (void)state;
  struct certificate a = certificate_sample();
  struct chain b;
  uint8_t out[CERTIFICATE_MAX_BYTES], keys[2][ED25519_KEY_BYTES];
  size_t n;
  assert_int_equal(ed25519_public(agent_seed, keys[0]), 0);
  assert_int_equal(ed25519_public(operator_seed, keys[1]), 0);
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), 0);
  assert_int_equal(chain_verify_by(out, n, keys, 2, &b), 0);
  assert_memory_equal(&a, &b.at[0], sizeof a);
  assert_int_equal(chain_verify_by(out, n, keys, 1, &b), ERR_NOT_NOW);
  assert_int_equal(chain_verify_by(out, n - 1, keys, 1, &b), ERR_SYNTAX);
  out[n - 1] ^= 1;
  assert_int_equal(chain_verify_by(out, n, keys, 2, &b), ERR_AUTH);
  assert_int_equal(chain_verify_by(out, n, keys, 1, &b), ERR_NOT_NOW);
  assert_int_equal(chain_verify_by(out, n, keys, 0, &b), ERR_NOT_NOW);
}

static void certificate_changed_cut_or_longer_is_refused(void **state) {
  (void)state;
  struct certificate samples[] = {certificate_sample(), certificate_with_limits()}, b;
  for (size_t at = 0; at < ARRAY_LEN(samples); at++) {
    uint8_t out[CERTIFICATE_MAX_BYTES + 1] = {0};
    size_t n;
    assert_int_equal(certificate_sign(&samples[at], operator_seed, out, sizeof out, &n), 0);
    for (size_t i = 0; i < n; i++) {
      out[i] ^= 1;
      assert_true(verify(out, n, &b) < 0);
      out[i] ^= 1;
    }
    for (size_t cut = 0; cut < n; cut++) assert_true(verify(out, cut, &b) < 0);
    assert_true(verify(out, n + 1, &b) < 0);
    assert_int_equal(verify(out, CERTIFICATE_MAX_BYTES + 1, &b), ERR_SYNTAX);
    for (size_t cap = 0; cap < n; cap++) {
      size_t written;
      assert_int_equal(certificate_sign(&samples[at], operator_seed, out, cap, &written), ERR_LIMIT);
    }
  }
}

/* Signs a body of the test's own making, as a careless operator's program would. */
static int verify_signed_body(const uint8_t *body, size_t n) {
  static const char context[] = "adit certificate v1";
  uint8_t text[sizeof context + CERTIFICATE_MAX_BYTES], all[CERTIFICATE_MAX_BYTES];
  struct certificate c;
  memcpy(text, context, sizeof context);
  memcpy(text + sizeof context, body, n);
  memcpy(all, body, n);
  assert_int_equal(ed25519_sign(operator_seed, text, sizeof context + n, all + n), 0);
  return verify(all, n + ED25519_SIG_BYTES, &c);
}

static void certificate_in_another_form_is_refused_though_it_is_signed(void **state) {
  (void)state;
  enum { LIMITS_BYTES = 16 };
  struct certificate plain = certificate_sample(), limited = certificate_with_limits();
  uint8_t body[CERTIFICATE_MAX_BYTES];
  size_t n;
  assert_int_equal(certificate_sign(&limited, operator_seed, body, sizeof body, &n), 0);
  n -= ED25519_SIG_BYTES;
  assert_int_equal(verify_signed_body(body, n), 0);
  body[0] = 1;                     /* limits in one that has none */
  assert_int_equal(verify_signed_body(body, n), ERR_SYNTAX);
  body[0] = 3;                     /* a version to come */
  assert_int_equal(verify_signed_body(body, n), ERR_SYNTAX);
  body[0] = 2;                     /* limits that limit nothing: there is another form for that */
  memset(body + n - ED25519_KEY_BYTES - LIMITS_BYTES, 0, LIMITS_BYTES);
  assert_int_equal(verify_signed_body(body, n), ERR_SYNTAX);
  assert_int_equal(certificate_sign(&plain, operator_seed, body, sizeof body, &n), 0);
  n -= ED25519_SIG_BYTES;
  assert_int_equal(verify_signed_body(body, n), 0);
  for (int version = 0; version < 256; version++) { /* no limits in one that has them */
    body[0] = (uint8_t)version;
    if (version != 1) assert_int_equal(verify_signed_body(body, n), ERR_SYNTAX);
  }
}

static void certificate_names_that_harm_a_terminal_are_refused(void **state) {
  (void)state;
  struct certificate a = certificate_sample();
  uint8_t out[CERTIFICATE_MAX_BYTES];
  size_t n;
  a.name[0] = 0x1b;
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), ERR_USAGE);
  a.name[0] = 0;
  assert_int_equal(certificate_sign(&a, operator_seed, out, sizeof out, &n), ERR_USAGE);
}

/* Chains: operator -> agent -> second -> third */

static const uint8_t second_seed[ED25519_KEY_BYTES] = {2, 2}, third_seed[ED25519_KEY_BYTES] = {3, 3};

struct bytes { uint8_t at[CHAIN_MAX_BYTES + CERTIFICATE_MAX_BYTES]; size_t n; };

static struct bytes operators(const struct certificate *c) {
  struct bytes b = {.n = 0};
  assert_int_equal(certificate_sign(c, operator_seed, b.at, sizeof b.at, &b.n), 0);
  return b;
}

/* Whoever holds the seed makes it for the key of the other. */
static void extend(struct bytes *b, struct certificate c, const uint8_t seed[ED25519_KEY_BYTES],
                   const uint8_t for_seed[ED25519_KEY_BYTES]) {
  assert_int_equal(ed25519_public(for_seed, c.public_key), 0);
  assert_int_equal(chain_extend(b->at, sizeof b->at, &b->n, &c, seed), 0);
}

static struct certificate narrower_sample(void) {
  struct certificate c = certificate_sample();
  memset(c.id, 0, sizeof c.id);
  memset(c.operator_key, 0, sizeof c.operator_key);
  return c;
}

static struct bytes chain_of(size_t n) {
  struct certificate root = certificate_sample(), c = narrower_sample();
  struct bytes b = operators(&root);
  if (n > 1) extend(&b, c, agent_seed, second_seed);
  if (n > 2) extend(&b, c, second_seed, third_seed);
  if (n > 3) extend(&b, c, third_seed, agent_seed);
  return b;
}

static int check(const struct bytes *b) {
  struct chain c;
  return chain_verify(b->at, b->n, &c);
}

static void a_chain_says_what_each_of_its_certificates_does(void **state) {
  (void)state;
  struct certificate a = narrower_sample();
  struct chain c;
  struct bytes b = chain_of(1);
  memset(a.name, 0, sizeof a.name);
  memcpy(a.name, "job 7", 6);
  a.max_tunnels = 3;
  a.expires_s = 1700000100;
  a.limits = (struct token_limits){.max_streams = 1, .max_visitors_per_s = 2, .max_bytes_per_s = 3};
  a.no_raw = true;
  for (; a.allow_n < TOKEN_ALLOW_MAX; a.allow_n++)
    a.allow[a.allow_n] = (struct cidr){.family = 6, .bits = 128, .bytes = {32, 1, (uint8_t)a.allow_n}};
  extend(&b, a, agent_seed, second_seed);
  extend(&b, a, second_seed, third_seed);
  assert_int_equal(chain_verify(b.at, b.n, &c), 0);
  assert_int_equal(c.n, 3);
  assert_memory_equal(c.at[0].id, "0123456789abcdef", 16);
  for (size_t i = 1; i < 3; i++) {
    uint8_t nothing[TOKEN_ID_BYTES] = {0};
    assert_memory_not_equal(c.at[i].id, nothing, sizeof nothing);
    memcpy(a.id, c.at[i].id, sizeof a.id);
    assert_int_equal(ed25519_public(i == 1 ? second_seed : third_seed, a.public_key), 0);
    assert_memory_equal(&c.at[i], &a, sizeof a);
  }
  assert_memory_not_equal(c.at[1].id, c.at[2].id, TOKEN_ID_BYTES);
  assert_ptr_equal(chain_last(&c), &c.at[2]);
}

static void a_narrower_certificate_needs_no_name(void **state) {
  (void)state;
  struct certificate a = narrower_sample();
  struct bytes b = chain_of(1);
  memset(a.name, 0, sizeof a.name);
  extend(&b, a, agent_seed, second_seed);
  assert_int_equal(check(&b), 0);
}

static void the_id_of_a_narrower_certificate_follows_from_all_before_it(void **state) {
  (void)state;
  struct certificate root = certificate_sample();
  struct chain a, b;
  struct bytes one = chain_of(3);
  assert_int_equal(chain_verify(one.at, one.n, &a), 0);
  root.id[0] ^= 1;
  struct bytes other = operators(&root);
  extend(&other, narrower_sample(), agent_seed, second_seed);
  extend(&other, narrower_sample(), second_seed, third_seed);
  assert_int_equal(chain_verify(other.at, other.n, &b), 0);
  for (size_t i = 0; i < 3; i++) assert_memory_not_equal(a.at[i].id, b.at[i].id, TOKEN_ID_BYTES);
}

typedef void (*change)(struct certificate *c);
static void expires_later(struct certificate *c) { c->expires_s++; }
static void never_expires(struct certificate *c) { c->expires_s = 0; }
static void more_tunnels(struct certificate *c) { c->max_tunnels++; }
static void more_streams(struct certificate *c) { c->limits.max_streams++; }
static void any_streams(struct certificate *c) { c->limits.max_streams = 0; }
static void more_visitors(struct certificate *c) { c->limits.max_visitors_per_s++; }
static void any_visitors(struct certificate *c) { c->limits.max_visitors_per_s = 0; }
static void more_bytes(struct certificate *c) { c->limits.max_bytes_per_s++; }
static void any_bytes(struct certificate *c) { c->limits.max_bytes_per_s = 0; }
static void raw_again(struct certificate *c) { c->no_raw = false; }
static void allow_all(struct certificate *c) { c->allow_n = 0; }
static void allow_shorter(struct certificate *c) { c->allow[0].bits--; }
static void allow_another(struct certificate *c) { c->allow[0].bytes[1] ^= 1; }
static void allow_one_more(struct certificate *c) {
  c->allow[c->allow_n++] = (struct cidr){.family = 4, .bits = 32, .bytes = {192, 0, 2, 1}};
}
static void allow_the_other_family(struct certificate *c) { c->allow[0].family = 6; }
static const struct { change change; const char *what; } widenings[] = {
  {expires_later, "expires"}, {never_expires, "expires"}, {more_tunnels, "max_tunnels"}, {more_streams, "max_streams"},
  {any_streams, "max_streams"}, {more_visitors, "max_visitors_per_s"}, {any_visitors, "max_visitors_per_s"},
  {more_bytes, "max_rate"}, {any_bytes, "max_rate"}, {raw_again, "raw"}, {allow_all, "allow"}, {allow_shorter, "allow"},
  {allow_another, "allow"}, {allow_one_more, "allow"}, {allow_the_other_family, "allow"}};

static struct certificate narrow_in_all(void) {
  struct certificate c = narrower_sample();
  c.limits = (struct token_limits){.max_streams = 5, .max_visitors_per_s = 6, .max_bytes_per_s = 7};
  c.no_raw = true;
  c.allow_n = 1;
  c.allow[0] = (struct cidr){.family = 4, .bits = 16, .bytes = {10, 1}};
  return c;
}

static void a_chain_with_a_wider_certificate_is_refused_wherever_it_stands(void **state) {
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(widenings); i++) {
    struct certificate root = certificate_sample(), parent = narrow_in_all(), c = parent;
    widenings[i].change(&c);
    assert_string_equal(certificate_wider(&c, &parent), widenings[i].what);
    struct bytes b = operators(&root);
    extend(&b, parent, agent_seed, second_seed);
    extend(&b, c, second_seed, third_seed);
    assert_int_equal(check(&b), ERR_SYNTAX);
    if (i >= 3 + 6) continue;                    /* the rest is of narrower ones only */
    root.limits = parent.limits;
    b = operators(&root);
    extend(&b, c, agent_seed, second_seed);
    assert_int_equal(check(&b), ERR_SYNTAX);
  }
}

static void what_is_the_same_or_less_is_not_wider(void **state) {
  (void)state;
  struct certificate wide = narrower_sample(), c = narrow_in_all(), less = c;
  wide.expires_s = 0;
  assert_null(certificate_wider(&c, &c));
  assert_null(certificate_wider(&c, &wide));
  less.expires_s--;
  less.max_tunnels = 0;
  less.limits = (struct token_limits){.max_streams = 4, .max_visitors_per_s = 5, .max_bytes_per_s = 6};
  less.allow[0].bits = 17;
  less.allow[less.allow_n++] = (struct cidr){.family = 4, .bits = 32, .bytes = {10, 1, 2, 3}};
  assert_null(certificate_wider(&less, &c));
}

static void only_who_holds_a_certificate_extends_it(void **state) {
  (void)state;
  const uint8_t *const wrong[] = {operator_seed, second_seed, third_seed};
  for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
    struct bytes b = chain_of(1);
    extend(&b, narrower_sample(), wrong[i], second_seed);
    assert_int_equal(check(&b), ERR_AUTH);
  }
  struct bytes b = chain_of(2);    /* not by the one before the last either */
  extend(&b, narrower_sample(), agent_seed, third_seed);
  assert_int_equal(check(&b), ERR_AUTH);
}

/* The same key in two certificates: the child of one is not the other's. */
static void a_certificate_cannot_be_taken_to_another_parent(void **state) {
  (void)state;
  struct certificate strict = narrower_sample(), lax = strict, root = certificate_sample();
  struct bytes a = operators(&root), b = a;
  size_t root_n = a.n;
  strict.max_tunnels = 1;
  extend(&a, strict, agent_seed, second_seed);
  extend(&b, lax, agent_seed, second_seed);
  size_t child_n = a.n;
  assert_int_equal(child_n, b.n);
  extend(&a, strict, second_seed, third_seed);
  assert_int_equal(check(&a), 0);
  memcpy(b.at + child_n, a.at + child_n, a.n - child_n);
  b.n = a.n;
  assert_int_equal(check(&b), ERR_AUTH);
  memmove(a.at + root_n, a.at + child_n, a.n - child_n);   /* nor to its parent's parent */
  a.n -= child_n - root_n;
  assert_int_equal(check(&a), ERR_AUTH);
}

static void a_chain_in_another_order_is_refused(void **state) {
  (void)state;
  struct bytes ordered = chain_of(3), b = {.n = 0};
  size_t ends[] = {0, chain_of(1).n, chain_of(2).n, ordered.n};
  static const size_t orders[][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
    b.n = 0;
    for (size_t k = 0; k < 3; k++) {
      size_t from = ends[orders[i][k]], n = ends[orders[i][k] + 1] - from;
      memcpy(b.at + b.n, ordered.at + from, n);
      b.n += n;
    }
    assert_int_equal(check(&b), orders[i][0] == 0 ? ERR_AUTH : ERR_SYNTAX);
  }
  memcpy(b.at, ordered.at, ends[1]);             /* the operator's, twice */
  memcpy(b.at + ends[1], ordered.at, ends[1]);
  b.n = 2 * ends[1];
  assert_int_equal(check(&b), ERR_SYNTAX);
  memcpy(b.at, ordered.at + ends[1], ends[2] - ends[1]);   /* the operator's left out */
  b.n = ends[2] - ends[1];
  assert_int_equal(check(&b), ERR_SYNTAX);
}

/* Before any signature is looked at: an operator that nobody knows does not matter any more. */
static void a_chain_of_four_is_refused_unseen(void **state) {
  (void)state;
  struct chain c;
  struct bytes b = chain_of(4);
  assert_true(b.n <= CHAIN_MAX_BYTES);
  assert_int_equal(chain_verify(b.at, b.n, &c), ERR_SYNTAX);
  assert_int_equal(chain_verify_by(b.at, b.n, NULL, 0, &c), ERR_SYNTAX);
  assert_int_equal(chain_verify(b.at, CHAIN_MAX_BYTES + 1, &c), ERR_SYNTAX);
  assert_int_equal(chain_verify(b.at, 0, &c), ERR_SYNTAX);
}

static void a_chain_changed_or_cut_is_refused(void **state) {
  (void)state;
  struct bytes b = chain_of(3);
  struct chain c;
  size_t one = chain_of(1).n, two = chain_of(2).n;
  for (size_t i = 0; i < b.n; i++) {
    b.at[i] ^= 1;
    assert_true(check(&b) < 0);
    b.at[i] ^= 1;
  }
  for (size_t cut = 0; cut < b.n; cut++)
    assert_true((chain_verify(b.at, cut, &c) == 0) == (cut == one || cut == two));
  assert_true(chain_verify(b.at, b.n + 1, &c) < 0);
}

static void a_chains_operator_is_the_first_ones(void **state) {
  (void)state;
  struct bytes b = chain_of(2);
  struct chain c;
  uint8_t key[1][ED25519_KEY_BYTES];
  assert_int_equal(ed25519_public(operator_seed, key[0]), 0);
  assert_int_equal(chain_verify_by(b.at, b.n, key, 1, &c), 0);
  assert_int_equal(c.n, 2);
  b.at[b.n - 1] ^= 1;
  assert_int_equal(chain_verify_by(b.at, b.n, key, 1, &c), ERR_AUTH);
  assert_int_equal(ed25519_public(agent_seed, key[0]), 0);
  assert_int_equal(chain_verify_by(b.at, b.n, key, 1, &c), ERR_NOT_NOW);
}

static void what_cannot_be_said_is_not_signed(void **state) {
  (void)state;
  struct bytes b = chain_of(1);
  struct certificate c = narrower_sample();
  size_t n = b.n;
  c.allow_n = TOKEN_ALLOW_MAX + 1;
  assert_int_equal(chain_extend(b.at, sizeof b.at, &b.n, &c, agent_seed), ERR_USAGE);
  c.allow_n = 0;
  c.name[0] = 0x1b;
  assert_int_equal(chain_extend(b.at, sizeof b.at, &b.n, &c, agent_seed), ERR_USAGE);
  c.name[0] = 'x';
  assert_int_equal(chain_extend(b.at, n + 10, &b.n, &c, agent_seed), ERR_LIMIT);
  assert_int_equal(b.n, n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(certificate_round_trips),
    cmocka_unit_test(certificate_without_limits_is_of_the_first_version_byte_for_byte),
    cmocka_unit_test(certificate_carries_limits),
    cmocka_unit_test(certificate_in_another_form_is_refused_though_it_is_signed),
    cmocka_unit_test(certificate_names_the_key_that_signed),
    cmocka_unit_test(a_strangers_signature_is_looked_at_only_when_an_operator_of_ours_made_it),
    cmocka_unit_test(certificate_changed_cut_or_longer_is_refused),
    cmocka_unit_test(certificate_names_that_harm_a_terminal_are_refused),
    cmocka_unit_test(a_chain_says_what_each_of_its_certificates_does),
    cmocka_unit_test(a_narrower_certificate_needs_no_name),
    cmocka_unit_test(the_id_of_a_narrower_certificate_follows_from_all_before_it),
    cmocka_unit_test(a_chain_with_a_wider_certificate_is_refused_wherever_it_stands),
    cmocka_unit_test(what_is_the_same_or_less_is_not_wider),
    cmocka_unit_test(only_who_holds_a_certificate_extends_it),
    cmocka_unit_test(a_certificate_cannot_be_taken_to_another_parent),
    cmocka_unit_test(a_chain_in_another_order_is_refused),
    cmocka_unit_test(a_chain_of_four_is_refused_unseen),
    cmocka_unit_test(a_chain_changed_or_cut_is_refused),
    cmocka_unit_test(a_chains_operator_is_the_first_ones),
    cmocka_unit_test(what_cannot_be_said_is_not_signed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
