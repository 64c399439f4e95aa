/* Tokens, certificates and operator keys. The first byte chooses: 't' text as it comes; 'b' a token's bytes, to which we add
   checksum and encoding; 'c' a certificate; 'o' an operator's key. */
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "wire/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_text(const char *text, size_t chars) {
  struct token t;
  struct err e = {0};
  char again[TOKEN_TEXT_MAX_CHARS + 8];
  int r = token_decode(text, chars, &t, &e);
  ASSERT(r == 0 || (e.code == r && e.text[0] != 0));
  if (r == 0) ASSERT(token_encode(&t, again, sizeof again) == 0 && token_decode(again, strlen(again), &t, &e) == 0);
}

static void decode_bytes(const uint8_t *data, size_t size) {
  uint8_t bytes[3000 + 4], digest[SHA256_BYTES];
  char text[sizeof TOKEN_PREFIX + 4 * (sizeof bytes + 2) / 3 + 1] = TOKEN_PREFIX;
  size_t n = size_min(size, 3000), prefix = strlen(TOKEN_PREFIX);
  memcpy(bytes, data, n);
  ASSERT(sha256(bytes, n, digest) == 0);
  memcpy(bytes + n, digest, 4);
  decode_text(text, prefix + base64url_encode(bytes, n + 4, text + prefix));
}

/* What holds is in range, whatever its version. */
static void verify_certificate(const uint8_t *data, size_t size) {
  struct certificate c;
  int r = certificate_verify(data, size, &c);
  ASSERT(r <= 0);
  if (r == 0) ASSERT(c.name[0] != 0 && c.issued_s >= 0 && c.expires_s >= 0 && size <= CERTIFICATE_MAX_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t key[ED25519_KEY_BYTES];
  if (size == 0) return 0;
  if (data[0] == 't') decode_text((const char *)data + 1, size - 1);
  if (data[0] == 'b') decode_bytes(data + 1, size - 1);
  if (data[0] == 'c') verify_certificate(data + 1, size - 1);
  if (data[0] == 'o') ASSERT(operator_key_decode((const char *)data + 1, size - 1, key) <= 0);
  return 0;
}
