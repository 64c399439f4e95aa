/* OPEN and ACCEPT. The first byte chooses: 0 the bytes as they come; 1 a body that we seal first, since no fuzzer
   guesses a tag; 2 an ACCEPT. */
#include <stdint.h>
#include <string.h>

#include "base/secret.h"
#include "wire/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct number_keys keys = {{1}, {2}, {3}};

static void as_it_comes(const uint8_t *data, size_t size) {
  uint8_t in[OPEN_MAX_BYTES];
  struct open_message m;
  size_t n = size_min(size, sizeof in), total;
  memcpy(in, data, n);
  if (n >= OPEN_HEADER_BYTES && open_length(in, &total) == 0) ASSERT(total <= OPEN_MAX_BYTES);
  ASSERT(open_decode(in, n, &keys, &m) <= 0);
}

static void under_a_seal(const uint8_t *data, size_t size) {
  static const uint8_t nonce[12];
  uint8_t in[OPEN_MAX_BYTES] = {PREFACE_FIRST_BYTE, 'O', 'P', 'N', 1}, out[OPEN_MAX_BYTES];
  struct open_message m;
  size_t n = size_min(size, OPEN_BODY_MAX_BYTES), length = n + AEAD_TAG_BYTES, written;
  in[5] = (uint8_t)(length >> 8);
  in[6] = (uint8_t)length;
  uint8_t *body = in + OPEN_HEADER_BYTES;
  struct aead *a = aead_new(AEAD_AES_256_GCM, keys.open, true);
  ASSERT(a != NULL && aead_seal(a, nonce, in, OPEN_HEADER_BYTES, data, n, body, body + n) == 0);
  aead_free(a);
  if (open_decode(in, OPEN_HEADER_BYTES + length, &keys, &m) != 0) return;
  ASSERT(open_encode(&m, &keys, out, &written) == 0 && written == OPEN_HEADER_BYTES + length);
  ASSERT(open_decode(out, written, &keys, &m) == 0 && memcmp(out + OPEN_HEADER_BYTES, data, n) == 0);
}

static void accept_of(const uint8_t *data, size_t size) {
  uint8_t in[ACCEPT_BYTES] = {0}, out[ACCEPT_BYTES];
  enum accept_status status;
  memcpy(in, data, size_min(size, sizeof in));
  if (accept_decode(in, &keys, &status) == 0)
    ASSERT(accept_encode(status, &keys, out) == 0 && memcmp(in, out, sizeof in) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (data[0] == 0) as_it_comes(data + 1, size - 1);
  if (data[0] == 1) under_a_seal(data + 1, size - 1);
  if (data[0] == 2) accept_of(data + 1, size - 1);
  return 0;
}
