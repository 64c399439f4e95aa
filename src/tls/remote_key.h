/* A private key that is somewhere else: OpenSSL takes it for one that it has, and each signature is asked for. */
#ifndef TLS_REMOTE_KEY_H
#define TLS_REMOTE_KEY_H

#include <openssl/types.h>

#include "base/err.h"
#include "tls/handshake_sign.h"

struct remote_key {                /* constant; the keys that are made with it outlive it not */
  void *user;
  /* *n: room at `signature`, then its length. 0 or negative. From any thread. */
  int (*sign)(void *user, uint64_t handle, const struct sign_scheme *scheme, const uint8_t *text, size_t text_n,
              uint8_t *signature, size_t *n);
  void (*drop)(void *user, uint64_t handle);     /* the last reference is gone; from any thread */
};

/* Once a process, before remote_key_new. */
int remote_key_install(struct err *e) MUST_USE;
/* A key pair of which only the public half is here. NULL: the kind of key cannot be had so. */
EVP_PKEY *remote_key_new(EVP_PKEY *public, const struct remote_key *where, uint64_t handle, struct err *e) MUST_USE;

#endif
