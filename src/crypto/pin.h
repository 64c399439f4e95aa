/* How an agent knows its relay: by the system's public authorities, or by the key of one authority in the relay's
   chain. */
#ifndef CRYPTO_PIN_H
#define CRYPTO_PIN_H

#include "crypto/crypto.h"

enum pin_kind { PIN_PUBLIC_AUTHORITIES = 0, PIN_SPKI_SHA256 = 1 };
struct pin {
  uint8_t kind;
  uint8_t spki_sha256[SHA256_BYTES];
};

#endif
