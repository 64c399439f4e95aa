/* The relay's TLS identity: from files that change under it, and from its own authority. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "cm.h"
#include "relay/certs.h"

enum { DAY_S = 24 * 3600, PATH_CAP = 128 };
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

static struct pair pair_for(const char *const *names, size_t n, uint8_t pin[SHA256_BYTES]) {
  struct err e = {0};
  struct pair p = {NULL, NULL};
  struct authority *a = authority_make(domain, &e);
  if (a == NULL || authority_issue(a, names, n, 90, &p.chain, &p.key, &e) != 0)
    fail_msg("%s", e.text);
  if (pin != NULL)
    assert_int_equal(authority_pin(a, pin), 0);
  authority_free(a);
  return p;
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
  if (certs_open(f->s, domain, files ? f->cert : NULL, files ? f->key : NULL, &c, &e) != 0)
    fail_msg("%s", e.text);
  return c;
}

static struct certs *opened_with_files(const struct fixture *f) {
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  pair_free(p);
  return opened(f, true);
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
  assert_false(certs_changed(c, 0));
  assert_false(certs_changed(c, INT64_MAX / 2));
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
  assert_true(certs_changed(c, 0));
  assert_int_equal(certs_reload(c, 0, &e), 0);
  assert_false(certs_changed(c, 0));
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
  assert_true(certs_changed(c, 0));
  assert_true(certs_reload(c, 0, &e) < 0);
  assert_true(e.text[0] != '\0');
  assert_ptr_equal(identity(c), old);
  assert_false(certs_changed(c, 0));           /* told once, not at every look */
  replace(f->key, p.key);
  assert_true(certs_changed(c, 0));
  assert_int_equal(certs_reload(c, 0, &e), 0);
  assert_ptr_not_equal(identity(c), old);
  pair_free(p);
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
  const char *const bad[][2] = {{"", ""}, {"rubbish\n", "rubbish\n"}, {uncovered.chain, uncovered.key}, {long_text, uncovered.key}};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct err e = {0};
    replace(f->cert, bad[i][0]);
    replace(f->key, bad[i][1]);
    assert_true(certs_changed(c, 0));
    assert_true(certs_reload(c, 0, &e) < 0);
    assert_true(e.text[0] != '\0');
    assert_ptr_equal(identity(c), old);
  }
  struct err e = {0};
  assert_int_equal(unlink(f->cert), 0);
  assert_true(certs_changed(c, 0));
  assert_int_equal(certs_reload(c, 0, &e), ERR_IO);
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
  assert_false(certs_changed(c, 0));
  assert_int_equal(unlink(f->cert), 0);
  assert_int_equal(unlink(f->key), 0);
  assert_int_equal(symlink(targets[2], f->cert), 0);
  assert_int_equal(symlink(targets[3], f->key), 0);
  assert_true(certs_changed(c, 0));
  assert_int_equal(certs_reload(c, 0, &e), 0);
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
  assert_int_equal(certs_open(f->s, domain, f->cert, f->key, &c, &e), ERR_IO);
  assert_non_null(strstr(e.text, f->cert));
  assert_int_equal(certs_open(f->s, domain, f->cert, NULL, &c, &e), ERR_USAGE);
  struct pair p = good_pair(NULL);
  replace(f->cert, p.chain);
  replace(f->key, p.key);
  pair_free(p);
  assert_true(certs_open(f->s, "r2.example.com", f->cert, f->key, &c, &e) < 0);
  assert_null(c);
}

static void files_make_no_other_certificates(void **in) {
  struct fixture *f = *in;
  struct tls_server *server;
  struct err e = {0};
  struct certs *c = opened_with_files(f);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", &server, &e), ERR_NOT_NOW);
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
  int64_t left_s = expiry(c) - (int64_t)time(NULL);
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

static void an_exact_certificate_is_made_once(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct tls_server *first, *again, *other;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", &first, &e), 0);
  assert_int_equal(certs_exact(c, "abc.r1.example.com", &again, &e), 0);
  assert_int_equal(certs_exact(c, "abd.r1.example.com", &other, &e), 0);
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
  static const char *const bad[] = {"", ".", ".r1.example.com", "r1.example.com", "a.b.r1.example.com", "abc.r2.example.com",
                                    "abc.r1.example.com.", "abcr1.example.com", "*.r1.example.com", "a b.r1.example.com"};
  struct certs *c = opened(f, false);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct tls_server *server;
    struct err e = {0};
    assert_int_equal(certs_exact(c, bad[i], &server, &e), ERR_USAGE);
    assert_null(server);
  }
  certs_close(c);
}

static void the_cache_of_exact_certificates_forgets_the_longest_unused(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct tls_server *first, *second, *server;
  struct certs *c = opened(f, false);
  assert_int_equal(certs_exact(c, "first.r1.example.com", &first, &e), 0);
  assert_int_equal(certs_exact(c, "second.r1.example.com", &second, &e), 0);
  for (int i = 2; i <= CERTS_EXACT_MAX; i++) {
    char host[64];
    snprintf(host, sizeof host, "n%d.r1.example.com", i);
    assert_int_equal(certs_exact(c, host, &server, &e), 0);
    tls_server_unref(server);
    assert_int_equal(certs_exact(c, "first.r1.example.com", &server, &e), 0);
    assert_ptr_equal(server, first);
    tls_server_unref(server);
  }
  assert_int_equal(certs_exact(c, "second.r1.example.com", &server, &e), 0);
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
    if (certs_exact(c, host, &exact, &e) != 0)
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
    assert_int_equal(certs_reload(c, 0, &e), 0);
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
    WITH_STATE(a_bad_replacement_is_refused_and_the_old_one_stays),
    WITH_STATE(a_link_that_points_elsewhere_is_a_change),
    WITH_STATE(a_chain_that_ends_in_its_own_authority_is_pinned_by_it),
    WITH_STATE(files_that_cannot_serve_are_refused_at_the_start),
    WITH_STATE(files_make_no_other_certificates),
    WITH_STATE(our_own_certificate_is_renewed_when_a_third_of_its_life_is_left),
    WITH_STATE(our_own_certificate_lives_as_long_as_clients_accept),
    WITH_STATE(our_own_pin_is_that_of_the_authority_and_stays),
    WITH_STATE(an_exact_certificate_is_made_once),
    WITH_STATE(an_exact_certificate_is_for_a_name_directly_below_the_domain_only),
    WITH_STATE(the_cache_of_exact_certificates_forgets_the_longest_unused),
    WITH_STATE(it_may_be_used_from_several_threads_while_it_reloads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
