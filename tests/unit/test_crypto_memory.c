/* Cryptography when memory is short at its first use: each allocation of OpenSSL failing in turn, in a process of its
   own. What failed then must work later. What OpenSSL does once for all of its own first use is done before: a failure
   of that it keeps. */
#include "cm.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/crypto.h"

enum { ALLOCATIONS_MAX = 20000, FAILED_THEN = 1, FAILS_EVER_SINCE = 2 };

static unsigned until_failure;     /* 0: none fails any more */
static bool failed;

static bool fails_now(void) {
  if (until_failure == 0 || --until_failure > 0) return false;
  failed = true;
  return true;
}

static void *take(size_t n, const char *file, int line) {
  (void)file, (void)line;
  return fails_now() ? NULL : malloc(n);
}

static void *take_more(void *p, size_t n, const char *file, int line) {
  (void)file, (void)line;
  return fails_now() ? NULL : realloc(p, n);
}

static void give_back(void *p, const char *file, int line) {
  (void)file, (void)line;
  free(p);
}

static int use_digest(enum hash_alg h) {
  uint8_t secret[48] = {1}, out[16];
  return hkdf_expand_label(h, secret, "key", "", 0, out, sizeof out);
}

static int use_sha256(void) { return use_digest(HASH_SHA256); }
static int use_sha384(void) { return use_digest(HASH_SHA384); }

static int use_aead(enum aead_alg alg) {
  static const uint8_t key[32], nonce[12];
  uint8_t out[4], tag[AEAD_TAG_BYTES];
  struct aead *a = aead_new(alg, key, true);
  int r = a == NULL ? ERR_CRYPTO : aead_seal(a, nonce, "", 0, (const uint8_t *)"text", 4, out, tag);
  aead_free(a);
  return r;
}

static int use_aes_128(void) { return use_aead(AEAD_AES_128_GCM); }
static int use_aes_256(void) { return use_aead(AEAD_AES_256_GCM); }
static int use_chacha(void) { return use_aead(AEAD_CHACHA20_POLY1305); }

/* In a process of its own: a use with the nth allocation failing, then one with none. */
static int try_in_child(int (*use)(void), unsigned nth) {
  until_failure = nth;
  (void)use();
  until_failure = 0;
  if (use() != 0) return FAILS_EVER_SINCE;
  return failed ? FAILED_THEN : 0;
}

static int try_apart(int (*use)(void), unsigned nth) {
  int status;
  pid_t pid = fork();
  if (pid == 0) _exit(try_in_child(use, nth));
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void recovers(int (*use)(void)) {
  unsigned nth = 1;
  int r;
  while ((r = try_apart(use, nth)) == FAILED_THEN) {
    assert_true(nth < ALLOCATIONS_MAX);
    nth++;
  }
  if (r != 0) fail_msg("after the failure of allocation %u it fails for ever (%d)", nth, r);
  assert_true(nth > 1);
}

static void a_digest_that_could_not_be_had_is_tried_again(void **state) {
  (void)state;
  recovers(use_sha256);
  recovers(use_sha384);
}

static void a_cipher_that_could_not_be_had_is_tried_again(void **state) {
  (void)state;
  recovers(use_aes_128);
  recovers(use_aes_256);
  recovers(use_chacha);
}

/* By algorithms that nobody asks for. */
static int openssl_begins(void **state) {
  (void)state;
  if (CRYPTO_set_mem_functions(take, take_more, give_back) != 1) return -1;
  EVP_MD_free(EVP_MD_fetch(NULL, "SHA512", NULL));
  EVP_CIPHER_free(EVP_CIPHER_fetch(NULL, "AES-192-GCM", NULL));
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_digest_that_could_not_be_had_is_tried_again),
      cmocka_unit_test(a_cipher_that_could_not_be_had_is_tried_again),
  };
  return cmocka_run_group_tests(tests, openssl_begins, NULL);
}
