/* The table of the TLS 1.3 cipher suites that can be handed off. */
#include "tls/suite.h"

static const struct tls_suite suites[] = {
  {0x1301, AEAD_AES_128_GCM, HASH_SHA256, "TLS_AES_128_GCM_SHA256"},
  {0x1302, AEAD_AES_256_GCM, HASH_SHA384, "TLS_AES_256_GCM_SHA384"},
  {0x1303, AEAD_CHACHA20_POLY1305, HASH_SHA256, "TLS_CHACHA20_POLY1305_SHA256"},
};

const struct tls_suite *tls_suite_find(uint16_t id) {
  for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
    if (suites[i].id == id) return &suites[i];
  }
  return NULL;
}
