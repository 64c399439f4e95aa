/* Certificate and key that are replaced in one step, while the relay has read the one and not the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cm.h"

#include "base/limits.h"
#include "relay/certs.h"

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static const char domain[] = "r1.example.com";
static const int64_t NOW = 1800000000;
static char dir[] = "/tmp/adit-test-XXXXXX";
static bool armed;

static void path_in(const char *name, char path[64]) { snprintf(path, 64, "%s/%s", dir, name); }

/* live -> one of two folders, as Kubernetes and others replace several files in one step. */
static void point_live_at(const char *folder) {
  char link_path[64], new_path[64];
  path_in("live", link_path);
  path_in("live.new", new_path);
  assert_int_equal(symlink(folder, new_path), 0);
  assert_int_equal(rename(new_path, link_path), 0);
}

/* The room for a file: it is open by now, and the other one is not. */
void *__wrap_malloc(size_t n) {
  if (armed && n == CERT_FILE_MAX_BYTES) {
    armed = false;
    point_live_at("new");
  }
  return __real_malloc(n);
}

static void write_text(const char *folder, const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s/%s", dir, folder, name);
  FILE *out = fopen(path, "w");
  assert_non_null(out);
  assert_true(fputs(text, out) >= 0);
  assert_int_equal(fclose(out), 0);
}

static void put_pair(const char *folder) {
  const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct err e;
  char path[64], *chain, *key;
  path_in(folder, path);
  assert_int_equal(mkdir(path, 0700), 0);
  struct authority *a = authority_make(domain, NOW, &e);
  assert_non_null(a);
  assert_int_equal(authority_issue(a, names, 2, 90, NOW, &chain, &key, &e), 0);
  write_text(folder, "cert", chain);
  write_text(folder, "key", key);
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_unref(a);
}

static void of_files_that_change_in_one_step_no_mixture_is_read(void **state) {
  struct certs *c = NULL;
  struct err e = {0};
  struct state *s = NULL;
  char cert[64], key[64], command[64];
  (void)state;
  assert_non_null(mkdtemp(dir));
  path_in("live/cert", cert);
  path_in("live/key", key);
  put_pair("old");
  put_pair("new");
  point_live_at("old");
  assert_int_equal(state_open(dir, &s, &e), 0);
  armed = true;
  if (certs_open(s, NULL, domain, cert, key, NOW, &c, &e) != 0) fail_msg("%s", e.text);
  assert_false(armed);
  assert_false(certs_changed(c, NOW));         /* and it was the later pair */
  assert_false(certs_changed(c, NOW));
  certs_close(c);
  state_close(s);
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  assert_int_equal(system(command), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(of_files_that_change_in_one_step_no_mixture_is_read)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
