/* Randomness from the seed: the kernel's, and OpenSSL's. */
#include <openssl/rand.h>
#include <sys/random.h>
#include <sys/types.h>

#include "base/base.h"
#include "randomness.h"
#include "world.h"
#include "wrap.h"

WRAP(ssize_t, getrandom, (void *out, size_t n, unsigned flags)) {
  if (task_current() == NULL) return __real_getrandom(out, n, flags);
  world_random_bytes(out, n);
  return (ssize_t)n;
}

static int seed(const void *bytes, int n) {
  (void)bytes, (void)n;
  return 1;
}

static int add(const void *bytes, int n, double entropy) {
  (void)entropy;
  return seed(bytes, n);
}

static int draw(unsigned char *out, int n) {
  world_random_bytes(out, (size_t)n);
  return 1;
}

static int ready(void) { return 1; }

/* OpenSSL 3 calls it deprecated, and offers a provider instead, whose generators it seeds and reseeds itself. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
void randomness_install(void) {
  static const RAND_METHOD method = {
      .seed = seed, .bytes = draw, .add = add, .pseudorand = draw, .status = ready};
  ASSERT(RAND_set_rand_method(&method) == 1);
}
