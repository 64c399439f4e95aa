/* Each allocation of a scenario failing in turn, OpenSSL's among them: for a test named test_seam_*, which is linked so
   that these stand in place of the C library's. */
#ifndef TESTS_SEAM_MEMORY_H
#define TESTS_SEAM_MEMORY_H

#include <stdlib.h>

#include <openssl/crypto.h>

#include "cm.h"

#include "crypto/crypto.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __real_aead_seal(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
                     uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]);
int __wrap_aead_seal(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
                     uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]);

static bool armed, failed;
static unsigned until_failure;     /* allocations that still succeed */

static bool fails_now(void) {
  if (!armed || failed) return false;
  failed = until_failure-- == 0;
  return failed;
}

void *__wrap_malloc(size_t n) { return fails_now() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails_now() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails_now() ? NULL : __real_realloc(p, n); }

/* Some ciphers of OpenSSL's may allocate for each use. */
int __wrap_aead_seal(struct aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const uint8_t *in, size_t n,
                     uint8_t *out, uint8_t tag[AEAD_TAG_BYTES]) {
  return fails_now() ? ERR_CRYPTO : __real_aead_seal(a, nonce, ad, ad_n, in, n, out, tag);
}

static void *openssl_malloc(size_t n, const char *file, int line) {
  (void)file;
  (void)line;
  return __wrap_malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line) {
  (void)file;
  (void)line;
  return __wrap_realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line) {
  (void)file;
  (void)line;
  free(p);
}

/* Before OpenSSL's first allocation. */
static bool seam_memory_install(void) {
  return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1;
}

/* Runs the scenario with its first allocation failing, then with the one that is step behind it, until it needs no
   more. */
static inline void fail_every(unsigned step, void (*scenario)(void)) {
  unsigned runs = 0;
  do {
    failed = false;
    until_failure = step * runs++;
    scenario();
    assert_false(armed);
    assert_true(runs < 5000);
  } while (failed);
  assert_true(runs > 1);
}

static inline void fail_each_allocation(void (*scenario)(void)) { fail_every(1, scenario); }

#endif
