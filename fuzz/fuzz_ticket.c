/* Tickets. The first byte chooses: 0 the bytes as they come; 1 a body to which we add the MAC, since no fuzzer guesses
   it. */
#include <stdint.h>
#include <string.h>

#include "wire/ticket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char context[] = "adit ticket v1";
  static const struct ticket_key key = {.id = 1, .key = {1}};
  uint8_t text[sizeof context + TICKET_MAX_BYTES], in[TICKET_MAX_BYTES], out[TICKET_MAX_BYTES];
  struct ticket t;
  size_t written;
  if (size == 0) return 0;
  if (data[0] != 1) {
    ASSERT(ticket_decode(data + 1, size - 1, &key, 1, &t) <= 0);
    return 0;
  }
  size_t n = size_min(size - 1, TICKET_MAX_BYTES - SHA256_BYTES);
  memcpy(text, context, sizeof context);
  memcpy(text + sizeof context, data + 1, n);
  memcpy(in, data + 1, n);
  ASSERT(hmac_sha256(key.key, sizeof key.key, text, sizeof context + n, in + n) == 0);
  n += SHA256_BYTES;
  if (ticket_decode(in, n, &key, 1, &t) != 0) return 0;
  ASSERT(ticket_encode(&t, &key, out, &written) == 0 && written == n && memcmp(in, out, n) == 0);
  return 0;
}
