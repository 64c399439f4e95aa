/* The first bytes of a data connection, which anybody can send. */
#include <stdint.h>
#include <string.h>

#include "wire/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const struct number_keys keys = {{1}, {2}, {3}};
  uint8_t in[PREFACE_BYTES] = {0}, out[PREFACE_BYTES];
  struct preface p;
  memcpy(in, data, size_min(size, sizeof in));
  if (preface_decode(in, &p) != 0) return 0;
  ASSERT(preface_encode(p.link_id, p.number, &keys, out) == 0);
  ASSERT(memcmp(in, out, PREFACE_BYTES - sizeof p.mac) == 0);
  ASSERT((preface_verify(&p, &keys) == 0) == (memcmp(in, out, sizeof in) == 0));
  return 0;
}
