/* The relay's TLS identity: from files that change under it, and from its own authority. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "cm.h"
#include "relay/certs.h"

enum { DAY_S = 24 * 3600, PATH_CAP = 128 };
static const int64_t NOW = 1800000000;
static const char domain[] = "r1.example.com", wildcard[] = "*.r1.example.com";

struct fixture { char dir[64], cert[PATH_CAP], key[PATH_CAP]; struct state *s; };

static int make_state(void **out) {
  struct fixture *f = calloc(1, sizeof *f);
  struct err e;
  if (f == NULL)
    return -1;
  snprintf(f->dir, sizeof f->dir, "/tmp/adit-test-XXXXXX");
  *out = f;
  if (mkdtemp(f->dir) == NULL || state_open(f->dir, &f->s, &e) != 0)
    return -1;
  snprintf(f->cert, sizeof f->cert, "%s/fullchain.pem", f->dir);
  snprintf(f->key, sizeof f->key, "%s/privkey.pem", f->dir);
  return 0;
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

/* As a careful renewal does: a new file renamed over the old one. */
static void replace(const char *path, const char *text) {
  char new_path[PATH_CAP + 8];
  snprintf(new_path, sizeof new_path, "%s.new", path);
  FILE *out = fopen(new_path, "w");
  assert_non_null(out);
  assert_true(fputs(text, out) >= 0);
  assert_int_equal(fclose(out), 0);
  assert_int_equal(rename(new_path, path), 0);
}

struct pair { char *chain, *key; };

/* Valid from an hour before made_s for 90 days. */
static struct pair pair_made(const char *const *names, size_t n, int64_t made_s, uint8_t pin[SHA256_BYTES]) {
  struct err e = {0};
  struct pair p = {NULL, NULL};
  struct authority *a = authority_make(domain, made_s, &e);
  if (a == NULL || authority_issue(a, names, n, 90, made_s, &p.chain, &p.key, &e) != 0)
    fail_msg("%s", e.text);
  if (pin != NULL)
    assert_int_equal(authority_pin(a, pin), 0);
  authority_unref(a);
  return p;
}

static struct pair pair_for(const char *const *names, size_t n, uint8_t pin[SHA256_BYTES]) {
  return pair_made(names, n, NOW, pin);
}

static struct pair pair_of_time(int64_t made_s) {
  const char *names[] = {domain, wildcard};
  return pair_made(names, 2, made_s, NULL);
}

static struct pair good_pair(uint8_t pin[SHA256_BYTES]) {
  const char *names[] = {domain, wildcard};
  return pair_for(names, 2, pin);
}

static void pair_free(struct pair p) {
  authority_pem_free(p.chain);
  authority_pem_free(p.key);
}

static struct certs *opened(const struct fixture *f, bool files) {
  struct certs *c = NULL;
  struct err e = {0};
  if (certs_open(f->s, NULL, domain, files ? f->cert : NULL, files ? f->key : NULL, NOW, &c, &e) != 0)
    fail_msg("%s", e.text);
  return c;
}

static void put_files(const struct fixture *f, struct pair p) {
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  pair_free(p);
}

static struct certs *opened_with_files(const struct fixture *f) {
  put_files(f, good_pair(NULL));
  return opened(f, true);
}

/* At the second of two looks, between which nothing has happened. */
static bool changed(struct certs *c, int64_t now_s) {
  (void)certs_changed(c, now_s);
  return certs_changed(c, now_s);
}

/* Only for comparing: the reference is given back. */
static const struct tls_server *identity(struct certs *c) {
  struct tls_server *server = certs_current(c);
  assert_non_null(server);
  tls_server_unref(server);
  return server;
}

static int64_t expiry(struct certs *c) {
  struct tls_server *server = certs_current(c);
  int64_t at_s = tls_server_not_after(server);
  tls_server_unref(server);
  return at_s;
}

/* From files. */

static void files_that_stay_are_not_read_again(void **in) {
  struct fixture *f = *in;
  struct certs *c = opened_with_files(f);
  assert_false(changed(c, NOW));
  assert_false(changed(c, INT64_MAX / 2));
  certs_close(c);
}

static void a_good_replacement_is_taken_and_connections_keep_the_old_one(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  struct tls_server *old = certs_current(c);
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  pair_free(p);
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  assert_false(changed(c, NOW));
  assert_ptr_not_equal(identity(c), old);
  assert_true(tls_server_not_after(old) > 0);
  tls_server_unref(old);
  certs_close(c);
}

static void a_half_done_replacement_keeps_the_old_one_until_it_is_whole(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  const struct tls_server *old = identity(c);
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  assert_true(changed(c, NOW));
  assert_true(certs_reload(c, NOW, &e) < 0);
  assert_true(e.text[0] != '\0');
  assert_ptr_equal(identity(c), old);
  assert_false(changed(c, NOW));           /* told once, not at every look */
  replace(f->key, p.key);
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  assert_ptr_not_equal(identity(c), old);
  pair_free(p);
  certs_close(c);
}

static void whoever_replaces_one_file_after_the_other_is_not_caught_in_between(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  assert_false(certs_changed(c, NOW));
  replace(f->key, p.key);
  assert_false(certs_changed(c, NOW));
  assert_true(certs_changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  pair_free(p);
  certs_close(c);
}

static void certificate_and_key_may_be_one_file(void **in) {
  struct fixture *f = *in;
  struct certs *c = NULL;
  struct err e = {0};
  struct pair p = good_pair(NULL);
  char *both;
  for (int key_first = 0; key_first < 2; key_first++) {
    assert_true(asprintf(&both, "%s%s", key_first ? p.key : p.chain, key_first ? p.chain : p.key) > 0);
    replace(f->cert, both);
    free(both);
    assert_int_equal(certs_open(f->s, NULL, domain, f->cert, f->cert, NOW, &c, &e), 0);
    certs_close(c);
  }
  pair_free(p);
}

static const int64_t expired_s = NOW - 91 * DAY_S, not_yet_s = NOW + DAY_S;

static void a_replacement_whose_time_is_over_or_has_not_come_is_refused(void **in) {
  struct fixture *f = *in;
  struct certs *c = opened_with_files(f);
  const struct tls_server *old = identity(c);
  struct err e = {0};
  put_files(f, pair_of_time(expired_s));
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, f->cert));
  assert_non_null(strstr(e.text, "has expired at 2027-01-14T08:00:00Z"));
  put_files(f, pair_of_time(not_yet_s));
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, "is not valid before 2027-01-16T07:00:00Z"));
  assert_ptr_equal(identity(c), old);
  assert_false(changed(c, NOW));               /* told once, not at every look */
  certs_close(c);
}

static void a_replacement_refused_for_its_time_is_taken_when_that_has_come(void **in) {
  struct fixture *f = *in;
  struct certs *c = opened_with_files(f);
  const struct tls_server *old = identity(c);
  struct err e = {0};
  put_files(f, pair_of_time(not_yet_s));
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), ERR_NOT_NOW);
  assert_false(changed(c, not_yet_s - 3600 - 1));
  assert_true(changed(c, not_yet_s - 3600));
  assert_int_equal(certs_reload(c, not_yet_s - 3600, &e), 0);
  assert_ptr_not_equal(identity(c), old);
  assert_false(changed(c, not_yet_s));
  /* And one that seemed to have expired, when the clock is set back. */
  put_files(f, pair_of_time(not_yet_s - DAY_S));
  int64_t late_s = not_yet_s + 89 * DAY_S + 100;
  assert_true(changed(c, late_s));
  assert_int_equal(certs_reload(c, late_s, &e), ERR_NOT_NOW);
  assert_false(changed(c, late_s));
  assert_true(changed(c, not_yet_s));
  assert_int_equal(certs_reload(c, not_yet_s, &e), 0);
  certs_close(c);
}

/* Then the file is what its operator wants, and there is nothing to lose. */
static void of_two_that_are_not_valid_the_one_with_a_future_serves(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  put_files(f, pair_of_time(expired_s));
  struct certs *c = opened(f, true);
  const struct tls_server *first = identity(c);
  put_files(f, pair_of_time(expired_s - 1));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  assert_ptr_not_equal(identity(c), first);
  put_files(f, pair_of_time(not_yet_s));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  const struct tls_server *next = identity(c);
  put_files(f, pair_of_time(expired_s));
  assert_int_equal(certs_reload(c, NOW, &e), ERR_NOT_NOW);
  assert_ptr_equal(identity(c), next);
  put_files(f, good_pair(NULL));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  certs_close(c);
}

/* What they lacked may have been memory, or a descriptor to read them with. */
static void files_that_could_not_be_used_are_read_again_later(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  replace(f->cert, "rubbish\n");
  assert_true(changed(c, NOW));
  assert_true(certs_reload(c, NOW, &e) < 0);
  assert_false(changed(c, NOW + CERT_RETRY_S - 1));
  assert_true(changed(c, NOW + CERT_RETRY_S));
  assert_true(certs_reload(c, NOW + CERT_RETRY_S, &e) < 0);
  assert_false(changed(c, NOW + CERT_RETRY_S));
  put_files(f, good_pair(NULL));
  assert_int_equal(certs_reload(c, NOW + CERT_RETRY_S, &e), 0);
  assert_false(changed(c, NOW + 3 * CERT_RETRY_S));
  certs_close(c);
}

static void a_bad_replacement_is_refused_and_the_old_one_stays(void **in) {
  struct fixture *f = *in;
  struct certs *c = opened_with_files(f);
  const struct tls_server *old = identity(c);
  const char *other[] = {"r1.example.com"};
  struct pair uncovered = pair_for(other, 1, NULL);
  char *long_text = malloc(CERT_FILE_MAX_BYTES + 1);
  assert_non_null(long_text);
  memset(long_text, '\n', CERT_FILE_MAX_BYTES);
  long_text[CERT_FILE_MAX_BYTES] = '\0';
  const char *const bad[][2] = {{"", ""}, {"rubbish\n", "rubbish\n"}, {uncovered.chain, uncovered.key},
      {long_text, uncovered.key}};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e = {0};
    replace(f->cert, bad[i][0]);
    replace(f->key, bad[i][1]);
    assert_true(changed(c, NOW));
    assert_true(certs_reload(c, NOW, &e) < 0);
    assert_true(e.text[0] != '\0');
    assert_ptr_equal(identity(c), old);
  }
  struct err e = {0};
  assert_int_equal(unlink(f->cert), 0);
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), ERR_IO);
  assert_non_null(strstr(e.text, f->cert));
  assert_ptr_equal(identity(c), old);
  free(long_text);
  pair_free(uncovered);
  certs_close(c);
}

/* live/fullchain.pem -> archive/fullchain2.pem: only the link changes. */
static void a_link_that_points_elsewhere_is_a_change(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  char targets[4][PATH_CAP];
  for (int i = 0; i < 2; i++) {
    struct pair p = good_pair(NULL);
    snprintf(targets[2 * i], PATH_CAP, "%s/cert%d", f->dir, i);
    snprintf(targets[2 * i + 1], PATH_CAP, "%s/key%d", f->dir, i);
    replace(targets[2 * i], p.chain);
    replace(targets[2 * i + 1], p.key);
    pair_free(p);
  }
  assert_int_equal(symlink(targets[0], f->cert), 0);
  assert_int_equal(symlink(targets[1], f->key), 0);
  struct certs *c = opened(f, true);
  assert_false(changed(c, NOW));
  assert_int_equal(unlink(f->cert), 0);
  assert_int_equal(unlink(f->key), 0);
  assert_int_equal(symlink(targets[2], f->cert), 0);
  assert_int_equal(symlink(targets[3], f->key), 0);
  assert_true(changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  certs_close(c);
}

static void a_chain_that_ends_in_its_own_authority_is_pinned_by_it(void **in) {
  struct fixture *f = *in;
  struct err e;
  uint8_t want[SHA256_BYTES];
  struct pin pin;
  struct pair p = good_pair(want);
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  struct certs *c = opened(f, true);
  assert_int_equal(certs_pin(c, &pin, &e), 0);
  assert_int_equal(pin.kind, PIN_SPKI_SHA256);
  assert_memory_equal(pin.spki_sha256, want, sizeof want);
  certs_close(c);

  /* The leaf alone, as if its authority were a public one. */
  char *second = strstr(p.chain + 1, "-----BEGIN CERTIFICATE");
  assert_non_null(second);
  *second = '\0';
  replace(f->cert, p.chain);
  c = opened(f, true);
  assert_int_equal(certs_pin(c, &pin, &e), 0);
  assert_int_equal(pin.kind, PIN_PUBLIC_AUTHORITIES);
  certs_close(c);
  pair_free(p);
}

static void files_that_cannot_serve_are_refused_at_the_start(void **in) {
  struct fixture *f = *in;
  struct certs *c = NULL;
  struct err e = {0};
  assert_int_equal(certs_open(f->s, NULL, domain, f->cert, f->key, NOW, &c, &e), ERR_IO);
  assert_non_null(strstr(e.text, f->cert));
  assert_int_equal(certs_open(f->s, NULL, domain, f->cert, NULL, NOW, &c, &e), ERR_USAGE);
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  pair_free(p);
  assert_true(certs_open(f->s, NULL, "r2.example.com", f->cert, f->key, NOW, &c, &e) < 0);
  assert_null(c);
}

static void files_make_no_other_certificates(void **in) {
  struct fixture *f = *in;
  struct tls_server *server;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", NOW, &server, &e), ERR_NOT_NOW);
  assert_null(server);
  certs_close(c);
}

/* From our own authority. */

static void our_own_certificate_is_renewed_when_a_third_of_its_life_is_left(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened(f, false);
  int64_t ends_s = expiry(c);
  const struct tls_server *old = identity(c);
  assert_false(certs_changed(c, ends_s - CERT_LIFE_DAYS * (int64_t)DAY_S / 3 - 1));
  assert_true(certs_changed(c, ends_s - CERT_LIFE_DAYS * (int64_t)DAY_S / 3));
  assert_int_equal(certs_reload(c, ends_s - 1, &e), 0);
  assert_ptr_not_equal(identity(c), old);
  assert_false(certs_changed(c, ends_s));      /* however it went: not again at once */
  certs_close(c);
}

static void our_own_certificate_lives_as_long_as_clients_accept(void **in) {
  struct fixture *f = *in;
  struct certs *c = opened(f, false);
  int64_t left_s = expiry(c) - NOW;
  assert_true(left_s <= 397 * (int64_t)DAY_S + 60);
  assert_true(left_s > 390 * (int64_t)DAY_S);
  certs_close(c);
}

static void our_own_pin_is_that_of_the_authority_and_stays(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct pin first, second;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_pin(c, &first, &e), 0);
  assert_int_equal(first.kind, PIN_SPKI_SHA256);
  certs_close(c);
  c = opened(f, false);
  assert_int_equal(certs_pin(c, &second, &e), 0);
  assert_memory_equal(first.spki_sha256, second.spki_sha256, SHA256_BYTES);
  certs_close(c);
}

/* The clock ran ahead for a while, and was set back. */
static void our_own_certificate_from_the_future_is_made_again_at_once_under_the_same_key(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct pin before, after;
  const int64_t future_s = NOW + 20 * 365 * (int64_t)DAY_S;
  struct certs *c = NULL;
  assert_int_equal(certs_open(f->s, NULL, domain, NULL, NULL, future_s, &c, &e), 0);
  assert_int_equal(certs_pin(c, &before, &e), 0);
  assert_false(certs_changed(c, future_s));
  assert_true(certs_changed(c, NOW));          /* although an attempt was made "later" */
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  struct tls_server *server = certs_current(c);
  assert_true(tls_server_not_before(server) <= NOW);
  assert_true(tls_server_not_after(server) > NOW);
  tls_server_unref(server);
  assert_false(certs_changed(c, NOW));
  assert_int_equal(certs_pin(c, &after, &e), 0);
  assert_memory_equal(before.spki_sha256, after.spki_sha256, SHA256_BYTES);
  certs_close(c);
  /* As it stands on the disk now. */
  assert_int_equal(certs_open(f->s, NULL, domain, NULL, NULL, NOW, &c, &e), 0);
  assert_int_equal(certs_pin(c, &after, &e), 0);
  assert_memory_equal(before.spki_sha256, after.spki_sha256, SHA256_BYTES);
  certs_close(c);
}

static void a_renewal_that_fails_is_tried_again_later_and_not_at_once(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = NULL;
  char command[128];
  assert_int_equal(certs_open(f->s, NULL, domain, NULL, NULL, NOW + 30 * DAY_S, &c, &e), 0);
  snprintf(command, sizeof command, "rm -r '%s'", f->dir);
  assert_int_equal(system(command), 0);        /* the authority cannot be renewed on the disk */
  const struct tls_server *old = identity(c);
  assert_true(certs_changed(c, NOW));
  assert_true(certs_reload(c, NOW, &e) < 0);
  assert_ptr_equal(identity(c), old);
  assert_false(certs_changed(c, NOW));
  assert_true(certs_changed(c, NOW + CERT_RETRY_S));
  certs_close(c);
}

static void a_leaf_from_the_future_is_made_again_although_its_authority_holds(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened(f, false);
  assert_int_equal(certs_reload(c, NOW + 30 * DAY_S, &e), 0);
  assert_true(certs_changed(c, NOW));
  assert_int_equal(certs_reload(c, NOW, &e), 0);
  assert_false(certs_changed(c, NOW));
  certs_close(c);
}

static void an_exact_certificate_from_another_time_is_made_again(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct tls_server *future, *present, *again;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", NOW + 30 * DAY_S, &future, &e), 0);
  assert_null(certs_exact_made(c, "abc.r1.example.com", NOW));
  assert_int_equal(certs_exact(c, "abc.r1.example.com", NOW, &present, &e), 0);
  assert_ptr_not_equal(future, present);
  assert_true(tls_server_not_before(present) <= NOW);
  again = certs_exact_made(c, "abc.r1.example.com", NOW);
  assert_ptr_equal(again, present);
  tls_server_unref(again);
  tls_server_unref(present);
  tls_server_unref(future);
  certs_close(c);
}

static void an_exact_certificate_is_made_once(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct tls_server *first, *again, *other;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", NOW, &first, &e), 0);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", NOW, &again, &e), 0);
  assert_int_equal(certs_exact(c, "abd.r1.example.com", NOW, &other, &e), 0);
  assert_ptr_equal(first, again);
  assert_ptr_not_equal(first, other);
  assert_ptr_not_equal(first, identity(c));
  certs_close(c);
  assert_true(tls_server_not_after(first) > 0);                     /* references outlive the cache */
  tls_server_unref(first);
  tls_server_unref(again);
  tls_server_unref(other);
}

static void an_exact_certificate_is_for_a_name_directly_below_the_domain_only(void **in) {
  struct fixture *f = *in;
  static const char *const bad[] = {"", ".", ".r1.example.com", "r1.example.com", "a.b.r1.example.com",
      "abc.r2.example.com",
                                    "abc.r1.example.com.", "abcr1.example.com", "*.r1.example.com",
                                    "a b.r1.example.com"};
  struct certs *c = opened(f, false);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct tls_server *server;
    struct err e = {0};
    assert_int_equal(certs_exact(c, bad[i], NOW, &server, &e), ERR_USAGE);
    assert_null(server);
  }
  certs_close(c);
}

static void the_cache_of_exact_certificates_forgets_the_longest_unused(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct tls_server *first, *second, *server;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_exact(c, "first.r1.example.com", NOW, &first, &e), 0);
  assert_int_equal(certs_exact(c, "second.r1.example.com", NOW, &second, &e), 0);
  for (int i = 2; i <= CERTS_EXACT_MAX; i++) {
    char host[64];
    snprintf(host, sizeof host, "n%d.r1.example.com", i);
    assert_int_equal(certs_exact(c, host, NOW, &server, &e), 0);
    tls_server_unref(server);
    assert_int_equal(certs_exact(c, "first.r1.example.com", NOW, &server, &e), 0);
    assert_ptr_equal(server, first);
    tls_server_unref(server);
  }
  assert_int_equal(certs_exact(c, "second.r1.example.com", NOW, &server, &e), 0);
  assert_ptr_not_equal(server, second);
  tls_server_unref(server);
  tls_server_unref(first);
  tls_server_unref(second);
  certs_close(c);
}

static void *use_from_a_thread(void *user) {
  struct certs *c = user;
  for (int i = 0; i < 200; i++) {
    struct tls_server *exact = NULL, *current = certs_current(c);
    char host[64];
    struct err e;
    snprintf(host, sizeof host, "n%d.r1.example.com", i % 4);
    if (certs_exact(c, host, NOW, &exact, &e) != 0)
      return c;
    tls_server_unref(exact);
    tls_server_unref(current);
  }
  return NULL;
}

static void it_may_be_used_from_several_threads_while_it_reloads(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct certs *c = opened(f, false);
  pthread_t threads[3];
  for (size_t i = 0; i < ARRAY_LEN(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_from_a_thread, c), 0);
  for (int i = 0; i < 10; i++)
    assert_int_equal(certs_reload(c, NOW, &e), 0);
  for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
    void *failed;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
  certs_close(c);
}

#define WITH_STATE(test) cmocka_unit_test_setup_teardown(test, make_state, remove_state)

int main(void) {
  const struct CMUnitTest tests[] = {
    WITH_STATE(files_that_stay_are_not_read_again),
    WITH_STATE(a_good_replacement_is_taken_and_connections_keep_the_old_one),
    WITH_STATE(a_half_done_replacement_keeps_the_old_one_until_it_is_whole),
    WITH_STATE(whoever_replaces_one_file_after_the_other_is_not_caught_in_between),
    WITH_STATE(certificate_and_key_may_be_one_file),
    WITH_STATE(a_replacement_whose_time_is_over_or_has_not_come_is_refused),
    WITH_STATE(a_replacement_refused_for_its_time_is_taken_when_that_has_come),
    WITH_STATE(of_two_that_are_not_valid_the_one_with_a_future_serves),
    WITH_STATE(files_that_could_not_be_used_are_read_again_later),
    WITH_STATE(a_bad_replacement_is_refused_and_the_old_one_stays),
    WITH_STATE(a_link_that_points_elsewhere_is_a_change),
    WITH_STATE(a_chain_that_ends_in_its_own_authority_is_pinned_by_it),
    WITH_STATE(files_that_cannot_serve_are_refused_at_the_start),
    WITH_STATE(files_make_no_other_certificates),
    WITH_STATE(our_own_certificate_is_renewed_when_a_third_of_its_life_is_left),
    WITH_STATE(our_own_certificate_lives_as_long_as_clients_accept),
    WITH_STATE(our_own_pin_is_that_of_the_authority_and_stays),
    WITH_STATE(our_own_certificate_from_the_future_is_made_again_at_once_under_the_same_key),
    WITH_STATE(a_renewal_that_fails_is_tried_again_later_and_not_at_once),
    WITH_STATE(a_leaf_from_the_future_is_made_again_although_its_authority_holds),
    WITH_STATE(an_exact_certificate_from_another_time_is_made_again),
    WITH_STATE(an_exact_certificate_is_made_once),
    WITH_STATE(an_exact_certificate_is_for_a_name_directly_below_the_domain_only),
    WITH_STATE(the_cache_of_exact_certificates_forgets_the_longest_unused),
    WITH_STATE(it_may_be_used_from_several_threads_while_it_reloads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
