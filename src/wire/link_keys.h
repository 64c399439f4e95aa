/* The keys that a control link gives to its data connections.

     root    = HKDF-Extract(salt = exporter, ikm = X25519(shares))
     link id = HKDF-Expand(exporter, "adit link id")          (public, 128 bits)
     chain_0 = HKDF-Expand(root, "adit chain")
     key_n   = HKDF-Expand(chain_n, "adit number"),  chain_n+1 = HKDF-Expand(chain_n, "adit next")
     from key_n: preface, OPEN and ACCEPT keys by distinct labels, each used once.

   The chain is one-way and a number's key is wiped once taken; keys of skipped numbers are kept within a window and
   expire. */
#ifndef WIRE_LINK_KEYS_H
#define WIRE_LINK_KEYS_H

#include "base/cursor.h"
#include "base/limits.h"
#include "crypto/crypto.h"

enum { LINK_ID_BYTES = 16 };

struct number_keys {               /* wipe after use */
  uint8_t preface[32], open[32], accept[32];
};
int link_id_derive(const uint8_t exporter[32], uint8_t id[LINK_ID_BYTES]) MUST_USE;

struct link_keys;                  /* lives in secret memory */
struct link_keys *link_keys_new(const uint8_t exporter[32], const uint8_t shared[X25519_BYTES]) MUST_USE;
void link_keys_free(struct link_keys *k);
/* The agent's side: the keys of the next number, in order. */
int link_keys_next(struct link_keys *k, uint64_t *number, struct number_keys *out) MUST_USE;
/* The relay's side: the keys of `number`, once. ERR_CONFLICT: used before or expired; ERR_LIMIT: further ahead than
   DATA_NUMBER_WINDOW. Nothing is consumed until link_keys_claim: peek, verify the preface's MAC, then claim. */
int link_keys_peek(struct link_keys *k, uint64_t number, uint64_t now_ms, struct number_keys *out) MUST_USE;
void link_keys_claim(struct link_keys *k, uint64_t number, uint64_t now_ms);
void link_keys_expire(struct link_keys *k, uint64_t now_ms); /* skipped keys older than DATA_SKIPPED_KEY_LIFE_MS */


/* To another process, keys included, and back; whoever has the bytes wipes them. What was exported is as good as
   before, and is to be freed: no number may be claimed twice. Of any bytes: ERR_SYNTAX, ERR_NOMEM. */
enum { LINK_KEYS_EXPORT_MAX_BYTES = 64 + 2 * DATA_NUMBER_WINDOW * 64 };
size_t link_keys_export_bytes(const struct link_keys *k);        /* so many it writes */
void link_keys_export(const struct link_keys *k, uint64_t now_ms, struct writer *w);
int link_keys_import(struct reader *r, uint64_t now_ms, struct link_keys **out) MUST_USE;

#endif
