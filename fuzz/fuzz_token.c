/* Tokens, certificates and operator keys. The first byte chooses: 't' text as it comes; 'b' a token's bytes, to which
   we add checksum and encoding; 'c' a chain of certificates; 's' the bodies of one, to which we add the signatures; 'o'
   an operator's key. */
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

/* What holds is in range, whatever its version, and none reaches further than the one before it. */
static void verify_chain(const uint8_t *data, size_t size) {
  struct chain c;
  int r = chain_verify(data, size, &c);
  ASSERT(r <= 0);
  if (r != 0) return;
  ASSERT(c.n >= 1 && c.n <= CHAIN_MAX && size <= CHAIN_MAX_BYTES && c.at[0].name[0] != 0);
  for (size_t i = 0; i < c.n; i++) {
    ASSERT(c.at[i].issued_s >= 0 && c.at[i].expires_s >= 0 && c.at[i].allow_n <= TOKEN_ALLOW_MAX);
    ASSERT(i == 0 || certificate_wider(&c.at[i], &c.at[i - 1]) == NULL);
  }
}

/* Each vec16 is a certificate without its signature. All are signed with one seed, whose key the corpus has in its
   place: so what is mutated beside that gets past the signatures. */
static void sign_and_verify(const uint8_t *data, size_t size) {
  static const uint8_t seed[ED25519_KEY_BYTES] = {7, 7, 7};
  static const char first[] = "adit certificate v1", further[] = "adit narrower v1";
  uint8_t chain[2 * CHAIN_MAX_BYTES], text[64 + SHA256_BYTES + CHAIN_MAX_BYTES], digest[SHA256_BYTES],
      sig[ED25519_SIG_BYTES];
  struct writer w = writer_of(chain, sizeof chain);
  struct reader r = reader_of(data, size);
  while (r.left > 0 && !r.bad && !w.bad) {
    struct reader body = read_vec16(&r);
    struct writer t = writer_of(text, sizeof text);
    if (w.len == 0) write_bytes(&t, first, sizeof first);
    else write_bytes(&t, further, sizeof further);
    ASSERT(sha256(chain, w.len, digest) == 0);
    if (w.len > 0) write_bytes(&t, digest, sizeof digest);
    write_bytes(&t, body.at, body.left);
    if (t.bad) return;
    ASSERT(ed25519_sign(seed, text, t.len, sig) == 0);
    write_bytes(&w, body.at, body.left);
    write_bytes(&w, sig, sizeof sig);
  }
  if (!w.bad) verify_chain(chain, w.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t key[ED25519_KEY_BYTES];
  if (size == 0) return 0;
  if (data[0] == 't') decode_text((const char *)data + 1, size - 1);
  if (data[0] == 'b') decode_bytes(data + 1, size - 1);
  if (data[0] == 'c') verify_chain(data + 1, size - 1);
  if (data[0] == 's') sign_and_verify(data + 1, size - 1);
  if (data[0] == 'o') ASSERT(operator_key_decode((const char *)data + 1, size - 1, key) <= 0);
  return 0;
}
